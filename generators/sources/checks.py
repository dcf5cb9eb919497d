"""Reading a user's CSV with messages they can act on. Line numbers are the file's, the header being line 1.

``section`` is the part of the configuration that says how the file is read: the messages name its keys.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import DataError
from generators.sources.rows import SHOWN, holds, lines
from generators.sources.units import converted, evidence, suspected

ISO = "ISO8601"
_MISSING = ["", "NaN", "nan", "null", "NULL"]  # never a level
# Missing among numbers, a level of its own among text ("None" may mean no disorder, "NA" North America).
AMBIGUOUS = ("NA", "N/A", "n/a", "None")
_SEPARATORS = (";", "\t", ",", "|")
_THOUSANDS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?"  # 1.234,5 where the comma is the decimal sign
_ISO_DATE = r"\d{4}-\d\d-\d\d($|[T ])"
_ISO_DAY = 10  # characters of 2024-01-31; a time and zone after it do not change the calendar day


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
    _refuse_short_lines(path, separator, len(header))
    return table if decimal == "." else table.apply(with_points)


def read_header(path: str, separator: str = ",", section: str = "data") -> list[str]:
    """The names of a file's columns.

    Raises:
        DataError: no such file, not a table, or a column named twice.
    """
    if not Path(path).is_file():
        key = "the path in data.*" if section == "data" else "the path"
        raise DataError(f"{path}: no such file (looked in {Path(path).absolute().parent}); correct {key}")
    _refuse_other_encodings(path)
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


def _refuse_other_encodings(path: str) -> None:
    """Refuse a file that is no UTF-8 text, naming the line and what it probably is."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{path}: UTF-16 text, expected UTF-8; save it as 'CSV UTF-8'")
            if b"\0" in line:
                raise DataError(
                    f"{path}: line {number} holds a zero byte, so it is no text; export the table again as CSV"
                )
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}: not UTF-8 at line {number} (byte 0x{line[error.start]:02x}; Latin-1 or Windows-1252?), "
                    "expected UTF-8; save it as 'CSV UTF-8'"
                ) from error


def _refuse_short_lines(path: str, separator: str, fields: int) -> None:
    """Refuse lines with fewer fields than the header: what a cut-off file ends with, and pandas fills without a word."""
    short: list[int] = []
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator.replace("\\t", "\t"))
        short = [rows.line_num for row in rows if row and len(row) < fields]
    if short and fields > 1:
        shown = ", ".join(f"line {line}" for line in short[:SHOWN]) + (", ..." if len(short) > SHOWN else "")
        raise DataError(
            f"{path}: {shown} ({len(short)} in all) has fewer than the header's {fields} fields; "
            "was the file cut off? Export it again"
        )


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


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: str, section: str = "data") -> None:
    """Refuse a table without these columns, naming the nearest it has."""
    found = [str(column) for column in table]
    absent = [column for column in columns if column not in found]
    if absent:
        near = nearest(absent[0], found)
        hint = f"did you mean '{near}'?" if near else f"correct the mapping in {section}.*"
        others = f", and so are {', '.join(map(repr, absent[1:]))}" if absent[1:] else ""
        raise DataError(f"{path}: column '{absent[0]}' is missing{others} (found {', '.join(found)}); {hint}")


def nearest(name: str, found: Sequence[str]) -> str | None:
    """The name most like this one, whatever the case."""
    lower = {each.strip().lower(): each for each in reversed(found)}
    near = get_close_matches(name.strip().lower(), list(lower), n=1, cutoff=0.5)
    return lower[near[0]] if near else None


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
        raise DataError(f"{path}: column '{column}' is empty at {lines(table, absent)}; fill it or drop the line")


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
    if date_format == ISO:  # pandas takes 2024 and 2024-01 for days as well
        bad |= ~text.str.match(_ISO_DATE).to_numpy(bool)
    if bad.any():
        expected = "a day such as 2024-01-31" if date_format == ISO else f"the format {date_format}"
        mixed = " throughout" if not bad.all() else ""
        raise DataError(
            f"{path}: {holds(table, column, bad)}, expected {expected}{mixed}; correct it or set {section}.date_format"
        )
    return days.to_numpy().astype("datetime64[D]")


def numbers(
    table: pd.DataFrame,
    column: str,
    low: float,
    high: float,
    unit: str,
    path: str,
    section: str = "data",
    convert: Mapping[str, str] | None = None,
) -> np.ndarray:
    """float64 ``[R]`` in ``unit``, NaN where missing, all others within ``low`` to ``high``.

    ``convert`` names, by column, the units of those in another one (``units.converted``); None where there is no such key.
    """
    present = table[column].notna() & ~table[column].isin(AMBIGUOUS)
    values = pd.to_numeric(table[column].where(present), errors="coerce").to_numpy(float)
    text = np.isnan(values) & present.to_numpy()
    if text.any():
        comma = re.fullmatch(r"[+-]?\d+,\d+", str(table[column].iloc[int(text.argmax())]))
        todo = f"set \"{section}.decimal=','\"" if comma else "correct it"
        raise DataError(f"{path}: {holds(table, column, text)}, expected a number; {todo}")
    written = (convert or {}).get(column)
    read = values if written is None else converted(values, written, low, high, unit, column)
    outside = (read < low) | (read > high)
    if outside.any():
        told = f"expected {low:g} to {high:g} {unit}" + (f" (read from {written})" if written else "")
        raise DataError(
            f"{path}: {holds(table, column, outside)}, {told}; {evidence(values)}: "
            + _remedy(values, low, high, unit, column, section, convert)
        )
    return read


def _remedy(
    values: np.ndarray,
    low: float,
    high: float,
    unit: str,
    column: str,
    section: str,
    convert: Mapping[str, str] | None,
) -> str:
    """What to do about values outside the range: name the unit they would fit in, else doubt the table or the range."""
    other = None if column in (convert or {}) else suspected(values, low, high, unit)
    if other is None:
        return "correct the table" + (" or the range" if section == "data" else "")
    if convert is None:
        return f"are they in {other}? Then write them in {unit}; else correct the table"
    return f'are they in {other}? Then set "{section}.convert={{{column}: {other}}}"; else correct the table'
