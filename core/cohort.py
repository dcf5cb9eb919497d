"""A cohort: profiles and one week of rhythms per row, with what was observed and the risk label."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from core.errors import DataError
from core.signals import DAYS, Signals, names

RISK_CLASSES = ("Low", "Medium", "High")
MIN_PERSONS = 20
DASS_COLUMNS = ("dass_depression", "dass_anxiety", "dass_stress")


@dataclass(frozen=True)
class Cohort:
    """N weeks of people.

    Attributes:
        profiles: DataFrame of N rows with a RangeIndex; numeric columns are float or int, all others are strings.
            Nothing is missing: a source says how it filled what was.
        rhythms: float32 ``[N, 7, C]`` in physical units, day 0 = Monday; filled where ``mask`` is False.
        mask: bool ``[N, 7, C]``, True where the value was observed.
        person: int64 ``[N]``; rows of one person (several weeks) share it. Always split by person.
        signals: the C signals.
        risk: int8 ``[N]`` 0/1/2 (Low/Medium/High), or None before labelling.
    """

    profiles: pd.DataFrame
    rhythms: np.ndarray
    mask: np.ndarray
    person: np.ndarray
    signals: Signals
    risk: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, c = len(self.profiles), len(self.signals)
        for name, array, shape in (
            ("rhythms", self.rhythms, (n, DAYS, c)),
            ("mask", self.mask, (n, DAYS, c)),
            ("person", self.person, (n,)),
        ):
            if array.shape != shape:
                raise DataError(f"cohort: {name} has shape {array.shape}, expected {shape} for {n} profiles")
        if self.risk is not None and self.risk.shape != (n,):
            raise DataError(f"cohort: risk has shape {self.risk.shape}, expected {(n,)}")

    def __len__(self) -> int:
        return len(self.profiles)

    @property
    def persons(self) -> int:
        """How many different persons."""
        return len(np.unique(self.person))

    def select(self, rows: np.ndarray) -> "Cohort":
        """The cohort of these rows (indices or a boolean mask), in this order."""
        return Cohort(
            self.profiles.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows].reset_index(drop=True),
            self.rhythms[rows],
            self.mask[rows],
            self.person[rows],
            self.signals,
            None if self.risk is None else self.risk[rows],
        )

    def with_risk(self, risk: np.ndarray) -> "Cohort":
        return replace(self, risk=risk.astype(np.int8))


def numeric_columns(profiles: pd.DataFrame) -> list[str]:
    return [str(column) for column in profiles if pd.api.types.is_numeric_dtype(profiles[column])]


def categorical_columns(profiles: pd.DataFrame) -> list[str]:
    return [str(column) for column in profiles if not pd.api.types.is_numeric_dtype(profiles[column])]


def validate(cohort: Cohort, source: str, least: int = MIN_PERSONS) -> None:
    """Refuse a cohort that nothing can be learned from; ``source`` names the input in the message.

    Raises:
        DataError: fewer than ``least`` persons, a non-finite or out-of-range value, or a missing profile value.
    """
    if cohort.persons < least:
        raise DataError(
            f"{source}: {cohort.persons} persons with a usable week, expected at least {least}; bring more persons"
        )
    for k, signal in enumerate(cohort.signals):
        values = cohort.rhythms[:, :, k]
        bad = ~np.isfinite(values) | (values < signal.low) | (values > signal.high)
        if bad.any():
            row, day = np.argwhere(bad)[0]
            raise DataError(
                f"{source}: signal '{signal.name}' is {values[row, day]:g} at row {row}, day {day} ({int(bad.sum())} bad values), "
                f"expected {signal.low:g} to {signal.high:g} {signal.unit}; correct the table or the signal's range"
            )
    missing = cohort.profiles.columns[cohort.profiles.isna().any()]
    if len(missing):
        raise DataError(f"{source}: profile column '{missing[0]}' has missing values; fill them or drop the column")


def require_classes(cohort: Cohort, source: str) -> None:
    """Refuse a labelled cohort in which a risk class is absent."""
    assert cohort.risk is not None, "label the cohort first"
    counts = np.bincount(cohort.risk, minlength=len(RISK_CLASSES))
    if (counts == 0).any():
        absent = RISK_CLASSES[int(np.argmin(counts))]
        found = ", ".join(f"{name} {count}" for name, count in zip(RISK_CLASSES, counts, strict=True))
        raise DataError(
            f"{source}: no person has the risk class '{absent}' (found {found}); choose other labels= or bring more persons"
        )


def signal_index(cohort: Cohort, name: str) -> int | None:
    """Position of a signal, or None where this cohort does not measure it."""
    found = names(cohort.signals)
    return found.index(name) if name in found else None
