"""Calibration: make a generator's profiles match the training table's margins without training it again.

Numeric columns are mapped quantile to quantile onto the training values; the rows are then weighted by raking until all
one-way and the strongest two-way tables agree; rows are drawn by systematic resampling. What is kept is the generator,
the quantile maps, the targets and the raking factors: every call draws a fresh pool, weighs it by the kept factors and
finishes with a few sweeps, so that persons hardly repeat however many are drawn.

A two-way table of N rows is mostly noise in its small cells, and a generator made to repeat it is told from held-out
persons by just that. The targets are therefore shrunk towards the generator's own tables T once its one-way shares are
right, as if they were ``pseudo_count`` further rows::

    target = (N training + pseudo_count T) / (N + pseudo_count)
"""

import itertools
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge

from core.artifact import Artifact, reading
from core.cohort import numeric_columns
from core.errors import ArtifactError, DataError
from core.protocols import Tracker
from core.settings import Count, Fraction, NonNegative, Positive
from generators.quantiles import Rounding, quantile_knots, spread_ties, uniform_of, value_of
from generators.raking import Classes, Margin, effective_share, rake, systematic, weigh

_CHUNK = 10_000  # persons drawn from one pool, which bounds the memory
# Where each kind of generator lives. Imported on use: CTGAN's library stays out where it is not asked for.
_KINDS = {
    "ctgan": ("generators.ctgan", "CTGANProfiles"),
    "tvae": ("generators.tvae", "TVAEProfiles"),
    "copula": ("generators.copula", "CopulaProfiles"),
}


@dataclass(frozen=True)
class CalibrationSettings:
    """How the pool is made to match the training table."""

    pool: Count  # generated rows for each training row when fitting, and for each row drawn when sampling
    min_pool: Count  # at least this many generated rows
    max_pool: Count  # at most this many when fitting
    bins: Annotated[int, Ge(2)]  # a numeric column counts in at most this many classes, cut at its quantiles
    pairs: Count  # two-way tables raked: the strongest, by mutual information
    pseudo_count: NonNegative  # rows' worth of the generator's own tables mixed into each two-way target
    sweeps: Count  # passes over all tables when fitting, at most
    finish: Count  # passes over all tables on each fresh pool, at most
    tolerance: Positive  # stop once no cell is off by more than this share of all rows
    max_weight: Positive  # a row's weight is cut at this many times the mean
    min_effective_share: Fraction  # refuse below this


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
    correction. ``choice`` says which kind of generator it is and, where several competed, their scores.
    """

    def __init__(
        self,
        generator: Any,
        maps: dict[str, QuantileMap],
        classes: dict[str, Classes],
        margins: tuple[Margin, ...],
        settings: CalibrationSettings,
        effective_share: float,
        choice: dict[str, Any] | None = None,
    ):
        self.generator, self.maps, self.classes, self.margins = generator, maps, classes, margins
        self.settings, self.effective_share, self.choice = settings, effective_share, choice or {}

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles, each 10,000 from a fresh weighted pool."""
        parts = [self._draw(min(_CHUNK, n - start), rng) for start in range(0, n, _CHUNK)]
        return pd.concat(parts, ignore_index=True)

    def _draw(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        raw = self.generator.sample(max(n * self.settings.pool, self.settings.min_pool), rng)
        pool = _mapped(raw, self.maps, rng)
        cells = _cells(pool, self.classes, self.margins)
        weights = np.ones(len(pool))
        if self.margins:  # nothing to rake where no column has classes
            start = weigh(cells, [margin.factors for margin in self.margins])
            targets = [margin.shares for margin in self.margins]
            weights, _ = rake(cells, targets, self.settings.finish, self.settings.tolerance, start)
        return pool.iloc[systematic(_cut(weights, self.settings), n, rng)]

    def to_artifact(self) -> Artifact:
        inner = self.generator.to_artifact()
        tensors = {f"generator.{name}": tensor for name, tensor in inner.tensors.items()}
        for i, margin in enumerate(self.margins):
            tensors[f"margin.{i}"] = torch.from_numpy(np.stack([margin.shares, margin.factors]))
        for name, mapping in self.maps.items():
            tensors[f"map.{name}"] = torch.from_numpy(np.stack([mapping.source, mapping.target]))
        meta = {
            "generator": inner.meta,
            "maps": {k: {"decimals": m.source_decimals, "rounding": vars(m.rounding)} for k, m in self.maps.items()},
            "classes": {k: {"edges": c.edges, "levels": c.levels} for k, c in self.classes.items()},
            "margins": [{"names": list(m.names), "shape": list(m.shape)} for m in self.margins],
            "settings": vars(self.settings),
            "effective_share": self.effective_share,
            "choice": self.choice,
        }
        return Artifact(tensors, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "CalibratedProfiles":
        """Any kind of generator, by the ``kind`` its artifact carries.

        Raises:
            ArtifactError: it is of another kind, or of another version of this one.
        """
        with reading("profile generator", "profiles"):
            return cls._read(artifact)

    @classmethod
    def _read(cls, artifact: Artifact) -> "CalibratedProfiles":
        meta, tensors = artifact.meta, artifact.tensors
        prefix = "generator."
        inner = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        maps = {}
        for name, fields in meta["maps"].items():
            source, target = tensors[f"map.{name}"].numpy()
            maps[name] = QuantileMap(source, target, fields["decimals"], Rounding(**fields["rounding"]))
        return cls(
            _generator(Artifact(inner, meta["generator"])),
            maps,
            {name: Classes(_tuple(c["edges"]), _tuple(c["levels"])) for name, c in meta["classes"].items()},
            tuple(
                Margin(tuple(m["names"]), tuple(m["shape"]), *tensors[f"margin.{i}"].numpy())
                for i, m in enumerate(meta["margins"])
            ),
            CalibrationSettings(**meta["settings"]),
            meta["effective_share"],
            meta["choice"],
        )


def _generator(artifact: Artifact) -> Any:
    kind = artifact.meta.get("kind")
    if kind not in _KINDS:
        raise ArtifactError(f"profiles: generator of kind '{kind}', expected one of {', '.join(_KINDS)}; fit it again")
    module, name = _KINDS[kind]
    return getattr(import_module(module), name).from_artifact(artifact)


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _mapped(raw: pd.DataFrame, maps: dict[str, QuantileMap], rng: np.random.Generator) -> pd.DataFrame:
    return raw.assign(**{name: mapping(raw[name].to_numpy(), rng) for name, mapping in maps.items()})


def _cells(pool: pd.DataFrame, classes: dict[str, Classes], margins: tuple[Margin, ...]) -> list[np.ndarray]:
    codes = {name: classes[name].codes(pool[name]) for name in {name for margin in margins for name in margin.names}}
    return [margin.cells(codes) for margin in margins]


def _cut(weights: np.ndarray, settings: CalibrationSettings) -> np.ndarray:
    return np.minimum(weights, settings.max_weight * weights.mean())


def calibrate(
    generator: Any, profiles: pd.DataFrame, settings: CalibrationSettings, rng: np.random.Generator, tracker: Tracker
) -> CalibratedProfiles:
    """Fit quantile maps and raking factors so that ``generator``'s rows match ``profiles``.

    ``generator`` is a ``core.protocols.ProfileGenerator`` that can be kept (``to_artifact``).

    Raises:
        DataError: the effective sample share falls below the configured floor: the generator is too far off.
    """
    rows = min(max(len(profiles) * settings.pool, settings.min_pool), settings.max_pool)
    raw = generator.sample(rows, rng)
    maps = {name: _fit_map(raw[name].to_numpy(), profiles[name].to_numpy(), rng) for name in numeric_columns(profiles)}
    classes = {str(name): Classes.fit(profiles[name], settings.bins) for name in profiles}
    pool = _mapped(raw, maps, rng)
    margins = _margins(profiles, classes, settings)
    cells = _cells(pool, classes, margins)
    weights = np.ones(len(pool))
    if margins:
        margins = _shrunk(margins, cells, len(profiles), settings)
        weights, factors = rake(cells, [margin.shares for margin in margins], settings.sweeps, settings.tolerance)
        margins = tuple(replace(margin, factors=factor) for margin, factor in zip(margins, factors, strict=True))
    share = effective_share(_cut(weights, settings))
    tracker.scalar("calibration/effective_share", share, 0)
    if share < settings.min_effective_share:
        raise DataError(
            f"profiles: calibration keeps an effective share of {share:.3f} of the generated rows, expected at least "
            f"{settings.min_effective_share:g}; train the generator longer, or lower profiles.calibration.pairs or bins"
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
    """The training shares of the strongest two-way tables by mutual information, then of all columns that vary."""
    varied = [name for name, column in classes.items() if column.count > 1]
    codes = {name: classes[name].codes(profiles[name]) for name in varied}

    def table(*names: str) -> Margin:
        shape = tuple(classes[name].count for name in names)
        empty = Margin(names, shape, np.zeros(0), np.ones(int(np.prod(shape))))
        return replace(empty, shares=np.bincount(empty.cells(codes), minlength=len(empty.factors)) / len(profiles))

    single = {name: table(name) for name in varied}
    pairs = [table(a, b) for a, b in itertools.combinations(varied, 2)]
    strength = [
        _information(pair.shares, np.outer(*(single[name].shares for name in pair.names)).ravel()) for pair in pairs
    ]
    strongest = [pairs[i] for i in np.argsort(strength)[::-1][: settings.pairs]]
    # one-way tables last: the table raked last holds exactly
    return (*strongest, *single.values())


def _information(joint: np.ndarray, apart: np.ndarray) -> float:
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())


def _shrunk(
    margins: tuple[Margin, ...], cells: list[np.ndarray], n: int, settings: CalibrationSettings
) -> tuple[Margin, ...]:
    """Two-way targets mixed with the pool's own tables, once the pool's one-way shares are right."""
    single = [i for i, margin in enumerate(margins) if len(margin.names) == 1]
    weights, _ = rake(
        [cells[i] for i in single], [margins[i].shares for i in single], settings.sweeps, settings.tolerance
    )
    kept = n / (n + settings.pseudo_count)
    return tuple(
        margin
        if len(margin.names) == 1
        else replace(
            margin,
            shares=kept * margin.shares + (1 - kept) * np.bincount(cell, weights, minlength=len(margin.shares)),
        )
        for margin, cell in zip(margins, cells, strict=True)
    )
