"""The last touch on generated weeks: means and covariances, then the spread of levels and of days, set right.

A generator of limited training comes close to the statistics of real weeks and not quite there. What is left has a
closed form. First in scores: with ``e`` the 7C scores of a week beyond what the profile predicts,

    e -> mean + (e - its mean) A,    A = G^-1/2 (G^1/2 R G^1/2)^1/2 G^-1/2

is the optimal transport between Gaussians of covariance G (generated) and R (real): the smallest change of every week
after which day means, variances, lags and same-day correlations agree. The levels that the profile predicts are
corrected as far as left-out persons bear it out (``generators.person_regression``). Then in physical units: the mean and
the sd of a week's days are moved along monotone maps of a few knots each, coarse enough to hold no person.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.signals import DAYS
from generators.person_regression import regress_persons

_FLOOR = 1e-6  # least variance of a direction, in scores
KNOTS = (np.arange(8) + 0.5) / 8  # quantile levels of the maps of week means and sds


@dataclass(frozen=True)
class Correction:
    """``week -> week @ matrix + profile @ slope + offset``, weeks flat; float64 ``[7C, 7C]``, ``[P, 7C]``, ``[7C]``."""

    matrix: np.ndarray
    slope: np.ndarray
    offset: np.ndarray

    def __call__(self, scores: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Scores ``[N, 7, C]`` of people with encoded profiles ``[N, P]``."""
        flat = scores.reshape(len(scores), -1) @ self.matrix + features @ self.slope + self.offset
        return flat.reshape(scores.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {f"correction.{name}": torch.from_numpy(getattr(self, name)) for name in _ARRAYS}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Correction":
        return cls(*(tensors[f"correction.{name}"].numpy() for name in _ARRAYS))


_ARRAYS = ("matrix", "slope", "offset")


@dataclass(frozen=True)
class ScoredWeeks:
    """Weeks ``[N, 7, C]`` in scores, what was observed (bool), encoded profiles ``[N, P]`` and persons ``[N]``."""

    scores: np.ndarray
    mask: np.ndarray
    features: np.ndarray
    person: np.ndarray


def fit_correction(fake: ScoredWeeks, real: ScoredWeeks, prior: float) -> Correction:
    """From many generated weeks to the real ones.

    ``prior`` is how many persons' worth of trust the generated covariance keeps: with as many real persons the target
    is half way.
    """
    c = real.scores.shape[2]
    shown = _level_slope(fake.scores, fake)
    wanted = shown + _level_slope(real.scores - (real.features @ shown)[:, None], real)
    fake_rest, real_rest = (
        part.scores - (part.features @ slope)[:, None] for part, slope in ((fake, shown), (real, wanted))
    )
    fake_mean, generated, _ = _moments(fake_rest, fake.mask)
    real_mean, observed, pairs = _moments(real_rest, real.mask)
    known = len(np.unique(real.person)) * pairs / len(real.scores)  # persons behind each entry
    trust = known / (known + prior + 1e-9)
    mean = fake_mean + np.diag(trust) * (real_mean - fake_mean)
    matrix = _transport(generated, generated + trust * (observed - generated))
    days = np.tile(np.eye(c), DAYS)  # (C, 7C): a level reaches every day
    return Correction(matrix, wanted @ days - shown @ days @ matrix, mean - fake_mean @ matrix)


@dataclass(frozen=True)
class WeekShape:
    """Monotone maps of week means and sds, by signal: knots ``[2, Q, C]`` (from, to), physical units, float64."""

    level: np.ndarray
    spread: np.ndarray

    def __call__(self, weeks: np.ndarray) -> np.ndarray:
        """Weeks ``[N, 7, C]`` with their means and sds moved; the order of a week's days stays."""
        weeks = weeks.astype(np.float64)
        level, spread = weeks.mean(1), weeks.std(1, ddof=1)  # (N, C)
        wider = np.divide(_mapped(spread, self.spread), spread, out=np.ones_like(spread), where=spread > 0)
        return _mapped(level, self.level)[:, None] + (weeks - level[:, None]) * np.maximum(wider, 0)[:, None]

    def tensors(self) -> dict[str, Tensor]:
        return {"shape.level": torch.from_numpy(self.level), "shape.spread": torch.from_numpy(self.spread)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "WeekShape":
        return cls(tensors["shape.level"].numpy(), tensors["shape.spread"].numpy())


def fit_shape(fake: np.ndarray, real: np.ndarray, mask: np.ndarray) -> WeekShape:
    """From many generated weeks ``[M, 7, C]`` to the observed days of real ones ``[N, 7, C]``, physical units.

    A mean is taken over four days or more and a sd too, where there are such weeks; without them a map moves nothing.
    """
    days = np.where(mask, real.astype(np.float64), np.nan)
    maps = []
    for statistic in (np.nanmean, _sd):
        found = np.quantile(statistic(fake.astype(np.float64), axis=1), KNOTS, axis=0)  # (Q, C)
        wanted = found.copy()
        for k in range(real.shape[2]):
            enough = mask[:, :, k].sum(1) >= 4
            if enough.any():
                wanted[:, k] = np.quantile(statistic(days[enough, :, k], axis=1), KNOTS)
        maps.append(np.stack([found, wanted]))
    return WeekShape(*maps)


def _sd(days: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(np.nanstd(days, axis=axis, ddof=1))


def _mapped(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Each column of ``x [N, C]`` along its knots ``[2, Q, C]``; beyond them, shifted as the outermost."""
    moved = np.empty_like(x)
    for k in range(x.shape[1]):
        found, wanted = knots[:, :, k]
        shift = np.interp(x[:, k], found, wanted - found)
        moved[:, k] = x[:, k] + shift
    return moved


def _level_slope(scores: np.ndarray, weeks: ScoredWeeks) -> np.ndarray:
    """``[P, C]`` regression of the level of ``scores`` on the profile."""
    seen = weeks.mask.astype(float)
    weekday = (scores * seen).sum(0) / np.maximum(seen.sum(0), 1)
    level = ((scores - weekday) * seen).sum(1) / np.maximum(seen.sum(1), 1)
    return regress_persons(weeks.features, level, seen.sum(1), weeks.person).slope


def _moments(scores: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean ``[7C]`` and covariance ``[7C, 7C]`` over what was observed, and the number of weeks behind each pair."""
    seen = mask.reshape(len(mask), -1).astype(float)
    flat = scores.reshape(len(scores), -1)
    mean = (flat * seen).sum(0) / np.maximum(seen.sum(0), 1)
    centred = (flat - mean) * seen
    pairs = seen.T @ seen
    return mean, centred.T @ centred / np.maximum(pairs, 1), pairs


def _transport(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    root, inverse = _power(source, 0.5, _FLOOR), _power(source, -0.5, _FLOOR)
    target = _power(target, 1.0, _FLOOR)
    return inverse @ _power(root @ target @ root, 0.5, _FLOOR**2) @ inverse


def _power(covariance: np.ndarray, exponent: float, least: float) -> np.ndarray:
    """A symmetric matrix to a power; directions of no variance (or less, where pairs disagree) get the ``least``."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.maximum(values, least) ** exponent) @ vectors.T
