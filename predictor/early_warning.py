"""How early does the score know? Risk from a week's first days, beside what they allow."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from core.cohort import Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ConfigError
from core.protocols import risk_score
from core.signals import DAYS
from predictor.baselines import baseline_models, weekly_summaries
from predictor.dual_lstm import DualLSTMRisk
from predictor.metrics import HIGH, risk_metrics

REPORTED = ("auc_high", "macro_f1", "recall_high", "brier", "ece")


def first_days(cohort: Cohort, days: int) -> Cohort:
    """The same persons, of whose week only the first ``days`` were observed."""
    known = np.arange(DAYS)[:, None] < days
    return replace(cohort, mask=cohort.mask & known)


def filled_days(cohort: Cohort, days: int) -> Cohort:
    """The first ``days``, and each later day the mean of those, said to be observed: what a model that cannot tell gets.

    A signal that none of the first days shows stays unobserved.
    """
    early = first_days(cohort, days).mask
    count = early.sum(1, keepdims=True)
    mean = (cohort.rhythms.astype(float) * early).sum(1, keepdims=True) / np.maximum(count, 1)  # (N, 1, C)
    later = (np.arange(DAYS)[:, None] >= days) & (count > 0)
    rhythms = np.where(later, mean, cohort.rhythms).astype(np.float32)
    return replace(cohort, rhythms=rhythms, mask=early | later)


def specialist(
    train: Cohort, holdout: Cohort, days: int, encoder: ProfileEncoder, scaler: WeekScaler, seed: int
) -> np.ndarray:
    """Class probabilities ``[N, 3]`` by a logistic regression that was trained for just these days.

    On summaries of the first ``days`` of both cohorts, and the profile; nothing later is looked at.
    """
    assert train.risk is not None, "label the cohort first"
    x, x_new = (
        np.concatenate([weekly_summaries(first_days(c, days), scaler), encoder.encode(c.profiles)], axis=1)
        for c in (train, holdout)
    )
    model = baseline_models(seed)["logistic"].fit(x, train.risk)
    probabilities = np.zeros((len(holdout), 3))
    probabilities[:, model.classes_.astype(int)] = model.predict_proba(x_new)
    return probabilities


def early_warning(
    model: DualLSTMRisk,
    train: Cohort,
    holdout: Cohort,
    days: Sequence[int],
    ceilings: Mapping[int, np.ndarray],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """How well risk is known, and how far from the whole week's score, when only the first days are observed.

    Args:
        train: what the model was trained on; the specialist is fitted on its first days.
        days: numbers of days from Monday on.
        ceilings: by number of days, the class probabilities ``[N, 3]`` that a knower of the source would give.

    Returns:
        By number of days: ``masked`` (the model, which knows what is missing), ``filled`` (the same model, given the
        mean of the days so far for the others), ``specialist``, ``bayes`` (where there is a ceiling), each with
        ``auc_high``, ``macro_f1``, ``recall_high``, ``brier``, ``ece``, the first two also with ``recall_alarm`` (share
        of High whose P(High) reaches the alarm); and, of ``masked`` against the whole week, ``score_change`` (mean
        absolute), ``class_change`` and ``alarm_change`` (shares of rows). What is undefined is None.

    Raises:
        ConfigError: a number of days is not 1 to 7.
    """
    assert holdout.risk is not None, "label the cohort first"
    wrong = [d for d in days if not 1 <= d <= DAYS]
    if wrong:
        raise ConfigError(f"risk.observed_days: {wrong[0]}, expected numbers of days from 1 to {DAYS}")
    labels, alarm = holdout.risk.astype(np.int64), float(model.alarm)
    whole = model.predict_cohort(holdout)

    def scored(probabilities: np.ndarray) -> dict[str, float | None]:
        found = risk_metrics(labels, probabilities)
        return {name: defined(found[name]) for name in REPORTED}

    def of_model(probabilities: np.ndarray) -> dict[str, float | None]:
        called = probabilities[labels == HIGH, HIGH] >= alarm
        return {**scored(probabilities), "recall_alarm": float(called.mean()) if len(called) else None}

    table = {}
    for d in days:
        masked, filled = (model.predict_cohort(some(holdout, d)) for some in (first_days, filled_days))
        table[str(d)] = {
            "masked": of_model(masked),
            "filled": of_model(filled),
            "specialist": scored(specialist(train, holdout, d, model.encoder, model.scaler, seed)),
            **({"bayes": scored(ceilings[d])} if d in ceilings else {}),
            "score_change": float(np.abs(score(masked) - score(whole)).mean()),
            "class_change": float((masked.argmax(1) != whole.argmax(1)).mean()),
            "alarm_change": float(((masked[:, HIGH] >= alarm) != (whole[:, HIGH] >= alarm)).mean()),
        }
    return table


def score(probabilities: np.ndarray) -> np.ndarray:
    return risk_score(torch.from_numpy(probabilities)).numpy()


def defined(number: float) -> float | None:
    return None if np.isnan(number) else number
