"""How the tables of persons to score are written, and their text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from core.encoding import ProfileEncoder, WeekScaler
from core.protocols import Tracker
from core.signals import Signals
from generators.sources.checks import ISO, read_csv, read_header, require_columns, require_values, with_points
from generators.sources.lifesnaps import DATE, PERSON, LifeSnapsSettings
from generators.sources.tables import TableSettings

SECTION = "predict"  # of the configuration: messages name its keys
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
    zero_is_missing: bool = False  # 0 outside a signal's range is what the device wrote when it measured nothing
    bmi_bounds: tuple[float, ...] = ()  # where the bands of "bmi" begin, for a model that knows bands

    def column(self, name: str) -> str:
        """The column that holds this input of the model."""
        return self.columns.get(name, name)


def layout_of(data: object) -> Layout:
    """How the tables of a run's own source are written; where it was no such table, the project's own names."""
    if isinstance(data, TableSettings):
        columns = {c.name: c.column for c in data.signals}
        return Layout(data.person, data.date, data.date_format, data.separator, data.decimal, columns)
    if isinstance(data, LifeSnapsSettings):
        columns = {c.name: c.column for c in data.signals}
        return Layout(PERSON, DATE, ISO, ",", ".", columns, zero_is_missing=True, bmi_bounds=data.bmi_bounds)
    return Layout("person", "date", ISO, ",", ".")


def read_table(path: str, layout: Layout, columns: Sequence[str], tracker: Tracker) -> pd.DataFrame:
    """The person's column and these as text, with points for decimal commas; says how many others there are.

    Raises:
        DataError: no such file, not a table, a column is missing, or a person's cell is empty.
    """
    wanted = list(dict.fromkeys([layout.person, *columns]))
    header = read_header(path, layout.separator, SECTION)
    require_columns(pd.DataFrame(columns=header), wanted, path, SECTION)
    others = [name for name in header if name not in wanted]
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        tracker.note(f"{path}: {len(others)} columns the model does not read are ignored ({shown})")
    table = read_csv(path, layout.separator, columns=wanted, section=SECTION)
    require_values(table, layout.person, path)
    names = (layout.person, layout.date)  # a person's name stays as it is written, whatever it looks like
    if layout.decimal == ",":
        table = table.assign(**{c: with_points(table[c]) for c in table if c not in names})
    return table
