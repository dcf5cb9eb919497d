"""What the registered environment ids load: patients and a risk model of a run, or the reference population.

The ids are registered in ``envs.registration``, which names these functions as strings.
"""

from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ConfigError
from core.patients import from_cohort
from core.random import numpy_generator
from core.signals import DEFAULT_SIGNALS
from envs.patient_env import PatientEnv
from envs.rewards import EnvSettings
from envs.severity import SeverityIndex
from envs.trial import TrialSettings
from envs.vector_env import PatientVectorEnv
from generators.labels import hidden_columns
from generators.sources.reference import sample_reference
from intervention.twin import TwinDynamics
from pipeline.config import load_config
from pipeline.files.parsing import parse_json, parsing
from pipeline.parts import (
    World,
    load_risk,
    load_twin,
    require_members,
    section,
    synthetic_patients,
    trial_world,
    twin_world,
)
from pipeline.store import RunStore

REFERENCE_PATIENTS = 2000  # persons an environment without a run draws from


@lru_cache(maxsize=4)
def reference_world(seed: int = 0, device: str = "cpu") -> World:
    """Trial over patients of the reference population, judged by the closed-form severity index. Trains nothing."""
    config = load_config()
    cohort = sample_reference(config.data, REFERENCE_PATIENTS, numpy_generator(seed, "environment"))  # type: ignore[arg-type]
    encoder = ProfileEncoder.fit(cohort.profiles, hidden_columns(config.labels))
    patients = from_cohort(cohort, encoder, WeekScaler.fit(cohort)).to(device)
    risk = SeverityIndex(DEFAULT_SIGNALS, patients.scaler)
    return trial_world(patients, risk, config.trial, config.env, seed)


def run_world(run: str, twin: bool, device: str = "cpu") -> World:
    """The synthetic patients and risk model of a run, in its Trial or its Twin.

    Raises:
        ConfigError: there is no such run.
        MissingStageError: the run lacks what is needed; names the command that makes it.
        ArtifactError: its parts do not fit together, or are of another version.
    """
    store = open_run(run)
    needed = ("cohort", "risk", "trials", *(["twin"] if twin else []))
    made = tuple(map(store.digest, needed))
    return _run_world(str(store.root.resolve()), twin, made, str(store.manifest("trials")["config"]), device)


@lru_cache(maxsize=4)
def _run_world(root: str, twin: bool, digests: tuple[str, ...], settings: str, device: str) -> World:
    """As above; ``digests`` and ``settings`` tell a run that was made anew from the one read before."""
    store = open_run(root)
    env = section(store, "trials", "env", EnvSettings)
    patients, risk = synthetic_patients(store, env).to(device), load_risk(store).to(device)
    if twin:
        return twin_world(patients, risk, load_twin(store), env)
    seed = store.manifest("trials")["seed"]
    return trial_world(patients, risk, section(store, "trials", "trial", TrialSettings), env, seed)


def open_run(run: str) -> RunStore:
    """The store of an existing run.

    Raises:
        ConfigError: there is no such folder. ArtifactError: its ``config.json`` is damaged.
    """
    root = Path(run)
    if not root.is_dir():
        raise ConfigError(
            f"run='{run}' does not exist, expected the folder of a run; make it with `python run_pipeline.py run={root.name}`"
        )
    config, options = root / "config.json", ""
    if config.is_file():
        with parsing(config, "delete it, which only makes the remedies that errors name less exact"):
            options = str(parse_json(config.read_bytes())["options"])
    return RunStore(root, options)


def check_device(device: str) -> str:
    """``device`` as torch spells it.

    Raises:
        ConfigError: torch knows no such device, or has none here.
    """
    try:
        return str(torch.zeros(0, device=device).device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device='{device}' cannot be used ({str(error).splitlines()[0]}); expected 'cpu', or 'cuda' where torch finds a GPU"
        ) from error


def trial_of(run: str | None, device: str = "cpu") -> World:
    device = check_device(device)
    return reference_world(device=device) if run is None else run_world(str(run), False, device)


def twin_of(run: str | None, device: str = "cpu") -> World:
    if run is None:
        raise ConfigError("Mano/Twin-v0 needs a trained run; give run='runs/demo', made by `python run_pipeline.py`")
    return run_world(str(run), True, check_device(device))


def make_trial(run: str | None = None, device: str = "cpu", **kwargs: Any) -> PatientEnv:
    return _scalar(trial_of(run, device), kwargs)


def make_twin(run: str | None = None, device: str = "cpu", **kwargs: Any) -> PatientEnv:
    return _scalar(twin_of(run, device), kwargs)


def make_trial_vec(num_envs: int = 1, run: str | None = None, device: str = "cpu", **kwargs: Any) -> PatientVectorEnv:
    return _vector(trial_of(run, device), num_envs, kwargs)


def make_twin_vec(num_envs: int = 1, run: str | None = None, device: str = "cpu", **kwargs: Any) -> PatientVectorEnv:
    return _vector(twin_of(run, device), num_envs, kwargs)


def _scalar(world: World, kwargs: dict[str, Any]) -> PatientEnv:
    return PatientEnv(world.patients, world.dynamics, world.risk_model, with_settings(world, kwargs), **kwargs)


def _vector(world: World, num_envs: int, kwargs: dict[str, Any]) -> PatientVectorEnv:
    return PatientVectorEnv(
        world.patients, world.dynamics, world.risk_model, with_settings(world, kwargs), num_envs, **kwargs
    )


def with_settings(world: World, kwargs: dict[str, Any]) -> EnvSettings:
    """The world's task with those of its settings that ``kwargs`` names, which are taken out of it.

    Raises:
        ConfigError: a value is out of its range, or disagreement is to count where there is none.
    """
    named = {field.name: kwargs.pop(field.name) for field in fields(EnvSettings) if field.name in kwargs}
    if not named:
        return world.settings
    try:
        settings = TypeAdapter(EnvSettings).validate_python({**asdict(world.settings), **named})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, first['loc']))} is {first['input']!r}, expected: {first['msg'].lower()}"
        ) from error
    if isinstance(world.dynamics, TwinDynamics):
        require_members(world.dynamics.twin, settings)
    return settings
