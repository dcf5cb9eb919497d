"""The generators of an attacker: what :class:`generators.quality.shadows.Shadows` is handed."""

from dataclasses import replace

from core.cohort import Cohort
from core.protocols import NullTracker, ProfileGenerator, RhythmGenerator
from core.random import numpy_generator
from generators.copula import fit_copula
from generators.fusion import fuse
from generators.hierarchical import fit_hierarchical
from generators.missingness import Missingness
from generators.profiles import fit_profiles, learned_rows
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
        missing = Missingness.fit(members) if settings.missing == "realistic" else None
        return fuse(*generators, max(round(ratio * members.persons), 1), members.signals, rng, missing)

    return Shadows(fit, settings.shadows)


def _quick(config: Config, members: Cohort, seed: int) -> tuple[ProfileGenerator, RhythmGenerator]:
    """A second's worth of training: Gaussian copula profiles and hierarchical weeks."""
    rng = numpy_generator(seed, "shadow", "rows")
    rows = learned_rows(members.profiles, members.person, config.profiles.max_rows, rng, NullTracker())
    return fit_copula(rows, config.profiles.copula, seed, NullTracker()), fit_hierarchical(members)


def _same(config: Config, store: RunStore, members: Cohort, seed: int) -> tuple[ProfileGenerator, RhythmGenerator]:
    """The run's own kinds of generators, trained as they were; which kinds is not contested a second time."""
    silent = NullTracker()
    kinds = {stage: store.metrics(stage)["choice"]["generator"] for stage in ("profiles", "rhythms")}
    profiles, rhythms = (replace(getattr(config, stage), generator=kind) for stage, kind in kinds.items())
    drawn = fit_profiles(members.profiles, profiles, seed, silent, members.person)
    return drawn, fit_rhythms(members, rhythms, seed, silent).model
