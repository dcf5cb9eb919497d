"""How lifelike weeks are, beyond single values: their distribution, their rhythm, and whether a classifier can tell.

Protocol: weeks are generated for the profiles of the persons the generator was *trained* on (as a fused cohort's are)
and compared with the weeks of *held-out* persons, both sides cut to the same number of weeks. The ceiling is the same
function of the training persons' real weeks against the held-out ones.
"""

import numpy as np
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from core.random import seeded_init
from core.signals import DAYS
from generators.quality.c2st import c2st_auc

GRU_HIDDEN, GRU_STEPS, GRU_BATCH, GRU_RATE = 24, 400, 256, 1e-2


def rhythm_quality(synthetic: np.ndarray, holdout: np.ndarray, rng: np.random.Generator) -> dict[str, float | None]:
    """Scores of ``synthetic [N, 7, C]`` against ``holdout [M, 7, C]``, physical units; the larger is subsampled.

    Scores (1 is best): ``distribution_score`` (1 - KS distance of week means, mean over signals), ``day_signal_mean``
    and ``day_signal_min`` (of each weekday's values), ``within_week_sd`` (of sd over the week's days).
    Errors (0 is best), mean absolute differences: ``cross_correlation_error`` (within-person, same day),
    ``lag1_error`` (within-person, next day), ``icc_error``; ``gru_discriminative`` (|accuracy - 1/2| of a GRU on
    weeks it has not seen). ``c2st_auc``: of a random forest on flat weeks, 0.5 is best.

    Raises:
        DataError: fewer than 8 weeks on a side.
    """
    n = min(len(synthetic), len(holdout))
    fake, real = (weeks[rng.permutation(len(weeks))[:n]].astype(float) for weeks in (synthetic, holdout))
    days = _overlap(fake.reshape(n, -1), real.reshape(n, -1))
    return {
        "distribution_score": float(_overlap(fake.mean(1), real.mean(1)).mean()),
        "day_signal_mean": float(days.mean()),
        "day_signal_min": float(days.min()),
        "within_week_sd": float(_overlap(fake.std(1, ddof=1), real.std(1, ddof=1)).mean()),
        "cross_correlation_error": _gap(cross_correlations(fake), cross_correlations(real)),
        "lag1_error": _gap(lag1_correlations(fake), lag1_correlations(real)),
        "icc_error": _gap(intraclass_correlations(fake), intraclass_correlations(real)),
        "gru_discriminative": gru_discriminative(fake, real, rng),
        "c2st_auc": c2st_auc(real.reshape(n, -1), fake.reshape(n, -1), rng),
    }


def cross_correlations(weeks: np.ndarray) -> np.ndarray:
    """Within-person same-day correlations, pooled over persons: one per pair of signals, of ``[N, 7, C]``."""
    deviation = _deviations(weeks).reshape(-1, weeks.shape[2])
    scale = np.sqrt((deviation**2).sum(0))
    products = deviation.T @ deviation
    correlation = np.divide(
        products, np.outer(scale, scale), out=np.zeros_like(products), where=np.outer(scale, scale) > 0
    )
    return correlation[np.triu_indices(weeks.shape[2], 1)]


def lag1_correlations(weeks: np.ndarray) -> np.ndarray:
    """Within-person correlation of a day with the next, pooled, ``[C]``.

    Deviations are from each week's own mean, which pulls it down (independent days give -1/6) on both sides alike.
    """
    deviation = _deviations(weeks)
    variance = (deviation**2).sum((0, 1)) * (DAYS - 1) / DAYS
    return np.divide(
        (deviation[:, :-1] * deviation[:, 1:]).sum((0, 1)), variance, out=np.zeros_like(variance), where=variance > 0
    )


def intraclass_correlations(weeks: np.ndarray) -> np.ndarray:
    """ICC(1) by one-way analysis of variance, ``[C]``: the share of a day's variance that is the person's."""
    between = DAYS * weeks.mean(1).var(0, ddof=1)
    within = weeks.var(1, ddof=1).mean(0)
    total = between + (DAYS - 1) * within
    return np.divide(between - within, total, out=np.zeros_like(total), where=total > 0)


def gru_discriminative(synthetic: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> float:
    """|accuracy - 1/2| of a small GRU that learned "synthetic or real" on half of the weeks, on the other half."""
    n = len(real)
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


def _overlap(fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """1 - Kolmogorov-Smirnov distance of each column."""
    return np.array([1 - ks_2samp(fake[:, k], real[:, k]).statistic for k in range(real.shape[1])])


def _deviations(weeks: np.ndarray) -> np.ndarray:
    return weeks - weeks.mean(1, keepdims=True)


def _gap(fake: np.ndarray, real: np.ndarray) -> float:
    return float(np.abs(fake - real).mean()) if len(real) else 0.0
