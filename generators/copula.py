"""Profiles by a Gaussian copula: every column is read off latent normals, and the latents' covariance is all there is.

The model, for a person's latents ``z ~ N(mu, S)``::

    numeric column       x = F^-1(Phi(z))                        one latent of unit variance; F is the training distribution
    column of K levels   level = argmax(0, z_1, ..., z_{K-1})    K - 1 latents against the most frequent level

It is fitted by stochastic EM. What a value says of its latents is an interval (ties, ratings) or an order (levels); given
those and the current ``mu, S``, each latent in turn is drawn from its truncated normal, with ``P = S^-1``::

    z_j | rest ~ N(mu_j - sum_{l != j} P_jl (z_l - mu_l) / P_jj,  1 / P_jj)  within what row i says

and ``mu, S`` are set to the drawn latents' moments, ``S`` shrunk towards no correlation as far as its entries are noise::

    S <- (1 - w) S + w I,    w = sum_{i != j} Var(r_ij) / sum_{i != j} r_ij^2,    Var(r) = (1 - r^2)^2 / (N - 1)

(Schäfer & Strimmer 2005, doi 10.2202/1544-6115.1175): next to nothing for thousands of persons, nearly all for fifteen, whose
correlations would be a portrait. ``prior`` persons' worth is the least, which keeps it positive definite. The estimate is the mean over the sweeps after the first half. The scale of a column's utilities is
free, so it is set to mean variance 1 after each sweep.

Hoff 2007 (doi 10.1214/07-AOAS107) draws ordered columns so; the argmax is the multinomial probit of Albert & Chib 1993
(doi 10.1080/01621459.1993.10476321).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr, ndtri

from core.artifact import Artifact
from core.protocols import Tracker
from core.settings import Count, Positive
from generators.quantiles import GaussianRanks, uniform_of

_TAIL = 1e-12


@dataclass(frozen=True)
class CopulaSettings:
    """How the Gaussian copula is fitted."""

    sweeps: Count  # passes over all latents; the second half is averaged
    prior: Positive  # persons' worth of independence mixed into the covariance, at least


@dataclass(frozen=True)
class LatentColumn:
    """One profile column as latents: ``ranks`` of a numeric one, else its ``levels``, the most frequent first."""

    name: str
    levels: tuple[Any, ...] = ()
    ranks: GaussianRanks | None = None

    @property
    def width(self) -> int:
        """How many latents it has; none if it is constant."""
        return 1 if self.ranks else len(self.levels) - 1


class CopulaProfiles:
    """A fitted Gaussian copula (a ``core.protocols.ProfileGenerator``)."""

    def __init__(self, columns: tuple[LatentColumn, ...], mean: np.ndarray, covariance: np.ndarray):
        self.columns, self.mean, self.covariance = columns, mean, covariance
        self._factor = np.linalg.cholesky(covariance) if len(mean) else covariance

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles with the columns of the training table; whole numbers are int64, others float64."""
        latents = self.mean + rng.standard_normal((n, len(self.mean))) @ self._factor.T  # (n, D)
        values: dict[str, Any] = {}
        first = 0
        for column in self.columns:
            z = latents[:, first : first + column.width]
            if column.ranks is not None:
                values[column.name] = column.ranks.inverse(z[:, 0] / np.sqrt(self.covariance[first, first]))
            else:
                best = (
                    np.where(z.max(axis=1, initial=0.0) > 0, 1 + z.argmax(axis=1), 0) if column.width else np.zeros(n)
                )
                values[column.name] = pd.Series(list(column.levels)).to_numpy()[best.astype(np.intp)]
            first += column.width
        return pd.DataFrame(values)

    def to_artifact(self) -> Artifact:
        columns = [
            {"name": c.name, "levels": list(c.levels), "ranks": c.ranks.to_meta() if c.ranks else None}
            for c in self.columns
        ]
        tensors = {"mean": torch.from_numpy(self.mean.copy()), "covariance": torch.from_numpy(self.covariance.copy())}
        return Artifact(tensors, {"kind": "copula", "columns": columns})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "CopulaProfiles":
        columns = tuple(
            LatentColumn(c["name"], tuple(c["levels"]), GaussianRanks.from_meta(c["ranks"]) if c["ranks"] else None)
            for c in artifact.meta["columns"]
        )
        return cls(columns, artifact.tensors["mean"].numpy(), artifact.tensors["covariance"].numpy())


def fit_copula(profiles: pd.DataFrame, settings: CopulaSettings, seed: int, tracker: Tracker) -> CopulaProfiles:
    """Fit the copula to a table without missing values."""
    rng = np.random.default_rng(seed)
    columns = tuple(_latent_column(profiles[name], rng) for name in profiles)
    state = _Latents(columns, profiles, rng)
    mean, covariance = np.zeros(state.size), np.eye(state.size)
    means, covariances = [], []
    for sweep in tracker.track(range(settings.sweeps), "profiles: copula", total=settings.sweeps):
        state.draw(mean, covariance, rng)
        mean, covariance = state.moments(settings.prior)
        if sweep >= settings.sweeps // 2:
            means.append(mean)
            covariances.append(covariance)
    return CopulaProfiles(columns, np.mean(means, axis=0), np.mean(covariances, axis=0))


def _latent_column(values: pd.Series, rng: np.random.Generator) -> LatentColumn:
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 1:
        return LatentColumn(str(values.name), ranks=GaussianRanks.fit(values.to_numpy(), rng))
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return LatentColumn(str(values.name), tuple(counts.index.tolist()))


class _Latents:
    """The latents ``z [N, D]`` of the training rows, and what the rows say of them."""

    def __init__(self, columns: Sequence[LatentColumn], profiles: pd.DataFrame, rng: np.random.Generator):
        self.size = sum(column.width for column in columns)
        self.z = np.zeros((len(profiles), self.size))
        self.bounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # latent of a numeric column -> its interval [N]
        self.groups: list[tuple[slice, np.ndarray]] = []  # latents of a column of levels, and the level of each row
        first = 0
        for column in columns:
            values = profiles[column.name]
            if column.ranks is not None:
                self.bounds[first] = _interval(values.to_numpy(float), column.ranks)
                self.z[:, first] = column.ranks.forward(values.to_numpy(), rng)
            elif column.width:
                levels = pd.Categorical(values, categories=list(column.levels)).codes.astype(np.intp)
                self.groups.append((slice(first, first + column.width), levels))
                self.z[:, first : first + column.width] = np.where(
                    levels[:, None] == 1 + np.arange(column.width), 0.8, -0.8
                )
            first += column.width

    def draw(self, mean: np.ndarray, covariance: np.ndarray, rng: np.random.Generator) -> None:
        """One Gibbs sweep over all latents."""
        precision = np.linalg.inv(covariance)
        for j, bounds in self.bounds.items():
            self._draw_one(j, bounds, mean, precision, rng)
        for span, level in self.groups:
            for k, j in enumerate(range(span.start, span.stop), start=1):
                others = self.z[:, span].copy()
                others[:, k - 1] = 0.0  # the utility of the most frequent level stands in its place
                best = np.maximum(others.max(axis=1), 0.0)  # where k won it beat them all; elsewhere the winner is best
                bounds = np.where(level == k, best, -np.inf), np.where(level == k, np.inf, best)
                self._draw_one(j, bounds, mean, precision, rng)

    def _draw_one(
        self,
        j: int,
        bounds: tuple[np.ndarray, np.ndarray],
        mean: np.ndarray,
        precision: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        p = precision[j]
        centre = self.z[:, j] - (self.z @ p - mean @ p) / p[j]
        self.z[:, j] = truncated_normal(centre, p[j] ** -0.5, *bounds, rng)

    def moments(self, prior: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and shrunken covariance of the latents, after setting the free scales."""
        for span, _ in self.groups:
            self.z[:, span] /= np.sqrt(self.z[:, span].var(axis=0).mean())
        mean = self.z.mean(axis=0)
        deviation = self.z - mean
        covariance = deviation.T @ deviation / len(self.z)
        share = max(noise_share(covariance, len(self.z)), prior / (len(self.z) + prior))
        covariance = (1 - share) * covariance + share * np.eye(self.size)
        mean[list(self.bounds)] = 0.0  # normal scores, whatever their draws
        return mean, covariance


def noise_share(covariance: np.ndarray, n: int) -> float:
    """How much of the correlations ``[D, D]`` of ``n`` rows is chance, 0 to 1."""
    sd = np.sqrt(np.diag(covariance))
    r = (covariance / np.outer(sd, sd))[~np.eye(len(sd), dtype=bool)]
    return float(min(1.0, ((1 - r**2) ** 2).sum() / (max(n - 1, 1) * max((r**2).sum(), _TAIL)))) if len(r) else 0.0


def _interval(values: np.ndarray, ranks: GaussianRanks) -> tuple[np.ndarray, np.ndarray]:
    """The scores ``[N], [N]`` between which a value's rounding leaves its latent."""
    half, knots = 0.5 * 10.0**-ranks.rounding.decimals, np.array(ranks.knots)
    low, high = (uniform_of(values + side, knots) for side in (-half, half))
    low, high = np.where(values <= ranks.rounding.low, 0.0, low), np.where(values >= ranks.rounding.high, 1.0, high)
    return ndtri(low), ndtri(np.maximum(high, low))


def truncated_normal(
    mean: np.ndarray, sd: float, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws from N(mean, sd^2) within [low, high], by inversion on the side where the tail is accurate."""
    a, b = (low - mean) / sd, (high - mean) / sd
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    below, above = ndtr(a), ndtr(b)
    z = ndtri(np.clip(below + rng.random(len(mean)) * (above - below), _TAIL, 1 - _TAIL))
    z = np.clip(z, a, b)  # far out in a tail both probabilities round to the same
    return mean + sd * np.where(flip, -z, z)
