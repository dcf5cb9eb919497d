"""From a long daily table to weeks: Monday to Sunday, at most a few filled days, never across a week's edge."""

from dataclasses import dataclass

import numpy as np

from core.signals import DAYS

_MONDAY = np.datetime64("1970-01-05", "D")


@dataclass(frozen=True)
class Weeks:
    """M complete calendar weeks.

    Attributes:
        rhythms: float32 ``[M, 7, C]``, filled where ``mask`` is False.
        mask: bool ``[M, 7, C]``, True where observed.
        person: int64 ``[M]``, the person codes given.
    """

    rhythms: np.ndarray
    mask: np.ndarray
    person: np.ndarray


def calendar_weeks(person: np.ndarray, date: np.ndarray, values: np.ndarray, max_filled: int) -> Weeks:
    """Every Monday-to-Sunday week in which each signal misses at most ``max_filled`` days.

    Missing days are interpolated linearly between their week's observed days; before the first and after the last
    observed day that value is held. A day without a row counts as missing.

    Args:
        person: int64 ``[R]`` codes; ``date``: datetime64 ``[R]``, one row a person and day.
        values: float ``[R, C]``, NaN where missing.
        max_filled: 0 to 6, for every signal and week.
    """
    codes, _, days = week_grid(person, date, values)
    usable = (np.isnan(days).sum(axis=1) <= max_filled).all(axis=1)
    rhythms, mask = interpolated(days[usable])
    return Weeks(rhythms, mask, codes[usable])


def week_grid(person: np.ndarray, date: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every calendar week with a row, by person and date; arguments as :func:`calendar_weeks`.

    Returns:
        The person int64 ``[M]``, the Monday datetime64[D] ``[M]`` and the days float ``[M, 7, C]``, NaN where missing.
    """
    since = (date.astype("datetime64[D]") - _MONDAY).astype(np.int64)
    week, day = since // DAYS, since % DAYS
    keys, row = np.unique(np.stack([person, week], axis=1), axis=0, return_inverse=True)
    days = np.full((len(keys), DAYS, values.shape[1]), np.nan)
    days[row.reshape(-1), day] = values
    return keys[:, 0].astype(np.int64), _MONDAY + keys[:, 1] * DAYS, days


def interpolated(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days ``[M, 7, C]`` with every signal observed at least once -> float32 ``[M, 7, C]`` filled, and what was observed."""
    result, mask = days.copy(), ~np.isnan(days)
    for m, k in np.argwhere(~mask.all(axis=1)):
        seen = np.flatnonzero(mask[m, :, k])
        result[m, :, k] = np.interp(np.arange(DAYS), seen, result[m, seen, k])
    return result.astype(np.float32), mask
