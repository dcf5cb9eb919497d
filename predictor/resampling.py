"""What the next sample of persons might have shown: the bootstrap by person, all resamples at once.

A resample is how often it drew each person. Counts, means and calibration errors are then sums weighted by person,
and a single matrix product gives them for every resample (Efron & Tibshirani 1993, An Introduction to the Bootstrap).
Two statistics of one bootstrap rest on the same draws, so that their differences are paired.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bootstrap:
    """The sample itself, and resamples of its persons with all their rows.

    A statistic becomes an array ``[1 + R]``: its value in the sample, then in each of R resamples.

    Attributes:
        weights: float64 ``[1 + R, P]``: how often each person counts, once each in the first row.
        person: int64 ``[N]``: which of the P persons each row belongs to.
    """

    weights: np.ndarray
    person: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of ``[N, K]``: ``[1 + R, K]``."""
        return self.weights @ self.by_person(values)

    def by_person(self, values: np.ndarray) -> np.ndarray:
        """Each person's sum over their rows: ``[N, K]`` -> ``[P, K]``."""
        p, k = self.weights.shape[1], values.shape[1]
        cell = self.person[:, None] * k + np.arange(k)
        return np.bincount(cell.ravel(), values.astype(float).ravel(), p * k).reshape(p, k)

    def select(self, rows: np.ndarray) -> "Bootstrap":
        """The same resamples, seen through some of the rows (indices or a boolean mask)."""
        return Bootstrap(self.weights, self.person[rows])


def sample_alone(n: int) -> Bootstrap:
    """N rows of as many persons, without resamples: for a statistic's value alone."""
    return Bootstrap(np.ones((1, n)), np.arange(n))


def resample_persons(person: np.ndarray, resamples: int, rng: np.random.Generator) -> Bootstrap:
    """``resamples`` samples of as many persons as there are, drawn with replacement; ``person`` ``[N]`` names each row's."""
    persons, index = np.unique(person, return_inverse=True)
    p = len(persons)
    drawn = rng.integers(p, size=(resamples, p)) + p * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * p).reshape(resamples, p)
    return Bootstrap(np.concatenate([np.ones((1, p)), counts]), index)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where there is no case."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def value(draws: np.ndarray) -> float | None:
    """The statistic in the sample itself; None where it is undefined."""
    return None if np.isnan(draws[0]) else float(draws[0])


def interval(draws: np.ndarray) -> list[float] | None:
    """95 % percentile interval; a resample in which the statistic is undefined says nothing. None if that is so in all."""
    defined = draws[1:][~np.isnan(draws[1:])]
    if np.isnan(draws[0]) or not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return [float(low), float(high)]


def with_interval(draws: np.ndarray) -> list[float] | None:
    """``[value, low, high]``; None where the statistic is undefined."""
    found, bounds = value(draws), interval(draws)
    return None if found is None or bounds is None else [found, *bounds]
