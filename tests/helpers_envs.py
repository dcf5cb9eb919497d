"""A small made-up population and the shipped settings, for tests of the environments."""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter

from core.cohort import Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.patients import Patients, from_cohort
from core.signals import DEFAULT_SIGNALS, Signals
from envs.rewards import EnvSettings
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.trial import Trial, TrialSettings

CONF = Path(__file__).parent.parent / "conf"
T = TypeVar("T")
World = tuple[Patients, Trial, SeverityIndex, EnvSettings]


def settings(kind: type[T], name: str) -> T:
    values: Any = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return TypeAdapter(kind).validate_python(values[name])


def trial_settings() -> TrialSettings:
    return settings(TrialSettings, "trial")


def env_settings() -> EnvSettings:
    return settings(EnvSettings, "env")


def people(n: int, seed: int = 0, signals: Signals = DEFAULT_SIGNALS) -> Patients:
    """``n`` persons whose distress shows in sleep and stress."""
    rng = np.random.default_rng(seed)
    load = np.array([-0.4, -0.6, 0.2, 0.7])
    shared = rng.standard_normal((n, 1)) * load + rng.standard_normal((n, 4)) * np.sqrt(1 - load**2)
    level = np.array([7.0, 6.1, 67.0, 5.1]) + shared * np.array([0.65, 0.95, 6.5, 1.0])
    days = level[:, None] + rng.standard_normal((n, 7, 4)) * np.array([1.25, 1.2, 2.5, 1.4])
    week = np.clip(days, [s.low for s in DEFAULT_SIGNALS], [s.high for s in DEFAULT_SIGNALS])
    profiles = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "physical_activity": rng.gamma(2.0, 60.0, n),
            "family_history": rng.choice(["Yes", "No"], n),
            "sleep_disorder": rng.choice(["No disorder", "Insomnia"], n),
        }
    )
    week = week[:, :, : len(signals)].astype(np.float32)
    cohort = Cohort(profiles, week, np.ones(week.shape, bool), np.arange(n), signals)
    return from_cohort(cohort, ProfileEncoder.fit(profiles), WeekScaler.fit(cohort))


def world_of(patients: Patients) -> World:
    """Trial over these patients, judged by the severity index: what every face is built from."""
    index = SeverityIndex(patients.signals, patients.scaler)
    return patients, Trial(patients, trial_settings(), 0), index, env_settings()


def simulation(patients: Patients, num_envs: int, seed: int = 0, first_env: int = 0) -> Simulation:
    return Simulation(*world_of(patients), num_envs, seed, first_env)
