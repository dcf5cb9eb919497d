"""What the agent prescribes on held-out persons, as the evaluate stage reports it."""

from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort
from core.protocols import risk_score
from envs.rewards import baseline_probabilities
from intervention.prescriptions import (
    bands,
    best_by_remission,
    dose_response,
    dose_saved,
    thirds,
    undominated,
    who_gets_what,
)
from pipeline.config import Config
from pipeline.parts import World

REFERENCE = "stepped_care"  # what a gain is over


def baseline_risk(world: World) -> pd.Series:
    """The risk score of each patient's week before treatment, by patient id."""
    probabilities = baseline_probabilities(world.patients, world.risk_model)
    return pd.Series(risk_score(probabilities).numpy(force=True), world.patients.ids)


def prescriptions(
    config: Config, episodes: pd.DataFrame, baseline: pd.Series, holdout: Cohort, policy: str, rng: np.random.Generator
) -> dict[str, Any]:
    """What ``policy`` prescribes by week, risk and group, and its dose beside two rivals; ``episodes`` by person, with
    ``risk_before``; ``baseline`` as above."""
    settings = config.evaluate
    drawn = rng, settings.resamples, settings.confidence
    return {
        "prescribed": dose_response(episodes[episodes["policy"] == policy]),
        "subgroups": {
            name: who_gets_what(episodes, groups, policy, REFERENCE, *drawn)
            for name, groups in groups_by_person(config, holdout, baseline).items()
        },
        "dose_saved": saved(config, episodes, policy, rng),
    }


def saved(config: Config, episodes: pd.DataFrame, policy: str, rng: np.random.Generator) -> dict[str, Any]:
    """Dose, remission and adverse events of ``policy`` beside its two rivals."""
    rivals = {"stepped_care": REFERENCE, "best_constant_by_remission": best_by_remission(episodes)}
    drawn = rng, config.evaluate.resamples, config.evaluate.confidence
    return {name: dose_saved(episodes, policy, rival, *drawn) for name, rival in rivals.items()}


def groups_by_person(config: Config, holdout: Cohort, baseline: pd.Series) -> dict[str, pd.Series]:
    """Person to group: the profile columns of ``evaluate.subgroups`` that the source has, and thirds of the baseline risk."""
    first = ~pd.Index(holdout.person).duplicated()
    found = {
        column: grouped(holdout.profiles[column][first], edges).set_axis(holdout.person[first])
        for column, edges in config.evaluate.subgroups.items()
        if column in holdout.profiles
    }
    risk = baseline.groupby(holdout.person[baseline.index.to_numpy()]).mean()
    return found | {"baseline risk": thirds(risk)}


def grouped(column: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    """Bands of a numeric column, in order; the categories of another, or where there are no edges."""
    return bands(column, edges) if edges and pd.api.types.is_numeric_dtype(column) else column.astype(str)


def safety(policies: dict[str, dict[str, Any]], constants: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Adverse events and return of the policies that no other beats in both, fewest events first."""
    known = policies | {name: row for name, row in constants.items() if name not in policies}
    known.pop("best_constant", None)  # it is one of the constants
    return {name: [known[name]["adverse_events"], known[name]["return"]] for name in undominated(known)}
