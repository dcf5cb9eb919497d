"""The stages of a run on a terminal while they run: state, time and the number worth a glance."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

State = Literal["waiting", "running", "done", "kept", "failed"]
# Of each state: its mark and its colour. "kept": the stage's result was there already.
MARKS: dict[State, tuple[str, str]] = {"waiting": ("·", "dim"), "running": ("▶", "bold cyan"), "done": ("✓", "green"),
                                       "kept": ("=", "dim"), "failed": ("✗", "bold red")}  # fmt: skip
NARROW = 60  # below, the mark alone says the state
PER_SECOND = 4  # drawings


@dataclass
class Row:
    """One stage; ``seconds`` until it has ended counts from ``started``."""

    name: str
    state: State = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    said: str = ""


def stage_table(rows: Sequence[Row], width: int) -> Table:
    """All stages of the run, whole at every width from 40 columns on."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    if width >= NARROW:
        table.add_column("state", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("found", overflow="fold")
    for row in rows:
        mark, style = MARKS[row.state]
        state = [f"[{style}]{row.state}[/]"] if width >= NARROW else []
        table.add_row(f"[{style}]{mark}[/]", row.name, *state, _time(row), row.said)
    return table


def _time(row: Row) -> str:
    if row.state in ("waiting", "kept"):
        return ""
    return f"{time.monotonic() - row.started if row.state == 'running' else row.seconds:.1f} s"


class StageScreen:
    """Tells how a run's stages fare: a table drawn anew on a terminal, one line a stage elsewhere."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self.console = console
        self.rows = {name: Row(name) for name in names}
        # A dumb terminal cannot be drawn over, and a file should not be.
        self.live = console.is_terminal and not console.is_dumb_terminal

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Draw the table until the block ends; then it stays, with what was found last."""
        if not self.live:
            yield
            return
        with Live(console=self.console, refresh_per_second=PER_SECOND, get_renderable=self._table):
            try:
                yield
            except BaseException:  # KeyboardInterrupt too: the table says where the run stopped
                for row in self.rows.values():
                    if row.state == "running":
                        row.state, row.seconds = "failed", time.monotonic() - row.started
                raise

    def _table(self) -> Table:
        return stage_table(list(self.rows.values()), self.console.width)

    def begin(self, name: str) -> None:
        self.rows[name].state, self.rows[name].started = "running", time.monotonic()

    def end(self, name: str, ran: bool, said: str) -> None:
        """Note that a stage has ended: whether it ran, and what it found."""
        row = self.rows[name]
        row.state, row.seconds, row.said = "done" if ran else "kept", time.monotonic() - row.started, said
        if not self.live:
            mark, style = MARKS[row.state]
            took = f"{row.seconds:6.1f} s" if ran else "skipped "
            self.console.print(f"[{style}]{mark}[/] {name:<9} {took}  {said}")
