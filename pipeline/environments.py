"""What the registered environment ids load: patients and a risk model of a run, or the reference population.

The ids are registered in ``envs.registration``, which names these functions as strings.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ConfigError
from core.patients import Patients, from_cohort
from core.random import numpy_generator
from core.signals import DEFAULT_SIGNALS
from envs.patient_env import PatientEnv
from envs.rewards import EnvSettings
from envs.severity import SeverityIndex
from envs.trial import TrialSettings
from envs.vector_env import PatientVectorEnv
from generators.labels import hidden_columns
from generators.sources.reference import sample_reference
from pipeline.config import load_config
from pipeline.parts import World, load_risk, load_twin, section, synthetic_patients, trial_world, twin_world
from pipeline.store import RunStore

REFERENCE_PATIENTS = 2000  # persons an environment without a run draws from


@lru_cache(maxsize=4)
def reference_world(seed: int = 0) -> World:
    """Trial over patients of the reference population, judged by the closed-form severity index. Trains nothing."""
    config = load_config()
    cohort = sample_reference(config.data, REFERENCE_PATIENTS, numpy_generator(seed, "environment"))  # type: ignore[arg-type]
    encoder = ProfileEncoder.fit(cohort.profiles, hidden_columns(config.labels))
    patients: Patients = from_cohort(cohort, encoder, WeekScaler.fit(cohort))
    risk = SeverityIndex(DEFAULT_SIGNALS, patients.scaler)
    return trial_world(patients, risk, config.trial, config.env, seed)


def run_world(run: str, twin: bool) -> World:
    """The synthetic patients and risk model of a run, in its Trial or its Twin."""
    store = open_run(run)
    needed = ("cohort", "risk", "trials", *(["twin"] if twin else []))
    return _run_world(
        str(store.root.resolve()), twin, tuple(map(store.digest, needed)), str(store.manifest("trials")["config"])
    )


@lru_cache(maxsize=4)
def _run_world(root: str, twin: bool, digests: tuple[str, ...], settings: str) -> World:
    """As above; ``digests`` and ``settings`` tell a run that was made anew from the one read before."""
    store = RunStore(Path(root))
    env = section(store, "trials", "env", EnvSettings)
    patients, risk = synthetic_patients(store, env), load_risk(store)
    if twin:
        return twin_world(patients, risk, load_twin(store), env)
    seed = store.manifest("trials")["seed"]
    return trial_world(patients, risk, section(store, "trials", "trial", TrialSettings), env, seed)


def open_run(run: str) -> RunStore:
    """The store of an existing run.

    Raises:
        ConfigError: there is no such folder.
    """
    root = Path(run)
    if not root.is_dir():
        raise ConfigError(f"run='{run}' does not exist; make it with `python run_pipeline.py run={root.name}`")
    config = root / "config.json"
    return RunStore(root, json.loads(config.read_text())["options"] if config.is_file() else "")


def trial_of(run: str | None) -> World:
    return reference_world() if run is None else run_world(str(run), twin=False)


def twin_of(run: str | None) -> World:
    if run is None:
        raise ConfigError("Mano/Twin-v0 needs a trained run; give run='runs/demo', made by `python run_pipeline.py`")
    return run_world(str(run), twin=True)


def make_trial(run: str | None = None, **kwargs: Any) -> PatientEnv:
    world = trial_of(run)
    return PatientEnv(world.patients, world.dynamics, world.risk_model, world.settings, **kwargs)


def make_twin(run: str | None = None, **kwargs: Any) -> PatientEnv:
    world = twin_of(run)
    return PatientEnv(world.patients, world.dynamics, world.risk_model, world.settings, **kwargs)


def make_trial_vec(num_envs: int = 1, run: str | None = None, **kwargs: Any) -> PatientVectorEnv:
    world = trial_of(run)
    return PatientVectorEnv(world.patients, world.dynamics, world.risk_model, world.settings, num_envs, **kwargs)


def make_twin_vec(num_envs: int = 1, run: str | None = None, **kwargs: Any) -> PatientVectorEnv:
    world = twin_of(run)
    return PatientVectorEnv(world.patients, world.dynamics, world.risk_model, world.settings, num_envs, **kwargs)
