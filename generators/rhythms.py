"""The one way in to week models: which of them to train, and how a saved one is read back."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.artifact import Artifact, reading
from core.cohort import Cohort
from core.errors import ArtifactError, NumericalError
from core.protocols import Tracker
from core.random import numpy_generator
from core.settings import Fraction
from generators.hierarchical import KIND as HIERARCHICAL
from generators.hierarchical import HierarchicalRhythms, fit_hierarchical
from generators.quality.persons import one_week_each
from generators.quality.rhythms import rhythm_distance
from generators.sources.split import split_persons
from generators.timegan import KIND as TIMEGAN
from generators.timegan import TimeGAN
from generators.timegan_training import TimeGANSettings, fit_timegan

RhythmModel = TimeGAN | HierarchicalRhythms
DRAWS = 10  # synthetic weeks for each real one, where two models are compared


@dataclass(frozen=True)
class RhythmSettings(TimeGANSettings):
    """Which week model, and how the TimeGAN is trained; see ``conf/rhythms.yaml``."""

    generator: Literal["timegan", "hierarchical", "auto"]  # auto: the better of both on validation persons
    validation: Fraction  # share of the training persons that auto compares on


@dataclass(frozen=True)
class FittedRhythms:
    """A trained week model, and how it was chosen (plain JSON types)."""

    model: RhythmModel
    choice: dict[str, Any]


def fit_rhythms(cohort: Cohort, settings: RhythmSettings, seed: int, tracker: Tracker) -> FittedRhythms:
    """Train the week model that the settings name; ``auto`` trains both on some persons and compares them on others.

    Raises:
        DataError: a signal was never observed.
        NumericalError: training failed early.
    """
    if settings.generator != "auto":
        return FittedRhythms(
            _fit(settings.generator, cohort, settings, seed, tracker), {"generator": settings.generator}
        )
    rng = numpy_generator(seed, "rhythms", "validation")
    fit, validation = split_persons(cohort, settings.validation, rng)
    distance = {}
    for kind in (TIMEGAN, HIERARCHICAL):
        try:
            distance[kind] = _distance(_fit(kind, fit, settings, seed, tracker), fit, validation, seed)
        except NumericalError as error:
            tracker.note(f"rhythms: {kind} is out of the choice: {error}")
    if not distance:
        raise NumericalError("rhythms: every candidate of rhythms.generator=auto failed (see the notes); choose one")
    best = min(distance, key=lambda kind: distance[kind])
    told = ", ".join(f"{kind} {value:.3f}" for kind, value in distance.items())
    tracker.note(
        f"rhythms.generator=auto takes {best}: distance to the weeks of {validation.persons} validation persons: {told}"
    )
    model = _fit(best, cohort, settings, seed, tracker)
    return FittedRhythms(model, {"generator": best, "distance": distance, "validation_persons": validation.persons})


def rhythms_from_artifact(artifact: Artifact) -> RhythmModel:
    """The week model that an artifact holds, whichever kind it is.

    Raises:
        ArtifactError: it is no week model, or of another version.
    """
    models: dict[str, type[RhythmModel]] = {TIMEGAN: TimeGAN, HIERARCHICAL: HierarchicalRhythms}
    kind = artifact.meta.get("kind")
    if kind not in models:
        raise ArtifactError(
            f"rhythm model is of kind '{kind}', expected one of {', '.join(models)}; train it again with stage=rhythms force=true"
        )
    with reading("rhythm model", "rhythms"):
        return models[kind].from_artifact(artifact)


def _fit(kind: str, cohort: Cohort, settings: RhythmSettings, seed: int, tracker: Tracker) -> RhythmModel:
    return fit_hierarchical(cohort) if kind == HIERARCHICAL else fit_timegan(cohort, settings, seed, tracker)


def _distance(model: RhythmModel, fit: Cohort, validation: Cohort, seed: int) -> float:
    """Of many weeks drawn for the persons fitted on to the validation persons' weeks."""
    rng = numpy_generator(seed, "rhythms", "choice")
    profiles = one_week_each(fit, rng).profiles
    weeks = np.concatenate([model.sample(profiles, rng) for _ in range(DRAWS)])
    return rhythm_distance(weeks, validation.rhythms, validation.mask)
