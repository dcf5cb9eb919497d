"""Train and hold-out persons: the weeks of one person never stand on both sides."""

import numpy as np

from core.cohort import Cohort
from core.errors import DataError


def split_persons(cohort: Cohort, fraction: float, rng: np.random.Generator) -> tuple[Cohort, Cohort]:
    """``(train, holdout)`` with ``fraction`` of the persons (rounded, at least one on either side) held out.

    Raises:
        DataError: fewer than two persons.
    """
    people = np.unique(cohort.person)
    if len(people) < 2:
        raise DataError(f"cannot split {len(people)} person(s) into training and hold-out; bring more persons")
    count = int(np.clip(round(fraction * len(people)), 1, len(people) - 1))
    held = np.isin(cohort.person, rng.permutation(people)[:count])
    return cohort.select(~held), cohort.select(held)
