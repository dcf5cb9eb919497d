"""Scores with intervals in which a person, not a row, is the unit: persons are resampled with all their weeks."""

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

RESAMPLES, CONFIDENCE = 1000, 0.95
Interval = tuple[float, float]
Statistic = Callable[[np.ndarray], float]  # of row weights [N]; NaN where they leave nothing to compute


def once(person: np.ndarray) -> np.ndarray:
    """Weights ``[N]`` that give every person one vote, shared by their weeks."""
    _, row, weeks = np.unique(person, return_inverse=True, return_counts=True)
    return 1.0 / weeks[row]


def bootstrap(statistic: Statistic, person: np.ndarray, rng: np.random.Generator) -> Interval | None:
    """95 % percentile interval of a weighted statistic over persons drawn with replacement; None where undefined."""
    _, row, weeks = np.unique(person, return_inverse=True, return_counts=True)
    n = len(weeks)
    times = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))
    draws = [statistic((drawn / weeks)[row]) for drawn in times]
    defined = [value for value in draws if np.isfinite(value)]
    if not defined:
        return None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def weighted_auc(score: np.ndarray, positive: np.ndarray) -> Statistic:
    """The area under the ROC curve as a function of row weights: P(a positive scores higher), ties for a half."""
    level = np.unique(score, return_inverse=True)[1]

    def area(weights: np.ndarray) -> float:
        up = np.bincount(level, weights * positive)
        down = np.bincount(level, weights * ~positive, minlength=len(up))
        pairs = up.sum() * down.sum()
        return float(up @ (np.cumsum(down) - down / 2) / pairs) if pairs > 0 else float("nan")

    return area


def caught_at(score: np.ndarray, positive: np.ndarray, false_alarms: float) -> Statistic:
    """The share of positives above the threshold that at most this share of negatives exceeds, given row weights."""
    order = np.argsort(-score, kind="stable")
    ordered, truth = score[order], positive[order]
    last = np.append(ordered[1:] < ordered[:-1], True)  # a threshold lies between different scores only

    def share(weights: np.ndarray) -> float:
        w = weights[order]
        caught, alarms = np.cumsum(w * truth), np.cumsum(w * ~truth)
        if caught[-1] == 0 or alarms[-1] == 0:
            return float("nan")
        allowed = last & (alarms <= false_alarms * alarms[-1] + 1e-9)
        return float(caught[allowed].max(initial=0.0) / caught[-1])

    return share


def auc(
    score: np.ndarray, positive: np.ndarray, person: np.ndarray, rng: np.random.Generator
) -> tuple[float | None, Interval | None]:
    """AUC over persons and its interval: the bootstrap's, or Newcombe's where that is wider.

    With a handful of persons a bootstrap of a perfect score is a point; Newcombe's is not. None where all rows are on
    one side.
    """
    positive = positive.astype(bool)
    area = weighted_auc(score, positive)
    value = area(once(person))
    if not np.isfinite(value):
        return None, None
    sides = len(np.unique(person[positive])), len(np.unique(person[~positive]))
    return value, wider(newcombe_auc(value, *sides), bootstrap(area, person, rng))


def newcombe_auc(value: float, positives: int, negatives: int) -> Interval:
    """Score interval of an AUC: every area whose own standard error would allow ``value``.

    Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2",
    Statistics in Medicine 25:559 (method 5), with the variance of Hanley & McNeil 1982.
    """
    area = np.linspace(0, 1, 10001)
    extra = (positives + negatives) / 2 - 1
    ratio = (1 - area) / (2 - area) + area / (1 + area)
    variance = area * (1 - area) * (1 + extra * ratio) / (positives * negatives)
    allowed = area[np.abs(value - area) <= norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance) + 1e-9]
    return (float(allowed.min()), float(allowed.max())) if len(allowed) else (value, value)


def wilson(share: float, n: int) -> Interval:
    """Wilson's score interval of a share of ``n`` persons."""
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    centre, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, Interval]:
    """Mean of hits ``a`` minus mean of hits ``b``, one value a person, with Newcombe's interval (1998, method 10)."""
    p, q = float(a.mean()), float(b.mean())
    (p_low, p_high), (q_low, q_high) = wilson(p, len(a)), wilson(q, len(b))
    low = p - q - np.hypot(p - p_low, q_high - q)
    return p - q, (float(low), float(p - q + np.hypot(p_high - p, q - q_low)))


def mover_ratio(above: tuple[float, Interval], below: tuple[float, Interval], correlation: float) -> Interval | None:
    """Interval of a ratio of two positive estimates from their own intervals and the correlation between them.

    Every ratio r for which the interval of ``above - r * below`` covers 0 (Donner & Zou 2012, "Closed-form confidence
    intervals for functions of the normal mean and standard deviation", Stat Methods Med Res 21:347, for differences and
    ratios). None where ratios up to 5 do not bound it.
    """
    (a, (a_low, a_high)), (b, (b_low, b_high)) = above, below
    ratio = np.linspace(0, 5, 50001)
    gap = a - ratio * b
    one = np.where(gap > 0, a - a_low, a_high - a)  # towards 0, each estimate errs on its own side
    other = ratio * np.where(gap > 0, b_high - b, b - b_low)
    allowed = ratio[gap**2 <= one**2 + other**2 - 2 * correlation * one * other + 1e-9]
    if not len(allowed):
        return a / b, a / b
    return None if allowed[-1] == ratio[-1] else (float(allowed[0]), float(allowed[-1]))


def wider(a: Interval, b: Interval | None) -> Interval:
    """The interval that covers both."""
    return a if b is None else (min(a[0], b[0]), max(a[1], b[1]))
