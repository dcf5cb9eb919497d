"""The baseline a TimeGAN must beat: a linear person effect, and days that follow an AR(1) around it.

In rank-Gauss scores, of person i, day t and all C signals at once:

    score[i, t] = weekday[t] + regression(profile[i]) + person[i] + residual[i, t]
    person ~ N(0, S)        residual[t] = R residual[t-1] + innovation,  innovation ~ N(0, Q),  R diagonal

S, R and the residual's stationary covariance G are fitted to the covariances at lags 0..6: S + R^lag G.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from core.artifact import Artifact
from core.cohort import Cohort
from core.signals import DAYS, Signals
from generators.person_regression import regress_persons
from generators.week_space import WeekSpace

KIND = "hierarchical"


@dataclass(frozen=True)
class HierarchicalRhythms:
    """A fitted baseline: a ``RhythmGenerator``. All arrays are float64, in scores.

    Attributes:
        weekday: ``[7, C]`` mean of each weekday.
        slope: ``[P, C]`` and intercept ``[C]``: the level that a profile predicts.
        person: ``[C, C]`` covariance of what the profile does not predict.
        residual: ``[C, C]`` stationary covariance of days around their level.
        rho: ``[C]`` autocorrelation from day to day.
    """

    weekday: np.ndarray
    slope: np.ndarray
    intercept: np.ndarray
    person: np.ndarray
    residual: np.ndarray
    rho: np.ndarray
    space: WeekSpace

    @property
    def signals(self) -> Signals:
        return self.space.signals

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """One week for each profile: float32 ``[N, 7, C]``, physical units, within each signal's range.

        Raises:
            DataError: a profile column is missing.
        """
        n, c = len(profiles), len(self.signals)
        level = self.space.encoder.encode(profiles) @ self.slope + self.intercept
        level = level + rng.standard_normal((n, c)) @ _root(self.person)  # (N, C)
        step = _root(self.residual - self.rho[:, None] * self.residual * self.rho[None])
        state = rng.standard_normal((n, c)) @ _root(self.residual)
        scores = np.empty((n, DAYS, c))
        for day in range(DAYS):
            if day:
                state = self.rho * state + rng.standard_normal((n, c)) @ step
            scores[:, day] = self.weekday[day] + level + state
        return self.space.weeks(scores)

    def to_artifact(self) -> Artifact:
        return self.space.artifact(KIND, {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "HierarchicalRhythms":
        """The generator that :meth:`to_artifact` described; it samples the same weeks.

        Raises:
            ArtifactError: the artifact is of another kind of model.
        """
        space = WeekSpace.from_artifact(artifact, KIND)
        return cls(**{name: artifact.tensors[name].numpy() for name in _ARRAYS}, space=space)


_ARRAYS = ("weekday", "slope", "intercept", "person", "residual", "rho")


def fit_hierarchical(cohort: Cohort) -> HierarchicalRhythms:
    """Fit to the observed days of a cohort; the only randomness is how repeated values share their ranks (fixed).

    Raises:
        DataError: a signal was never observed.
    """
    space = WeekSpace.fit(cohort)
    scores = space.scores(cohort, np.random.default_rng(0))
    mask = cohort.mask.astype(float)
    weekday = (scores * mask).sum(0) / np.maximum(mask.sum(0), 1)  # (7, C)
    centred = (scores - weekday) * mask
    level = centred.sum(1) / np.maximum(mask.sum(1), 1)  # (N, C)
    features = space.encoder.encode(cohort.profiles).astype(float)
    found = regress_persons(features, level, mask.sum(1), cohort.person)
    rest = (centred - (features @ found.slope + found.intercept)[:, None]) * mask
    person, residual, rho = _decompose(*_lagged_covariances(rest, mask))
    return HierarchicalRhythms(weekday, found.slope, found.intercept, person, residual, rho, space)


def _lagged_covariances(rest: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[7, C, C]`` mean product of later and earlier days at each lag, and the number of pairs behind each."""
    sums, pairs = [], []
    for lag in range(DAYS):
        later, earlier = slice(lag, DAYS), slice(0, DAYS - lag)
        sums.append(np.einsum("ntc,ntd->cd", rest[:, later], rest[:, earlier]))
        pairs.append(np.einsum("ntc,ntd->cd", mask[:, later], mask[:, earlier]))
    count = np.stack(pairs)
    return np.stack(sums) / np.maximum(count, 1), count


def _decompose(covariance: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares fit of ``person + rho^lag * residual``; covariances as Cholesky factors, rho through tanh."""
    c = covariance.shape[1]
    lower = np.tril_indices(c)
    weight = np.sqrt(pairs / pairs.max())

    def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        factors = np.zeros((2, c, c))
        factors[:, lower[0], lower[1]] = x[c:].reshape(2, -1)
        return factors[0] @ factors[0].T, factors[1] @ factors[1].T, np.tanh(x[:c])

    def gap(x: np.ndarray) -> np.ndarray:
        person, residual, rho = unpack(x)
        model = person + rho[None, :, None] ** np.arange(DAYS)[:, None, None] * residual
        return (weight * (model - covariance)).ravel()

    half = np.eye(c)[lower] * 0.7
    solution = least_squares(gap, np.concatenate([np.full(c, 0.2), half, half]))
    return unpack(solution.x)


def _root(covariance: np.ndarray) -> np.ndarray:
    """``M`` with ``M.T @ M`` the covariance, or the nearest there is to it."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))).T
