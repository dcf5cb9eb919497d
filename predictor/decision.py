"""Whom to call: a threshold on P(High) that finds enough of the High, and what acting on it is worth."""

import math
from itertools import groupby

import numpy as np

from core.errors import DataError
from predictor.metrics import HIGH
from predictor.resampling import Bootstrap, ratio, sample_alone, value

THRESHOLDS = tuple(i / 20 for i in range(1, 20))


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


def operating_draws(labels: np.ndarray, called: np.ndarray, bootstrap: Bootstrap) -> dict[str, np.ndarray]:
    """:func:`operating_point` of calling those who are ``called``, bool ``[N]``, in the sample and every resample.

    ``[1 + R]`` each; NaN where there is no case.
    """
    high = labels == HIGH
    cells = np.stack([high & called, high & ~called, ~high & called, ~high & ~called], axis=1)
    found, missed, false_alarm, spared = bootstrap.sums(cells).T
    return {
        "recall": ratio(found, found + missed),
        "specificity": ratio(spared, spared + false_alarm),
        "ppv": ratio(found, found + false_alarm),
        "npv": ratio(spared, spared + missed),
        "flagged": ratio(found + false_alarm, found + missed + false_alarm + spared),
    }


def operating_point(labels: np.ndarray, p_high: np.ndarray, threshold: float) -> dict[str, float | None]:
    """What calling everybody with ``p_high >= threshold`` amounts to; a rate without a case is None.

    Returns:
        ``recall`` (called among the High), ``specificity`` (not called among all others), ``ppv`` (High among the
        called), ``npv`` (others among those not called), ``flagged`` (called among everybody).
    """
    draws = operating_draws(labels, p_high >= threshold, sample_alone(len(labels)))
    return {name: value(draw) for name, draw in draws.items()}


def net_benefit(high: np.ndarray, called: np.ndarray, threshold: float) -> float:
    """High persons called, per person, less the others called at the price the threshold sets on them.

    Who calls from P(High) = t on holds one High found to be worth (1 - t) / t others called in vain: the net benefit is
    ``TP/n - FP/n * t/(1 - t)`` (Vickers & Elkin 2006, doi 10.1177/0272989X06295361). ``high`` and ``called`` are bool
    ``[N]``.
    """
    return float((high & called).mean() - (~high & called).mean() * threshold / (1 - threshold))


def decision_curve(labels: np.ndarray, p_high: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Net benefit of calling whom each predictor gives P(High) of at least t, and of calling ``all``; of none it is 0.

    Args:
        p_high: predictor -> P(High) ``[N]``.

    Returns:
        A row for each of the thresholds .05, .1, ... .95.
    """
    high, everybody = labels == HIGH, np.ones(len(labels), bool)
    return [
        {
            "threshold": t,
            "all": net_benefit(high, everybody, t),
            **{name: net_benefit(high, p >= t, t) for name, p in p_high.items()},
        }
        for t in THRESHOLDS
    ]


def useful_range(rows: list[dict[str, float]], name: str) -> tuple[float | None, float | None]:
    """First and last threshold of the longest run in which a predictor is worth more than calling all and than none."""
    better = [row[name] > max(row["all"], 0.0) + 1e-12 for row in rows]
    runs = [list(run) for useful, run in groupby(range(len(rows)), better.__getitem__) if useful]
    if not runs:
        return None, None
    longest = max(runs, key=len)
    return rows[longest[0]]["threshold"], rows[longest[-1]]["threshold"]
