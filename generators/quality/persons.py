"""Each person counts once: weeks of one person are no independent rows."""

import numpy as np

from core.cohort import Cohort


def one_week_each(cohort: Cohort, rng: np.random.Generator, persons: int | None = None) -> Cohort:
    """One random week of each of ``persons`` random persons (everybody without it), in random order.

    Where persons have several weeks, a two-sample test on all of them could recognise people instead of judging rows.
    """
    order = rng.permutation(len(cohort))
    _, first = np.unique(cohort.person[order], return_index=True)
    return cohort.select(rng.permutation(order[first])[:persons])


def set_apart(cohort: Cohort, rng: np.random.Generator, persons: int) -> tuple[Cohort, Cohort]:
    """``persons`` random persons with all their weeks, and the rest with theirs."""
    chosen = rng.permutation(np.unique(cohort.person))[:persons]
    rows = np.isin(cohort.person, chosen)
    return cohort.select(rows), cohort.select(~rows)
