"""How lifelike weeks are, beyond single values: their distribution, their rhythm, and whether a classifier can tell.

Protocol: weeks are generated for the profiles of the persons the generator was *trained* on (as a fused cohort's are)
and compared with the weeks of *held-out* persons, both sides cut to the same number of weeks. The ceiling is the same
function of the training persons' real weeks against the held-out ones.
"""

import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from core.errors import DataError
from core.random import seeded_init
from generators.quality.c2st import c2st_auc

GRU_HIDDEN, GRU_STEPS, GRU_BATCH, GRU_RATE, GRU_MIN_WEEKS = 24, 400, 256, 1e-2, 8


def rhythm_quality(
    synthetic: np.ndarray,
    holdout: np.ndarray,
    rng: np.random.Generator,
    mask: np.ndarray | None = None,
    synthetic_mask: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Scores of ``synthetic [N, 7, C]`` against ``holdout [M, 7, C]``, physical units; the larger is subsampled.

    ``mask`` (bool ``[M, 7, C]``) tells what of ``holdout`` was observed; ``synthetic_mask`` is for real weeks in the
    place of synthetic ones. Row by row both sides lose the days that either lacks: what fills a gap counts nowhere.

    Scores (1 is best): ``distribution_score`` (1 - KS distance of week means, mean over signals), ``day_signal_mean``
    and ``day_signal_min`` (of each weekday's values), ``within_week_sd`` (of sd over the week's days).
    Errors (0 is best), mean absolute differences: ``cross_correlation_error`` (within-person, same day),
    ``lag1_error`` (within-person, next day), ``icc_error``; ``gru_discriminative`` (|accuracy - 1/2| of a GRU on
    weeks it has not seen). ``c2st_auc``: of a random forest on flat weeks, 0.5 is best. Both are None below
    8 weeks, and every other score where nothing was observed that it could be of (one signal has no cross-correlation).
    """
    n = min(len(synthetic), len(holdout))
    rows = [rng.permutation(len(weeks))[:n] for weeks in (synthetic, holdout)]
    seen = _rows(mask, holdout, rows[1]) & _rows(synthetic_mask, synthetic, rows[0])
    fake, real = (
        _hidden(weeks[row].astype(float), seen) for weeks, row in zip((synthetic, holdout), rows, strict=True)
    )
    centre = _share(real.sum((0, 1)), seen.sum((0, 1)))
    flat = [
        np.where(seen, weeks, centre).reshape(n, -1) for weeks in (fake, real)
    ]  # gaps: the same constant on both sides
    return {
        **rhythm_statistics(fake, real, seen),
        "gru_discriminative": gru_discriminative(flat[0].reshape(fake.shape), flat[1].reshape(real.shape), rng),
        "c2st_auc": c2st_auc(flat[1], flat[0], rng),
    }


def rhythm_statistics(synthetic: np.ndarray, real: np.ndarray, seen: np.ndarray) -> dict[str, float | None]:
    """The scores and errors of :func:`rhythm_quality` that train no classifier.

    All arrays are ``[N, 7, C]``; days that ``seen`` (bool) leaves out count on neither side.
    """
    n, known, varied = len(seen), np.asarray(seen.any(1)), np.asarray(seen.sum(1) > 2)
    flat_seen = seen.reshape(n, -1)
    fake, true = _hidden(synthetic.astype(float), seen), _hidden(real.astype(float), seen)
    days = _overlap(fake.reshape(n, -1), flat_seen, true.reshape(n, -1), flat_seen)
    return {
        "distribution_score": _mean(_overlap(_means(fake, seen), known, _means(true, seen), known)),
        "day_signal_mean": _mean(days),
        "day_signal_min": float(days.min()) if len(days) else None,
        "within_week_sd": _mean(_overlap(_spreads(fake, seen), varied, _spreads(true, seen), varied)),
        "cross_correlation_error": _gap(cross_correlations(fake, seen), cross_correlations(true, seen)),
        "lag1_error": _gap(lag1_correlations(fake, seen), lag1_correlations(true, seen)),
        "icc_error": _gap(intraclass_correlations(fake, seen), intraclass_correlations(true, seen)),
    }


def rhythm_distance(synthetic: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """One number of how far weeks ``[N, 7, C]`` are from ``real [M, 7, C]`` (0: not at all), for choosing between models.

    The KS distances of week means, weekday values and within-week sd, and the errors of cross-correlation, next-day
    correlation and ICC, each the mean over what it is of, averaged. Every weekday and signal of ``real`` counts where
    ``mask`` says it was observed; the synthetic weeks are taken whole, and all of them. Parts that too few observed days
    leave undefined are left out.

    Raises:
        DataError: nothing of ``real`` was observed.
    """
    whole = np.ones(synthetic.shape, bool)
    n, m = len(synthetic), len(real)
    fake, true = synthetic.astype(float), _hidden(real.astype(float), mask)
    pairs = (
        (fake.reshape(n, -1), whole.reshape(n, -1), true.reshape(m, -1), mask.reshape(m, -1)),
        (_means(fake, whole), whole.any(1), _means(true, mask), mask.any(1)),
        (_spreads(fake, whole), whole.any(1), _spreads(true, mask), mask.sum(1) > 2),
    )
    scores = [_mean(_overlap(*each)) for each in pairs]
    errors = [
        _gap(statistic(fake, whole), statistic(true, mask))
        for statistic in (cross_correlations, lag1_correlations, intraclass_correlations)
    ]
    parts = [1 - score for score in scores if score is not None] + [error for error in errors if error is not None]
    if not parts:
        raise DataError(
            "no day of the real weeks was observed, expected some to compare with; check the rhythm columns"
        )
    return float(np.mean(parts))


def cross_correlations(weeks: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Within-person same-day correlations, pooled over persons: one per pair of signals, of ``[N, 7, C]``.

    NaN where no week has a day of both beside another of each.
    """
    c, days = weeks.shape[2], _seen(weeks, mask)
    seen, beside = (each.reshape(-1, c).astype(float) for each in (days, days & (days.sum(1, keepdims=True) > 1)))
    deviation = _deviations(weeks, mask).reshape(-1, c)
    scale = np.sqrt((deviation**2).T @ seen)  # (C, C): of the row's signal, where the column's was observed too
    found = _share(deviation.T @ deviation, scale * scale.T)
    return np.where(beside.T @ beside > 0, found, np.nan)[np.triu_indices(c, 1)]


def lag1_correlations(weeks: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Within-person correlation of a day with the next, pooled, ``[C]``.

    Deviations are from each week's own mean, which pulls it down (independent days give -1/6) on both sides alike.
    NaN where no two days in a row were observed.
    """
    seen, deviation = _seen(weeks, mask), _deviations(weeks, mask)
    pairs = (seen[:, :-1] & seen[:, 1:]).sum((0, 1))
    variance = _share((deviation**2).sum((0, 1)), seen.sum((0, 1)))
    found = _share((deviation[:, :-1] * deviation[:, 1:]).sum((0, 1)), pairs * variance)
    return np.where(pairs > 0, found, np.nan)


def intraclass_correlations(weeks: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """ICC(1) by one-way analysis of variance, ``[C]``: the share of a day's variance that is the person's.

    NaN where fewer than two persons or nobody's second day were observed.
    """
    seen = _seen(weeks, mask)
    days, persons = seen.sum(1), seen.any(1).sum(0)  # (N, C), (C,)
    total = days.sum(0)
    means = _means(weeks, seen)
    grand = _share((days * means).sum(0), total)
    between = _share((days * (means - grand) ** 2).sum(0), persons - 1.0)
    within = _share((_deviations(weeks, mask) ** 2).sum((0, 1)), total - persons)
    size = _share(total - _share((days**2).sum(0), total), persons - 1.0)  # days a person: 7 where nothing is missing
    found = _share(between - within, between + (size - 1) * within)
    return np.where((persons > 1) & (total > persons), found, np.nan)


def gru_discriminative(synthetic: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> float | None:
    """|accuracy - 1/2| of a small GRU that learned "synthetic or real" on half of the weeks, on the other half.

    None below 8 weeks: too few to learn from and to test on.
    """
    n = len(real)
    if n < GRU_MIN_WEEKS:
        return None
    scale = real.mean((0, 1)), real.std((0, 1)) + 1e-9
    weeks = torch.from_numpy((np.concatenate([synthetic, real]) - scale[0]) / scale[1]).float()
    label = torch.cat([torch.ones(n), torch.zeros(n)])
    rows = np.stack([rng.permutation(n), n + rng.permutation(n)])  # (2, n): synthetic, real
    fit, test = torch.from_numpy(rows[:, : n // 2].ravel()), torch.from_numpy(rows[:, n // 2 :].ravel())
    network = _train_gru(weeks[fit], label[fit], torch.Generator().manual_seed(int(rng.integers(2**31))))
    with torch.no_grad():
        accuracy = ((network(weeks[test]) > 0).float() == label[test]).float().mean()
    return abs(float(accuracy) - 0.5)


class _WeekClassifier(nn.Module):
    def __init__(self, signals: int) -> None:
        super().__init__()
        self.gru = nn.GRU(signals, GRU_HIDDEN, batch_first=True)
        self.out = nn.Linear(GRU_HIDDEN, 1)

    def forward(self, weeks: Tensor) -> Tensor:
        return self.out(self.gru(weeks)[0][:, -1]).squeeze(1)


def _train_gru(weeks: Tensor, label: Tensor, random: torch.Generator) -> _WeekClassifier:
    with seeded_init(int(torch.randint(2**31, (1,), generator=random))):
        network = _WeekClassifier(weeks.shape[2])
    optimizer = torch.optim.Adam(network.parameters(), lr=GRU_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, GRU_STEPS)
    for _ in range(GRU_STEPS):
        rows = torch.randint(len(weeks), (min(GRU_BATCH, len(weeks)),), generator=random)
        loss = nn.functional.binary_cross_entropy_with_logits(network(weeks[rows]), label[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def _overlap(fake: np.ndarray, fake_seen: np.ndarray, real: np.ndarray, real_seen: np.ndarray) -> np.ndarray:
    """1 - Kolmogorov-Smirnov distance of each column's observed rows; columns never observed are left out."""
    columns = np.flatnonzero(fake_seen.any(0) & real_seen.any(0))
    return np.array([1 - ks_2samp(fake[fake_seen[:, k], k], real[real_seen[:, k], k]).statistic for k in columns])


def _rows(mask: np.ndarray | None, weeks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return _seen(weeks, mask)[rows]


def _seen(weeks: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return np.ones(weeks.shape, bool) if mask is None else mask


def _hidden(weeks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.where(seen, weeks, 0.0)


def _means(weeks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Observed mean of each week, ``[N, C]``; 0 where nothing was."""
    return _share(_hidden(weeks, seen).sum(1), seen.sum(1))


def _spreads(weeks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Observed sd of each week, ``[N, C]``."""
    return np.sqrt(_share((_deviations(weeks, seen) ** 2).sum(1), seen.sum(1) - 1.0))


def _deviations(weeks: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """From each week's observed mean; 0 on days not observed."""
    seen = _seen(weeks, mask)
    return _hidden(weeks - _means(weeks, seen)[:, None], seen)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _gap(fake: np.ndarray, real: np.ndarray) -> float | None:
    """Mean absolute difference where both are defined."""
    return _mean(np.abs(fake - real))


def _mean(values: np.ndarray) -> float | None:
    """The mean of what is defined; None where nothing is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None
