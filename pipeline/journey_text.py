"""The words and tables in which a journey is told; plain text of 80 columns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from rich.markup import escape
from rich.table import Table as Grid
from torch import Tensor

from core.cohort import RISK_CLASSES
from core.signals import WEEKDAYS, Signals, names
from core.treatments import CONTROL, LABELS
from pipeline.console import sparkline
from pipeline.terminal.table import Table
from predictor.explain import TOLERANCE, Attributions, carrying_days

DRIVERS = 4  # of the risk score, named in a line
FEW_DAYS = 3  # more than these and a signal acts over the week


@dataclass(frozen=True)
class Week:
    """One week of the journey; week 0 is the one before treatment."""

    treatment: int
    intensity: float
    risk: float
    probabilities: list[float]
    days: np.ndarray  # (7, C)
    adverse: bool
    remission: bool


def readable(name: str) -> str:
    return name.replace("_", " ")


def told(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def facts(lines: dict[str, str]) -> Grid:
    """Labels, and beside them what there is to say; a long line goes on below itself."""
    table = Grid.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, line in lines.items():
        table.add_row(f"  {label:<12}", escape(line))
    return table


def profile_line(record: "pd.Series[object]") -> str:
    return ", ".join(f"{readable(str(name))} {told(value)}" for name, value in record.items())


def risk_line(week: Week) -> str:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(RISK_CLASSES, week.probabilities, strict=True))
    return f"{week.risk:.2f} ({shares})"


def sum_line(why: Attributions) -> str:
    """One person's score as the average person's and the rest; the gap is told where it is more than tolerated."""
    score, average = round(float(why.score[0]), 2), round(float(why.reference[0]), 2)
    sign = "+" if score >= average else "-"
    line = f"{score:.2f} = {average:.2f} (average person) {sign} {abs(score - average):.2f}"
    error = float(why.error[0])
    return line if abs(error) <= TOLERANCE else f"{line}; the parts below miss it by {abs(error):.3f}"


def drivers_line(signals: Signals, columns: tuple[str, ...], record: "pd.Series[object]", why: Attributions) -> str:
    """The largest changes of one person's score: signals, and profile columns with their values."""
    labels = [
        *(readable(name) for name in names(signals)),
        *(f"{readable(column)} {told(record[column])}" for column in columns),
    ]
    values = torch.cat([why.days[0].sum(0), why.profile[0]])
    order = values.abs().argsort(descending=True, stable=True)[:DRIVERS].tolist()
    return (
        ", ".join(f"{labels[k]} {float(values[k]):+.2f}" for k in order if adds(values[k])) or "nothing in particular"
    )


def adds(change: Tensor) -> bool:
    """Whether a change of the score shows in two digits."""
    return round(abs(float(change)), 2) > 0


def prescription(week: Week) -> str:
    return LABELS[week.treatment] if week.treatment == CONTROL else f"{LABELS[week.treatment]} at {week.intensity:.0%}"


def when(carries: Tensor) -> str:
    """The days that carry a signal's share, bool ``[7]``, as a person says them."""
    days = carries.nonzero()[:, 0].tolist()
    if len(days) > FEW_DAYS:
        return "over the week"
    row = len(days) == FEW_DAYS and days[-1] - days[0] == FEW_DAYS - 1
    return "mostly " + (f"{WEEKDAYS[days[0]]}-{WEEKDAYS[days[-1]]}" if row else ", ".join(WEEKDAYS[d] for d in days))


def days_table(signals: Signals, before: Week, after: Week, why: Attributions) -> Table:
    """Each signal's week before and in week 1, as sparklines on one scale, with the means and what it adds to the risk."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("\n  signal", no_wrap=True)
    table.add_column(f"before\n{WEEKDAYS[0]}-{WEEKDAYS[-1]}", no_wrap=True)
    table.add_column("week 1\nin Twin", no_wrap=True)
    table.add_column("\nmean", justify="right", no_wrap=True)
    table.add_column("before: adds\nto risk")
    carries = carrying_days(why.days)[0]  # (7, C)
    for k, signal in enumerate(signals):
        both = np.concatenate([before.days[:, k], after.days[:, k]])
        low, high = both.min(), both.max()
        change = why.days[0, :, k].sum()
        told_change = f"{float(change):+.2f}, {when(carries[:, k])}" if adds(change) else " 0.00"
        table.add_row(
            escape(f"  {readable(signal.name)} ({signal.unit})"),
            sparkline(before.days[:, k], low, high),
            sparkline(after.days[:, k], low, high),
            f"{before.days[:, k].mean():.1f} -> {after.days[:, k].mean():.1f}",
            told_change,
        )
    return table


def course_table(weeks: list[Week]) -> Table:
    """The whole course, a row a week."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False)
    for column in ("  week", "prescription", "risk", ""):
        table.add_column(column)
    for index, week in enumerate(weeks):
        note = "adverse event" if week.adverse else "remission" if week.remission else ""
        given = "before treatment" if index == 0 else prescription(week)
        table.add_row(f"  {index}", given, f"{week.risk:.2f} {'█' * round(20 * week.risk)}", note)
    return table
