"""What a risk model reads of the persons to score beside their days: one value per person, gaps filled and said."""

from difflib import get_close_matches

import numpy as np
import pandas as pd

from core.errors import DataError
from core.protocols import Tracker
from generators.sources.checks import numbers
from generators.sources.lifesnaps import bmi_band
from generators.sources.rows import holds, line_of
from generators.sources.scored_layout import FAR, SECTION, Inputs, Layout
from generators.sources.tables import UNKNOWN, finite

_SHOWN = 5  # unknown categories named of one column


def read_profiles(
    table: pd.DataFrame, path: str, people: pd.Index, layout: Layout, inputs: Inputs, tracker: Tracker
) -> pd.DataFrame:
    """The model's profile columns of ``people``, one row each; a person may fill several lines of ``table``.

    A missing number becomes the training persons' mean, a missing category ``unknown``; a category that training never
    saw stays, and counts as no level. All of it is counted and said.

    Raises:
        DataError: a person without a line or with two different values, or text where a number is expected.
    """
    code = people.get_indexer(pd.Index(table[layout.person]))
    _refuse_absent(code, people, path, layout.person)
    result: dict[str, np.ndarray] = {}
    for name, (mean, sd) in inputs.encoder.numeric.items():
        column = layout.column(name)
        parsed = numbers(table, column, -np.inf, np.inf, "", path, SECTION)
        finite(pd.Series(parsed, index=table.index, name=column), table, path)
        values = _one_each(pd.Series(parsed), code, table, column, path, people)
        result[name] = _filled(values.astype(float), mean, sd, column, path, tracker)
    for name, levels in inputs.encoder.levels.items():
        column = layout.column(name)
        cells = table[column]
        if name == "bmi" and layout.bmi_bounds:
            cells = _bands(cells, layout.bmi_bounds, levels, path)
        texts = _one_each(cells.reset_index(drop=True), code, table, column, path, people)
        result[name] = _known(texts, levels, column, path, tracker)
    return pd.DataFrame(result, index=range(len(people)))


def _refuse_absent(code: np.ndarray, people: pd.Index, path: str, person: str) -> None:
    absent = np.setdiff1d(np.arange(len(people)), code)
    if len(absent):
        raise DataError(
            f"{path}: {len(absent)} of {len(people)} persons have days to score but no line here; compare column '{person}' "
            "of both tables and add their lines, whose cells may be empty"
        )


def _one_each(
    values: pd.Series, code: np.ndarray, table: pd.DataFrame, column: str, path: str, people: pd.Index
) -> pd.Series:
    """Each person's value, missing where all their lines are empty; ``code`` -1 is nobody asked for."""
    own = code >= 0
    first = values[own].groupby(code[own]).first().reindex(range(len(people)))
    differs = own & values.notna().to_numpy() & (values.to_numpy() != first.to_numpy()[code])
    if differs.any():
        raise DataError(
            f"{path}: {holds(table, column, differs)}, other than on an earlier line of the same person; expected one value "
            "per person; correct the table"
        )
    return first


def _filled(values: pd.Series, mean: float, sd: float, column: str, path: str, tracker: Tracker) -> np.ndarray:
    missing = int(values.isna().sum())
    if missing:
        tracker.note(
            f"{path}: column '{column}' is empty for {missing} of {len(values)} persons, taken as {mean:g} "
            "(the mean of the training persons)"
        )
    typical = float(values.mean()) if missing < len(values) else mean
    if abs(typical - mean) > FAR * sd:
        tracker.note(
            f"{path}: the mean of column '{column}' is {typical:g}, of the training persons {mean:g} (sd {sd:g}); "
            "is the unit another?"
        )
    return values.fillna(mean).to_numpy(float)


def _known(values: pd.Series, levels: tuple[str, ...], column: str, path: str, tracker: Tracker) -> np.ndarray:
    missing = int(values.isna().sum())
    if missing:
        counts = f"as '{UNKNOWN}'" if UNKNOWN in levels else "as no category"
        tracker.note(
            f"{path}: column '{column}' is empty for {missing} of {len(values)} persons, which counts {counts}"
        )
    present = values.dropna()
    unseen = present[~present.isin(levels)].value_counts()
    if len(unseen):
        shown = [f"'{value}' of {count}{_near(str(value), levels)}" for value, count in unseen.head(_SHOWN).items()]
        more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
        tracker.note(
            f"{path}: column '{column}' holds categories that training never saw, which count as other, that is as none of its own: "
            f"{', '.join(shown)}{more} (of {len(values)} persons); known are {', '.join(levels)}"
        )
    return values.fillna(UNKNOWN).to_numpy(object)


def _near(value: str, levels: tuple[str, ...]) -> str:
    spelt = {level.strip().lower(): level for level in levels}
    near = get_close_matches(value.strip().lower(), list(spelt), n=1, cutoff=0.75)
    return f" (did you mean '{spelt[near[0]]}'?)" if near else ""


def _bands(cells: pd.Series, bounds: tuple[float, ...], levels: tuple[str, ...], path: str) -> pd.Series:
    """Body mass indices as the bands the model knows; a band written out stays."""
    bands = {}
    for value in cells.dropna().unique():
        try:
            bands[value] = value if value in levels else bmi_band(value, bounds)
        except DataError as error:
            line = line_of(cells.to_frame(), int((cells == value).to_numpy().argmax()))
            raise DataError(f"{path}: line {line}: {error}") from error
    return cells.map(bands)
