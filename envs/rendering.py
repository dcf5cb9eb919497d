"""An episode as a person reads it: one line of text per week, or a picture."""

from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.signals import DAYS, Signals
from core.treatments import CONTROL, LABELS


@dataclass(frozen=True)
class WeekRecord:
    """What one week looked like; the baseline week has no treatment."""

    days: NDArray[np.float32]  # (7, C)
    risk: float
    treatment: int | None
    intensity: float
    adverse: bool


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
    patient_id: int, history: list[WeekRecord], signals: Signals, horizon: int, threshold: float
) -> NDArray[np.uint8]:
    """``[H, W, 3]``: the days of each signal above the risk score, with each week's treatment."""
    figure = Figure(figsize=(8.0, 1.3 * len(signals) + 2.0), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals) + 1, 1, sharex=True)
    days = np.concatenate([record.days for record in history])  # (7W, C)
    time = np.arange(len(days)) / DAYS
    for k, signal in enumerate(signals):
        axes[k].plot(time, days[:, k], marker=".", linewidth=0.8)
        axes[k].set_ylabel(f"{signal.name}\n[{signal.unit}]", fontsize=7)
    axes[-1].step(np.arange(len(history) + 1), [*(r.risk for r in history), history[-1].risk], where="post", color="C3")
    axes[-1].axhline(threshold, linestyle=":", color="grey")
    axes[-1].set_ylim(0.0, 1.0)
    axes[-1].set_ylabel("risk score", fontsize=7)
    for week, record in enumerate(history):
        text = treatment_text(record) + (" !" if record.adverse else "")
        axes[-1].text(week + 0.05, 0.95, text.replace(" ", "\n"), fontsize=6, va="top")
    axes[-1].set_xlim(0, horizon + 1)
    axes[-1].set_xlabel("week (0 = baseline; ! = adverse event)", fontsize=8)
    figure.suptitle(f"Patient {patient_id}", fontsize=9)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    figure.clear()
    return image
