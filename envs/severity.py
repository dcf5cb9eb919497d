"""A documented severity index: risk in closed form, for environments without a trained risk model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from core.encoding import WeekScaler
from core.signals import Signals, names

# Weight of a signal's ill-being (z-score of the week mean, + is worse) and of irregular sleep. Order of importance as
# in the meta-analyses of insomnia and perceived stress as predictors of depression (Baglioni 2011 J Affect Disord
# 135:10); the sizes are a convention. A signal not named here has weight 0.3.
WEIGHTS = {"stress": 1.0, "sleep_quality": 0.8, "sleep_duration": 0.4, "heart_rate": 0.3}
OTHER_WEIGHT = 0.3
IRREGULARITY_WEIGHT = 0.3
SLOPE = 1.2  # of the ordinal logit, per sd of the index: about what a week tells a trained risk model
MEDIUM, HIGH = 0.1, 1.1  # cut points: about half of a population is Medium or High, one in three to four High


@dataclass(frozen=True)
class SeverityIndex:
    """``RiskModel``: an ordinal logit on the week's signed means and the irregularity of sleep.

    index = sum_k weight_k illbeing_k + weight * irregularity, divided by the norm of the weights;
    P(>= Medium) = sigmoid(slope (index - medium)), P(High) = sigmoid(slope (index - high)). The profile is not used.
    """

    signals: Signals
    scaler: WeekScaler

    def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, 3]`` from ``week`` ``[B, 7, C]``; days not observed in ``mask`` are left out."""
        observed = None if mask is None else mask.to(week.dtype)
        mean = week.mean(dim=1) if observed is None else (week * observed).sum(dim=1) / _count(observed)  # (B, C)
        signals, weights = names(self.signals), [WEIGHTS.get(name, OTHER_WEIGHT) for name in names(self.signals)]
        slopes = [-s.better * w / sd for s, w, sd in zip(self.signals, weights, self.scaler.between, strict=True)]
        # Signal by signal: loops along the batch, and no matrix product whose rounding depends on its size.
        parts = [slope * (mean[:, k] - self.scaler.mean[k]) for k, slope in enumerate(slopes)]
        norm = sum(weight**2 for weight in weights)
        if "sleep_duration" in signals:
            k = signals.index("sleep_duration")
            expected = math.sqrt(max(self.scaler.sd[k] ** 2 - self.scaler.between[k] ** 2, 1e-6))
            sd = _sd(week[:, :, k], mean[:, k], None if observed is None else observed[:, :, k])
            parts.append(IRREGULARITY_WEIGHT * (sd / expected - 1.0).clamp(-2.0, 2.0))
            norm += IRREGULARITY_WEIGHT**2
        index = _added(parts)
        index = index / math.sqrt(norm)
        medium, high = torch.sigmoid(SLOPE * (index - MEDIUM)), torch.sigmoid(SLOPE * (index - HIGH))
        return torch.stack([1 - medium, medium - high, high]).T


def _added(parts: Sequence[Tensor]) -> Tensor:
    """Their sum, one after the other: a reduction takes them in an order that depends on the batch."""
    return reduce(torch.add, parts)


def _count(observed: Tensor) -> Tensor:
    return observed.sum(dim=1).clamp(min=1.0)


def _sd(days: Tensor, mean: Tensor, observed: Tensor | None) -> Tensor:
    """``[B]`` from ``days`` ``[B, 7]`` around ``mean`` ``[B]``; 1 or 0 in ``observed`` says what counts."""
    deviation = days - mean[:, None]
    if observed is None:
        return (_added(deviation.square().unbind(dim=1)) / (days.shape[1] - 1)).sqrt()
    return ((deviation * observed).square().sum(dim=1) / (_count(observed) - 1).clamp(min=1.0)).sqrt()
