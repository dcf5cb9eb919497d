"""LifeSnaps: Fitbit and self-report of four months (Yfantidou et al. 2022, Scientific Data 9:663, CC BY 4.0).

Reads ``lifesnaps_daily.csv`` and ``lifesnaps_static.csv``. Age and BMI are partly anonymised into bands at the source.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pandas as pd

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from generators.sources.checks import ISO, read_csv, require_columns
from generators.sources.tables import (
    DailyColumns,
    MaxFilled,
    SignalColumns,
    assemble,
    profiles_of,
    read_weeks,
    typed,
)

PERSON, DATE = "pid", "date"


@dataclass(frozen=True)
class LifeSnapsSettings:
    """LifeSnaps (``data=lifesnaps data.path=...``)."""

    kind: Literal["lifesnaps"]
    path: str  # folder with lifesnaps_daily.csv and lifesnaps_static.csv
    max_filled: MaxFilled  # missing days to fill, per signal and week
    signals: SignalColumns
    profile_columns: tuple[str, ...]  # of the static table; "bmi" is turned into bands
    bmi_bounds: tuple[float, ...]  # where one BMI band ends and the next begins, kg/m2


def read_lifesnaps(settings: LifeSnapsSettings, tracker: Tracker) -> Cohort:
    """Calendar weeks in which every configured signal was measured; several a person.

    Raises:
        DataError: a file or column is missing, or a value is no number or out of range.
    """
    s = settings
    daily_path, static_path = (str(Path(s.path) / f"lifesnaps_{name}.csv") for name in ("daily", "static"))
    daily, static = read_csv(daily_path), read_csv(static_path)
    require_columns(static, [PERSON, *s.profile_columns], static_path)
    daily = without_zeros(daily, s.signals, daily_path, tracker)
    weeks, people = read_weeks(daily, daily_path, DailyColumns(PERSON, DATE, ISO, s.signals), s.max_filled, tracker)
    table = profiles_of(static, static_path, PERSON, people, s.profile_columns, tracker)
    if "bmi" in table:
        table["bmi"] = [value if pd.isna(value) else bmi_band(value, s.bmi_bounds) for value in table["bmi"]]
    return assemble(typed(table, static_path, tracker), weeks, s.signals)


def without_zeros(daily: pd.DataFrame, signals: SignalColumns, path: str, tracker: Tracker) -> pd.DataFrame:
    """Where 0 is no plausible value, it is what the device wrote when it measured nothing: missing."""
    result = daily.copy()
    for c in signals:
        if c.low > 0 and c.column in daily:
            zero = pd.to_numeric(daily[c.column], errors="coerce") == 0
            if zero.any():
                tracker.note(f"{path}: column '{c.column}' is 0 on {int(zero.sum())} days, taken as not measured")
                result[c.column] = daily[c.column].mask(zero)
    return result


def bmi_band(value: str, bounds: tuple[float, ...]) -> str:
    """A number, ``<x`` or ``>=x`` as one of the ordered bands that ``bounds`` cut.

    Raises:
        DataError: the value is none of these, or a half-open one that straddles several bands.
    """
    text = value.strip()
    low, high = float("-inf"), float("inf")
    try:
        if text.startswith("<"):
            high = float(text[1:])
        elif text.startswith(">="):
            low = float(text[2:])
        else:
            low = float(text)
            high = low
    except ValueError:
        raise DataError(f"bmi '{value}' is neither a number nor '<x' or '>=x'; correct the static table") from None
    edges = (float("-inf"), *bounds, float("inf"))
    for lower, upper in pairwise(edges):
        inside = lower <= low and (high <= upper if text.startswith(("<", ">=")) else low < upper)
        if inside:
            return _band_name(lower, upper)
    raise DataError(f"bmi '{value}' straddles the bands cut at {bounds}; choose data.bmi_bounds that agree with it")


def _band_name(lower: float, upper: float) -> str:
    if lower == float("-inf"):
        return f"under {upper:g}"
    return f"{lower:g} and over" if upper == float("inf") else f"{lower:g} to under {upper:g}"
