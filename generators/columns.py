"""Profile columns as the networks of CTGAN and TVAE see them, and back.

A numeric column becomes Gaussian ranks, split by the library into a mixture (its mode-specific normalisation); a column
with few values becomes categories. The network gives a row for each person: per category column one logit a level, per
continuous column a value within its component and one logit a component.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import torch
from ctgan.data_transformer import DataTransformer
from torch import nn

from core.artifact import Artifact
from core.errors import DataError
from generators.quantiles import GaussianRanks

SPREAD = 4.0  # the library scales a value by four standard deviations of its mixture component


@dataclass(frozen=True)
class Column:
    """One profile column as the network knows it.

    ``levels`` are the values of a discrete column and ``frequencies`` their training shares (a constant column is
    discrete with one level). A continuous column has its rank map and the mixture ``means`` and ``sds`` that the
    network's output is read with.
    """

    name: str
    kind: Literal["discrete", "continuous"]
    levels: tuple[Any, ...] = ()
    frequencies: tuple[float, ...] = ()
    ranks: GaussianRanks | None = None
    means: tuple[float, ...] = ()
    sds: tuple[float, ...] = ()

    @property
    def trained(self) -> bool:
        return self.kind == "continuous" or len(self.levels) > 1

    @property
    def width(self) -> int:
        """How many outputs of the network belong to it."""
        return len(self.levels) if self.kind == "discrete" else 1 + len(self.means)

    def to_meta(self) -> dict[str, Any]:
        return vars(self) | {"ranks": self.ranks.to_meta() if self.ranks else None}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> "Column":
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}
        return cls(**(fields | {"ranks": GaussianRanks.from_meta(meta["ranks"]) if meta["ranks"] else None}))


Columns = tuple[Column, ...]


def network_artifact(
    kind: str, columns: Columns, network: nn.Module, embedding_dim: int, layers: tuple[int, ...]
) -> Artifact:
    """A sampling network with what it needs to be built again (:func:`described`)."""
    meta: dict[str, Any] = {"kind": kind, "columns": [column.to_meta() for column in columns]}
    meta |= {"embedding_dim": embedding_dim, "layers": list(layers)}
    return Artifact({name: tensor.clone() for name, tensor in network.state_dict().items()}, meta)


def described(artifact: Artifact) -> tuple[Columns, int, tuple[int, ...]]:
    """Columns, size of the noise, and widths of the layers, of :func:`network_artifact`."""
    columns = tuple(Column.from_meta(meta) for meta in artifact.meta["columns"])
    return columns, artifact.meta["embedding_dim"], tuple(artifact.meta["layers"])


def describe(profiles: pd.DataFrame, discrete_levels: int, rng: np.random.Generator) -> Columns:
    """Decide how each column is learned; numbers of at most ``discrete_levels`` values become categories.

    Raises:
        DataError: nothing varies.
    """
    columns = tuple(_describe(profiles[name], discrete_levels, rng) for name in profiles)
    if not any(column.trained for column in columns):
        raise DataError(f"profiles: all {len(columns)} columns are constant; bring at least one that varies")
    return columns


def _describe(values: pd.Series, discrete_levels: int, rng: np.random.Generator) -> Column:
    shares = values.value_counts(normalize=True, sort=False).sort_index()
    if pd.api.types.is_numeric_dtype(values) and len(shares) > discrete_levels:
        return Column(str(values.name), "continuous", ranks=GaussianRanks.fit(values.to_numpy(), rng))
    levels, frequencies = tuple(shares.index.tolist()), tuple(shares.tolist())
    return Column(str(values.name), "discrete", levels=levels, frequencies=frequencies)


def encode(profiles: pd.DataFrame, columns: Columns, rng: np.random.Generator) -> tuple[pd.DataFrame, list[str]]:
    """The table as the library is shown it (constant columns left out), and the names of its discrete columns.

    Gaussian ranks, or level numbers as text in the order of ``levels``.
    """
    table = {}
    for column in columns:
        values = profiles[column.name]
        if column.ranks is not None:
            table[column.name] = column.ranks.forward(values.to_numpy(), rng)
        elif column.trained:
            codes = pd.Categorical(values, categories=list(column.levels)).codes
            table[column.name] = np.array([f"{code:06d}" for code in codes], dtype=object)
    return pd.DataFrame(table), [column.name for column in columns if column.trained and column.kind == "discrete"]


def with_mixtures(columns: Columns, transformer: DataTransformer) -> Columns:
    """Read back the mixtures and the order of levels that the library chose."""
    learned = {info.column_name: info.transform for info in transformer._column_transform_info_list}
    described = []
    for column in columns:
        fields = vars(column)
        if column.trained and column.kind == "discrete":
            order = [int(code) for code in learned[column.name].dummies]
            fields = fields | {key: tuple(fields[key][i] for i in order) for key in ("levels", "frequencies")}
        elif column.trained:
            mixture, kept = learned[column.name]._bgm_transformer, learned[column.name].valid_component_indicator
            means, sds = mixture.means_.ravel()[kept], np.sqrt(mixture.covariances_.ravel()[kept])
            fields = fields | {"means": tuple(means.tolist()), "sds": tuple(sds.tolist())}
        described.append(Column(**fields))
    return tuple(described)


def decode(
    out: np.ndarray, columns: Columns, rng: np.random.Generator, noise: np.ndarray | None = None
) -> pd.DataFrame:
    """Network outputs ``[n, D]`` to profile values; ``noise [D]`` is the sd added to each value within its component."""
    values: dict[str, Any] = {}
    first = 0
    for column in columns:
        if not column.trained:
            values[column.name] = pd.Series(list(column.levels) * len(out))
            continue
        span = out[:, first : first + column.width]
        if column.kind == "discrete":
            values[column.name] = pd.Series(list(column.levels)).to_numpy()[_draw(span, rng)]
        else:
            component = _draw(span[:, 1:], rng)
            mean, sd = np.array(column.means)[component], np.array(column.sds)[component]
            within = np.tanh(span[:, 0])
            if noise is not None:
                within = np.clip(within + noise[first] * rng.standard_normal(len(out)), -1.0, 1.0)
            assert column.ranks is not None
            values[column.name] = column.ranks.inverse(within * SPREAD * sd + mean)
        first += column.width
    return pd.DataFrame(values)


def _draw(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A category per row of ``logits`` ``[n, K]``, by the Gumbel maximum."""
    noise = rng.standard_exponential(logits.shape, dtype=logits.dtype) + np.finfo(logits.dtype).tiny
    return np.argmax(logits - np.log(noise), axis=1)


def batch_of(rows: int, asked: int, unit: int) -> int:
    """Rows a step: what was asked or the table's size, whichever is less, as a multiple of ``unit``."""
    return max(unit, min(asked, rows) // unit * unit)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread (faster than two for networks this small) and no worker processes, whose draws have no seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with joblib.parallel_config(backend="sequential"):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def legacy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded within, as it was after: the library's mixtures draw from it."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
