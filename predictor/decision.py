"""Whom to call: a threshold on P(High) that finds enough of the High, and what acting on it is worth."""

import math

import numpy as np

from core.cohort import RISK_CLASSES
from core.errors import DataError

HIGH = RISK_CLASSES.index("High")


def threshold_for_recall(labels: np.ndarray, p_high: np.ndarray, recall: float) -> float:
    """The highest threshold at which calling everybody with ``p_high >= threshold`` finds ``recall`` of the High.

    It is the score of a High row, so tied scores are called together and recall may exceed what was asked; recall 1
    is always within reach. Choose it on persons that neither fitted the model nor judge it.

    Args:
        labels: int ``[N]``, 0/1/2.
        p_high: P(High) ``[N]``; the threshold is one of its values, exact in its own precision.
        recall: above 0, at most 1; 0 counts as a single person.

    Raises:
        DataError: nobody is High.
    """
    scores = np.sort(p_high[labels == HIGH])[::-1]
    if not len(scores):
        raise DataError(
            f"risk alarm: none of {len(labels)} calibration rows has risk class 'High', expected at least one; "
            "bring more persons or raise risk.validation_share"
        )
    wanted = max(1, math.ceil(recall * len(scores) - 1e-9))  # 0.8 of 10 is 8, whatever the rounding of 0.8 * 10
    return float(scores[wanted - 1])


def operating_point(labels: np.ndarray, p_high: np.ndarray, threshold: float) -> dict[str, float | None]:
    """What calling everybody with ``p_high >= threshold`` amounts to; a rate without a case is None.

    Returns:
        ``recall`` (called among the High), ``specificity`` (not called among all others), ``ppv`` (High among the
        called), ``npv`` (others among those not called), ``flagged`` (called among everybody).
    """
    high, called = labels == HIGH, p_high >= threshold

    def share(part: np.ndarray, of: np.ndarray) -> float | None:
        return float(part[of].mean()) if of.any() else None

    return {
        "recall": share(called, high),
        "specificity": share(~called, ~high),
        "ppv": share(high, called),
        "npv": share(~high, ~called),
        "flagged": float(called.mean()),
    }
