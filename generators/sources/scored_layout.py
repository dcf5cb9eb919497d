"""How the tables of persons to score are written, and their text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from core.encoding import ProfileEncoder, WeekScaler
from core.errors import DataError
from core.protocols import Tracker
from core.signals import Signals
from generators.sources.checks import ISO, nearest, read_csv, read_header, require_values, with_points
from generators.sources.lifesnaps import DATE, PERSON, LifeSnapsSettings
from generators.sources.tables import TableSettings

SECTION = "predict"  # of the configuration: messages name its keys
_SHOWN = 5  # columns named that the model does not read
FAR = 6.0  # sd from the training persons' mean at which a whole column is probably in another unit


@dataclass(frozen=True)
class Inputs:
    """What a trained risk model reads, and how the training persons were."""

    signals: Signals
    scaler: WeekScaler
    encoder: ProfileEncoder


@dataclass(frozen=True)
class Layout:
    """How the tables to score are written."""

    person: str  # column, in both tables
    date: str
    date_format: str
    separator: str
    decimal: Literal[".", ","]
    columns: Mapping[str, str] = field(default_factory=dict)  # input of the model -> column, where the names differ
    convert: Mapping[str, str] = field(default_factory=dict)  # column of a signal -> the unit it is written in
    zero_is_missing: bool = False  # 0 outside a signal's range is what the device wrote when it measured nothing
    bmi_bounds: tuple[float, ...] = ()  # where the bands of "bmi" begin, for a model that knows bands

    def column(self, name: str) -> str:
        """The column that holds this input of the model."""
        return self.columns.get(name, name)


def layout_of(data: object) -> Layout:
    """How the tables of a run's own source are written; where it was no such table, the project's own names."""
    if isinstance(data, TableSettings):
        columns = {c.name: c.column for c in data.signals}
        how = (data.person, data.date, data.date_format, data.separator, data.decimal)
        return Layout(*how, columns, data.convert or {})
    if isinstance(data, LifeSnapsSettings):
        columns = {c.name: c.column for c in data.signals}
        return Layout(PERSON, DATE, ISO, ",", ".", columns, zero_is_missing=True, bmi_bounds=data.bmi_bounds)
    return Layout("person", "date", ISO, ",", ".")


def read_table(path: str, layout: Layout, keys: Sequence[str], inputs: Sequence[str], tracker: Tracker) -> pd.DataFrame:
    """The columns of ``keys`` ("person", "date") and of these inputs of the model, as text; says how many others there are.

    Raises:
        DataError: no such file, not a table, a column is missing, or a person's cell is empty.
    """
    header = read_header(path, layout.separator, SECTION)
    wanted = {getattr(layout, key): f"predict.{key}={{0}}" for key in keys}
    wanted |= {layout.column(name): f'"predict.columns={{{{{name}: {{0}}}}}}"' for name in inputs}
    for column, override in wanted.items():
        if column not in header:
            near = nearest(column, [name for name in header if name not in wanted])
            raise DataError(
                f"{path}: column '{column}' is missing (found {', '.join(header)})"
                + (f", did you mean '{near}'?" if near else "")
                + f"; add it, or name the column that holds it with {override.format(near or 'COLUMN')}"
            )
    others = [name for name in header if name not in wanted]
    if others:
        shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        tracker.note(f"{path}: columns the model does not read are ignored, {len(others)} ({shown})")
    table = read_csv(path, layout.separator, columns=list(wanted), section=SECTION)
    require_values(table, layout.person, path)
    if layout.decimal == ",":  # but a person's name and a day stay as they are written
        numeric = [layout.column(name) for name in inputs]
        table[numeric] = table[numeric].apply(with_points)
    return table
