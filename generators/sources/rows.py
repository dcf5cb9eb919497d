"""Bad rows of a user's table in words: all are counted, the first few shown, and nobody's identifier repeated."""

import numpy as np
import pandas as pd

from generators.identifiers import kind_of_name, looks_like_one

SHOWN = 5  # bad rows that a message shows
_LONGEST = 30  # characters of a cell that it repeats


def line_of(table: pd.DataFrame, row: int) -> int:
    """The file's line of the table's ``row``-th row, the header being line 1."""
    return int(table.index[row]) + 2


def holds(table: pd.DataFrame, column: str, bad: np.ndarray) -> str:
    """``column 'x' holds 'a' at line 3, 'b' at line 7 (2 of 40 rows)`` of the rows where ``bad`` ``[R]`` is true."""
    cells = [
        f"{_cell(table[column].iloc[row], column)} at line {line_of(table, row)}" for row in np.flatnonzero(bad)[:SHOWN]
    ]
    return f"column '{column}' holds {', '.join(cells)}{_count(bad, 'rows')}"


def lines(table: pd.DataFrame, bad: np.ndarray, what: str = "rows") -> str:
    """``line 3, line 7 (2 of 40 rows)``."""
    return ", ".join(f"line {line_of(table, row)}" for row in np.flatnonzero(bad)[:SHOWN]) + _count(bad, what)


def _count(bad: np.ndarray, what: str) -> str:
    count = int(bad.sum())
    return f"{', ...' if count > SHOWN else ''} ({count} of {len(bad)} {what})"


def _cell(value: object, column: str) -> str:
    """A cell as it is written, unless it may say who somebody is."""
    text = " ".join(str(value).split())
    if kind_of_name(column) or looks_like_one(text):
        return "a value not shown here"
    return f"'{text[:_LONGEST]}{'...' if len(text) > _LONGEST else ''}'"
