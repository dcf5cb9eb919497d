"""Numeric columns as ranks: jittered within the last digit kept, so that ties spread, and inverted through quantiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

_KNOTS = 1001
_MAX_DECIMALS = 6
_EDGE = 1e-6


def decimals_of(values: np.ndarray) -> int:
    """How many decimals write every value exactly, at most 6."""
    return next((d for d in range(_MAX_DECIMALS) if np.allclose(values, np.round(values, d), rtol=0, atol=1e-9)), 6)


def spread_ties(values: np.ndarray, decimals: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform within the rounding interval of each value: float64 ``[N]``."""
    return values.astype(float) + (rng.random(len(values)) - 0.5) * 10.0**-decimals


def quantile_knots(values: np.ndarray) -> np.ndarray:
    """Values at 1001 evenly spaced probabilities; non-decreasing."""
    return np.quantile(values, np.linspace(0, 1, _KNOTS))


def uniform_of(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """The probability of each value under ``knots``, in (0, 1)."""
    increasing, first = np.unique(knots, return_index=True)
    last = len(knots) - 1 - np.unique(knots[::-1], return_index=True)[1]
    return np.clip(np.interp(values, increasing, 0.5 * (first + last) / (len(knots) - 1)), _EDGE, 1 - _EDGE)


def value_of(probability: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Inverse of :func:`uniform_of`."""
    return np.interp(probability, np.linspace(0, 1, len(knots)), knots)


@dataclass(frozen=True)
class Rounding:
    """What a numeric column's values look like: kept decimals, bounds, and whether they are integers."""

    decimals: int
    low: float
    high: float
    integer: bool

    @classmethod
    def of(cls, values: np.ndarray) -> "Rounding":
        integer = np.issubdtype(values.dtype, np.integer)
        return cls(0 if integer else decimals_of(values), float(values.min()), float(values.max()), bool(integer))

    def apply(self, values: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.round(values, self.decimals), self.low, self.high)
        return rounded.astype(np.int64) if self.integer else rounded


@dataclass(frozen=True)
class GaussianRanks:
    """A column as normal scores of its jittered ranks, and back within the training range."""

    knots: tuple[float, ...]
    rounding: Rounding

    @classmethod
    def fit(cls, values: np.ndarray, rng: np.random.Generator) -> "GaussianRanks":
        rounding = Rounding.of(values)
        knots = quantile_knots(spread_ties(values, rounding.decimals, rng))
        return cls(tuple(knots.tolist()), rounding)

    def forward(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return ndtri(uniform_of(spread_ties(values, self.rounding.decimals, rng), np.array(self.knots)))

    def inverse(self, scores: np.ndarray) -> np.ndarray:
        return self.rounding.apply(value_of(ndtr(scores), np.array(self.knots)))

    def to_meta(self) -> dict[str, Any]:
        return {"knots": list(self.knots), "rounding": vars(self.rounding)}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "GaussianRanks":
        return cls(tuple(meta["knots"]), Rounding(**meta["rounding"]))
