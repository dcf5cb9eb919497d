"""What is compared: the project's generators, plain ones, and real people in their place, fitted to one population."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from ctgan import CTGAN, TVAE

from benchmarks.plain_profiles import EPOCHS, Rows, fit_plain, shuffled
from benchmarks.plain_timegan import PlainSettings, fit_plain_timegan
from benchmarks.scores import OURS, REAL
from core.cohort import Cohort
from core.protocols import NullTracker, ProfileGenerator, RhythmGenerator
from core.random import numpy_generator
from generators.copula import fit_copula
from generators.hierarchical import fit_hierarchical
from generators.labels import label
from generators.profiles import Kind, fit_profiles
from generators.rhythms import fit_rhythms
from pipeline.config import Config, load_config
from pipeline.stages.source import persons

QUIET = NullTracker()


@dataclass(frozen=True, eq=False)
class Population:
    """One seed's persons and settings; ``quick`` trains the baselines only to see that they run."""

    config: Config
    train: Cohort
    holdout: Cohort
    quick: bool

    @property
    def seed(self) -> int:
        return self.config.seed

    def rng(self, *names: str) -> np.random.Generator:
        return numpy_generator(self.seed, "benchmark", *names)


def population(overrides: list[str], seed: int, quick: bool) -> Population:
    """Training and held-out persons, labelled, as the pipeline's first stage makes them."""
    config = load_config([*overrides, f"seed={seed}"])
    return Population(config, *persons(config, QUIET), quick)


def labelled(cohort: Cohort, config: Config, train: Cohort) -> Cohort:
    return cohort.with_risk(label(cohort, config.labels, QUIET, relative_to=train))


# --- profiles


def calibrated(kind: Kind | Literal["auto"] | None = None) -> Callable[[Population], ProfileGenerator]:
    """The project's profiles: the configured generator, or this kind in its place."""

    def fit(p: Population) -> ProfileGenerator:
        settings = p.config.profiles
        settings = settings if kind is None else replace(settings, generator=kind)
        return fit_profiles(p.train.profiles, settings, p.seed, QUIET, p.train.person)

    return fit


def plain(kind: Any) -> Callable[[Population], ProfileGenerator]:
    return lambda p: fit_plain(kind, p.train.profiles, p.seed, 2 if p.quick else EPOCHS)


PROFILES: dict[str, Callable[[Population], ProfileGenerator]] = {
    OURS: calibrated(),
    "TVAE calibrated": calibrated("tvae"),
    "copula calibrated": calibrated("copula"),
    "auto": calibrated("auto"),
    "plain CTGAN": plain(CTGAN),
    "plain TVAE": plain(TVAE),
    "plain copula": lambda p: fit_copula(p.train.profiles, p.config.profiles.copula, p.seed, QUIET),
    "shuffled columns": lambda p: shuffled(p.train.profiles, p.rng("shuffled")),
    REAL: lambda p: Rows(p.train.profiles),
}


# --- rhythms


def our_rhythms(p: Population) -> RhythmGenerator:
    return fit_rhythms(p.train, p.config.rhythms, p.seed, QUIET).model


def plain_rhythms(p: Population) -> RhythmGenerator:
    settings = PlainSettings()
    if p.quick:
        settings = replace(settings, embedding_steps=20, supervisor_steps=10, joint_steps=10)
    return fit_plain_timegan(p.train.rhythms, settings, p.seed, QUIET)


@dataclass(frozen=True)
class Weeks:
    """The real weeks of the persons asked for, in the place of a generator's."""

    weeks: np.ndarray

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return self.weeks


RHYTHMS: dict[str, Callable[[Population], RhythmGenerator]] = {
    OURS: our_rhythms,
    "plain TimeGAN": plain_rhythms,
    "hierarchical": lambda p: fit_hierarchical(p.train),
    REAL: lambda p: Weeks(p.train.rhythms),
}


# --- whole cohorts

COHORTS: dict[str, tuple[str, str]] = {  # profiles and rhythms; a plain TimeGAN's weeks are joined by row number
    OURS: (OURS, OURS),
    "plain CTGAN + plain TimeGAN": ("plain CTGAN", "plain TimeGAN"),
    "plain copula + hierarchical": ("plain copula", "hierarchical"),
    REAL: (REAL, REAL),
}


@cache
def fitted(fit: Callable[[Population], Any], p: Population) -> tuple[Any, float]:
    """A trained generator and the CPU seconds it took."""
    return clocked(lambda: fit(p))


def clocked(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start
