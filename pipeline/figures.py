"""The figures of a run. Each title says what is to be read, against what."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.cohort import Cohort
from core.signals import WEEKDAYS
from pipeline.console import display_name

REAL, SYNTHETIC, GREY = "#33475b", "#d9704c", "#b9c2cb"


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own: nothing of pyplot's global state."""
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def plain_axes(axes: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def weeks_figure(holdout: Cohort, synthetic: Cohort) -> Figure:
    """Median and middle 80 % of every weekday, held-out persons of the source beside synthetic ones."""
    figure = new_figure(10, 2.7)
    draw_weeks(figure.subplots(1, len(holdout.signals), squeeze=False)[0], holdout, synthetic)
    return figure


def draw_weeks(axes: np.ndarray, holdout: Cohort, synthetic: Cohort) -> None:
    for k, (signal, ax) in enumerate(zip(holdout.signals, axes, strict=True)):
        for cohort, colour, label in ((holdout, REAL, "held-out persons"), (synthetic, SYNTHETIC, "synthetic")):
            low, middle, high = np.quantile(cohort.rhythms[:, :, k], [0.1, 0.5, 0.9], axis=0)
            ax.fill_between(range(7), low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(range(7), middle, color=colour, label=label, linewidth=1.8)
        ax.set_xticks(range(7), [day[0] for day in WEEKDAYS])
        plain_axes(ax, signal.name.replace("_", " "), "", signal.unit)
    axes[0].legend(fontsize=8, frameon=False)


def shown_policies(evaluate: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The policies of the summary, worst first."""
    return sorted(evaluate["policies"].items(), key=lambda item: item[1]["return"])


def policies_figure(evaluate: dict[str, Any]) -> Figure:
    """Return with interval of every policy, in Trial, on held-out persons."""
    figure = new_figure(10, 0.42 * len(evaluate["policies"]) + 1.2)
    draw_policies(figure.subplots(), evaluate)
    return figure


def draw_policies(ax: Axes, evaluate: dict[str, Any]) -> None:
    rows = shown_policies(evaluate)
    for y, (name, row) in enumerate(rows):
        low, high = row["return_ci"]
        colour = SYNTHETIC if name == "ppo" else REAL if name == "privileged" else GREY
        ax.barh(y, row["return"], color=colour, height=0.65)
        ax.plot([low, high], [y, y], color="black", linewidth=1.2)
        ax.text(
            max(high, 0) + 0.05,
            y,
            f"{row['remission']:.0%} remission, {row['dose_weeks']:.1f} dose-weeks",
            fontsize=8,
            va="center",
        )
    ax.set_yticks(range(len(rows)), [display_name(name, evaluate) for name, _ in rows])
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.45 * (high - low))  # room for the words
    n, weeks, confidence = rows[0][1]["patients"], evaluate["weeks"], evaluate["confidence"]
    plain_axes(ax, f"Return in Trial over {weeks} weeks, {n} held-out persons, {confidence:.0%} intervals", "return")


def overview_figure(holdout: Cohort, synthetic: Cohort, evaluate: dict[str, Any]) -> Figure:
    """Held-out and synthetic weeks above, policies below: the run in one picture."""
    figure = new_figure(10, 6.2)
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.4, 3.4], squeeze=False)[:, 0]
    draw_weeks(top.subplots(1, len(holdout.signals), squeeze=False)[0], holdout, synthetic)
    draw_policies(bottom.subplots(), evaluate)
    return figure


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
