"""The user's own tables: a long daily CSV (one row per person and day) and a profile CSV (one row per person).

Column names are mapped in the configuration (``data=csv``); nothing is guessed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Le, MinLen

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from core.signals import Signal
from generators.sources.checks import calendar_days, line_of, numbers, read_csv, require_columns, require_values
from generators.sources.weeks import Weeks, calendar_weeks

UNKNOWN = "unknown"
_MOSTLY_NUMERIC = 0.9  # a profile column with more numbers than this holds a typing error rather than text
MaxFilled = Annotated[int, Ge(0), Le(6)]


@dataclass(frozen=True)
class SignalColumn:
    """A column of the daily table and the signal it measures."""

    column: str  # in the daily table
    name: str  # what the project calls it
    unit: str
    low: float  # plausible range, in unit
    high: float
    better: Literal[-1, 1]  # +1 where higher is healthier

    @property
    def signal(self) -> Signal:
        return Signal(self.name, self.unit, self.low, self.high, self.better)


SignalColumns = Annotated[tuple[SignalColumn, ...], MinLen(1)]


@dataclass(frozen=True)
class DailyColumns:
    """Where a daily table keeps what."""

    person: str
    date: str
    date_format: str
    signals: tuple[SignalColumn, ...]


@dataclass(frozen=True)
class TableSettings:
    """Two plain CSV files (``data=csv``)."""

    kind: Literal["csv"]
    daily: str  # path of the daily table
    profiles: str  # path of the profile table
    separator: str  # between columns, of both files
    person: str  # column that identifies a person, in both files
    date: str  # column of the calendar day
    date_format: str  # "ISO8601" or a strptime format such as "%d.%m.%Y"
    signals: SignalColumns
    profile_columns: tuple[str, ...]  # columns to use; empty: all but the person's
    label: str | None  # profile column with the risk label (labels=column), kept as text
    max_filled: MaxFilled  # missing days to fill, per signal and week


def read_tables(settings: TableSettings, tracker: Tracker) -> Cohort:
    """The cohort of two CSV files; one row per usable calendar week.

    Raises:
        DataError: what is wrong, in which file, column and line, and what was expected.
    """
    s = settings
    daily, static = read_csv(s.daily, s.separator), read_csv(s.profiles, s.separator)
    wanted = [*s.profile_columns] or [str(column) for column in static if column != s.person]
    if s.label is not None and s.label not in wanted:
        wanted.append(s.label)
    require_columns(static, [s.person, *wanted], s.profiles)
    where = DailyColumns(s.person, s.date, s.date_format, s.signals)
    weeks, people = read_weeks(daily, s.daily, where, s.max_filled, tracker)
    table = profiles_of(static, s.profiles, s.person, people)[wanted]
    if s.label is not None:
        require_values(table, s.label, s.profiles)
    text = () if s.label is None else (s.label,)
    return assemble(complete(typed(table, s.profiles, text), s.profiles, tracker), weeks, s.signals)


def read_weeks(
    daily: pd.DataFrame, path: str, where: DailyColumns, max_filled: int, tracker: Tracker
) -> tuple[Weeks, list[str]]:
    """The usable weeks of a checked daily table, and the persons they belong to (code i is the i-th)."""
    require_columns(daily, [where.person, where.date, *(c.column for c in where.signals)], path)
    require_values(daily, where.person, path)
    days = calendar_days(daily, where.date, where.date_format, path)
    twice = pd.DataFrame({"person": daily[where.person].to_numpy(), "day": days}).duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise DataError(
            f"{path}: person '{daily[where.person].iloc[row]}' has two rows for {days[row]} (the second at line "
            f"{line_of(daily, row)}; {int(twice.sum())} such lines), expected one row per person and day; merge them"
        )
    values = np.stack([numbers(daily, c.column, c.low, c.high, c.unit, path) for c in where.signals], axis=1)
    codes, everybody = pd.factorize(daily[where.person])
    weeks = calendar_weeks(codes.astype(np.int64), days, values, max_filled)
    kept, person = np.unique(weeks.person, return_inverse=True)
    filled = 1 - weeks.mask.mean() if len(kept) else 0.0
    tracker.note(
        f"{path}: {len(weeks.person)} calendar weeks of {len(kept)} persons (of {len(everybody)}) miss at most "
        f"{max_filled} days a signal; {filled:.1%} of their values were filled"
    )
    people = [str(everybody[code]) for code in kept]
    return Weeks(weeks.rhythms, weeks.mask, person.reshape(-1).astype(np.int64), weeks.monday), people


def profiles_of(static: pd.DataFrame, path: str, person: str, people: list[str]) -> pd.DataFrame:
    """The profile rows of these persons, in this order; the index still tells the file's line."""
    require_values(static, person, path)
    twice = static[person].duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise DataError(
            f"{path}: person '{static[person].iloc[row]}' stands twice (again at line {line_of(static, row)}); "
            "keep one row per person"
        )
    lines = pd.Series(static.index, index=static[person])
    for name in people:
        if name not in lines.index:
            raise DataError(f"{path}: person '{name}' has days but no profile; add a row with {person}={name}")
    return static.loc[lines[people].to_list()]


def typed(table: pd.DataFrame, path: str, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Columns of numbers become numeric; ``text`` columns stay as they are."""
    result = table.copy()
    for column in table.columns.difference(list(text), sort=False):
        parsed, known = pd.to_numeric(table[column], errors="coerce"), table[column].notna()
        count = int(parsed.notna().sum())
        if count and count == int(known.sum()):
            result[column] = parsed
        elif count > _MOSTLY_NUMERIC * int(known.sum()):
            row = int((known & parsed.isna()).to_numpy().argmax())
            raise DataError(
                f"{path}: column '{column}' holds '{table[column].iloc[row]}' at line {line_of(table, row)} among numbers; "
                "write it as a number, or leave the column out of data.profile_columns"
            )
    return result


def complete(table: pd.DataFrame, path: str, tracker: Tracker) -> pd.DataFrame:
    """Fill what is missing, and say so: numbers by the median of the present, text by ``unknown``.

    The median is over all persons read, before they are split: held-out persons have a (small) part in what missing
    numbers of training persons become. It carries no label and no week, and the note says so.
    """
    result = table.copy()
    for column in table:
        missing = int(table[column].isna().sum())
        if not missing:
            continue
        if missing == len(table):
            raise DataError(
                f"{path}: column '{column}' is empty for everybody used; leave it out of the profile columns"
            )
        numeric = pd.api.types.is_numeric_dtype(table[column])
        fill = table[column].median() if numeric else UNKNOWN
        whence = " (the median of all persons read, held-out ones included)" if numeric else ""
        result[column] = table[column].fillna(fill)
        tracker.note(f"{path}: column '{column}' lacks {missing} of {len(table)} persons, filled with {fill}{whence}")
    return result


def assemble(profiles: pd.DataFrame, weeks: Weeks, signals: Iterable[SignalColumn]) -> Cohort:
    """One row per week; row i of ``profiles`` is the person with code i."""
    table = profiles.iloc[weeks.person].reset_index(drop=True)
    return Cohort(table, weeks.rhythms, weeks.mask, weeks.person, tuple(c.signal for c in signals))
