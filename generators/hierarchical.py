"""The baseline a TimeGAN must beat: a linear person effect, and days that follow an AR(1) around it.

In rank-Gauss scores, of person i, day t and all C signals at once:

    score[i, t] = weekday[t] + regression(profile[i]) + person[i] + residual[i, t]
    person ~ N(0, S)        residual[t] = R residual[t-1] + innovation,  innovation ~ N(0, Q),  R diagonal

S, R and the residual's stationary covariance G are fitted to the covariances at lags 0..6: S + R^lag G.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares
from sklearn.linear_model import RidgeCV

from core.artifact import Artifact
from core.cohort import Cohort
from core.encoding import ProfileEncoder
from core.errors import ArtifactError
from core.signals import DAYS, Signal, Signals
from generators.rank_gauss import RankGauss


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
    margins: RankGauss
    encoder: ProfileEncoder
    signals: Signals

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """One week for each profile: float32 ``[N, 7, C]``, physical units, within each signal's range.

        Raises:
            DataError: a profile column is missing.
        """
        n, c = len(profiles), len(self.signals)
        level = self.encoder.encode(profiles) @ self.slope + self.intercept
        level = level + rng.standard_normal((n, c)) @ _root(self.person)  # (N, C)
        step = _root(self.residual - self.rho[:, None] * self.residual * self.rho[None])
        state = rng.standard_normal((n, c)) @ _root(self.residual)
        scores = np.empty((n, DAYS, c))
        for day in range(DAYS):
            if day:
                state = self.rho * state + rng.standard_normal((n, c)) @ step
            scores[:, day] = self.weekday[day] + level + state
        weeks = self.margins.to_values(scores)
        return np.clip(weeks, [s.low for s in self.signals], [s.high for s in self.signals]).astype(np.float32)

    def to_artifact(self) -> Artifact:
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        tensors |= {f"margin.{k}": torch.from_numpy(v) for k, v in enumerate(self.margins.sorted_values)}
        signals = [asdict(signal) for signal in self.signals]
        return Artifact(tensors, {"kind": "hierarchical", "encoder": self.encoder.to_meta(), "signals": signals})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "HierarchicalRhythms":
        """The generator that :meth:`to_artifact` described; it samples the same weeks.

        Raises:
            ArtifactError: the artifact is of another kind of model.
        """
        if artifact.meta.get("kind") != "hierarchical":
            raise ArtifactError(
                f"rhythm model is of kind '{artifact.meta.get('kind')}', expected 'hierarchical'; train it again with stage=rhythms"
            )
        signals = tuple(Signal(**signal) for signal in artifact.meta["signals"])
        margins = RankGauss(tuple(artifact.tensors[f"margin.{k}"].numpy() for k in range(len(signals))))
        arrays = {name: artifact.tensors[name].numpy() for name in _ARRAYS}
        return cls(
            **arrays, margins=margins, encoder=ProfileEncoder.from_meta(artifact.meta["encoder"]), signals=signals
        )


_ARRAYS = ("weekday", "slope", "intercept", "person", "residual", "rho")


def fit_hierarchical(cohort: Cohort) -> HierarchicalRhythms:
    """Fit to the observed days of a cohort; the only randomness is how repeated values share their ranks (fixed)."""
    encoder = ProfileEncoder.fit(cohort.profiles)
    margins = RankGauss.fit(cohort.rhythms, cohort.mask)
    scores = margins.to_scores(cohort.rhythms, np.random.default_rng(0))
    mask = cohort.mask.astype(float)
    weekday = (scores * mask).sum(0) / np.maximum(mask.sum(0), 1)  # (7, C)
    centred = (scores - weekday) * mask
    level = centred.sum(1) / np.maximum(mask.sum(1), 1)  # (N, C)
    slope, intercept = _regress(encoder.encode(cohort.profiles).astype(float), level)
    rest = (centred - (encoder.encode(cohort.profiles) @ slope + intercept)[:, None]) * mask
    person, residual, rho = _decompose(*_lagged_covariances(rest, mask))
    return HierarchicalRhythms(weekday, slope, intercept, person, residual, rho, margins, encoder, cohort.signals)


def _regress(features: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of person means on the profile, its penalty chosen by leave-one-out."""
    if features.shape[1] == 0:
        return np.zeros((0, level.shape[1])), level.mean(0)
    ridge = RidgeCV(alphas=np.logspace(-1, 4, 11)).fit(features, level)
    return ridge.coef_.reshape(level.shape[1], -1).T.copy(), np.asarray(ridge.intercept_, float).reshape(-1)


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
