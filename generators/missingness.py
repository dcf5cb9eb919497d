"""Days that were not observed, as they are missing among real people.

Missing days come together: a watch left at home costs sleep and heart rate on the same days, weekends differ, and some
people miss far more than others. All of that is in the masks of real weeks, so they are the model: a person is given the
mask of a training person's week, persons first and then one of that person's weeks, so that nobody counts by how many
weeks they brought.
"""

from dataclasses import dataclass

import numpy as np

from core.cohort import Cohort
from core.signals import DAYS


@dataclass(frozen=True)
class Missingness:
    """Masks ``[M, 7, C]`` (bool, True where observed) of training weeks, and whose they are: ``person [M]``."""

    masks: np.ndarray
    person: np.ndarray

    @classmethod
    def fit(cls, cohort: Cohort) -> "Missingness":
        return cls(cohort.mask, np.unique(cohort.person, return_inverse=True)[1])

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """bool ``[n, 7, C]``."""
        order = np.argsort(self.person, kind="stable")
        counts = np.bincount(self.person)
        first = np.cumsum(counts) - counts
        who = rng.integers(len(counts), size=n)
        return self.masks[order[first[who] + rng.integers(counts[who])]]


def fill(weeks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weeks ``[N, 7, C]`` with what ``mask`` hides interpolated between the week's observed days, as the sources do.

    The value of the nearest observed day is held at either end; a signal without an observed day keeps its values.
    """
    filled = weeks.copy()
    for row, k in np.argwhere(~mask.all(1) & mask.any(1)):
        seen = np.flatnonzero(mask[row, :, k])
        filled[row, :, k] = np.interp(np.arange(DAYS), seen, weeks[row, seen, k])
    return filled
