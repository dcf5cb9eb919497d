"""Tables of persons, a recorder, and the profile settings of ``conf/``."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter

from core.artifact import Artifact
from core.protocols import NullTracker
from generators.profiles import ProfileSettings

CONF = yaml.safe_load((Path(__file__).parents[1] / "conf" / "profiles.yaml").read_text())["profiles"]
SETTINGS = TypeAdapter(ProfileSettings).validate_python(CONF)
QUICK = replace(
    SETTINGS,
    ctgan=replace(SETTINGS.ctgan, steps=60, kernel=10.0, batch_size=100, generator_dim=(32,), discriminator_dim=(32,)),
    tvae=replace(SETTINGS.tvae, steps=60, batch_size=100, compress_dims=(32,), decompress_dims=(32,)),
    copula=replace(SETTINGS.copula, sweeps=20),
    calibration=replace(SETTINGS.calibration, min_effective_share=0.0, min_pool=1000),
    choice=replace(SETTINGS.choice, steps=30),
)


def people(n: int, seed: int = 0) -> pd.DataFrame:
    """Mixed columns that depend on each other; one is constant, one has few numbers."""
    rng = np.random.default_rng(seed)
    distress = rng.normal(size=n)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "gender": rng.choice(["Female", "Male"], n),
            "bmi": np.round(25 + distress + 3 * rng.normal(size=n), 1),
            "children": rng.integers(0, 4, n),
            "insomnia": np.where(distress + rng.normal(size=n) > 0.5, "Yes", "No"),
            "dass": np.clip(np.round(np.exp(2 + 0.6 * distress)), 0, 42).astype(int),
            "country": "X",
        }
    )


class Recorder(NullTracker):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.notes: list[str] = []

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((step, value))

    def note(self, message: str) -> None:
        self.notes.append(message)


def through_json(artifact: Artifact) -> Artifact:
    return Artifact(artifact.tensors, json.loads(json.dumps(artifact.meta)))
