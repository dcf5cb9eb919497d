"""The statistics of weeks that a generator must reproduce, differentiable and aware of what was observed."""

import torch
from torch import Tensor

from core.signals import DAYS

Moments = dict[str, Tensor]
LEVELS = 64  # quantile levels at which distributions are compared
ABSENT = 1e6  # sorts what was not observed behind everything else


def week_moments(week: Tensor, mask: Tensor, profile: Tensor) -> Moments:
    """Moments of weeks ``(B, 7, C)``, of which ``mask`` (same shape, 0 or 1) was observed, of people ``profile (B, P)``.

    Keys: ``day_mean`` and ``day_sd`` (7, C); ``level_covariance`` (C, C) of person means; ``spread_mean`` and
    ``spread_sd`` (C,) of within-week sd; ``cross_correlation`` and ``lag_correlation`` (C, C), within-person, on the
    same and the next day; ``profile_level`` and ``profile_spread`` (P, C), covariance of the profile with person means
    and within-week sd; ``level_quantiles``, ``spread_quantiles`` (Q, C) and ``day_quantiles`` (Q, 7C).
    """
    day_mean = _mean(week, mask, 0)  # (7, C)
    day_sd = (_mean((week - day_mean) ** 2, mask, 0) + 1e-6).sqrt()
    days = mask.sum(1)  # (B, C)
    seen, varied = (days > 0).float(), (days > 2).float()
    level = _mean(week, mask, 1)  # (B, C)
    deviation = (week - level.unsqueeze(1)) * mask
    spread = (deviation.square().sum(1) / (days - 1).clamp(min=1) + 1e-6).sqrt()  # (B, C)
    centred = (level - _mean(level, seen, 0)) * seen
    spread_mean = _mean(spread, varied, 0)
    spread_centred = (spread - spread_mean) * varied
    person = profile - profile.mean(0)
    return {
        "day_mean": day_mean,
        "day_sd": day_sd,
        "level_covariance": centred.T @ centred / (seen.T @ seen).clamp(min=1),
        "spread_mean": spread_mean,
        "spread_sd": (_mean(spread_centred.square(), varied, 0) + 1e-6).sqrt(),
        "cross_correlation": _correlation(deviation, mask, 0),
        "lag_correlation": _correlation(deviation, mask, 1),
        "profile_level": person.T @ centred / seen.sum(0).clamp(min=1),
        "profile_spread": person.T @ spread_centred / varied.sum(0).clamp(min=1),
        "level_quantiles": _quantiles(level, seen),
        "spread_quantiles": _quantiles(spread, varied),
        "day_quantiles": _quantiles(week.flatten(1), mask.flatten(1)),
    }


def moment_gap(found: Moments, wanted: Moments) -> Tensor:
    """Sum over the moments of their mean absolute difference."""
    return torch.stack([(found[name] - wanted[name]).abs().mean() for name in wanted]).sum()


def _mean(x: Tensor, weight: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return (x * weight).sum(dim) / weight.sum(dim).clamp(min=1)


def _correlation(deviation: Tensor, mask: Tensor, lag: int) -> Tensor:
    """``(C, C)`` correlation of deviations ``lag`` days apart, over the pairs of days of which both were observed."""
    now, later = deviation[:, : DAYS - lag].flatten(0, 1), deviation[:, lag:].flatten(0, 1)  # ((7-lag)B, C)
    pairs = mask[:, : DAYS - lag].flatten(0, 1).T @ mask[:, lag:].flatten(0, 1)
    sd = (_mean(deviation.square(), mask, (0, 1)) + 1e-6).sqrt()
    return now.T @ later / pairs.clamp(min=1) / (sd[:, None] * sd)


def _quantiles(x: Tensor, weight: Tensor) -> Tensor:
    """``(LEVELS, K)`` quantiles of the columns of ``x (B, K)``, of the entries with weight 1."""
    ordered = torch.where(weight > 0, x, ABSENT).sort(0).values
    count = weight.sum(0)  # (K,)
    levels = (torch.arange(LEVELS, dtype=x.dtype, device=x.device) + 0.5) / LEVELS
    rank = (levels[:, None] * count - 0.5).clamp(min=0).minimum((count - 1).clamp(min=0))  # (LEVELS, K)
    below, above = rank.floor().long(), rank.ceil().long()
    part = rank - below
    low, high = ordered.gather(0, below), ordered.gather(0, above)
    return torch.where(count > 0, low + part * (high - low), 0.0)
