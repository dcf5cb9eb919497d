"""Rank-Gauss: each signal as standard normal scores, and back, without a squashing function at the bounds."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri


@dataclass(frozen=True)
class RankGauss:
    """The empirical quantile function of each signal; ``sorted_values[k]`` holds the training values of signal k.

    The value of rank r (of n, from 0) has the score ``ndtri((r + 1/2) / n)``. A repeated value owns a range of ranks,
    and any score in it means that value: ratings and values at a bound come back as they were.
    """

    sorted_values: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, weeks: np.ndarray, mask: np.ndarray) -> "RankGauss":
        """From the observed values of ``weeks [N, 7, C]``; every signal has some."""
        columns = []
        for k in range(weeks.shape[2]):
            columns.append(np.sort(weeks[:, :, k][mask[:, :, k]]).astype(np.float32))
        return cls(tuple(columns))

    def to_scores(self, weeks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float64 scores of ``weeks [..., C]``; repeated values are spread over their ranks, unseen ones interpolated."""
        scores = np.empty(weeks.shape, dtype=np.float64)
        for k, values in enumerate(self.sorted_values):
            x = weeks[..., k].astype(np.float32)
            first, last = np.searchsorted(values, x, "left"), np.searchsorted(values, x, "right") - 1
            spread = first + rng.random(x.shape) * (last - first)
            distinct, at = np.unique(values, return_index=True)
            rank = np.where(last >= first, spread, np.interp(x, distinct, at))
            scores[..., k] = ndtri((rank + 0.5) / len(values))
        return scores

    def to_values(self, scores: np.ndarray) -> np.ndarray:
        """float32 physical values of ``scores [..., C]``; never beyond what was observed."""
        weeks = np.empty(scores.shape, dtype=np.float32)
        for k, values in enumerate(self.sorted_values):
            rank = ndtr(scores[..., k].astype(np.float64)) * len(values) - 0.5
            weeks[..., k] = np.interp(rank, np.arange(len(values)), values)
        return weeks
