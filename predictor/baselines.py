"""Simple models on weekly summaries: what the network must beat to earn its place."""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from core.cohort import RISK_CLASSES, Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.signals import DAYS, WEEKEND, names

RUN_THRESHOLD = 0.5  # a day is "bad" beyond this many sd on the unhealthy side
STATISTICS = ("mean", "sd", "trend", "change", "weekend", "min", "max", "run")


def _longest_run(bad: np.ndarray) -> np.ndarray:
    """Longest run of True days: ``[N, 7, C]`` -> ``[N, C]``."""
    current = longest = np.zeros((bad.shape[0], bad.shape[2]))
    for day in range(bad.shape[1]):
        current = np.where(bad[:, day], current + 1, 0)
        longest = np.maximum(longest, current)
    return longest


def summary_names(cohort: Cohort) -> list[str]:
    return [f"{signal}_{statistic}" for statistic in STATISTICS for signal in names(cohort.signals)]


def weekly_summaries(cohort: Cohort, scaler: WeekScaler) -> np.ndarray:
    """``[N, 8C]``: mean, sd, trend, mean day-to-day change, weekend minus weekday, min, max and longest bad run of each signal.

    In scaled units; an unobserved day counts as the person's own mean, a signal never observed as the population's.
    """
    z = (cohort.rhythms.astype(float) - scaler.mean) / scaler.sd
    observed = cohort.mask
    mean = (z * observed).sum(1) / np.maximum(observed.sum(1), 1)  # (N, C)
    z = np.where(observed, z, mean[:, None])
    day = np.arange(DAYS) - (DAYS - 1) / 2
    weekend = np.isin(np.arange(DAYS), WEEKEND)
    better = np.array([signal.better for signal in cohort.signals])
    parts = (
        mean,
        z.std(1),
        np.einsum("d,ndc->nc", day / np.square(day).sum(), z),
        np.abs(np.diff(z, axis=1)).mean(1),
        z[:, weekend].mean(1) - z[:, ~weekend].mean(1),
        z.min(1),
        z.max(1),
        _longest_run(z * -better > RUN_THRESHOLD),
    )
    return np.concatenate(parts, axis=1)


def baseline_models(seed: int) -> dict[str, ClassifierMixin]:
    """Untrained baselines by name."""
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "gradient_boosting": HistGradientBoostingClassifier(
            learning_rate=0.06, max_leaf_nodes=15, early_stopping=True, random_state=seed
        ),
        "tree": DecisionTreeClassifier(max_depth=8, min_samples_leaf=10, random_state=seed),
    }


def baseline_probabilities(
    train: Cohort, holdout: Cohort, encoder: ProfileEncoder, scaler: WeekScaler, seed: int
) -> dict[str, np.ndarray]:
    """Class probabilities ``[N, 3]`` of the holdout by each baseline, fitted on the training cohort."""
    assert train.risk is not None, "label the cohort first"

    def table(cohort: Cohort) -> np.ndarray:
        return np.concatenate([weekly_summaries(cohort, scaler), encoder.encode(cohort.profiles)], axis=1)

    x, x_new = table(train), table(holdout)
    result = {}
    for name, model in baseline_models(seed).items():
        model.fit(x, train.risk)
        probabilities = np.zeros((len(holdout), len(RISK_CLASSES)))
        probabilities[:, model.classes_.astype(int)] = model.predict_proba(x_new)
        result[name] = probabilities
    return result
