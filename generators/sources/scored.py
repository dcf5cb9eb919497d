"""Persons to score: a user's own daily table, read as a trained risk model needs it.

One row per person and day; the profile stands in the same table, or in a second one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import Tracker
from core.signals import DAYS, Signals, names
from generators.sources.checks import calendar_days, numbers
from generators.sources.lifesnaps import without_zeros
from generators.sources.scored_layout import FAR, SECTION, Inputs, Layout, read_table
from generators.sources.scored_profiles import read_profiles
from generators.sources.tables import SignalColumn, check_convert, refuse_two_rows_a_day
from generators.sources.weeks import interpolated, week_grid


@dataclass(frozen=True)
class Tally:
    """What became of the persons and weeks of a table."""

    persons: int
    persons_without: int  # persons without a week to score
    weeks: int  # with a row in the table
    too_few: int  # weeks with too few observed days of a signal, but with some
    unobserved: Mapping[str, int]  # weeks without any day of a signal, by signal; a week may lack several
    lacking: int  # how many weeks those are
    earlier: int  # weeks that could be scored, but are not the person's latest


@dataclass(frozen=True)
class Scorable:
    """Weeks to score: row i of ``cohort`` is the week that begins on ``monday[i]``, of the person called ``name[i]``."""

    cohort: Cohort
    name: np.ndarray  # object [N]
    monday: np.ndarray  # datetime64[D] [N]
    days_observed: np.ndarray  # int64 [N], of the signal observed least
    tally: Tally


def read_scorable(
    daily: str, profiles: str | None, layout: Layout, inputs: Inputs, latest: bool, min_days: int, tracker: Tracker
) -> Scorable:
    """The weeks, Monday to Sunday, with ``min_days`` (at least 1) observed days of every signal: each person's latest, or all.

    Persons are in the table's order, their weeks in time's. Weeks in which a signal was never observed are left out:
    the other signals would have to speak for it.

    Args:
        daily: path of the table of days; ``profiles``: of a table with the persons' profiles, or None where they stand
            beside the days.

    Raises:
        DataError: what is wrong, in which file, column and line, and what was expected; or no week can be scored.
    """
    signals = inputs.signals
    traits = inputs.encoder.columns
    table = read_table(
        daily, layout, ("person", "date"), [*names(signals), *(traits if profiles is None else ())], tracker
    )
    code, people = pd.factorize(table[layout.person])
    owner, monday, days = week_grid(code.astype(np.int64), *_observations(table, daily, layout, signals, tracker))
    observed = (~np.isnan(days)).sum(axis=1)  # (M, C)
    rows, earlier = _rows(owner, (observed >= min_days).all(axis=1), latest)
    if not len(rows):
        raise DataError(_none(observed, signals, min_days, daily))
    _note_far(days[rows], inputs, layout, daily, tracker)
    kept, person = np.unique(owner[rows], return_inverse=True)
    static, path = (table, daily)
    if profiles is not None:
        static, path = read_table(profiles, layout, ("person",), traits, tracker), profiles
    each = read_profiles(static, path, pd.Index(people[kept]), layout, inputs, tracker)
    rhythms, mask = interpolated(days[rows])
    person = person.reshape(-1).astype(np.int64)
    cohort = Cohort(each.iloc[person].reset_index(drop=True), rhythms, mask, person, signals)
    absent = observed == 0
    tally = Tally(
        persons=len(people),
        persons_without=len(people) - len(kept),
        weeks=len(owner),
        too_few=int(((observed < min_days).any(axis=1) & ~absent.any(axis=1)).sum()),
        unobserved={s.name: int(absent[:, k].sum()) for k, s in enumerate(signals) if absent[:, k].any()},
        lacking=int(absent.any(axis=1).sum()),
        earlier=earlier,
    )
    return Scorable(cohort, people.to_numpy(object)[owner[rows]], monday[rows], observed[rows].min(axis=1), tally)


def _observations(
    table: pd.DataFrame, path: str, layout: Layout, signals: Signals, tracker: Tracker
) -> tuple[np.ndarray, np.ndarray]:
    """The day of every line, and its values ``[R, C]``, NaN where missing."""
    days = calendar_days(table, layout.date, layout.date_format, path, SECTION)
    refuse_two_rows_a_day(table, layout.person, days, path)
    columns = tuple(SignalColumn(layout.column(s.name), s.name, s.unit, s.low, s.high, s.better) for s in signals)
    if layout.zero_is_missing:
        table = without_zeros(table, columns, path, tracker)
    check_convert(layout.convert, (c.column for c in columns), SECTION)
    values = [numbers(table, c.column, c.low, c.high, c.unit, path, SECTION, layout.convert) for c in columns]
    return days, np.stack(values, axis=1)


def _rows(owner: np.ndarray, usable: np.ndarray, latest: bool) -> tuple[np.ndarray, int]:
    """The weeks to score, given in order of person and time, and how many usable ones are left for later ones."""
    rows = np.flatnonzero(usable)
    if not latest:
        return rows, 0
    last = np.append(owner[rows][1:] != owner[rows][:-1], True)[: len(rows)]
    return rows[last], int((~last).sum())


def _none(observed: np.ndarray, signals: Signals, min_days: int, path: str) -> str:
    least = int(observed.sum(axis=0).argmin())
    best = int(observed.min(axis=1).max())
    return (
        f"{path}: none of {len(observed)} calendar weeks has {min_days} observed days of every signal (the fullest has {best}; "
        f"'{signals[least].name}' is observed on {int(observed[:, least].sum())} of {observed.shape[0] * DAYS} days); "
        + ("lower predict.min_days, or bring more days" if best else "bring days on which every signal was observed")
    )


def _note_far(days: np.ndarray, inputs: Inputs, layout: Layout, path: str, tracker: Tracker) -> None:
    """Values inside the range, but altogether where no training person was, are probably in another unit."""
    for k, signal in enumerate(inputs.signals):
        mean, usual, sd = float(np.nanmean(days[:, :, k])), inputs.scaler.mean[k], inputs.scaler.between[k]
        if abs(mean - usual) > FAR * sd:
            tracker.note(
                f"{path}: the mean of column '{layout.column(signal.name)}' is {mean:.3g}, of the training persons "
                f"{usual:.3g} {signal.unit} (sd between persons {sd:.2g}); is the unit another?"
            )
