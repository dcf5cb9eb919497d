"""The synthetic cohort as two tables, persons and their days, and the dictionary that explains every column."""

from typing import Any

import numpy as np
import pandas as pd

from core.cohort import RISK_CLASSES, Cohort, numeric_columns
from core.signals import DAYS, WEEKDAYS
from pipeline.scores_file import FORMULA

PERSONS, PERSON_DAYS = "persons", "days"
ID = "synthetic_{:06d}"  # a number of its own: no identifier of a source is in it
DICTIONARY = ["table", "column", "type", "unit", "low", "high", "values", "meaning"]


OWN = {PERSONS: ("person", "risk"), PERSON_DAYS: ("person", "day", "weekday")}  # columns that are not the cohort's


def free(column: str, table: str) -> str:
    """A column's name in ``table``, where the table has a column of that name already another one."""
    return f"source_{column}" if column in OWN[table] else column


def harmless(text: str) -> str:
    """A column's name that a spreadsheet does not run as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def person_ids(cohort: Cohort) -> np.ndarray:
    """New names of the synthetic persons, ``[N]``, by their row."""
    return np.array([ID.format(row + 1) for row in range(len(cohort))], object)


def persons_table(cohort: Cohort) -> pd.DataFrame:
    """A row a person: new id, profile, and the risk class of the label."""
    table = cohort.profiles.rename(columns=lambda name: free(str(name), PERSONS))
    table.insert(0, "person", person_ids(cohort))
    if cohort.risk is not None:
        table["risk"] = np.array(RISK_CLASSES, object)[cohort.risk]
    return table


def days_table(cohort: Cohort) -> pd.DataFrame:
    """A row a person and day, the signals in their units; empty where the synthetic person missed the day."""
    n = len(cohort)
    table = pd.DataFrame(
        {
            "person": np.repeat(person_ids(cohort), DAYS),
            "day": np.tile(np.arange(1, DAYS + 1), n),
            "weekday": np.tile(np.array(WEEKDAYS, object), n),
        }
    )
    seen = np.where(cohort.mask, cohort.rhythms.astype(float), np.nan).reshape(n * DAYS, -1)
    for k, signal in enumerate(cohort.signals):
        table[free(signal.name, PERSON_DAYS)] = seen[:, k].round(2)
    return table


def dictionary(cohort: Cohort) -> pd.DataFrame:
    """A row a column of either table: type, unit, range or values, and what it means."""
    rows: list[dict[str, Any]] = [
        _row(PERSONS, "person", "text", meaning="synthetic person; the same in both tables, unknown to any source")
    ]
    numbers = numeric_columns(cohort.profiles)
    for column in map(str, cohort.profiles):
        values = cohort.profiles[column]
        if column in numbers:
            kind = "integer" if pd.api.types.is_integer_dtype(values) else "number"
            found = {"low": values.min(), "high": values.max(), "meaning": "profile, range as found in this cohort"}
        else:
            kind, found = "text", {"values": " | ".join(sorted(map(str, values.unique()))), "meaning": "profile"}
        rows.append(_row(PERSONS, free(column, PERSONS), kind, **found))
    if cohort.risk is not None:
        rows.append(
            _row(PERSONS, "risk", "text", values=" | ".join(RISK_CLASSES), meaning="risk class by the run's label")
        )
    rows += [
        _row(PERSON_DAYS, "person", "text", meaning="as in persons"),
        _row(PERSON_DAYS, "day", "integer", low=1, high=DAYS, meaning="day of the one synthetic week, 1 is Monday"),
        _row(PERSON_DAYS, "weekday", "text", values=" | ".join(WEEKDAYS), meaning="the same in words"),
    ]
    for signal in cohort.signals:
        better = "higher" if signal.better > 0 else "lower"
        rows.append(_row(PERSON_DAYS, signal.name, "number", unit=signal.unit, low=signal.low, high=signal.high,
                         meaning=f"daily signal, plausible range, {better} is healthier; empty: day missed"))  # fmt: skip
    return pd.DataFrame(rows, columns=DICTIONARY).fillna({"unit": "", "values": ""})


def _row(table: str, column: str, kind: str, **found: Any) -> dict[str, Any]:
    return {"table": table, "column": column, "type": kind, **found}
