"""The Kaggle "Sleep Health and Lifestyle" table: one row a person, usual levels and no days.

The file in circulation is not of real people (132 distinct rows of 374). Its format is read so that a table of the same
make can be used; the weeks are simulated around the reported levels (``generators.sources.around``).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from core.signals import DAYS, DEFAULT_SIGNALS
from generators.sources.around import note_simulated, same_person, simulated_weeks
from generators.sources.checks import numbers, read_csv, require_columns, require_distinct
from generators.sources.reference import Population
from generators.sources.rows import holds
from generators.sources.tables import typed

_PRESSURE = (30.0, 300.0)  # mmHg
_MEASURED = {"age": (0.0, 120.0, "years"), "physical_activity": (0.0, 1440.0, "minutes a day")}


@dataclass(frozen=True)
class SleepHealthSettings(Population):
    """Sleep health and lifestyle (``data=sleep_health data.path=...``); the rest is the reference population's."""

    kind: Literal["sleep_health"]
    path: str  # the CSV file
    separator: str  # between columns
    decimal: Literal[".", ","]  # decimal sign
    levels: dict[str, str]  # default signal -> column with the person's usual level
    profile_columns: dict[
        str, str
    ]  # column -> the profile's name for it; all others, the person's id too, are left out
    recode: dict[str, dict[str, str]]  # profile column -> spelling in the file -> level
    blood_pressure: str | None  # column such as 126/83, read as systolic and diastolic; null: there is none


def read_sleep_health(settings: SleepHealthSettings, rng: np.random.Generator, tracker: Tracker) -> Cohort:
    """One simulated week for each row; equal rows are one person.

    Raises:
        DataError: a file or column is missing, or a value is no number or out of range.
    """
    s = settings
    pressure = [] if s.blood_pressure is None else [s.blood_pressure]
    table = read_csv(s.path, s.separator, s.decimal)
    require_distinct(s.profile_columns.values(), "data.profile_columns")
    require_columns(table, [*s.levels.values(), *s.profile_columns, *pressure], s.path)
    levels = pd.DataFrame({signal.name: _level(s, table, signal.name, tracker) for signal in DEFAULT_SIGNALS})
    for column, name in s.profile_columns.items():
        if name in _MEASURED:  # the weeks are drawn given it: a number, or missing
            known = np.isfinite(numbers(table, column, *_MEASURED[name], s.path))
            table[column] = table[column].where(known)
    profiles = typed(table[list(s.profile_columns)], s.path, tracker).rename(columns=s.profile_columns)
    for column, spelling in s.recode.items():
        if column not in profiles:
            raise DataError(
                f"data.recode names '{column}', expected one of the profile's columns {', '.join(map(str, profiles))}; "
                f"remove it with '~data.recode.{column}', or add the column to data.profile_columns"
            )
        profiles[column] = profiles[column].replace(spelling)
    for column in pressure:
        profiles = profiles.assign(**_pressure(table, column, s.path))
    profiles = profiles.reset_index(drop=True)

    person = same_person(pd.concat([profiles, levels], axis=1), s.path, tracker)
    first = np.unique(person, return_index=True)[1]
    note_simulated(s.path, tracker)
    unknown = np.full((len(first), 3), np.nan)
    weeks = simulated_weeks(s, _traits(profiles.iloc[first]), unknown, levels.to_numpy()[first], person, rng)
    return Cohort(profiles, weeks, np.ones(weeks.shape, bool), person, DEFAULT_SIGNALS)


def _level(s: SleepHealthSettings, table: pd.DataFrame, name: str, tracker: Tracker) -> np.ndarray:
    """The reported level of a signal, NaN where the table does not tell."""
    if name not in s.levels:
        tracker.note(f"{s.path}: no column for the level of {name}; it is drawn given the other levels")
        return np.full(len(table), np.nan)
    signal = next(signal for signal in DEFAULT_SIGNALS if signal.name == name)
    values = numbers(table, s.levels[name], signal.low, signal.high, signal.unit, s.path)
    missing = int(np.isnan(values).sum())
    if missing:
        tracker.note(
            f"{s.path}: column '{s.levels[name]}' lacks {missing} of {len(values)} persons, drawn given their other levels"
        )
    return values


def _pressure(table: pd.DataFrame, column: str, path: str) -> dict[str, np.ndarray]:
    """``126/83`` as two numbers; missing where the cell is empty."""
    parts = table[column].str.strip().str.extract(r"^(\d+)\s*/\s*(\d+)$").astype(float)
    known = table[column].notna().to_numpy()
    bad = known & ~parts.apply(lambda part: part.between(*_PRESSURE)).all(axis=1).to_numpy()
    if bad.any():
        raise DataError(
            f"{path}: {holds(table, column, bad)}, expected systolic/diastolic in mmHg such as 126/83; correct it or set "
            "data.blood_pressure=null"
        )
    return {"systolic": parts[0].to_numpy(), "diastolic": parts[1].to_numpy()}


def _traits(profiles: pd.DataFrame) -> pd.DataFrame:
    """What the reference population knows by the same name; its activity is counted a week, the table's a day."""
    known = [column for column in ("age", "gender", "physical_activity", "sleep_disorder") if column in profiles]
    traits = profiles[known].reset_index(drop=True)
    return (
        traits.assign(physical_activity=traits["physical_activity"] * DAYS) if "physical_activity" in known else traits
    )
