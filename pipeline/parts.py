"""The learned parts of a run, read back and put together: patients, risk model, Trial, Twin, agent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from core.artifact import reading
from core.cohort import Cohort
from core.errors import ArtifactError, ConfigError, DataError
from core.patients import Patients, from_cohort
from core.protocols import Dynamics, RiskModel
from core.signals import Signals, names
from envs.rewards import EnvSettings, eligible
from envs.simulation import Simulation
from envs.trial import Trial, TrialSettings
from intervention.policy import DualHeadAgent
from intervention.twin import Twin, TwinDynamics
from pipeline.store import RunStore
from predictor.dual_lstm import DualLSTMRisk

S = TypeVar("S")
# Latent responses follow from (seed, patient id), and ids are row numbers: another seed keeps held-out patients from
# sharing theirs with the synthetic patients of the same rows.
HELD_OUT_SEED = 1 << 32


@dataclass(frozen=True)
class World:
    """Patients, how they change, and who judges them: what a simulation needs."""

    patients: Patients
    dynamics: Dynamics
    risk_model: RiskModel
    settings: EnvSettings


def load_risk(store: RunStore) -> DualLSTMRisk:
    with reading("risk model", "risk"):
        return DualLSTMRisk.from_artifact(store.artifact("risk", "risk")).eval()


def load_twin(store: RunStore) -> Twin:
    with reading("twin", "twin"):
        return Twin.from_artifact(store.artifact("twin", "twin"))


def load_agent(store: RunStore, seed: int | None = None) -> DualHeadAgent:
    """The agent of one policy seed; None takes the first."""
    index = store.read_json("policy", "policy.json")
    with reading("policy", "policy"):
        name = f"agent_{index['seeds'][0] if seed is None else seed}"
        return DualHeadAgent.from_artifact(store.artifact("policy", name))


def patients_in_care(cohort: Cohort, risk: DualLSTMRisk, settings: EnvSettings, what: str) -> Patients:
    """The persons of a cohort whose risk is high enough to be treated; ids are rows of the cohort.

    Raises:
        DataError: there is none.
    """
    patients = from_cohort(cohort, risk.encoder, risk.scaler)
    rows = eligible(patients, risk, settings.min_risk)
    if not len(rows):
        raise DataError(
            f"{what}: none of {len(cohort)} persons has a risk score of env.min_risk={settings.min_risk:g} or more; lower it"
        )
    return patients.select(np.asarray(rows))


def check_signals(store: RunStore, known: Signals, cohort: Cohort, what: str, stage: str) -> None:
    """Refuse a cohort of other signals than a part of the run has learned; ``stage`` makes that part.

    Raises:
        ArtifactError: they differ.
    """
    if names(known) != names(cohort.signals):
        raise ArtifactError(
            f"{store.root}: its {what} reads the signals {', '.join(names(known))}, its cohort has {', '.join(names(cohort.signals))}, expected the same; {store.remedy(stage)}"
        )


def synthetic_patients(store: RunStore, settings: EnvSettings) -> Patients:
    cohort, risk = store.cohort("cohort"), load_risk(store)
    check_signals(store, risk.signals, cohort, "risk model", "risk")
    return patients_in_care(cohort, risk, settings, "synthetic cohort")


def holdout_patients(store: RunStore, settings: EnvSettings) -> Patients:
    cohort, risk = store.cohort("source", "holdout_"), load_risk(store)
    check_signals(store, risk.signals, cohort, "risk model", "risk")
    return patients_in_care(cohort, risk, settings, "held-out persons")


def section(store: RunStore, stage: str, name: str, kind: type[S]) -> S:
    """A configuration section as a finished stage used it.

    Raises:
        ArtifactError: the stage was made by a version with other settings.
    """
    value: Any = store.manifest(stage)["config"][name]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, (name, *first["loc"])))
        raise ArtifactError(
            f"{store.folder(stage)}: made by another version, whose settings do not fit ({key}: {first['msg'].lower()}), expected this one's; rerun with `{store.command(stage, 'force=true')}`"
        ) from error


def trial_world(patients: Patients, risk: RiskModel, trial: TrialSettings, env: EnvSettings, seed: int) -> World:
    return World(patients, Trial(patients, trial, seed), risk, env)


def require_members(twin: Twin, env: EnvSettings) -> None:
    """Refuse a cost or limit on disagreement where there is nobody to disagree, as it would do nothing.

    Raises:
        ConfigError: the Twin has one member only.
    """
    members = len(twin.networks())
    if members == 1 and (env.spread_cost > 0 or env.spread_limit is not None):
        raise ConfigError(
            "env.spread_cost or env.spread_limit is set, but the Twin has 1 member and never disagrees, expected 2 or more; train it with `python run_pipeline.py stage=twin twin.members=3`"
        )


def twin_world(patients: Patients, risk: RiskModel, twin: Twin, env: EnvSettings) -> World:
    """The Twin over these patients.

    Raises:
        ConfigError: disagreement is to count, but the Twin has one member only.
    """
    require_members(twin, env)
    return World(patients, TwinDynamics(twin, patients), risk, env)


def worlds(
    store: RunStore, patients: Patients, trial: TrialSettings, env: EnvSettings, trial_seed: int
) -> dict[str, World]:
    """Trial and the run's Twin over these patients, by name."""
    risk = load_risk(store)
    return {
        "trial": trial_world(patients, risk, trial, env, trial_seed),
        "twin": twin_world(patients, risk, load_twin(store), env),
    }


def simulations(world: World, rows: Tensor) -> Callable[[int], Simulation]:
    """New simulations of these rows, by seed."""
    return lambda seed: Simulation(world.patients, world.dynamics, world.risk_model, world.settings, len(rows), seed)
