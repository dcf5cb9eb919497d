"""Reading a user's CSV with messages they can act on. Line numbers are the file's, the header being line 1."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import DataError

ISO = "ISO8601"
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]  # "None" is a level: some tables mean "no disorder" by it
_ISO_DAY = 10  # characters of 2024-01-31; a time and zone after it do not change the calendar day
_CONVERSIONS = (("minutes", 60.0), ("seconds", 3600.0), ("a 0-100 scale", 10.0), ("milliseconds", 3.6e6))


def read_csv(path: str, separator: str = ",") -> pd.DataFrame:
    """All columns as text, missing values as NaN; blank lines left out, the index still counts them.

    Raises:
        DataError: no such file, or not a table.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file (looked in {Path(path).absolute().parent}); correct the path in data.*")
    expected = f"expected UTF-8 text separated by {separator!r}"
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            na_values=_MISSING,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable table ({reason}); {expected}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: lines hold more fields than the header; {expected}")
    table = table.dropna(how="all")
    if table.empty:
        raise DataError(f"{path}: no rows below the header; {expected}")
    return table


def line_of(table: pd.DataFrame, row: int) -> int:
    """The file's line of the table's ``row``-th row."""
    return int(table.index[row]) + 2


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: str) -> None:
    """Refuse a table without these columns, naming the nearest it has."""
    found = [str(column) for column in table]
    for column in columns:
        if column not in found:
            near = get_close_matches(column, found, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else "correct the mapping in data.*"
            raise DataError(f"{path}: column '{column}' is missing (found {', '.join(found)}); {hint}")


def require_values(table: pd.DataFrame, column: str, path: str) -> None:
    """Refuse a missing value in a column that must be complete."""
    absent = table[column].isna().to_numpy()
    if absent.any():
        row = int(absent.argmax())
        raise DataError(f"{path}: column '{column}' is empty at line {line_of(table, row)}; fill it or drop the line")


def calendar_days(table: pd.DataFrame, column: str, date_format: str, path: str) -> np.ndarray:
    """datetime64[D] ``[R]`` of a complete column of dates."""
    require_values(table, column, path)
    text = table[column].str.strip()
    try:
        days = pd.to_datetime(text.str[:_ISO_DAY] if date_format == ISO else text, format=date_format, errors="coerce")
    except ValueError as error:
        raise DataError(
            f"data.date_format is '{date_format}' ({error}), expected {ISO} or one such as %d.%m.%Y"
        ) from error
    bad = days.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        expected = "a day such as 2024-01-31" if date_format == ISO else f"the format {date_format}"
        raise DataError(
            f"{path}: column '{column}' holds '{table[column].iloc[row]}' at line {line_of(table, row)}, expected "
            f"{expected}; correct it or set data.date_format"
        )
    return days.to_numpy().astype("datetime64[D]")


def numbers(table: pd.DataFrame, column: str, low: float, high: float, unit: str, path: str) -> np.ndarray:
    """float64 ``[R]``, NaN where missing, all others within ``low`` to ``high``."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    text = np.isnan(values) & table[column].notna().to_numpy()
    if text.any():
        row = int(text.argmax())
        raise DataError(
            f"{path}: column '{column}' holds '{table[column].iloc[row]}' at line {line_of(table, row)}, "
            "expected a number; correct it"
        )
    outside = (values < low) | (values > high)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(
            f"{path}: column '{column}' holds {values[row]:g} at line {line_of(table, row)} ({int(outside.sum())} such "
            f"lines), expected {low:g} to {high:g} {unit}{_unit_hint(values, low, high)}; correct the table or the range"
        )
    return values


def _unit_hint(values: np.ndarray, low: float, high: float) -> str:
    """Where even the median lies outside the range, the unit is probably another: name one that would fit."""
    typical = float(np.nanmedian(values))
    if low <= typical <= high:
        return ""
    fits = [unit for unit, per in _CONVERSIONS if low <= typical / per <= high]
    return f" (the median is {typical:g}: is the column in {fits[0] if fits else 'another unit'}?)"
