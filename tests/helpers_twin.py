"""A small made-up population, teachers whose truth is a closed form, and the settings of a small Twin."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from core.encoding import ProfileEncoder, WeekScaler
from core.patients import Patients
from core.protocols import NullTracker, Outcome, State
from core.random import stream_keys, stream_normal, stream_uniform
from core.signals import DAYS, DEFAULT_SIGNALS
from intervention.seq2seq import TwinShape
from intervention.trials import TrialsSettings, VirtualTrials, simulate_trials
from intervention.twin import Twin
from intervention.twin_training import TwinSettings

CONF = Path(__file__).parent.parent / "conf"
T = TypeVar("T")
SHAPE = TwinShape(
    encoder=12,
    decoder=8,
    memory=6,
    person=5,
    retention=((0.5, 0.5), (0.7, 0.9)),
    history=9,
    head=10,
    modes=2,
    min_sd=0.05,
)
SCALER = WeekScaler((7.0, 6.0, 65.0, 5.0), (1.4, 1.8, 8.0, 1.9), (0.8, 1.0, 7.0, 1.1))
EFFECTS = torch.tensor(
    [[0.0, 0, 0, 0], [0.3, 0, 0, -0.5], [0, 1.0, 0, -1.0], [0.2, 0.5, -4.0, 0], [0, -0.5, 3.0, -0.8]]
)


def load(name: str, key: str, kind: type[T]) -> T:
    values: Any = yaml.safe_load((CONF / name).read_text())
    return TypeAdapter(kind).validate_python(values[key])


def design(**changes: Any) -> TrialsSettings:
    return replace(load("trials.yaml", "trials", TrialsSettings), **changes)


def settings(**changes: Any) -> TwinSettings:
    return replace(load("twin.yaml", "twin", TwinSettings), **{"shape": SHAPE, "members": 1, **changes})


def make_patients(n: int = 40) -> Patients:
    rng = np.random.default_rng(3)
    columns = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    encoder = ProfileEncoder.fit(columns)
    week = SCALER.unscale(torch.from_numpy(rng.normal(size=(n, DAYS, 4))).float())
    return Patients(
        np.arange(n), columns, torch.from_numpy(encoder.encode(columns)), week, DEFAULT_SIGNALS, encoder, SCALER
    )


class Linear:
    """A teacher whose level is the person's own plus intensity times a known effect; days are white noise around it."""

    def __init__(self, patients: Patients) -> None:
        self.base = patients.week.mean(dim=1)

    def start(self, rows: Tensor, keys: Tensor) -> State:
        return {"rows": rows}

    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        return self.base[state["rows"]] + intensity[:, None] * EFFECTS[treatment]

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        level = self.expected_level(state, treatment, intensity)
        week = level[:, None] + 0.5 * stream_normal(keys, DAYS * 4).view(-1, DAYS, 4).float()
        return state, Outcome(week, torch.zeros(len(level), dtype=torch.bool), level, level[:, 0] * 0)


class Lucky(Linear):
    """The same with a week's luck: it moves the level, and adverse events are as likely as the intensity is high."""

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        state, outcome = super().step(state, treatment, intensity, keys)
        luck = 0.3 * stream_normal(stream_keys(keys, 1), 4).float()
        adverse = stream_uniform(stream_keys(keys, 2), 1)[:, 0] < intensity * (treatment > 0)
        return state, replace(outcome, level=outcome.level + luck, adverse=adverse)


class Curved(Linear):
    """The same with treatment 2 at its best in the middle: ``4 u (1 - u)`` of its effect at intensity ``u``."""

    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        return super().expected_level(state, treatment, self.share(treatment, intensity))

    @staticmethod
    def share(treatment: Tensor, intensity: Tensor) -> Tensor:
        return torch.where(treatment == 2, 4 * intensity * (1 - intensity), intensity)


def small_trials(patients: Patients, **changes: Any) -> VirtualTrials:
    """300 courses of 4 weeks in ``Linear``."""
    plan = design(**{"courses": 300, "weeks": 4, "batch": 128, **changes})
    return simulate_trials(Linear, patients, plan, 0, NullTracker())


def untrained(members: int = 1, weeks: int = 12) -> Twin:
    """Random weights everywhere, also in the layers that start at zero."""
    twin = Twin(SHAPE, members, DEFAULT_SIGNALS, SCALER, 2, weeks, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return twin.eval()
