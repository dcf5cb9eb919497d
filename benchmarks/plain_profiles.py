"""Profiles without the project's additions, and tables of real rows: what its generator is compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np
import pandas as pd
from ctgan import CTGAN, TVAE

from core.cohort import categorical_columns

EPOCHS = 300  # the library's default


@dataclass(frozen=True)
class PlainProfiles:
    """A model of the library as it ships (a ``core.protocols.ProfileGenerator``)."""

    model: CTGAN | TVAE

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        self.model.set_random_state(int(rng.integers(2**31)))  # the library restores the global generators itself
        return self.model.sample(n)


def fit_plain(kind: Callable[..., CTGAN | TVAE], profiles: pd.DataFrame, seed: int, epochs: int) -> PlainProfiles:
    """Train ``CTGAN`` or ``TVAE`` with the library's own settings on the table as it is, told which columns hold text."""
    model = kind(epochs=epochs, enable_gpu=False)
    model.set_random_state(seed)
    with joblib.parallel_config(backend="sequential"):  # no worker processes: their draws would have no seed
        model.fit(profiles, categorical_columns(profiles))
    return PlainProfiles(model)


@dataclass(frozen=True)
class Rows:
    """Rows of a real table in the place of a generator's."""

    table: pd.DataFrame

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        return self.table.iloc[rng.permutation(len(self.table))[:n]].reset_index(drop=True)


def shuffled(table: pd.DataFrame, rng: np.random.Generator) -> Rows:
    """Every column permuted by itself: perfect margins, nothing else."""
    return Rows(pd.DataFrame({column: rng.permutation(table[column].to_numpy()) for column in table}))
