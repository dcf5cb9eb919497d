"""Profiles by CTGAN: the library trains the network, this adapter prepares the table, samples it and stores it.

Xu, Skoularidou, Cuesta-Infante & Veeramachaneni, "Modeling Tabular data using Conditional GAN", NeurIPS 2019.

The network sees numeric columns as Gaussian ranks and columns with few values as categories. Sampling draws the
condition with the training frequencies (the library's own draws it with their logarithms, made for training) and
normalises with the statistics learned in training, so that the rows are independent of each other.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import torch
from ctgan import CTGAN
from ctgan.data_sampler import DataSampler
from ctgan.data_transformer import DataTransformer
from ctgan.synthesizers.ctgan import Generator
from torch import Tensor

from core.artifact import Artifact
from core.errors import DataError, NumericalError
from core.protocols import Tracker
from core.random import seeded_init
from core.settings import Count, NonNegative, Positive
from generators.quantiles import GaussianRanks

_SPREAD = 4.0  # the library scales a value by four standard deviations of its mixture component
_CHUNK = 10_000  # rows per forward pass when sampling


@dataclass(frozen=True)
class CTGANSettings:
    """How CTGAN is trained."""

    steps: Count  # generator steps, whatever the number of rows
    batch_size: Count  # rows a step; lowered to the table's size, always a multiple of 2 and of pac
    pac: Count  # rows the discriminator judges together
    embedding_dim: Count  # size of the noise
    generator_dim: tuple[Count, ...]  # width of each residual layer
    discriminator_dim: tuple[Count, ...]  # width of each layer
    generator_lr: Positive
    discriminator_lr: Positive
    generator_decay: NonNegative  # weight decay
    discriminator_steps: Count  # discriminator updates for each generator update
    average: Count  # the generator kept is the mean of the weights over this last percentage of training
    components: Count  # Gaussians, at most, that a numeric column's ranks are split into
    discrete_levels: Count  # a numeric column with no more distinct values than this is learned as categories
    max_levels: Count  # refuse a text column with more distinct values than this


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


class CTGANProfiles:
    """A trained CTGAN (a ``core.protocols.ProfileGenerator``)."""

    def __init__(self, columns: tuple[Column, ...], network: Generator, embedding_dim: int, layers: tuple[int, ...]):
        self.columns = columns
        self.network = network.eval()
        self.embedding_dim = embedding_dim
        self.layers = layers

    @torch.no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles with the columns and dtypes of the training table."""
        parts = []
        with _one_thread():
            for start in range(0, n, _CHUNK):
                rows = min(_CHUNK, n - start)
                noise = torch.from_numpy(rng.standard_normal((rows, self.embedding_dim), dtype=np.float32))
                out = self.network(torch.cat([noise, self._condition(rows, rng)], dim=1))  # (rows, D)
                parts.append(self._decode(out.numpy().astype(float), rng))
        return pd.concat(parts, ignore_index=True)

    def _condition(self, n: int, rng: np.random.Generator) -> Tensor:
        """One column and one of its levels per row, at the training frequency, one-hot: ``[n, levels]``."""
        shares = [column.frequencies for column in self.columns if column.kind == "discrete" and column.trained]
        condition = np.zeros((n, sum(map(len, shares))), np.float32)
        if shares:
            level = rng.choice(condition.shape[1], size=n, p=np.concatenate(shares) / len(shares))
            condition[np.arange(n), level] = 1.0
        return torch.from_numpy(condition)

    def _decode(self, out: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
        """Network outputs ``[n, D]`` to profile values."""
        values: dict[str, Any] = {}
        first = 0
        for column in self.columns:
            if not column.trained:
                values[column.name] = pd.Series(list(column.levels) * len(out))
                continue
            span = out[:, first : first + column.width]
            first += column.width
            if column.kind == "discrete":
                levels = pd.Series(list(column.levels))
                values[column.name] = levels.iloc[_draw(span, rng)].to_numpy()
            else:
                component = _draw(span[:, 1:], rng)
                mean, sd = np.array(column.means)[component], np.array(column.sds)[component]
                assert column.ranks is not None
                values[column.name] = column.ranks.inverse(np.tanh(span[:, 0]) * _SPREAD * sd + mean)
        return pd.DataFrame(values)

    def to_artifact(self) -> Artifact:
        columns = []
        for column in self.columns:
            meta = {key: value for key, value in vars(column).items() if key != "ranks"}
            columns.append(meta | {"ranks": column.ranks.to_meta() if column.ranks else None})
        meta = {"columns": columns, "embedding_dim": self.embedding_dim, "layers": list(self.layers)}
        return Artifact({name: tensor.clone() for name, tensor in self.network.state_dict().items()}, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "CTGANProfiles":
        columns = tuple(_column(meta) for meta in artifact.meta["columns"])
        conditions = sum(column.width for column in columns if column.kind == "discrete" and column.trained)
        width = sum(column.width for column in columns if column.trained)
        embedding_dim, layers = artifact.meta["embedding_dim"], tuple(artifact.meta["layers"])
        with seeded_init(0):  # the weights are overwritten: building must not move the global generator
            network = Generator(embedding_dim + conditions, layers, width)
        network.load_state_dict(artifact.tensors)
        return cls(columns, network, embedding_dim, layers)


def _column(meta: dict[str, Any]) -> Column:
    ranks = GaussianRanks.from_meta(meta["ranks"]) if meta["ranks"] else None
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in meta.items()}
    return Column(**(fields | {"ranks": ranks}))


def _draw(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A category per row of ``logits`` ``[n, K]``, by the Gumbel maximum."""
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


class _Sampler(DataSampler):
    """The library's sampler of training rows that satisfy a condition, without its loop over rows."""

    def sample_data(self, data: np.ndarray, n: int, col: np.ndarray | None, opt: np.ndarray | None) -> np.ndarray:
        """``n`` rows of ``data``; row i has level ``opt[i]`` in discrete column ``col[i]``."""
        if col is None or opt is None:
            return data[np.random.randint(len(data), size=n)]  # noqa: NPY002 - the library seeds and restores it
        rows = np.empty(n, np.int64)
        for column, level in set(zip(col.tolist(), opt.tolist(), strict=True)):
            asked = (col == column) & (opt == level)
            rows[asked] = np.random.choice(self._rid_by_cat_cols[column][level], asked.sum())  # noqa: NPY002
        return data[rows]


class _Observed(CTGAN):
    """CTGAN that reports its losses as it trains and averages its last generators.

    The library assigns ``loss_values`` once an epoch; that assignment is the hook.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        average_from: int,
        components: int,
        tracker: Tracker,
        **arguments: Any,
    ):
        self._components = components
        self._tracker, self._steps_per_epoch, self._average_from = tracker, steps_per_epoch, average_from
        self._bar = iter(tracker.track(range(epochs), "profiles: CTGAN", total=epochs))
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        super().__init__(epochs=epochs, **arguments)

    @property
    def _transformer(self) -> DataTransformer | None:
        return self._fitted

    @_transformer.setter
    def _transformer(self, transformer: DataTransformer | None) -> None:
        if transformer is not None:
            transformer._max_clusters = self._components
        self._fitted = transformer

    @property
    def _data_sampler(self) -> DataSampler | None:
        return self._sampler

    @_data_sampler.setter
    def _data_sampler(self, sampler: DataSampler | None) -> None:
        if sampler is not None:
            sampler.__class__ = _Sampler
        self._sampler = sampler

    @property
    def loss_values(self) -> pd.DataFrame:
        return pd.DataFrame()  # reported below, not kept: the library would copy a growing table each epoch

    @loss_values.setter
    def loss_values(self, table: pd.DataFrame | None) -> None:
        if table is None or table.empty:
            return
        epoch = int(table["Epoch"].iloc[-1])
        step = (epoch + 1) * self._steps_per_epoch
        for name in ("Generator", "Discriminator"):
            loss = float(table[f"{name} Loss"].iloc[-1])
            if not math.isfinite(loss):
                raise NumericalError(
                    f"profiles: CTGAN's {name.lower()} loss is {loss} at step {step}; lower profiles.ctgan.generator_lr"
                )
            self._tracker.scalar(f"ctgan/{name.lower()}_loss", loss, step)
        if epoch >= self._average_from:
            self._summed += 1
            for name, tensor in self._generator.state_dict().items():
                self._sums[name] = self._sums[name] + tensor if name in self._sums else tensor.clone()
        next(self._bar)

    def averaged(self) -> Generator:
        """The generator with its weights averaged over the last epochs."""
        next(self._bar, None)  # close the bar
        self._generator.load_state_dict(
            {name: (total / self._summed).to(total.dtype) for name, total in self._sums.items()}
        )
        return self._generator


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread (faster than two for networks this small) and no worker processes, whose draws have no seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with joblib.parallel_config(backend="sequential"):
            yield
    finally:
        torch.set_num_threads(threads)


def fit_ctgan(profiles: pd.DataFrame, settings: CTGANSettings, seed: int, tracker: Tracker) -> CTGANProfiles:
    """Train CTGAN on a table without missing values.

    Raises:
        DataError: a text column with too many distinct values, or a table in which nothing varies.
        NumericalError: a loss became non-finite.
    """
    rng = np.random.default_rng(seed)
    columns = tuple(_describe(profiles[name], settings, rng) for name in profiles)
    trained = [column for column in columns if column.trained]
    if not trained:
        raise DataError(f"profiles: all {len(columns)} columns are constant; bring at least one that varies")
    table = pd.DataFrame({column.name: _encode(profiles[column.name], column, rng) for column in trained})

    unit = math.lcm(2, settings.pac)
    batch = max(unit, min(settings.batch_size, len(table)) // unit * unit)
    steps_per_epoch = max(len(table) // batch, 1)
    epochs = math.ceil(settings.steps / steps_per_epoch)
    model = _Observed(
        epochs,
        steps_per_epoch,
        epochs - math.ceil(epochs * settings.average / 100),
        settings.components,
        tracker,
        embedding_dim=settings.embedding_dim,
        generator_dim=settings.generator_dim,
        discriminator_dim=settings.discriminator_dim,
        generator_lr=settings.generator_lr,
        discriminator_lr=settings.discriminator_lr,
        generator_decay=settings.generator_decay,
        discriminator_steps=settings.discriminator_steps,
        batch_size=batch,
        pac=settings.pac,
        verbose=False,
        enable_gpu=False,
    )
    model.set_random_state(seed)  # the library then restores the global generators after each call
    with _one_thread():
        model.fit(table, [column.name for column in trained if column.kind == "discrete"])
    described = _with_mixtures(columns, model)
    return CTGANProfiles(described, model.averaged(), settings.embedding_dim, tuple(settings.generator_dim))


def _describe(values: pd.Series, settings: CTGANSettings, rng: np.random.Generator) -> Column:
    """Decide how a column is learned, and record what decoding needs."""
    name, numeric = str(values.name), pd.api.types.is_numeric_dtype(values)
    shares = values.value_counts(normalize=True, sort=False).sort_index()
    if numeric and len(shares) > settings.discrete_levels:
        return Column(name, "continuous", ranks=GaussianRanks.fit(values.to_numpy(), rng))
    if len(shares) > settings.max_levels:
        raise DataError(
            f"profiles: column '{name}' has {len(shares)} distinct texts in {len(values)} rows, expected at most "
            f"{settings.max_levels}; drop it, group its values, or raise profiles.ctgan.max_levels"
        )
    return Column(name, "discrete", levels=tuple(shares.index.tolist()), frequencies=tuple(shares.tolist()))


def _encode(values: pd.Series, column: Column, rng: np.random.Generator) -> np.ndarray:
    """The column as the library is shown it: Gaussian ranks, or level numbers as text in the order of ``levels``."""
    if column.ranks is not None:
        return column.ranks.forward(values.to_numpy(), rng)
    codes = pd.Categorical(values, categories=list(column.levels)).codes
    return np.array([f"{code:06d}" for code in codes], dtype=object)


def _with_mixtures(columns: tuple[Column, ...], model: CTGAN) -> tuple[Column, ...]:
    """Read back the mixtures and the order of levels that the library chose."""
    learned = {info.column_name: info.transform for info in model._transformer._column_transform_info_list}
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
