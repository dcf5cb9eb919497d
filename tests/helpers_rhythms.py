"""Weeks of which every statistic is known, and TimeGAN settings small enough for a test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import TypeAdapter

from core.cohort import Cohort
from core.signals import DEFAULT_SIGNALS, Signal, Signals
from generators.rhythms import RhythmSettings

CONF = Path(__file__).resolve().parent.parent / "conf" / "rhythms.yaml"
FIFTH: Signals = (*DEFAULT_SIGNALS, Signal("hrv", "ms", 5.0, 200.0, +1))
CENTRE, BETWEEN, WITHIN = (7.0, 6.0, 66.0, 5.0, 45.0), (0.6, 0.9, 5.0, 1.0, 9.0), (1.2, 1.3, 2.5, 1.4, 8.0)
RHO = (0.0, 0.1, 0.8, 0.3, 0.4)


def demo_settings() -> RhythmSettings:
    return TypeAdapter(RhythmSettings).validate_python(yaml.safe_load(CONF.read_text())["rhythms"])


def tiny_settings() -> RhythmSettings:
    """A few seconds at most on one thread."""
    settings = demo_settings()
    networks = replace(settings.networks, hidden=16, latent=8, discriminator_hidden=24)
    return replace(settings, networks=networks, batch=128, embedding_steps=60, supervisor_steps=20, joint_steps=60)


def made_cohort(n: int, seed: int, signals: Signals = DEFAULT_SIGNALS) -> Cohort:
    """Levels that depend on distress and age, AR(1) days whose quality and stress disagree, a longer weekend sleep."""
    rng, c = np.random.default_rng(seed), len(signals)
    distress, age = rng.normal(size=n), rng.integers(18, 80, n)
    level = rng.normal(size=(n, c)) * 0.7 + distress[:, None] * np.array([-0.5, -0.7, 0.4, 0.7, -0.6])[:c]
    mixing = np.eye(c)
    if c > 3:
        mixing[1, 3], mixing[3, 1] = -0.3, -0.3
    rho, root = np.array(RHO)[:c], np.linalg.cholesky(mixing)
    days = np.empty((n, 7, c))
    days[:, 0] = rng.normal(size=(n, c)) @ root.T
    for t in range(1, 7):
        days[:, t] = rho * days[:, t - 1] + np.sqrt(1 - rho**2) * (rng.normal(size=(n, c)) @ root.T)
    days = np.array(CENTRE)[:c] + level[:, None] * np.array(BETWEEN)[:c] + days * np.array(WITHIN)[:c]
    days[:, 5:, 0] += 0.5
    days = np.clip(days, [s.low for s in signals], [s.high for s in signals]).astype(np.float32)
    profiles = pd.DataFrame(
        {
            "age": age,
            "gender": rng.choice(["female", "male"], n),
            "dass_stress": np.round(12 + 5 * distress).clip(0, 42),
        }
    )
    return Cohort(profiles, days, np.ones(days.shape, bool), np.arange(n), signals)


def hide_days(cohort: Cohort, seed: int) -> Cohort:
    """About a tenth of the days unobserved, filled with nonsense that a model must not learn from."""
    mask = np.random.default_rng(seed).random(cohort.rhythms.shape) > 0.1
    lowest = np.array([signal.low for signal in cohort.signals], np.float32)
    return replace(cohort, rhythms=np.where(mask, cohort.rhythms, lowest), mask=mask)
