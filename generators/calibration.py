"""Calibration: make a generator's profiles match the training table's margins without training it again.

Numeric columns are mapped quantile to quantile onto the training values; the rows are then weighted by raking
(iterative proportional fitting: Deming & Stephan 1940, doi 10.1214/aoms/1177731829) until all one-way and the strongest
two-way tables agree; rows are drawn by systematic resampling. What is kept is the generator, the quantile maps and the
target tables: every call draws and rakes a fresh pool, so that persons hardly repeat however many are drawn.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from core.artifact import Artifact
from core.cohort import numeric_columns
from core.errors import DataError
from core.protocols import Tracker
from core.settings import Count, Fraction, NonNegative, Positive
from generators.ctgan import CTGANProfiles
from generators.quantiles import Rounding, quantile_knots, spread_ties, uniform_of, value_of


@dataclass(frozen=True)
class CalibrationSettings:
    """How the pool is made to match the training table."""

    pool: Count  # generated rows for each training row when fitting, and for each row drawn when sampling
    min_pool: Count  # at least this many generated rows
    bins: Count  # a numeric column counts in at most this many classes of equal probability
    pairs: Count  # two-way tables raked: the strongest, by mutual information
    pseudo_count: (
        NonNegative  # rows' worth of independence mixed into each two-way target, so that no cell is impossible
    )
    sweeps: Count  # passes over all tables, at most
    tolerance: Positive  # stop once no cell is off by more than this share of all rows
    max_weight: Positive  # a row's weight is cut at this many times the mean
    min_effective_share: Fraction  # refuse below this


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
    """A table over one or two columns: its ``names``, ``shape`` and the training ``shares`` of its cells, flat."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    shares: np.ndarray

    def cells(self, codes: dict[str, np.ndarray]) -> np.ndarray:
        """int64 ``[N]`` flat cell of each row."""
        return np.ravel_multi_index([codes[name] for name in self.names], self.shape)


def rake(cells: list[np.ndarray], targets: list[np.ndarray], sweeps: int, tolerance: float) -> np.ndarray:
    """Weights that give every table its target shares.

    Args:
        cells: per table, int64 ``[N]`` cell of each row.
        targets: per table, float64 ``[K]`` shares that sum to 1; a cell without rows is left out of its target.
        sweeps, tolerance: stop after so many passes, or when no cell was off by more than this share in a pass.

    Returns:
        Weights ``[N]`` that sum to 1.
    """
    goals = []
    for cell, target in zip(cells, targets, strict=True):
        reached = np.where(np.bincount(cell, minlength=len(target)) > 0, target, 0.0)
        goals.append(reached / reached.sum())
    weights = np.full(len(cells[0]), 1 / len(cells[0]))
    for _ in range(sweeps):
        worst = 0.0
        for cell, goal in zip(cells, goals, strict=True):
            now = np.bincount(cell, weights, minlength=len(goal))
            worst = max(worst, float(np.abs(now - goal).max()))
            weights *= np.divide(goal, now, out=np.zeros_like(goal), where=now > 0)[cell]
        if worst <= tolerance:
            break
    return weights / weights.sum()


def effective_share(weights: np.ndarray) -> float:
    """Kish's effective sample size as a share of the rows."""
    return float(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))


def systematic(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` rows, each drawn within one of ``n w`` times (systematic resampling), in random order."""
    positions = (np.arange(n) + rng.random()) / n
    rows = np.searchsorted(np.cumsum(weights) / weights.sum(), positions, side="right")
    return rng.permutation(np.minimum(rows, len(weights) - 1))


@dataclass(frozen=True)
class QuantileMap:
    """From a generator's values of a numeric column to the training values of the same rank."""

    source: np.ndarray  # (1001,) generated, jittered
    target: np.ndarray  # (1001,) training, jittered
    source_decimals: int
    rounding: Rounding

    def __call__(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rank = uniform_of(spread_ties(values, self.source_decimals, rng), self.source)
        return self.rounding.apply(value_of(rank, self.target))


class CalibratedProfiles:
    """A calibrated generator (a ``core.protocols.ProfileGenerator``).

    ``effective_share`` is Kish's effective sample share of the weighted pool: 1 means that the plain generator needed no
    correction.
    """

    def __init__(
        self,
        generator: CTGANProfiles,
        maps: dict[str, QuantileMap],
        classes: dict[str, Classes],
        margins: tuple[Margin, ...],
        settings: CalibrationSettings,
        effective_share: float,
    ):
        self.generator, self.maps, self.classes, self.margins = generator, maps, classes, margins
        self.settings, self.effective_share = settings, effective_share

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles from a fresh raked pool."""
        raw = self.generator.sample(max(n * self.settings.pool, self.settings.min_pool), rng)
        pool = _mapped(raw, self.maps, rng)
        rows = systematic(_weights(pool, self.classes, self.margins, self.settings), n, rng)
        return pool.iloc[rows].reset_index(drop=True)

    def to_artifact(self) -> Artifact:
        inner = self.generator.to_artifact()
        tensors = {f"generator.{name}": tensor for name, tensor in inner.tensors.items()}
        for i, margin in enumerate(self.margins):
            tensors[f"margin.{i}"] = torch.from_numpy(margin.shares.copy())
        for name, mapping in self.maps.items():
            tensors[f"map.{name}"] = torch.from_numpy(np.stack([mapping.source, mapping.target]))
        meta = {
            "generator": inner.meta,
            "maps": {k: {"decimals": m.source_decimals, "rounding": vars(m.rounding)} for k, m in self.maps.items()},
            "classes": {k: {"edges": c.edges, "levels": c.levels} for k, c in self.classes.items()},
            "margins": [{"names": list(m.names), "shape": list(m.shape)} for m in self.margins],
            "settings": vars(self.settings),
            "effective_share": self.effective_share,
        }
        return Artifact(tensors, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "CalibratedProfiles":
        meta, tensors = artifact.meta, artifact.tensors
        prefix = "generator."
        inner = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        maps = {}
        for name, fields in meta["maps"].items():
            source, target = tensors[f"map.{name}"].numpy()
            maps[name] = QuantileMap(source, target, fields["decimals"], Rounding(**fields["rounding"]))
        return cls(
            CTGANProfiles.from_artifact(Artifact(inner, meta["generator"])),
            maps,
            {name: Classes(_tuple(c["edges"]), _tuple(c["levels"])) for name, c in meta["classes"].items()},
            tuple(
                Margin(tuple(m["names"]), tuple(m["shape"]), tensors[f"margin.{i}"].numpy())
                for i, m in enumerate(meta["margins"])
            ),
            CalibrationSettings(**meta["settings"]),
            meta["effective_share"],
        )


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _mapped(raw: pd.DataFrame, maps: dict[str, QuantileMap], rng: np.random.Generator) -> pd.DataFrame:
    return raw.assign(**{name: mapping(raw[name].to_numpy(), rng) for name, mapping in maps.items()})


def _weights(
    pool: pd.DataFrame, classes: dict[str, Classes], margins: tuple[Margin, ...], settings: CalibrationSettings
) -> np.ndarray:
    """Raked weights of a pool, cut at the largest allowed, ``[N]``."""
    codes = {name: column.codes(pool[name]) for name, column in classes.items()}
    cells = [margin.cells(codes) for margin in margins]
    weights = rake(cells, [margin.shares for margin in margins], settings.sweeps, settings.tolerance)
    return np.minimum(weights, settings.max_weight * weights.mean())


def calibrate(
    generator: CTGANProfiles,
    profiles: pd.DataFrame,
    settings: CalibrationSettings,
    rng: np.random.Generator,
    tracker: Tracker,
) -> CalibratedProfiles:
    """Fit quantile maps and raking factors so that ``generator``'s rows match ``profiles``.

    Raises:
        DataError: the effective sample share falls below the configured floor: the generator is too far off.
    """
    raw = generator.sample(max(len(profiles) * settings.pool, settings.min_pool), rng)
    maps = {name: _fit_map(raw[name].to_numpy(), profiles[name].to_numpy(), rng) for name in numeric_columns(profiles)}
    classes = {str(name): Classes.fit(profiles[name], settings.bins) for name in profiles}
    margins = _margins(profiles, classes, settings)
    share = effective_share(_weights(_mapped(raw, maps, rng), classes, margins, settings))
    tracker.scalar("calibration/effective_share", share, 0)
    if share < settings.min_effective_share:
        raise DataError(
            f"profiles: calibration keeps an effective share of {share:.3f} of the generated rows, expected at least "
            f"{settings.min_effective_share:g}; raise profiles.ctgan.steps, or lower profiles.calibration.pairs or bins"
        )
    return CalibratedProfiles(generator, maps, classes, margins, settings, share)


def _fit_map(generated: np.ndarray, training: np.ndarray, rng: np.random.Generator) -> QuantileMap:
    source, target = Rounding.of(generated), Rounding.of(training)
    return QuantileMap(
        quantile_knots(spread_ties(generated, source.decimals, rng)),
        quantile_knots(spread_ties(training, target.decimals, rng)),
        source.decimals,
        target,
    )


def _margins(profiles: pd.DataFrame, classes: dict[str, Classes], settings: CalibrationSettings) -> tuple[Margin, ...]:
    """All one-way tables of columns that vary, and the strongest two-way tables by mutual information."""
    varied = [name for name, column in classes.items() if column.count > 1]
    codes = {name: classes[name].codes(profiles[name]) for name in varied}
    single = {name: np.bincount(codes[name], minlength=classes[name].count) / len(profiles) for name in varied}
    pairs, strength = [], []
    for a, b in itertools.combinations(varied, 2):
        apart = np.outer(single[a], single[b])
        cells = np.ravel_multi_index([codes[a], codes[b]], apart.shape)
        joint = np.bincount(cells, minlength=apart.size).reshape(apart.shape) / len(profiles)
        seen = joint > 0
        strength.append(float((joint[seen] * np.log(joint[seen] / apart[seen])).sum()))
        kept = len(profiles) / (len(profiles) + settings.pseudo_count)
        pairs.append(Margin((a, b), apart.shape, (kept * joint + (1 - kept) * apart).ravel()))
    strongest = [pairs[i] for i in np.argsort(strength)[::-1][: settings.pairs]]
    # one-way tables last: the table raked last holds exactly
    return (*strongest, *(Margin((name,), shares.shape, shares) for name, shares in single.items()))
