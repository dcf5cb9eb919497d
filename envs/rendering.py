"""An episode as a person reads it: one line of text per week, or a picture of fixed size.

The picture, top to bottom: what was given (a bar a week, as high as its intensity) and which weeks had an adverse
event; every signal day by day with its weekly mean; the risk score after each week, with the remission threshold.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from core.patients import Patients
from core.signals import DAYS, Signal, Signals
from core.treatments import COLOURS, CONTROL, LABELS
from envs.history import History, WeekRecord
from envs.rewards import EnvSettings

DPI = 100
MARGIN, LEFT = 0.016, 0.155  # of the width: where labels begin, where panels do
WIDTH, HEAD, PER_SIGNAL = 1120, 352, 112  # pixels; multiples of 16, as video codecs want them
INK, FAINT, RISK, WELL, ALARM = "#222222", "#8A8A8A", "#7B3294", "#00694E", "#C1121F"


def render(mode: str, history: History, place: int, settings: EnvSettings) -> Any:
    """Environment ``place`` as text (``ansi``) or uint8 ``[H, W, 3]`` (``rgb_array``)."""
    patients, weeks, patient = history.simulation.patients, history.weeks[place], history.patient(place)
    if mode == "ansi":
        return render_text(patient, weeks, patients.signals)
    return render_image(patient, weeks, patients, settings)


def treatment_text(record: WeekRecord) -> str:
    if record.treatment is None:
        return "baseline"
    label = LABELS[record.treatment]
    return label if record.treatment == CONTROL else f"{label} {record.intensity:.2f}"


def render_text(patient_id: int, history: list[WeekRecord], signals: Signals) -> str:
    """One line per week: treatment, means of the signals, risk, adverse event."""
    lines = [f"patient {patient_id}"]
    for week, record in enumerate(history):
        means = "  ".join(f"{s.name} {m:5.1f}" for s, m in zip(signals, record.days.mean(axis=0), strict=True))
        mark = "  adverse event" if record.adverse else ""
        lines.append(f"week {week:2d}  {treatment_text(record):<18s}{means}  risk {record.risk:.2f}{mark}")
    return "\n".join(lines)


def render_image(
    patient_id: int, history: list[WeekRecord], patients: Patients, settings: EnvSettings
) -> NDArray[np.uint8]:
    """uint8 ``[H, 1120, 3]``, the same H whatever the week, with the horizon's weeks still to come left blank."""
    signals = patients.signals
    height = HEAD + PER_SIGNAL * len(signals)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals) + 2, 1, sharex=True, height_ratios=[0.75, *[1.0] * len(signals), 1.3])
    # Fixed margins: a frame must not shift because a number in it grew wider.
    figure.subplots_adjust(left=LEFT, right=0.985, top=1 - 66 / height, bottom=52 / height, hspace=0.12)
    _draw_treatments(axes[0], history)
    limits = _limits(history, patients)
    for k, signal in enumerate(signals):
        _draw_signal(axes[k + 1], history, k, signal, limits[k])
    _draw_risk(axes[-1], history, settings.remission_threshold)
    for ax in axes:
        _frame(ax, history, settings.horizon)
    _write_heading(figure, patient_id, history, settings, height)
    # The weeks' axis is shared: set once, as every setting goes to all panels.
    axes[-1].set_xlim(0, settings.horizon + 1)
    axes[-1].set_xticks(np.arange(settings.horizon + 1) + 0.5, ["baseline", *map(str, range(1, settings.horizon + 1))])
    axes[-1].set_xlabel("week", fontsize=9, color=INK)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    figure.clear()
    return image


def _limits(history: list[WeekRecord], patients: Patients) -> NDArray[np.float64]:
    """``[C, 2]``: what the population spans, so that a picture's scale is steady; wider where the patient is beyond."""
    days = np.concatenate([record.days for record in history])
    mean, sd = np.array(patients.scaler.mean), np.array(patients.scaler.sd)
    low, high = (np.array([getattr(s, end) for s in patients.signals]) for end in ("low", "high"))
    usual = np.clip(mean - 2.5 * sd, low, high), np.clip(mean + 2.5 * sd, low, high)
    found = np.stack([np.minimum(usual[0], days.min(axis=0)), np.maximum(usual[1], days.max(axis=0))], axis=1)
    margin = 0.06 * (found[:, 1] - found[:, 0])
    return found + margin[:, None] * np.array([-1.0, 1.0])


def _draw_treatments(ax: Axes, history: list[WeekRecord]) -> None:
    for week, record in enumerate(history):
        if record.treatment is None:
            continue
        # Control has no dose: a low grey bar says that the week was lived, not that something was given.
        height = 0.06 if record.treatment == CONTROL else record.intensity
        ax.bar(week + 0.5, height, 0.9, color=COLOURS[record.treatment], linewidth=0)
        if record.treatment != CONTROL:
            ax.text(week + 0.5, height + 0.05, f"{record.intensity:.2f}", ha="center", fontsize=8, color=INK)
        if record.adverse:
            ax.plot(week + 0.87, 1.22, marker="v", markersize=8, color=ALARM, clip_on=False)
    ax.set_ylim(0.0, 1.4)
    ax.set_yticks([0.0, 1.0])
    _label(ax, "treatment", "intensity 0 to 1")


def _draw_signal(ax: Axes, history: list[WeekRecord], k: int, signal: Signal, limits: NDArray[np.float64]) -> None:
    days = np.concatenate([record.days[:, k] for record in history])
    time = (np.arange(len(days)) + 0.5) / DAYS
    ax.plot(time, days, color=FAINT, linewidth=0.7, marker="o", markersize=2.4, markeredgewidth=0, zorder=2)
    weeks, means = np.arange(len(history)), [float(record.days[:, k].mean()) for record in history]
    ax.hlines(means, weeks + 0.05, weeks + 0.95, color=INK, linewidth=2.2, zorder=3)
    ax.set_ylim(*limits)
    ax.locator_params(axis="y", nbins=4)
    _label(ax, signal.name.replace("_", " "), f"{signal.unit}, {'higher' if signal.better > 0 else 'lower'} is better")


def _draw_risk(ax: Axes, history: list[WeekRecord], threshold: float) -> None:
    risks = [record.risk for record in history]
    time = np.arange(len(risks)) + 0.5
    ax.axhspan(0.0, threshold, color=WELL, alpha=0.10, linewidth=0)
    ax.axhline(threshold, color=WELL, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.fill_between(time, risks, color=RISK, alpha=0.12, linewidth=0)
    ax.plot(time, risks, color=RISK, linewidth=1.8, zorder=3)
    ax.scatter(time, risks, s=30, color=[WELL if risk < threshold else RISK for risk in risks], zorder=4)
    ax.text(0.06, threshold - 0.03, f"well: below {threshold:g}", fontsize=8, color=WELL, va="top")
    for at, risk in zip(time, risks, strict=True):
        ax.annotate(f"{risk:.2f}", (at, risk), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=RISK)
    ax.set_ylim(0.0, 1.15)
    ax.set_yticks([0.0, 0.5, 1.0])
    _label(ax, "risk score", "0 to 1, lower is better")


def _frame(ax: Axes, history: list[WeekRecord], horizon: int) -> None:
    """What all panels share: weeks as columns, tinted with their treatment, and no more lines than needed."""
    whole = ax.get_xaxis_transform()
    given = [(week, COLOURS[r.treatment]) for week, r in enumerate(history) if r.treatment is not None]
    spans, colours = [(week, 1) for week, _ in given], [colour for _, colour in given]
    ax.broken_barh(spans, (0, 1), transform=whole, facecolors=colours, alpha=0.13, linewidth=0, zorder=0)
    ax.vlines(np.arange(horizon + 2), 0, 1, transform=whole, color="#E3E3E3", linewidth=0.6, zorder=1)
    ax.tick_params(length=0, labelsize=8, labelcolor=INK)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _label(ax: Axes, name: str, unit: str) -> None:
    """A panel's name and unit, side by side with it so that nobody has to tilt their head."""
    x = (MARGIN - LEFT) / (0.985 - LEFT)
    ax.text(x, 0.5, name, transform=ax.transAxes, fontsize=10, fontweight="bold", color=INK, va="bottom")
    ax.text(x, 0.46, unit, transform=ax.transAxes, fontsize=7.5, color="#555555", va="top")


def _write_heading(
    figure: Figure, patient_id: int, history: list[WeekRecord], settings: EnvSettings, height: int
) -> None:
    weeks = len(history) - 1
    given = sum(record.intensity for record in history)
    events = sum(record.adverse for record in history)
    line = 1.0 / height
    figure.text(MARGIN, 1 - 18 * line, f"Patient {patient_id}", fontsize=13, fontweight="bold", color=INK, va="center")
    facts = f"week {weeks} of {settings.horizon}   ·   risk {history[0].risk:.2f} → {history[-1].risk:.2f}   ·   dose-weeks {given:.1f}   ·   adverse events {events}"
    figure.text(0.985, 1 - 18 * line, facts, fontsize=9.5, color=INK, va="center", ha="right")
    handles: list[Any] = [Patch(color=colour, label=label) for colour, label in zip(COLOURS, LABELS, strict=True)]
    handles.append(figure.axes[0].plot([], [], "v", color=ALARM, markersize=7, label="adverse event")[0])
    handles.append(figure.axes[0].plot([], [], ".-", color=FAINT, linewidth=0.7, label="day")[0])
    handles.append(figure.axes[0].plot([], [], color=INK, linewidth=2.2, label="week's mean")[0])
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(MARGIN - 0.008, 1 - 44 * line),
        ncols=len(handles),
        fontsize=8.5,
        frameon=False,
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.6,
    )
