"""How good a risk prediction is: closed-form metrics of labels and probabilities, in the sample and its resamples."""

from typing import Any

import numpy as np

from core.cohort import RISK_CLASSES
from predictor.calibration import calibration_draws, squared_error
from predictor.resampling import Bootstrap, interval, ratio, sample_alone, value

HIGH = RISK_CLASSES.index("High")
ROC_POINTS = 60


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Probability that a positive outranks a negative (ties count half); NaN where there are none of either."""
    return float(auc_draws(positive, score, sample_alone(len(positive)))[0])


def auc_draws(positive: np.ndarray, score: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """:func:`auc` in the sample and every resample, ``[1 + R]``, from one sort."""
    order = np.argsort(score, kind="stable")
    weights = bootstrap.weights[:, bootstrap.person[order]]  # (1 + R, N)
    starts = np.flatnonzero(np.append(True, np.diff(score[order]) > 0))  # the first row of each distinct score
    above = np.add.reduceat(weights * positive[order], starts, axis=1)
    beside = np.add.reduceat(weights * ~positive[order], starts, axis=1)
    outranked = beside.cumsum(1) - beside / 2
    return ratio((above * outranked).sum(1), above.sum(1) * beside.sum(1))


def confusion_draws(labels: np.ndarray, predicted: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Rows by actual and predicted class, ``[1 + R, 3, 3]``."""
    k = len(RISK_CLASSES)
    return bootstrap.sums(np.eye(k * k)[labels * k + predicted]).reshape(-1, k, k)


def metric_draws(labels: np.ndarray, probabilities: np.ndarray, bootstrap: Bootstrap) -> dict[str, np.ndarray]:
    """:func:`risk_metrics` in the sample and every resample, ``[1 + R]`` each."""
    p = probabilities.astype(float)
    counts = confusion_draws(labels, p.argmax(1), bootstrap)
    right, actual, predicted = counts.diagonal(axis1=1, axis2=2), counts.sum(2), counts.sum(1)  # (1 + R, 3) each
    total = counts.sum((1, 2))
    f1 = 2 * right / np.maximum(actual + predicted, 1)
    return {
        "accuracy": ratio(right.sum(1), total),
        "macro_f1": f1.mean(1),
        "f1_high": f1[:, HIGH],
        "recall_high": ratio(right[:, HIGH], actual[:, HIGH]),
        "auc_high": auc_draws(labels == HIGH, p[:, HIGH], bootstrap),
        **calibration_draws(labels, p, bootstrap),
        "brier": ratio(bootstrap.sums(squared_error(labels, p)[:, None])[:, 0], total),
    }


def risk_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1, F1/recall/AUC of High, class-wise ECE, debiased ECE and multi-class Brier score.

    The predicted class is the most probable one. A class that neither occurs nor is predicted has F1 0. AUC is NaN
    where High or everything else is absent, recall where High is.

    Args:
        labels: int ``[N]``, 0/1/2.
        probabilities: ``[N, 3]``.
    """
    draws = metric_draws(labels, probabilities, sample_alone(len(labels)))
    return {name: float(draw[0]) for name, draw in draws.items()}


def summarise(draws: dict[str, np.ndarray]) -> dict[str, Any]:
    """Each statistic's value, and ``intervals`` with the 95 % interval of each."""
    return {
        **{name: value(draw) for name, draw in draws.items()},
        "intervals": {name: interval(draw) for name, draw in draws.items()},
    }


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """``counts`` ``[3][3]`` (rows actual, columns predicted class), ``recall`` and ``precision`` by class.

    Low, Medium, High; a rate without a case is None.
    """
    counts = confusion_draws(labels, probabilities.argmax(1), sample_alone(len(labels)))[0]
    right = counts.diagonal()
    return {
        "counts": counts.astype(int).tolist(),
        "recall": [value(rate) for rate in ratio(right, counts.sum(1))[:, None]],
        "precision": [value(rate) for rate in ratio(right, counts.sum(0))[:, None]],
    }


def roc_curve(labels: np.ndarray, p_high: np.ndarray, most: int = ROC_POINTS) -> list[dict[str, float | None]]:
    """The ROC curve of High, from calling nobody to calling everybody; ``most`` points evenly spread along it, or all.

    ``threshold`` is the lowest P(High) called; None at the first point, where nobody is.
    """
    order = np.argsort(-p_high, kind="stable")
    high, scores = labels[order] == HIGH, p_high[order].astype(float)
    ends = np.flatnonzero(np.append(np.diff(scores) < 0, True))  # the last row of each distinct score
    tpr = np.append(0, high.cumsum()[ends]) / high.sum()
    fpr = np.append(0, (~high).cumsum()[ends]) / (~high).sum()
    kept = np.arange(len(tpr))
    if len(kept) > most:
        kept = np.unique(np.searchsorted(tpr + fpr, np.linspace(0, 2, most) - 1e-9))
    thresholds: list[float | None] = [None, *scores[ends].tolist()]
    return [{"fpr": float(fpr[i]), "tpr": float(tpr[i]), "threshold": thresholds[i]} for i in kept]
