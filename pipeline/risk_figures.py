"""The figures of the risk model: is it true, whom does it find, what is acting on it worth, for whom, how early, and why."""

from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.cohort import RISK_CLASSES
from core.signals import WEEKDAYS
from pipeline.figures import GREY, REAL, SYNTHETIC, new_figure, plain_axes
from pipeline.risk_table import baseline_name, few, judged, known, ordered, percent, short, span

Metrics = dict[str, Any]
SHOWN_GROUPS = 12  # of one profile column; more would be no figure
RATES = (("recall", "recall of High"), ("false_positive_rate", "false alarms among the others"), ("ece", "ECE"))
KINDS = (  # early warning: what is known of the week -> its label, colour, line
    ("masked", "the model, later days unknown", SYNTHETIC, "o-"),
    ("filled", "later days filled with their mean", GREY, "s--"),
    ("specialist", "regression trained on these days", REAL, "^-"),
    ("bayes", "Bayes ceiling", "black", ":"),
)


def risk_figures(risk: Metrics) -> dict[str, Figure]:
    """Every figure by name; what was not measured has none."""
    figures = {"reliability": reliability_figure(risk)}
    if risk.get("roc"):
        figures["roc"] = roc_figure(risk)
    if risk.get("confusion"):
        figures["confusion"] = confusion_figure(risk)
    if risk.get("decision_curve", {}).get("rows"):
        figures["decision"] = decision_figure(risk)
    if any(large(table) for table in risk.get("subgroups", {}).values()):
        figures["subgroups"] = subgroup_figure(risk)
    if risk.get("early_warning"):
        figures["early"] = early_figure(risk)
    if risk.get("attribution"):
        figures["attribution"] = attribution_figure(risk["attribution"])
    return figures


def reliability_figure(risk: Metrics) -> Figure:
    """Predicted against observed share of each class, beside the diagonal of a true model."""
    figure = new_figure(10, 3.6)
    ece, floor = risk["ece"], risk["ece_floor"]
    bayes = known(risk.get("bayes_ceiling", {}).get("ece"))
    beside = f"a true model would show {short(floor)} by luck" + ("" if bayes is None else f", Bayes {short(bayes)}")
    headed(figure, f"Probabilities are off by {short(ece)} on average (ECE); {beside}; {judged(risk)}")
    largest = max(point["persons"] for points in risk["reliability"].values() for point in points)
    for ax, name in zip(figure.subplots(1, 3, sharey=True), RISK_CLASSES, strict=True):
        points = risk["reliability"][name]
        x, y = ([point[side] for point in points] for side in ("predicted", "observed"))
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="true")
        ax.plot(x, y, color=SYNTHETIC, linewidth=1)
        ax.scatter(x, y, [8 + 90 * p["persons"] / largest for p in points], color=SYNTHETIC, label="risk model")
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        plain_axes(ax, name, f"predicted P({name})", "observed share" if name == RISK_CLASSES[0] else "")
    ax.legend(fontsize=8, frameon=False, loc="upper left", title="area: weeks", title_fontsize=8)
    return figure


def roc_figure(risk: Metrics) -> Figure:
    """Share of the High found against share of the others called, with the alarm's place."""
    figure = new_figure(4.4, 4.1)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance, AUC .500")
    ax.plot(
        *([p[side] for p in risk["roc"]] for side in ("fpr", "tpr")), color=SYNTHETIC, label=_auc("risk model", risk)
    )
    alarm = risk.get("alarm", {})
    if known(alarm.get("recall")) is not None and known(alarm.get("specificity")) is not None:
        ax.plot(
            1 - alarm["specificity"],
            alarm["recall"],
            "o",
            color=REAL,
            label=f"alarm, P(High) >= {alarm['threshold']:.2f}",
        )
    for name, row in {**_rivals(risk), "Bayes ceiling": risk.get("bayes_ceiling", {})}.items():
        if known(row.get("auc_high")) is not None:  # a number without its curve
            ax.plot([], [], " ", label=f"{baseline_name(name)}: AUC {short(row['auc_high'])}")
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set_aspect("equal")
    interval = span(risk.get("intervals", {}).get("auc_high"))
    plain_axes(ax, f"High outranks others {short(risk['auc_high'])}{interval} of the time\n{judged(risk)}",
               "share of the others called", "share of High found")  # fmt: skip
    return figure


def _auc(name: str, row: Metrics) -> str:
    return f"{name}: AUC {short(row['auc_high'])}"


def _rivals(risk: Metrics) -> Metrics:
    return {name: row for name, row in risk["baselines"].items() if name != "prior"}


def decision_figure(risk: Metrics) -> Figure:
    """Net benefit by the threshold at which one acts (Vickers and Elkin 2006)."""
    curve = risk["decision_curve"]
    rows = curve["rows"]
    figure = new_figure(7, 3.8)
    ax = figure.subplots()
    x = [row["threshold"] for row in rows]
    ax.axhline(0, color="black", linewidth=0.8, linestyle=":")
    ax.text(x[0], 0, "nobody called", fontsize=8, va="top")
    styles = {"model": (SYNTHETIC, "-", "risk model"), "all": (GREY, "-", "everybody called"),
              "bayes": ("black", ":", "Bayes ceiling")}  # fmt: skip
    dashes = cycle(("--", "-.", (0, (4, 1, 1, 1, 1, 1))))
    for name in rows[0]:
        if name in ("threshold", "none", "prior"):
            continue
        colour, line, label = styles.get(name) or (REAL, next(dashes), baseline_name(name))
        values = [np.nan if known(row[name]) is None else row[name] for row in rows]
        width = 2.2 if name == "model" else 1.2
        ax.plot(
            x, values, linestyle=line, color=colour, alpha=1.0 if name in styles else 0.6, label=label, linewidth=width
        )
    best = max((row["model"] for row in rows if known(row["model"]) is not None), default=0.0)
    ax.set_ylim(-0.25 * max(best, 0.04), 1.1 * max(best, 0.04))
    ax.legend(fontsize=8, frameon=False)
    start, end = known(curve.get("useful_from")), known(curve.get("useful_to"))
    found = "At no threshold is the model worth more than calling everybody or nobody"
    if start is not None and end is not None:
        found = f"Worth more than calling everybody or nobody at thresholds {start:.2f} to {end:.2f}"
    plain_axes(
        ax, f"{found}\n{judged(risk)}", "act where P(High) is at least", "net benefit (High found per week judged)"
    )
    return figure


def confusion_figure(risk: Metrics) -> Figure:
    """Counts, shaded by the share of the actual class."""
    confusion = risk["confusion"]
    counts = np.array(confusion["counts"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(4.4, 4.1)
    ax = figure.subplots()
    ax.imshow(share, cmap="Oranges", vmin=0, vmax=1)
    for i in range(3):
        for j in range(3):
            colour = "white" if share[i, j] > 0.6 else "black"
            ax.text(
                j, i, f"{counts[i, j]:,.0f}\n{percent(share[i, j])}", ha="center", va="center", fontsize=9, color=colour
            )
    recall, precision = confusion["recall"], confusion["precision"]
    columns = [f"{n}\nprecision {percent(p)}" for n, p in zip(RISK_CLASSES, precision, strict=True)]
    ax.set_xticks(range(3), columns)
    ax.set_yticks(range(3), [f"{name}\nrecall {percent(r)}" for name, r in zip(RISK_CLASSES, recall, strict=True)])
    plain_axes(ax, f"{percent(risk['accuracy'])} are called what they are\n{judged(risk)}", "called", "actual")
    ax.spines[:].set_visible(False)
    return figure


def large(table: Metrics) -> dict[str, Metrics]:
    """The groups with enough persons, as many as a figure holds."""
    return dict([item for item in ordered(table["groups"]) if not item[1].get("small")][:SHOWN_GROUPS])


def subgroup_figure(risk: Metrics) -> Figure:
    """Recall, false alarms and calibration of every group with its interval, beside all persons."""
    shown = [large(table) for table in risk["subgroups"].values()]
    rows = [(f"{name} ({row['n']:,})", row) for groups in shown for name, row in groups.items()]
    figure = new_figure(10, 0.32 * len(rows) + 1.7)
    small = few(risk["subgroups"])
    headed(figure, widest(risk["subgroups"]) + (f"; too few to say: {small}" if small else ""))
    for ax, (rate, label) in zip(figure.subplots(1, 3, sharey=True), RATES, strict=True):
        for y, (_, row) in enumerate(rows):
            interval = row.get("intervals", {}).get(rate)
            if interval:
                ax.plot(interval, [y, y], color=SYNTHETIC, linewidth=4, alpha=0.4, solid_capstyle="butt")
            if known(row.get(rate)) is not None:
                ax.plot(row[rate], y, "o", color=SYNTHETIC, markersize=5)
            if rate == "ece" and known(row.get("ece_floor")) is not None:
                ax.plot(row["ece_floor"], y, "|", color="black", markersize=11)
        whole = everybody(risk, rate)
        if whole is not None:
            ax.axvline(whole, color="black", linewidth=0.8, linestyle=":")
        for edge in np.cumsum([len(groups) for groups in shown])[:-1]:
            ax.axhline(edge - 0.5, color=GREY, linewidth=0.8)
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_xlim(0, max(1.0 if rate == "recall" else 0.1, ax.get_xlim()[1]))
        ax.grid(axis="x", color=GREY, alpha=0.4, linewidth=0.6)
        words = "bar: by luck alone" if rate == "ece" else "dotted: all persons"
        plain_axes(ax, label, words)
    ax.invert_yaxis()
    return figure


def everybody(risk: Metrics, rate: str) -> float | None:
    """The rate among all; none for ECE, which is larger in small groups by luck alone."""
    if rate == "recall":
        return known(risk.get("recall_high"))
    if rate == "false_positive_rate" and risk.get("confusion"):
        others = np.array(risk["confusion"]["counts"], float)[:-1]
        return known(float(others[:, -1].sum() / max(others.sum(), 1)))
    return None


def widest(subgroups: Metrics) -> str:
    """The largest gap in recall between two groups of a column."""
    gaps = {column: known(table["gaps"].get("recall")) for column, table in subgroups.items()}
    found = {column: gap for column, gap in gaps.items() if gap is not None}
    if not found:
        return "No two groups are large enough to compare"
    column = max(found, key=lambda each: found[each])
    return f"Recall of High differs most by {column.replace('_', ' ')}: by {100 * found[column]:.0f} points"


def early_figure(risk: Metrics) -> Figure:
    """AUC of High by the days known from Monday on."""
    early = risk["early_warning"]
    days = sorted(early, key=int)
    figure = new_figure(6.4, 3.6)
    ax = figure.subplots()
    for kind, label, colour, style in KINDS:
        points = [(int(day), known((early[day].get(kind) or {}).get("auc_high"))) for day in days]
        points = [point for point in points if point[1] is not None]
        if points:
            ax.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=5)
    ax.set_xticks([int(day) for day in days], [f"{day}\n(to {WEEKDAYS[int(day) - 1]})" for day in days])
    ax.margins(x=0.08, y=0.12)
    ax.legend(fontsize=8, frameon=False)
    first, last = (short(early[day]["masked"].get("auc_high")) for day in (days[0], days[-1]))
    plain_axes(ax, f"With {days[0]} days known, AUC {first}; with {days[-1]}, {last}\n{judged(risk)}",
               "days known, from Monday on", "AUC of High")  # fmt: skip
    return figure


def attribution_figure(attribution: Metrics) -> Figure:
    """What moves the risk score: mean absolute contribution by source, and by day and signal."""
    bars = {**attribution["signals"], **attribution["profile"]}
    order = sorted(bars, key=lambda name: bars[name])
    signals = list(attribution["days"])
    figure = new_figure(10, max(0.27 * len(order) + 1.3, 2.8))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    colours = [SYNTHETIC if name in attribution["signals"] else REAL for name in order]
    left.barh(range(len(order)), [bars[name] for name in order], color=colours, height=0.65)
    left.set_yticks(range(len(order)), [name.replace("_", " ") for name in order])
    plain_axes(left, "orange: week, dark: profile", "mean absolute change of the risk score")
    table = np.array([attribution["days"][name] for name in signals])
    image = right.imshow(table, cmap="Oranges", vmin=0, aspect="auto")
    right.set_xticks(range(7), WEEKDAYS)
    right.set_yticks(range(len(signals)), [name.replace("_", " ") for name in signals])
    plain_axes(right, "by day and signal")
    figure.colorbar(image, ax=right, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)
    week = sum(attribution["signals"].values()) / max(sum(bars.values()), 1e-12)
    headed(
        figure,
        f"{order[-1].replace('_', ' ').capitalize()} moves the risk score most; the week carries {percent(week)} of all "
        f"movement; integrated gradients of {attribution['persons']:,} weeks, off by "
        f"{attribution['completeness_error_mean']:.4f} on average",
    )
    return figure


def headed(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
