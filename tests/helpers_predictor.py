"""Made-up cohorts whose risk is known, for the predictor's tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter

from core.cohort import Cohort
from core.signals import DEFAULT_SIGNALS
from predictor.settings import RiskSettings

CONF = Path(__file__).parents[1] / "conf" / "risk.yaml"


def risk_settings(**changes: Any) -> RiskSettings:
    """The shipped settings, with these changes; of a recipe, only what is named changes."""
    values = yaml.safe_load(CONF.read_text())["risk"]
    for key, change in changes.items():
        values[key] = {**values[key], **change} if key in ("graded", "sharp") else change
    return TypeAdapter(RiskSettings).validate_python(values)


def gentle(steps: int, rate: float = 0.003, missing_share: float = 0.1, **changes: Any) -> RiskSettings:
    """A short fit as of graded labels; as of sharp ones it is not tried for more than a step."""
    graded = {"rate": rate, "steps": steps, "missing_share": missing_share}
    return risk_settings(**{"graded": graded, "sharp": {"steps": 1}, "validate_every": 10, **changes})


def steep(steps: int, **changes: Any) -> RiskSettings:
    """A short fit as of sharp labels alone."""
    return risk_settings(**{"graded": {"steps": 1}, "sharp": {"steps": steps}, "validate_every": 10, **changes})


def profiles(n: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "bmi": rng.normal(26, 4, n),
            "gender": rng.choice(["female", "male"], n),
            "dass_stress": rng.integers(0, 42, n),
        }
    )


def week_of(z: np.ndarray) -> np.ndarray:
    """Standard-normal days ``[N, 7, 4]`` in plausible physical units."""
    week = np.array([7.0, 6.0, 65.0, 5.0]) + z * np.array([1.0, 1.2, 6.0, 1.2])
    return np.clip(week, [s.low for s in DEFAULT_SIGNALS], [s.high for s in DEFAULT_SIGNALS]).astype(np.float32)


def distressed(n: int, seed: int) -> tuple[Cohort, np.ndarray]:
    """Persons whose distress shows in every signal and depends on age; and the true class probabilities."""
    rng = np.random.default_rng(seed)
    table = profiles(n, rng)
    distress = rng.normal(size=n)
    direction = np.array([-1.0, -1.0, 1.0, 1.0])
    z = 0.7 * distress[:, None, None] * direction + rng.normal(size=(n, 7, 4))
    logit = 1.5 * distress + 0.02 * (table["age"].to_numpy() - 49)
    logits = np.stack([-logit, np.zeros(n), logit - 0.8], axis=1)
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    risk = (rng.random((n, 1)) > truth.cumsum(1)[:, :2]).sum(1).astype(np.int8)
    return Cohort(table, week_of(z), np.ones((n, 7, 4), bool), np.arange(n), DEFAULT_SIGNALS, risk), truth


def drifting(n: int, seed: int) -> Cohort:
    """Stress falls (Low), stays (Medium) or rises (High) through a week whose mean says nothing."""
    rng = np.random.default_rng(seed)
    risk = rng.integers(0, 3, n).astype(np.int8)
    z = rng.normal(size=(n, 7, 4)) * 0.6
    z[:, :, 3] += (risk[:, None] - 1) * np.linspace(-1.2, 1.2, 7)
    return Cohort(profiles(n, rng), week_of(z), np.ones((n, 7, 4), bool), np.arange(n), DEFAULT_SIGNALS, risk)


def ruled(n: int, seed: int) -> Cohort:
    """Three consecutive nights under 6.5 h and a mean stress above 5.2 are a point each; risk is the points."""
    rng = np.random.default_rng(seed)
    week = week_of(rng.normal(size=(n, 1, 4)) * 0.7 + rng.normal(size=(n, 7, 4)) * 0.7)
    short = week[:, :, 0] < 6.5
    run = np.stack([short[:, t : t + 3].all(1) for t in range(5)]).any(0)
    risk = run.astype(np.int8) + (week[:, :, 3].mean(1) > 5.2)
    return Cohort(profiles(n, rng), week, np.ones((n, 7, 4), bool), np.arange(n), DEFAULT_SIGNALS, risk.astype(np.int8))


def predictions(n: int, rng: np.random.Generator, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[N]`` and probabilities ``[N, 3]`` of them: the true ones, or overconfident with ``sharpness`` above 1."""
    distress = 1.5 * rng.normal(size=n)
    logits = np.stack([-distress, np.full(n, -0.2), distress - 0.8], axis=1)
    truth, told = (np.exp(logits * s) / np.exp(logits * s).sum(1, keepdims=True) for s in (1.0, sharpness))
    return (rng.random((n, 1)) > truth.cumsum(1)[:, :2]).sum(1), told
