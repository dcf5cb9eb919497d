"""Raking: weights that make a pool of rows agree with target tables, and rows drawn by them.

Iterative proportional fitting (Deming & Stephan 1940, doi 10.1214/aoms/1177731829) multiplies the weight of a row by one
factor for each table it is counted in::

    w(row) = prod_m f_m[cell_m(row)]

so that the factors, once fitted on one pool, weigh any other pool of the same generator.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.errors import DataError


@dataclass(frozen=True)
class Classes:
    """A column as classes: ``edges`` between them for a numeric column, the known ``levels`` for a text column."""

    edges: tuple[float, ...] | None
    levels: tuple[str, ...] | None

    @classmethod
    def fit(cls, values: pd.Series, bins: int) -> "Classes":
        if not pd.api.types.is_numeric_dtype(values):
            return cls(None, tuple(sorted(set(values.astype(str)))))
        distinct = np.unique(values.to_numpy(float))
        if len(distinct) > bins:  # cut half-way between values, where the shares come out most even
            cuts = np.unique(np.quantile(values.to_numpy(float), np.arange(1, bins) / bins))
            distinct = np.unique(np.concatenate([distinct[:1], cuts]))
        return cls(tuple(((distinct[1:] + distinct[:-1]) / 2).tolist()) if len(distinct) <= bins else (), None)

    @property
    def count(self) -> int:
        return len(self.levels) if self.levels is not None else len(self.edges or ()) + 1

    def codes(self, values: pd.Series) -> np.ndarray:
        """int64 ``[N]`` class of each value."""
        if self.levels is not None:
            codes = pd.Categorical(values.astype(str), categories=list(self.levels)).codes.astype(np.int64)
            if (codes < 0).any():
                raise DataError(f"profiles: '{values[codes < 0].iloc[0]}' is no level of column '{values.name}'")
            return codes
        return np.searchsorted(np.array(self.edges), values.to_numpy(float), side="right")


@dataclass(frozen=True)
class Margin:
    """A table over one or two columns: its ``names``, ``shape``, target ``shares`` and raking ``factors``, both flat."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    shares: np.ndarray
    factors: np.ndarray

    def cells(self, codes: dict[str, np.ndarray]) -> np.ndarray:
        """int64 ``[N]`` flat cell of each row."""
        return np.ravel_multi_index([codes[name] for name in self.names], self.shape)


def rake(
    cells: list[np.ndarray], targets: list[np.ndarray], sweeps: int, tolerance: float, start: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Weights that give every table its target shares.

    Args:
        cells: per table, int64 ``[N]`` cell of each row.
        targets: per table, float64 ``[K]`` shares that sum to 1; a cell without rows is left out of its target.
        sweeps, tolerance: stop after so many passes, or when no cell was off by more than this share in a pass.
        start: weights ``[N]`` to start from; equal ones without.

    Returns:
        Weights ``[N]`` that sum to 1, and per table the factors ``[K]`` that its cells were multiplied with.
    """
    weights = np.ones(len(cells[0])) if start is None else start.copy()
    weights /= weights.sum()
    goals = []
    for cell, target in zip(cells, targets, strict=True):
        reached = np.where(np.bincount(cell, weights, minlength=len(target)) > 0, target, 0.0)
        goals.append(reached / reached.sum())
    factors = [np.ones(len(goal)) for goal in goals]
    for _ in range(sweeps):
        worst = 0.0
        for cell, goal, factor in zip(cells, goals, factors, strict=True):
            now = np.bincount(cell, weights, minlength=len(goal))
            worst = max(worst, float(np.abs(now - goal).max()))
            change = np.divide(goal, now, out=np.ones_like(goal), where=now > 0)
            factor *= change
            weights *= change[cell]
        if worst <= tolerance:
            break
    return weights / weights.sum(), factors


def weigh(cells: list[np.ndarray], factors: list[np.ndarray]) -> np.ndarray:
    """Weights ``[N]`` of rows by factors fitted on another pool; they sum to 1."""
    weights = np.ones(len(cells[0]))
    for cell, factor in zip(cells, factors, strict=True):
        weights *= factor[cell]
    return weights / weights.sum()


def effective_share(weights: np.ndarray) -> float:
    """Kish's effective sample size as a share of the rows."""
    return float(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))


def systematic(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` rows, each drawn within one of ``n w`` times (systematic resampling), in random order."""
    positions = (np.arange(n) + rng.random()) / n
    rows = np.searchsorted(np.cumsum(weights) / weights.sum(), positions, side="right")
    return rng.permutation(np.minimum(rows, len(weights) - 1))
