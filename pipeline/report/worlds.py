"""The Twin and Trial side by side, over held-out persons or, where a person is to be shown, over nobody real."""

from collections.abc import Callable
from dataclasses import dataclass

from core.cohort import Cohort
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.trial import TrialSettings
from generators.sources.reference import ReferenceParameters
from pipeline.config import Config
from pipeline.parts import (
    HELD_OUT_SEED,
    World,
    holdout_patients,
    load_risk,
    load_twin,
    section,
    synthetic_patients,
    trial_world,
    twin_world,
)
from pipeline.store import RunStore


@dataclass(frozen=True)
class Judges:
    """The Twin and Trial over the same patients, as the run's policies were judged."""

    twin: World
    trial: World
    made_up: bool  # the patients are held-out persons; else synthetic ones


def judges(config: Config, store: RunStore) -> Judges:
    """Both worlds over held-out persons."""
    env, trial = section(store, "evaluate", "env", EnvSettings), section(store, "evaluate", "trial", TrialSettings)
    risk, patients = load_risk(store), holdout_patients(store, env)
    truth = trial_world(patients, risk, trial, env, config.seed + HELD_OUT_SEED)
    return Judges(twin_world(patients, risk, load_twin(store), env), truth, True)


def shown_patients(config: Config, store: RunStore, held_out: Judges) -> tuple[Judges, Cohort]:
    """The worlds and the cohort that the patient is taken from."""
    if isinstance(config.data, ReferenceParameters):
        return held_out, store.cohort("source", "holdout_")
    env, trial = section(store, "evaluate", "env", EnvSettings), section(store, "evaluate", "trial", TrialSettings)
    risk, patients = held_out.twin.risk_model, synthetic_patients(store, env)
    worlds = twin_world(patients, risk, load_twin(store), env), trial_world(patients, risk, trial, env, config.seed)
    return Judges(*worlds, False), store.cohort("cohort")


def maker(world: World) -> Callable[[int], Simulation]:
    """New simulations of the world, by their number of environments; reseed them."""
    return lambda size: Simulation(world.patients, world.dynamics, world.risk_model, world.settings, size, seed=0)
