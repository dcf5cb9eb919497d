"""A table that is readable at any width: where its columns do not fit, it is told row by row, nothing left out."""

from typing import Any

import rich.table
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

UNLIMITED = 10_000  # columns
WORDS = 14  # columns that a cell of words is left, where its column may wrap
SOFT = "\u00ad\n"  # in a header: a word broken at the end of a line, not a hyphen of its own


class Table(rich.table.Table):
    """``rich.table.Table`` that becomes a list where the width does not hold it."""

    def __init__(self, *headers: Any, **settings: Any) -> None:
        self.headers: list[str] = []
        super().__init__(*headers, **settings)

    def add_column(self, header: RenderableType = "", *arguments: Any, **settings: Any) -> None:
        text = str(header)
        self.headers.append(text.replace(SOFT, "").replace("-\n", "-").replace("\n", " ").strip())
        super().add_column(text.replace(SOFT, "-\n"), *arguments, **settings)

    def needed(self, console: Console, options: ConsoleOptions) -> int:
        """The fewest columns of the terminal at which nothing is cut off and words stay whole."""
        wide = options.update(width=UNLIMITED)
        spare = 0
        for column in self.columns:
            cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
            natural = max(cell.maximum for cell in cells)
            if not column.no_wrap:
                spare += natural - min(natural, max(WORDS, *(cell.minimum for cell in cells)))
        return rich.table.Table.__rich_measure__(self, console, wide).maximum - spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.needed(console, options) <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield Text.from_markup(str(self.title), style="bold")
        for row, *cells in zip(self.rows, *(column.cells for column in self.columns), strict=True):
            yield from self._told(console, str(row.style or ""), cells)
        if self.caption:
            yield Text.from_markup(str(self.caption), style="dim")

    def _told(self, console: Console, style: str, cells: list[RenderableType]) -> RenderResult:
        """One row: its first cell, and below it what the other columns say of it."""
        first, *rest = [" ".join(console.render_str(str(cell)).plain.split()) for cell in cells]
        said = [f"{header} {cell}".strip() for header, cell in zip(self.headers[1:], rest, strict=True) if cell]
        if first:
            head = f"{self.headers[0]} {first}" if first[0].isdigit() else first
            yield Padding(Text(head, style=style), (0, 0, 0, 2), expand=False)
        if said:
            yield Padding(Text(", ".join(said)), (0, 0, 0, 4), expand=False)


def paragraph(text: str, width: int = 98) -> Padding:
    """Indented words of at most ``width`` columns, fewer where the terminal has no more."""
    return Padding(Constrain(Text(text), width - 2), (0, 0, 0, 2), expand=False)
