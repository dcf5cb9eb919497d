"""Metrics of a risk model as its stage leaves them, computed from simulated persons whose true probabilities are known."""

from typing import Any

import numpy as np
import pandas as pd

from core.cohort import RISK_CLASSES, Cohort
from core.signals import DEFAULT_SIGNALS, names
from predictor.calibration import ece_floor, reliability_curve
from predictor.decision import operating_draws, threshold_for_recall
from predictor.evaluation import compare, decisions
from predictor.metrics import HIGH, confusion_matrix, roc_curve, summarise
from predictor.resampling import resample_persons
from predictor.subgroups import subgroup_table

GROUPS: dict[str, tuple[float, ...]] = {"gender": (), "age": (30.0, 45.0, 60.0)}


def made_risk(n: int = 800, blur: float = 0.4, rival_blur: float = 0.7, seed: int = 0) -> dict[str, Any]:
    """A model that sees the truth through noise of sd ``blur``, a baseline that does through ``rival_blur``, the ceiling."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    logits = np.stack([-1.4 * latent + 1.0, 0.2 * latent, 1.6 * latent - 0.8], axis=1)
    truth = softmax(logits)
    labels = (rng.random((n, 1)) > truth.cumsum(axis=1)[:, :2]).sum(axis=1)
    seen = {
        name: softmax(logits + sd * rng.normal(size=(n, 3))) for name, sd in (("model", blur), ("rival", rival_blur))
    }
    prior = np.tile(np.bincount(labels, minlength=3) / n, (n, 1))
    predictors = {"model": seen["model"], "logistic": seen["rival"], "prior": prior, "bayes": truth}
    return measured(labels, predictors, rng) | {
        "validated_on": "2,000 real training persons",
        "attribution": attribution(rng),
        "early_warning": {days: early(auc) for days, auc in (("3", 0.82), ("5", 0.86), ("7", 0.89))},
    }


def measured(labels: np.ndarray, predictors: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, Any]:
    """What the stage measures of these class probabilities ``[N, 3]``; about 1 % of the persons are non-binary."""
    n, p = len(labels), predictors["model"]
    profiles = pd.DataFrame(
        {"gender": rng.choice(["Female", "Male", "Non-binary"], n, p=[0.5, 0.49, 0.01]), "age": rng.integers(18, 80, n)}
    )
    days = np.zeros((n, 7, len(DEFAULT_SIGNALS)), np.float32)
    cohort = Cohort(profiles, days, days == 0, np.arange(n), DEFAULT_SIGNALS, labels.astype(np.int8))
    bootstrap = resample_persons(cohort.person, 100, rng)
    alarm = threshold_for_recall(labels, p[:, HIGH], 0.8)
    point = summarise(operating_draws(labels, p[:, HIGH] >= alarm, bootstrap))
    return {
        **compare(labels, predictors, bootstrap),
        "ece_floor": ece_floor(p, rng),
        "confusion": confusion_matrix(labels, p),
        "roc": roc_curve(labels, p[:, HIGH]),
        "alarm": {"target_recall": 0.8, "threshold": alarm, **point},
        "decision_curve": decisions(labels, predictors),
        "subgroups": subgroup_table(cohort, p, alarm, GROUPS, 50, bootstrap, rng),
        "reliability": {name: reliability_curve(labels, p, k) for k, name in enumerate(RISK_CLASSES)},
        "signal_response": {},
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    z = np.exp(logits - logits.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def attribution(rng: np.random.Generator) -> dict[str, Any]:
    days = {name: np.abs(rng.normal(0.01, 0.003, 7)).tolist() for name in names(DEFAULT_SIGNALS)}
    return {
        "signals": {name: float(np.sum(values)) for name, values in days.items()},
        "days": days,
        "profile": {"age": 0.03, "sleep_disorder": 0.05, "family_history": 0.02},
        "completeness_error_mean": 0.001,
        "completeness_error_max": 0.01,
        "persons": 200,
    }


def early(auc: float) -> dict[str, Any]:
    return {
        "masked": {"auc_high": auc, "recall_alarm": 0.7}, "filled": {"auc_high": auc - 0.02}, "specialist": {"auc_high": auc + 0.005},
        "bayes": {"auc_high": auc + 0.02}, "score_change": 0.05, "class_change": 0.2, "alarm_change": 0.1,
    }  # fmt: skip
