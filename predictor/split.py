"""Persons to fit on and persons to validate on."""

import numpy as np

from core.cohort import RISK_CLASSES, Cohort
from core.errors import DataError


def split_by_person(cohort: Cohort, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows to validate on (about ``share`` of the persons), stratified; no person in both.

    A person with several weeks counts in the rarest class they have.

    Raises:
        DataError: a class has fewer than two persons, or ends up on one side only.
    """
    assert cohort.risk is not None, "label the cohort first"
    persons, index = np.unique(cohort.person, return_inverse=True)
    has = np.zeros((len(persons), len(RISK_CLASSES)), bool)
    has[index, cohort.risk] = True
    counts = has.sum(0)
    found = ", ".join(f"{name} {count}" for name, count in zip(RISK_CLASSES, counts, strict=True))
    if counts.min() < 2:
        name = RISK_CLASSES[int(counts.argmin())]
        raise DataError(
            f"risk: class '{name}' has {counts.min()} persons (found {found}), expected at least 2; "
            "choose other labels= or bring more persons"
        )
    rarest = np.where(has, counts, len(persons) + 1).argmin(1)
    held = np.zeros(len(persons), bool)
    for k in np.unique(rarest):
        members = rng.permutation(np.flatnonzero(rarest == k))
        held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    validation = held[index]
    for side, rows in (("fit", ~validation), ("validation", validation)):
        absent = set(range(len(RISK_CLASSES))) - set(cohort.risk[rows].tolist())
        if absent:
            raise DataError(
                f"risk: no {side} person has class '{RISK_CLASSES[min(absent)]}' after the split (persons: {found}); "
                "bring more persons or raise risk.validation_share"
            )
    return np.flatnonzero(~validation), np.flatnonzero(validation)
