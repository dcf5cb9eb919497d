"""How good a risk prediction is: closed-form metrics of labels and probabilities, with bootstrap intervals."""

import numpy as np
from scipy.stats import rankdata

from core.cohort import RISK_CLASSES
from predictor.calibration import brier, ece

HIGH = RISK_CLASSES.index("High")


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Probability that a positive outranks a negative (ties count half); NaN where there are none of either."""
    n_positive, n = int(positive.sum()), len(positive)
    if n_positive in (0, n):
        return float("nan")
    excess = rankdata(score)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(excess / (n_positive * (n - n_positive)))


def _f1(actual: np.ndarray, predicted: np.ndarray) -> float:
    """F1; 0 where the class neither occurs nor is predicted."""
    return float(2 * (actual & predicted).sum() / max(1, actual.sum() + predicted.sum()))


def risk_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1, F1/recall/AUC of High, class-wise ECE and multi-class Brier score.

    The predicted class is the most probable one. AUC is NaN where High or everything else is absent, recall where
    High is.

    Args:
        labels: int ``[N]``, 0/1/2.
        probabilities: ``[N, 3]``.
    """
    predicted = probabilities.argmax(1)
    high = labels == HIGH
    classes = range(len(RISK_CLASSES))
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(np.mean([_f1(labels == k, predicted == k) for k in classes])),
        "f1_high": _f1(high, predicted == HIGH),
        "recall_high": float((predicted[high] == HIGH).mean()) if high.any() else float("nan"),
        "auc_high": auc(high, probabilities[:, HIGH]),
        "ece": ece(labels, probabilities),
        "brier": brier(labels, probabilities),
    }


def bootstrap_intervals(
    labels: np.ndarray, probabilities: np.ndarray, person: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, list[float]]:
    """95 % percentile intervals of :func:`risk_metrics`, resampling persons with all their weeks.

    A resample without a High person says nothing of AUC and recall and is left out of theirs.
    """
    _, index, counts = np.unique(person, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(index, kind="stable"), counts.cumsum()[:-1])  # the rows of each person
    draws = []
    for _ in range(resamples):
        chosen = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        draws.append(list(risk_metrics(labels[chosen], probabilities[chosen]).values()))
    low, high = np.nanpercentile(np.array(draws), [2.5, 97.5], axis=0)
    return {
        name: [float(a), float(b)] for name, a, b in zip(risk_metrics(labels, probabilities), low, high, strict=True)
    }
