"""Train and hold-out persons: the weeks of one person never stand on both sides, nor does a fill look across."""

from dataclasses import replace

import numpy as np

from core.cohort import Cohort, numeric_columns
from core.errors import DataError
from core.protocols import Tracker


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


def fill_missing(train: Cohort, holdout: Cohort, tracker: Tracker) -> tuple[Cohort, Cohort]:
    """Both with missing profile numbers filled by the median of the training persons' rows, and said.

    Raises:
        DataError: no training person has the number.
    """
    fill = {}
    for column in numeric_columns(train.profiles):
        lacking = int(train.profiles[column].isna().sum()) + int(holdout.profiles[column].isna().sum())
        if not lacking:
            continue
        if train.profiles[column].isna().all():
            raise DataError(f"profile column '{column}' is empty for every training person; leave it out")
        fill[column] = train.profiles[column].median()
        tracker.note(
            f"profile column '{column}' lacks {lacking} of {len(train) + len(holdout)} rows, "
            f"filled with {fill[column]:g} (the median of the training persons)"
        )
    if not fill:
        return train, holdout
    return (
        replace(train, profiles=train.profiles.fillna(fill)),
        replace(holdout, profiles=holdout.profiles.fillna(fill)),
    )
