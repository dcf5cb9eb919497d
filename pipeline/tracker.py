"""The tracker of a run: scalars to TensorBoard, progress bars and notes to the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

T = TypeVar("T")
WIDE = 90  # columns from which a bar has room for its counts


class RateColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s" if task.speed > 10 else f"{task.speed:.1f}/s")


class RunTracker:
    """Implements ``core.protocols.Tracker`` for one stage; ``folder`` receives the TensorBoard events."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.notes: list[str] = []
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        # Made at the first scalar: a stage that trains nothing leaves no event file.
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.writer.add_scalar(tag, value, step)

    def figure(self, tag: str, figure: Figure, step: int = 0) -> None:
        self.writer.add_figure(tag, figure, step)

    def histogram(self, tag: str, values: np.ndarray, step: int = 0) -> None:
        self.writer.add_histogram(tag, values, step)

    def hyperparameters(self, settings: Mapping[str, str | float | bool], results: Mapping[str, float]) -> None:
        """Settings and results for the tab that compares runs; the results are scalars as well."""
        # SummaryWriter.add_hparams would open a folder of its own, and with it another run in the list.
        for summary in hparams(dict(settings), dict(results)):
            self.writer._get_file_writer().add_summary(summary)
        for tag, value in results.items():
            self.writer.add_scalar(tag, value, 0)

    def note(self, message: str) -> None:
        if message in self.notes:
            return  # said already
        self.notes.append(message)
        self.console.print(f"  [yellow]note[/] {escape(message)}", highlight=False)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        wide = self.console.width >= WIDE
        columns = (
            TextColumn(f"  {{task.description:<{28 if wide else 14}}}"),
            BarColumn(bar_width=28 if wide else None),
            *((MofNCompleteColumn(), RateColumn(), TimeElapsedColumn()) if wide else ()),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        # Where the output is no terminal a bar would be noise in the log: nothing is drawn.
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield from progress.track(items, total=total, description=description)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
