"""Reading a user's CSV with messages they can act on. Line numbers are the file's, the header being line 1.

``section`` is the part of the configuration that says how the file is read: the messages name its keys.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import DataError

ISO = "ISO8601"
_MISSING = ["", "NaN", "nan", "null", "NULL"]  # never a level
# Missing among numbers, a level of its own among text ("None" may mean no disorder, "NA" North America).
AMBIGUOUS = ("NA", "N/A", "n/a", "None")
_SEPARATORS = (";", "\t", ",", "|")
_THOUSANDS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?"  # 1.234,5 where the comma is the decimal sign
_ISO_DAY = 10  # characters of 2024-01-31; a time and zone after it do not change the calendar day
_CONVERSIONS = (  # what a column might be in, how many of those make one, and of which unit
    ("in minutes", 60.0, ("h", "hours")),
    ("in seconds", 3600.0, ("h", "hours")),
    ("in milliseconds", 3.6e6, ("h", "hours")),
    ("in beats per second", 1 / 60, ("bpm",)),
    ("in seconds", 1e-3, ("ms",)),
    ("on a 0-100 scale", 10.0, ()),
    ("on a 0-1 scale", 0.1, ()),
)


def read_csv(
    path: str, separator: str = ",", decimal: str = ".", columns: Sequence[str] = (), section: str = "data"
) -> pd.DataFrame:
    """All columns (or only ``columns``) as text, missing values as NaN; blank lines left out, the index still counts them.

    Raises:
        DataError: no such file, not a table, a column named twice, or one of ``columns`` is missing.
    """
    header = read_header(path, separator, section)
    if columns:
        require_columns(pd.DataFrame(columns=header), columns, path, section)
    expected = f"expected UTF-8 text separated by {separator!r}"
    with _readable(path, expected):
        table = pd.read_csv(path, usecols=list(columns) or None, **_as_text(separator))
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: lines hold more fields than the header; {expected}")
    table = table.dropna(how="all")
    if table.empty:
        raise DataError(f"{path}: no rows below the header; {expected}")
    return table if decimal == "." else table.apply(with_points)


def read_header(path: str, separator: str = ",", section: str = "data") -> list[str]:
    """The names of a file's columns.

    Raises:
        DataError: no such file, not a table, or a column named twice.
    """
    if not Path(path).is_file():
        key = "the path in data.*" if section == "data" else "the path"
        raise DataError(f"{path}: no such file (looked in {Path(path).absolute().parent}); correct {key}")
    with _readable(path, f"expected UTF-8 text separated by {separator!r}"):
        header = pd.read_csv(path, header=None, nrows=1, **_as_text(separator)).iloc[0]
    _check_header(header, path, separator, section)
    return [str(name) for name in header.dropna()]


def _as_text(separator: str) -> dict[str, Any]:
    """How pandas reads a table as it is written; a tab may be spelled out, as it is on a command line."""
    text: dict[str, Any] = {"sep": separator.replace("\\t", "\t"), "dtype": str, "keep_default_na": False}
    return text | {"na_values": _MISSING, "encoding": "utf-8-sig", "skip_blank_lines": False}


@contextmanager
def _readable(path: str, expected: str) -> Iterator[None]:
    try:
        yield
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable table ({reason}); {expected}") from error


def _check_header(header: pd.Series, path: str, separator: str, section: str) -> None:
    names = header.dropna()
    if names.duplicated().any():
        raise DataError(f"{path}: column '{names[names.duplicated()].iloc[0]}' stands twice in the header; rename one")
    other = [sign for sign in _SEPARATORS if sign != separator and sign in str(header.iloc[0])]
    if len(header) == 1 and other:
        raise DataError(
            f"{path}: one column '{header.iloc[0]}', expected several separated by {separator!r}; "
            f'set "{section}.separator={other[0]!r}"'
        )


def with_points(column: pd.Series) -> pd.Series:
    """Numbers written with a decimal comma (and points between thousands) in their usual spelling; text unchanged."""
    column = column.where(~column.str.fullmatch(_THOUSANDS, na=False), column.str.replace(".", "", regex=False))
    points = column.str.replace(",", ".", regex=False)
    return column.where(pd.to_numeric(points, errors="coerce").isna(), points)


def line_of(table: pd.DataFrame, row: int) -> int:
    """The file's line of the table's ``row``-th row."""
    return int(table.index[row]) + 2


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: str, section: str = "data") -> None:
    """Refuse a table without these columns, naming the nearest it has."""
    found = [str(column) for column in table]
    for column in columns:
        if column not in found:
            near = get_close_matches(column, found, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"correct the mapping in {section}.*"
            raise DataError(f"{path}: column '{column}' is missing (found {', '.join(found)}); {hint}")


def require_distinct(names: Iterable[str], setting: str) -> None:
    """Refuse a configured name that stands twice: two columns of one name cannot be told apart."""
    found = list(names)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise DataError(
            f"{setting}: '{twice[0]}' stands {found.count(twice[0])} times, expected once; remove or rename one"
        )


def require_values(table: pd.DataFrame, column: str, path: str) -> None:
    """Refuse a missing value in a column that must be complete."""
    absent = (table[column].isna() | table[column].isin(AMBIGUOUS)).to_numpy()
    if absent.any():
        row = int(absent.argmax())
        raise DataError(f"{path}: column '{column}' is empty at line {line_of(table, row)}; fill it or drop the line")


def calendar_days(table: pd.DataFrame, column: str, date_format: str, path: str, section: str = "data") -> np.ndarray:
    """datetime64[D] ``[R]`` of a complete column of dates."""
    require_values(table, column, path)
    text = table[column].str.strip()
    try:
        days = pd.to_datetime(text.str[:_ISO_DAY] if date_format == ISO else text, format=date_format, errors="coerce")
    except ValueError as error:
        raise DataError(
            f"{section}.date_format is '{date_format}' ({error}), expected {ISO} or one such as %d.%m.%Y"
        ) from error
    bad = days.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        expected = "a day such as 2024-01-31" if date_format == ISO else f"the format {date_format}"
        raise DataError(
            f"{path}: column '{column}' holds '{table[column].iloc[row]}' at line {line_of(table, row)}, expected "
            f"{expected}; correct it or set {section}.date_format"
        )
    return days.to_numpy().astype("datetime64[D]")


def numbers(
    table: pd.DataFrame, column: str, low: float, high: float, unit: str, path: str, section: str = "data"
) -> np.ndarray:
    """float64 ``[R]``, NaN where missing, all others within ``low`` to ``high``."""
    present = table[column].notna() & ~table[column].isin(AMBIGUOUS)
    values = pd.to_numeric(table[column].where(present), errors="coerce").to_numpy(float)
    text = np.isnan(values) & present.to_numpy()
    if text.any():
        row = int(text.argmax())
        cell = str(table[column].iloc[row])
        todo = f"set \"{section}.decimal=','\"" if re.fullmatch(r"[+-]?\d+,\d+", cell) else "correct it"
        raise DataError(
            f"{path}: column '{column}' holds '{cell}' at line {line_of(table, row)}, expected a number; {todo}"
        )
    outside = (values < low) | (values > high)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"{path}: column '{column}' holds {values[row]:g} at line {line_of(table, row)} ({int(outside.sum())} such "
            f"lines), expected {low:g} to {high:g} {unit}{_unit_hint(values, low, high, unit)}; correct the table"
            + (" or the range" if section == "data" else "")
        )
    return values


def _unit_hint(values: np.ndarray, low: float, high: float, unit: str) -> str:
    """Where even the median lies outside the range, the unit is probably another: name one that would fit."""
    typical = float(np.nanmedian(values))
    if low <= typical <= high:
        return ""
    known = [each for each in _CONVERSIONS if unit in each[2]] or [each for each in _CONVERSIONS if not each[2]]
    fits = [other for other, per, _ in known if low <= typical / per <= high]
    return f" (the median is {typical:g}: is the column {fits[0] if fits else 'in another unit'}?)"
