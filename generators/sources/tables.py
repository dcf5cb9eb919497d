"""The user's own tables: a long daily CSV (one row per person and day) and a profile CSV (one row per person).

Column names are mapped in the configuration (``data=csv``); nothing is guessed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Le, MinLen

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from core.signals import Signal
from generators.sources.checks import (
    AMBIGUOUS,
    calendar_days,
    numbers,
    read_csv,
    require_columns,
    require_distinct,
    require_values,
)
from generators.sources.rows import holds, lines
from generators.sources.weeks import Weeks, calendar_weeks

UNKNOWN = "unknown"
_FEW_DISTINCT = 0.5
_MOSTLY_NUMERIC = 0.9  # a profile column with more numbers than this holds a typing error rather than text
_MANY_NUMBERS = 20  # and one with more different numbers than this is no list of categories
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
    convert: Mapping[str, str] | None = None  # column -> the unit it is written in; None where that cannot be said


@dataclass(frozen=True)
class TableSettings:
    """Two plain CSV files (``data=csv``)."""

    kind: Literal["csv"]
    daily: str  # path of the daily table
    profiles: str  # path of the profile table
    separator: str  # between columns, of both files
    decimal: Literal[".", ","]  # decimal sign of both files; with "," points may stand between thousands
    person: str  # column that identifies a person, in both files
    date: str  # column of the calendar day
    date_format: str  # "ISO8601" or a strptime format such as "%d.%m.%Y"
    signals: SignalColumns
    profile_columns: tuple[str, ...]  # columns to use; empty: all but the person's
    label: str | None  # profile column with the risk label (labels=column), kept as text
    max_filled: MaxFilled  # missing days to fill, per signal and week
    convert: dict[str, str] | None = None  # signal column -> the unit it is written in, where that is another


def read_tables(settings: TableSettings, tracker: Tracker) -> Cohort:
    """The cohort of two CSV files; one row per usable calendar week.

    Raises:
        DataError: what is wrong, in which file, column and line, and what was expected.
    """
    s = settings
    daily, static = (read_csv(path, s.separator, s.decimal) for path in (s.daily, s.profiles))
    wanted = [*s.profile_columns] or [str(column) for column in static if column != s.person]
    if s.label is not None and s.label not in wanted:
        wanted.append(s.label)
    require_columns(static, [s.person, *wanted], s.profiles)
    where = DailyColumns(s.person, s.date, s.date_format, s.signals, s.convert or {})
    weeks, people = read_weeks(daily, s.daily, where, s.max_filled, tracker)
    table = profiles_of(static, s.profiles, s.person, people, wanted, tracker)
    if s.label is not None:
        require_values(table, s.label, s.profiles)
    text = () if s.label is None else (s.label,)
    return assemble(typed(table, s.profiles, tracker, text), weeks, s.signals)


def read_weeks(
    daily: pd.DataFrame, path: str, where: DailyColumns, max_filled: int, tracker: Tracker
) -> tuple[Weeks, list[str]]:
    """The usable weeks of a checked daily table, and the persons they belong to (code i is the i-th)."""
    require_distinct((c.name for c in where.signals), "data.signals")
    require_columns(daily, [where.person, where.date, *(c.column for c in where.signals)], path)
    require_values(daily, where.person, path)
    days = calendar_days(daily, where.date, where.date_format, path)
    refuse_two_rows_a_day(daily, where.person, days, path)
    check_convert(where.convert or {}, (c.column for c in where.signals))
    columns = [numbers(daily, c.column, c.low, c.high, c.unit, path, convert=where.convert) for c in where.signals]
    values = np.stack(columns, axis=1)
    codes, everybody = pd.factorize(daily[where.person])
    weeks = calendar_weeks(codes.astype(np.int64), days, values, max_filled)
    kept, person = np.unique(weeks.person, return_inverse=True)
    filled = 1 - weeks.mask.mean() if len(kept) else 0.0
    tracker.note(
        f"{path}: {len(weeks.person)} calendar weeks of {len(kept)} persons (of {len(everybody)}) miss at most "
        f"{max_filled} days a signal; {filled:.1%} of their values were filled"
    )
    people = [str(everybody[code]) for code in kept]
    return Weeks(weeks.rhythms, weeks.mask, person.reshape(-1).astype(np.int64)), people


def check_convert(convert: Mapping[str, str], columns: Iterable[str], section: str = "data") -> None:
    """Refuse a conversion of a column that holds no signal."""
    known = list(columns)
    for column in convert:
        if column not in known:
            raise DataError(
                f"{section}.convert: '{column}' is no signal's column, expected one of {', '.join(known)}; correct it"
            )


def refuse_two_rows_a_day(daily: pd.DataFrame, person: str, days: np.ndarray, path: str) -> None:
    """Refuse a daily table with two rows of a person for one of ``days`` ``[R]``."""
    twice = pd.DataFrame({"person": daily[person].to_numpy(), "day": days}).duplicated().to_numpy()
    if twice.any():
        raise DataError(
            f"{path}: a person has two rows for one day, the second at {lines(daily, twice)}, the first of them for "
            f"{days[int(twice.argmax())]}; expected one row per person and day; merge them"
        )


def profiles_of(
    static: pd.DataFrame, path: str, person: str, people: list[str], columns: Iterable[str], tracker: Tracker
) -> pd.DataFrame:
    """These columns of these persons, in this order; the index still tells the file's line."""
    wanted = list(columns)
    require_distinct(wanted, "data.profile_columns")
    if person in wanted:
        raise DataError(
            f"{path}: column '{person}' says who a person is, not what they are like; leave it out of data.profile_columns"
        )
    require_values(static, person, path)
    twice = static[person].duplicated().to_numpy()
    if twice.any():
        raise DataError(f"{path}: a person stands twice, again at {lines(static, twice)}; keep one row per person")
    row_of = pd.Series(static.index, index=static[person])
    absent = sum(name not in row_of.index for name in people)
    if absent:
        raise DataError(
            f"{path}: {absent} of {len(people)} persons have days but no profile; compare column '{person}' of both "
            "tables and add their rows"
        )
    table = static.loc[row_of[people].to_list(), wanted]
    note_copies(table, path, tracker)
    return table


def note_copies(table: pd.DataFrame, path: str, tracker: Tracker) -> None:
    """Say how many rows differ where fewer than half do."""
    distinct = len(table.drop_duplicates())
    if distinct < _FEW_DISTINCT * len(table):
        tracker.note(f"{path}: only {distinct} distinct rows of {len(table)} in the profile columns")


def typed(table: pd.DataFrame, path: str, tracker: Tracker, text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Columns of numbers become numeric, NaN where missing; missing text becomes ``unknown``.

    Missing numbers stay missing until the persons are split (``fill_missing``). ``text`` columns stay as they are.
    """
    result = table.copy()
    for column in table.columns.difference(list(text), sort=False):
        cells = table[column]
        if cells.isna().all() and len(cells):
            raise DataError(
                f"{path}: column '{column}' is empty for everybody used; leave it out of the profile columns"
            )
        present = cells.notna() & ~cells.isin(AMBIGUOUS)
        parsed = pd.to_numeric(cells.where(present), errors="coerce")
        count, known = int(parsed.notna().sum()), int(present.sum())
        if count and count == known:
            result[column] = finite(parsed, table, path)
        elif count > _MOSTLY_NUMERIC * known or parsed.nunique() > _MANY_NUMBERS:
            bad = (present & parsed.isna()).to_numpy()
            raise DataError(
                f"{path}: {holds(table, str(column), bad)} among numbers; write numbers, or leave the column out of "
                "data.profile_columns"
            )
        else:
            result[column] = _levels(cells, path, tracker)
    return result


def finite(values: pd.Series, table: pd.DataFrame, path: str) -> pd.Series:
    """``values``, parsed from the column of ``table`` with their name, refused where one is infinite."""
    endless = np.isinf(values.to_numpy(float))
    if endless.any():
        raise DataError(
            f"{path}: {holds(table, str(values.name), endless)}, expected a finite number; correct it or leave the cell empty"
        )
    return values


def _levels(cells: pd.Series, path: str, tracker: Tracker) -> pd.Series:
    """Text with nothing missing; what might have meant "missing" is kept as written, and said."""
    for word in AMBIGUOUS:
        count = int((cells == word).sum())
        if count:
            tracker.note(
                f"{path}: column '{cells.name}' holds '{word}' for {count} persons, kept as a level of its own"
            )
    missing = int(cells.isna().sum())
    if missing:
        tracker.note(f"{path}: column '{cells.name}' lacks {missing} of {len(cells)} persons, filled with {UNKNOWN}")
    return cells.fillna(UNKNOWN)


def assemble(profiles: pd.DataFrame, weeks: Weeks, signals: Iterable[SignalColumn]) -> Cohort:
    """One row per week; row i of ``profiles`` is the person with code i."""
    table = profiles.iloc[weeks.person].reset_index(drop=True)
    return Cohort(table, weeks.rhythms, weeks.mask, weeks.person, tuple(c.signal for c in signals))
