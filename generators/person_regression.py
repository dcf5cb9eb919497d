"""What the profile says of a person's weeks: ridge regression over persons, its penalty chosen on left-out persons."""

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-1, 5, 13)
MIN_PERSONS = 5
PERSONS_PER_DEGREE = (
    10  # with fewer for each degree of freedom of the profile, the best of many penalties gains by luck:
)
MIN_GAIN = 10.0  # then a gain counts from this share over the number of persons


@dataclass(frozen=True)
class PersonRegression:
    """``values ~ features @ slope + intercept``; arrays are float64.

    Attributes:
        slope: ``[P, K]``; 0 where no penalty predicts left-out persons enough better than the others' mean does.
        intercept: ``[K]``.
        gain: ``[K]``, share of the variance of left-out persons that is predicted; 0 where nothing is.
        freedom: ``[K]``, effective number of coefficients.
        left_out: ``[N, K]``, each row's prediction by a fit without its person.
    """

    slope: np.ndarray
    intercept: np.ndarray
    gain: np.ndarray
    freedom: np.ndarray
    left_out: np.ndarray


def regress_persons(
    features: np.ndarray, values: np.ndarray, weight: np.ndarray, person: np.ndarray
) -> PersonRegression:
    """Fit to person means: rows of one person are one observation, so that nobody is predicted from their own weeks.

    Args:
        features: ``[N, P]``; ``values``: ``[N, K]``; ``weight``: ``[N, K]``, how much was observed of each (0: nothing).
        person: ``[N]``.
    """
    _, first, index = np.unique(person, return_index=True, return_inverse=True)
    total = np.zeros((len(first), values.shape[1]))
    mass = np.zeros_like(total)
    np.add.at(total, index, values * weight)
    np.add.at(mass, index, weight)
    columns = [
        _regress(features[first].astype(float), total[:, k] / np.maximum(mass[:, k], 1e-12), mass[:, k] > 0)
        for k in range(values.shape[1])
    ]
    slope, intercept, gain, freedom, left_out = (np.array(part) for part in zip(*columns, strict=True))
    return PersonRegression(slope.T, intercept, gain, freedom, left_out.T[index])


def _regress(
    features: np.ndarray, y: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, float, float, float, np.ndarray]:
    """One value: slope, intercept, gain, freedom, and every person's prediction by the others."""
    x, y = features[known], y[known]
    n, mean = len(x), x.mean(0) if len(x) else np.zeros(features.shape[1])
    level = y.mean() if n else 0.0
    nothing = np.zeros(features.shape[1]), float(level), 0.0, 0.0, np.full(len(features), level)
    if n < MIN_PERSONS or not features.shape[1]:
        return nothing
    u, s, vt = np.linalg.svd(x - mean, full_matrices=False)
    rank = int((s > 1e-6 * max(float(s.max()), 1.0)).sum())  # encoded features are of unit size
    if not rank:  # nobody differs: what is left would be rounding
        return nothing
    others_mean = (y.sum() - y) / (n - 1)
    spread = ((y - others_mean) ** 2).mean()
    best, least = nothing, MIN_GAIN / n if n < PERSONS_PER_DEGREE * rank else 0.0
    for penalty in PENALTIES:
        shrink = s**2 / (s**2 + penalty)
        fitted = level + (u * shrink) @ (u.T @ (y - level))
        leverage = (u**2) @ shrink + 1 / n
        error = (y - fitted) / np.maximum(1 - leverage, 1e-6)  # of a fit without that person, in closed form
        gain = 1 - (error**2).mean() / spread if spread > 0 else 0.0
        if gain > max(best[2], least):
            slope = vt.T @ (s / (s**2 + penalty) * (u.T @ (y - level)))
            left_out = features @ slope + level - mean @ slope
            left_out[known] = y - error
            best = slope, float(level - mean @ slope), float(gain), float(shrink.sum()), left_out
    return best
