"""The generators of an attacker: what :class:`generators.quality.shadows.Shadows` is handed."""

from dataclasses import replace

from core.cohort import Cohort
from core.protocols import NullTracker, ProfileGenerator, RhythmGenerator
from core.random import numpy_generator
from generators.copula import fit_copula
from generators.fusion import fuse
from generators.hierarchical import fit_hierarchical
from generators.profiles import fit_profiles
from generators.quality.shadows import Shadows
from generators.rhythms import fit_rhythms
from pipeline.config import Config
from pipeline.store import RunStore
from pipeline.tracker import RunTracker


def shadows_of(config: Config, store: RunStore, training_persons: int, tracker: RunTracker) -> Shadows | None:
    """The shadow generators that ``cohort.shadow_generators`` names; None for ``cohort.shadows=0``.

    Each publishes as many persons for each of its own training persons as the run does.
    """
    settings = config.cohort
    if not settings.shadows:
        return None
    progress = iter(tracker.track(range(settings.shadows), "cohort: shadow generators"))
    ratio = settings.persons / training_persons

    def fit(members: Cohort, seed: int) -> Cohort:
        next(progress, None)
        generators = (
            _same(config, store, members, seed)
            if settings.shadow_generators == "same"
            else _quick(config, members, seed)
        )
        rng = numpy_generator(seed, "shadow", "sample")
        return fuse(*generators, max(round(ratio * members.persons), 1), members.signals, rng)

    return Shadows(fit, settings.shadows)


def _quick(config: Config, members: Cohort, seed: int) -> tuple[ProfileGenerator, RhythmGenerator]:
    """A second's worth of training: Gaussian copula profiles and hierarchical weeks."""
    return fit_copula(members.profiles, config.profiles.copula, seed, NullTracker()), fit_hierarchical(members)


def _same(config: Config, store: RunStore, members: Cohort, seed: int) -> tuple[ProfileGenerator, RhythmGenerator]:
    """The run's own kinds of generators, trained as they were."""
    chosen = store.metrics("profiles")["choice"]["generator"]  # no contest a second time
    silent = NullTracker()
    profiles = fit_profiles(members.profiles, replace(config.profiles, generator=chosen), seed, silent, members.person)
    return profiles, fit_rhythms(members, config.rhythms, seed, silent).model
