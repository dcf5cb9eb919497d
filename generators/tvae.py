"""Profiles by TVAE: the library trains it, this adapter prepares the table, samples the decoder and stores it.

Xu, Skoularidou, Cuesta-Infante & Veeramachaneni, "Modeling Tabular data using Conditional GAN", NeurIPS 2019, section 4.4.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import torch
from ctgan import TVAE
from ctgan.data_transformer import DataTransformer
from ctgan.synthesizers.tvae import Decoder

from core.artifact import Artifact
from core.protocols import Tracker
from core.random import seeded_init
from generators.averaging import Averaged, finite
from generators.columns import (
    Columns,
    batch_of,
    decode,
    describe,
    described,
    encode,
    legacy_seed,
    network_artifact,
    one_thread,
    with_mixtures,
)
from generators.network_settings import TVAESettings

_CHUNK = 20_000  # rows per forward pass when sampling


class TVAEProfiles:
    """A trained TVAE (a ``core.protocols.ProfileGenerator``)."""

    def __init__(self, columns: Columns, decoder: Decoder, embedding_dim: int, layers: tuple[int, ...]):
        self.columns, self.decoder = columns, decoder.eval()
        self.embedding_dim, self.layers = embedding_dim, layers

    @torch.no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles with the columns of the training table; whole numbers are int64, others float64."""
        parts = []
        with one_thread():
            for start in range(0, n, _CHUNK):
                noise = rng.standard_normal((min(_CHUNK, n - start), self.embedding_dim), dtype=np.float32)
                out, sd = self.decoder(torch.from_numpy(noise))  # (rows, D), (D,)
                parts.append(decode(out.numpy(), self.columns, rng, sd.numpy()))
        return pd.concat(parts, ignore_index=True)

    def to_artifact(self) -> Artifact:
        return network_artifact("tvae", self.columns, self.decoder, self.embedding_dim, self.layers)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "TVAEProfiles":
        columns, embedding_dim, layers = described(artifact)
        with seeded_init(0):  # the weights are overwritten: building must not move the global generator
            decoder = Decoder(embedding_dim, layers, sum(column.width for column in columns if column.trained))
        decoder.load_state_dict(artifact.tensors)
        return cls(columns, decoder, embedding_dim, layers)


class _Stopped(Exception):
    """Training ended early; the averaged decoder stands."""


class _Observed(TVAE):
    """TVAE that reports its loss as it trains and averages its decoders.

    The library assigns ``loss_values`` once an epoch; that assignment is the hook.
    """

    def __init__(self, settings: TVAESettings, epochs: int, epoch_steps: int, tracker: Tracker, **arguments: Any):
        self._settings, self._epoch_steps, self._tracker = settings, epoch_steps, tracker
        self._bar = iter(tracker.track(range(epochs), "profiles: TVAE", total=epochs))
        self._averaged: Averaged | None = None
        super().__init__(epochs=epochs, **arguments)

    @property
    def transformer(self) -> DataTransformer:
        return self._fitted

    @transformer.setter
    def transformer(self, transformer: DataTransformer) -> None:
        transformer._max_clusters = self._settings.components
        self._fitted = transformer

    @property
    def loss_values(self) -> pd.DataFrame:
        return pd.DataFrame()  # reported below, not kept: the library would copy a growing table each epoch

    @loss_values.setter
    def loss_values(self, table: pd.DataFrame) -> None:
        if table.empty:
            return
        settings = self._settings
        step = (int(table["Epoch"].iloc[-1]) + 1) * self._epoch_steps
        losses = {"reconstruction": float(table["Loss"].sum() / len(table))}
        kept = self._averaged is not None
        if not finite("TVAE", losses, step, settings.steps, kept, "profiles.tvae.loss_factor", self._tracker):
            raise _Stopped
        self._tracker.scalar("tvae/loss", losses["reconstruction"], step)
        if self._averaged is None:
            self._averaged = Averaged(self.decoder, settings.steps * settings.average / 100 / self._epoch_steps)
        self._averaged.update()
        next(self._bar)

    def averaged(self) -> Decoder:
        next(self._bar, None)  # close the bar
        assert self._averaged is not None
        self._averaged.restore()
        return self.decoder


def fit_tvae(profiles: pd.DataFrame, settings: TVAESettings, seed: int, tracker: Tracker) -> TVAEProfiles:
    """Train TVAE on a table without missing values.

    Raises:
        DataError: nothing varies in the table.
        NumericalError: the loss became non-finite in the first half of training; later, the average before it is kept.
    """
    rng = np.random.default_rng(seed)
    columns = describe(profiles, settings.discrete_levels, rng)
    table, discrete = encode(profiles, columns, rng)
    batch = batch_of(len(table), settings.batch_size, 1)
    epoch_steps = -(-len(table) // batch)  # the library keeps the last, smaller batch
    model = _Observed(
        settings,
        -(-settings.steps // epoch_steps),
        epoch_steps,
        tracker,
        embedding_dim=settings.embedding_dim,
        compress_dims=settings.compress_dims,
        decompress_dims=settings.decompress_dims,
        l2scale=settings.l2scale,
        batch_size=batch,
        loss_factor=settings.loss_factor,
        enable_gpu=False,
        verbose=False,
    )
    with one_thread(), seeded_init(seed), legacy_seed(seed), suppress(_Stopped):
        model.fit(table, discrete)
    decoder = model.averaged()
    return TVAEProfiles(
        with_mixtures(columns, model.transformer), decoder, settings.embedding_dim, tuple(settings.decompress_dims)
    )
