"""The last touch on generated weeks: means and covariances, then the spread of levels and of days, set right.

A generator of limited training comes close to the statistics of real weeks and not quite there. What is left has a
closed form. First in scores: with ``e`` the 7C scores of a week beyond what the profile predicts,

    e -> mean + (e - its mean) A,    A = G^-1/2 (G^1/2 R G^1/2)^1/2 G^-1/2

is the optimal transport between Gaussians of covariance G (generated) and R (real): the smallest change of every week
after which day means, variances, lags and same-day correlations agree. The levels that the profile predicts are
corrected as far as left-out persons bear it out (``generators.person_regression``). Then in physical units: the mean and
sd of a week's days are moved along monotone maps of a few knots, coarse enough to hold no person, and the days' values
along one of their own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.signals import DAYS
from generators.person_regression import regress_persons

_FLOOR = 1e-6  # least variance of a direction, in scores
SHAPE_LEVELS, VALUE_LEVELS = 8, 64  # quantiles of the maps of week means and sds, and of days' values
ROUNDS = 2


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
    """Monotone maps by signal, applied in rounds, since each disturbs the one before a little.

    Knots are float64 ``[R, 2, Q, C]`` (round, from and to), physical units: of week means, of week sds, of days' values.
    """

    level: np.ndarray
    spread: np.ndarray
    value: np.ndarray

    def __call__(self, weeks: np.ndarray) -> np.ndarray:
        """Weeks ``[N, 7, C]`` with their means, sds and values moved."""
        for level, spread, value in zip(self.level, self.spread, self.value, strict=True):
            weeks = _mapped(_reshaped(weeks, level, spread), value)
        return weeks

    def tensors(self) -> dict[str, Tensor]:
        return {f"shape.{name}": torch.from_numpy(getattr(self, name)) for name in _MAPS}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "WeekShape":
        return cls(*(tensors[f"shape.{name}"].numpy() for name in _MAPS))


_MAPS = ("level", "spread", "value")


def fit_shape(fake: np.ndarray, real: np.ndarray, mask: np.ndarray) -> WeekShape:
    """From many generated weeks ``[M, 7, C]`` to the observed days of real ones ``[N, 7, C]``, physical units.

    A mean or sd is of the weeks with four observed days or more; a signal without such weeks keeps its own.
    """
    signals = range(real.shape[2])
    seen = [real[:, :, k][mask[:, :, k]].astype(np.float64) for k in signals]
    most = [np.where(mask, real.astype(np.float64), np.nan)[mask[:, :, k].sum(1) >= 4, :, k] for k in signals]
    weeks, rounds = fake.astype(np.float64), []
    for _ in range(ROUNDS):
        level = _knots(weeks.mean(1), [np.nanmean(days, axis=1) for days in most], SHAPE_LEVELS)
        spread = _knots(weeks.std(1, ddof=1), [np.nanstd(days, axis=1, ddof=1) for days in most], SHAPE_LEVELS)
        weeks = _reshaped(weeks, level, spread)
        value = _knots(weeks.reshape(-1, len(seen)), seen, VALUE_LEVELS)
        weeks = _mapped(weeks, value)
        rounds.append((level, spread, value))
    return WeekShape(*(np.stack(maps) for maps in zip(*rounds, strict=True)))


def _knots(found: np.ndarray, wanted: list[np.ndarray], levels: int) -> np.ndarray:
    """``[2, Q, C]`` quantiles of generated values ``[M, C]`` and of the real ones of each signal; where none, the same."""
    at = (np.arange(levels) + 0.5) / levels
    own = np.quantile(found, at, axis=0)
    real = [np.quantile(values, at) if len(values) else own[:, k] for k, values in enumerate(wanted)]
    return np.stack([own, np.stack(real, axis=1)])


def _reshaped(weeks: np.ndarray, level: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Weeks whose means and sds are moved along their knots; the order of a week's days stays."""
    mean, sd = weeks.mean(1, dtype=np.float64), weeks.std(1, ddof=1, dtype=np.float64)  # (N, C)
    wider = np.divide(_mapped(sd, spread), sd, out=np.ones_like(sd), where=sd > 0)
    return _mapped(mean, level)[:, None] + (weeks - mean[:, None]) * np.maximum(wider, 0)[:, None]


def _mapped(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """``x [..., C]`` along the knots ``[2, Q, C]`` of each signal; beyond them, shifted as the outermost."""
    shifts = [
        np.interp(x[..., k], found, wanted - found)
        for k, (found, wanted) in enumerate(zip(*np.moveaxis(knots, 2, 1), strict=True))
    ]
    return x + np.stack(shifts, axis=-1)


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
