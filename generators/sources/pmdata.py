"""PMData: sixteen persons' wellness reports and Fitbit records over five months (Thambawita et al. 2020, Simula).

Reads, of every folder ``p01``, ``p02``, ... below ``path``, ``pmsys/wellness.csv`` and, where there, ``fitbit/sleep.json``
and ``fitbit/resting_heart_rate.json``. A report's day is the UTC date of its time stamp, a night's day the morning it ends.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from generators.sources.checks import ISO, calendar_days, numbers, read_csv, require_columns, require_distinct
from generators.sources.tables import (
    DailyColumns,
    MaxFilled,
    SignalColumns,
    assemble,
    profiles_of,
    read_weeks,
    typed,
)

PERSON, DATE, WHEN = "pid", "date", "effective_time_frame"
FITBIT = ("sleep_h", "sleep_efficiency", "rhr")


@dataclass(frozen=True)
class Answer:
    """How a report's answers become values: linear from the ends of one range to the ends of the other."""

    answers: tuple[float, float]  # lowest and highest answer
    values: tuple[float, float]  # what these two stand for; descending turns the direction around


@dataclass(frozen=True)
class PMDataSettings:
    """PMData (``data=pmdata data.path=...``)."""

    kind: Literal["pmdata"]
    path: str  # folder with p01, p02, ...
    participants: str | None  # CSV with one row per person; null: the profile is each person's mean of ``traits``
    person: str  # column of that CSV with p01, p02, ...
    profile_columns: tuple[str, ...]  # of that CSV; empty: all but the person's
    traits: tuple[str, ...]  # daily measures whose mean over all of a person's days is a profile column
    wellness: dict[str, Answer]  # columns of wellness.csv to read
    signals: SignalColumns  # of the wellness columns and sleep_h, sleep_efficiency, rhr
    max_filled: MaxFilled  # missing days to fill, per signal and week


def read_pmdata(settings: PMDataSettings, tracker: Tracker) -> Cohort:
    """Calendar weeks in which every configured signal was measured; several a person.

    Raises:
        DataError: a file or column is missing, or a value is no number or out of range.
    """
    s = settings
    folders = sorted(path.parents[1] for path in Path(s.path).glob("*/pmsys/wellness.csv"))
    if not folders:
        raise DataError(
            f"{s.path}: no folder below it holds pmsys/wellness.csv; set data.path to the folder of p01, p02, ..."
        )
    require_distinct(s.traits, "data.traits")
    measures = {*s.wellness, *FITBIT}
    for column in (*s.traits, *(c.column for c in s.signals)):
        if column not in measures:
            raise DataError(f"data: PMData has no measure '{column}'; expected one of {', '.join(sorted(measures))}")
    daily = pd.concat([_days_of(s, folder, tracker) for folder in folders], ignore_index=True)
    _check_ranges(daily, s)
    weeks, people = read_weeks(daily, s.path, DailyColumns(PERSON, DATE, ISO, s.signals), s.max_filled, tracker)
    profiles = _participants(s, people, tracker) if s.participants else _traits(s, daily, people, tracker)
    return assemble(profiles, weeks, s.signals)


def _days_of(s: PMDataSettings, folder: Path, tracker: Tracker) -> pd.DataFrame:
    """One person's days, every measure a column; NaN where there was none."""
    parts = [_wellness(s, str(folder / "pmsys/wellness.csv"), tracker)]
    for name, read in (("sleep", _night), ("resting_heart_rate", _resting)):
        path = folder / "fitbit" / f"{name}.json"
        if path.is_file():
            parts.append(_records(path, read))
        else:
            tracker.note(f"{path}: no such file, so {folder.name} has none of its days")
    days = pd.concat(parts, axis=1).sort_index().reindex(columns=[*s.wellness, *FITBIT])
    return days.rename_axis(DATE).reset_index().assign(pid=folder.name)


def _wellness(s: PMDataSettings, path: str, tracker: Tracker) -> pd.DataFrame:
    table = read_csv(path)
    require_columns(table, [WHEN, *s.wellness], path)
    result, unanswered = {}, 0
    for column, scale in s.wellness.items():
        (low, high), (start, end) = scale.answers, scale.values
        answers = numbers(table, column, min(low, 0.0), high, "answered", path)
        unanswered += int((answers < low).sum())  # 0 where the scale begins at 1
        answers[answers < low] = np.nan
        result[column] = start + (answers - low) / (high - low) * (end - start)
    if unanswered:
        tracker.note(f"{path}: {unanswered} answers below their scale, taken as missing")
    frame = pd.DataFrame(result).assign(
        day=calendar_days(table, WHEN, ISO, path).astype(str), when=table[WHEN].to_numpy()
    )
    kept = frame.sort_values("when", kind="stable").drop_duplicates("day", keep="last")
    if len(kept) < len(frame):
        tracker.note(f"{path}: {len(frame) - len(kept)} reports of a day that has a later one, left out")
    return kept.set_index("day").drop(columns="when")


def _records(path: Path, read: Callable[[Any], tuple[str, dict[str, float]] | None]) -> pd.DataFrame:
    """The days of a Fitbit file; of several records of a day the last counts."""
    try:
        records = [read(record) for record in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not the Fitbit records expected ({type(error).__name__}: {error}); export the file again"
        ) from error
    return pd.DataFrame.from_dict(dict(sorted(filter(None, records), key=_asleep)), orient="index", dtype=float)


def _asleep(day: tuple[str, dict[str, float]]) -> float:
    return day[1].get("sleep_h", 0.0)  # the longest of several main sleeps comes last


def _night(record: Any) -> tuple[str, dict[str, float]] | None:
    """A main sleep; naps are left out."""
    if not record["mainSleep"]:
        return None
    hours, share = record["minutesAsleep"] / 60, float(record["efficiency"])
    return str(record["dateOfSleep"])[:10], {"sleep_h": hours, "sleep_efficiency": share}


def _resting(record: Any) -> tuple[str, dict[str, float]] | None:
    """A day's resting heart rate; 0 means that the device gave none."""
    rate = float(record["value"]["value"])
    return (str(record["dateTime"])[:10], {"rhr": rate}) if rate > 0 else None


def _check_ranges(daily: pd.DataFrame, s: PMDataSettings) -> None:
    for c in s.signals:
        values = daily[c.column].to_numpy(float)
        outside = (values < c.low) | (values > c.high)
        if outside.any():
            row = daily.iloc[int(outside.argmax())]
            raise DataError(
                f"{s.path}: {row[PERSON]} has {c.column} {row[c.column]:g} on {row[DATE]} ({int(outside.sum())} such days), "
                f"expected {c.low:g} to {c.high:g} {c.unit}; correct the file or the range in data.signals"
            )


def _participants(s: PMDataSettings, people: list[str], tracker: Tracker) -> pd.DataFrame:
    assert s.participants is not None
    static = read_csv(s.participants)
    wanted = [*s.profile_columns] or [str(column) for column in static if column != s.person]
    require_columns(static, [s.person, *wanted], s.participants)
    return typed(profiles_of(static, s.participants, s.person, people, wanted, tracker), s.participants, tracker)


def _traits(s: PMDataSettings, daily: pd.DataFrame, people: list[str], tracker: Tracker) -> pd.DataFrame:
    """What stands in for a profile: each person's means over all their days. Nobody's days enter another's."""
    if not s.traits:
        raise DataError("data.traits is empty and data.participants is null; give either, a profile needs a column")
    shared = sorted(set(s.traits) & {c.column for c in s.signals})
    if shared:
        raise DataError(f"data.traits holds '{shared[0]}', which is a signal; choose measures that are not")
    means = daily.groupby(PERSON)[list(s.traits)].mean().round(2).loc[people]
    tracker.note(
        f"{s.path}: no table of participants; profiles are each person's means of {', '.join(s.traits)} over all their days"
    )
    return means.reset_index(drop=True).add_prefix("mean_")
