"""What the risk model can do, as a table: beside the best baseline, the Bayes ceiling, and by whom it finds."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape

from core.cohort import RISK_CLASSES
from pipeline.terminal.table import Table

Metrics = dict[str, Any]
Interval = tuple[float, float]
MEASURES = {  # metric -> its name, whether more is better
    "accuracy": ("accuracy", True),
    "macro_f1": ("macro F1", True),
    "f1_high": ("F1 of High", True),
    "recall_high": ("recall of High", True),
    "auc_high": ("AUC of High", True),
    "brier": ("Brier score", False),
    "ece": ("ECE", False),
}
PRIOR = "prior"  # the baseline that knows the classes' shares alone
BASELINE_NAMES = {"gradient_boosting": "boosting", PRIOR: "class shares"}
GROUP_RATES = (("recall", "recall"), ("false_positive_rate", "false alarms"))
COLOURS = {"ahead": "green", "behind": "bold red"}


@dataclass(frozen=True)
class RiskRow:
    """One metric of the model and what stands beside it; None where there is none.

    ``difference`` is the model minus the best baseline on the same persons, with its interval; ``way`` how far the model
    gets from the classes' shares alone (0) to the ceiling (1).
    """

    key: str
    label: str
    value: float
    interval: Interval | None
    baseline: str | None
    baseline_value: float | None
    difference: tuple[float, float, float] | None
    ceiling: float | None
    way: float | None
    verdict: str


def risk_rows(risk: Metrics) -> list[RiskRow]:
    """The rows that the risk stage's metrics fill."""
    return [_row(key, label, more, risk) for key, (label, more) in MEASURES.items() if known(risk.get(key)) is not None]


def _row(key: str, label: str, more: bool, risk: Metrics) -> RiskRow:
    value, sign = risk[key], 1 if more else -1
    # The classes' shares are calibrated by construction and say nothing: in calibration they are no rival.
    rivals = {
        name: row[key]
        for name, row in risk["baselines"].items()
        if known(row.get(key)) is not None and not (key == "ece" and name == PRIOR)
    }
    best = max(rivals, key=lambda name: sign * rivals[name]) if rivals else None
    interval = risk.get("intervals", {}).get(key)
    difference = risk.get("differences", {}).get(best, {}).get(key)
    ceiling, start = known(risk.get("bayes_ceiling", {}).get(key)), known(risk["baselines"].get(PRIOR, {}).get(key))
    way = None
    if key != "ece" and ceiling is not None and start is not None and sign * (ceiling - start) > 0.01:
        way = (value - start) / (ceiling - start)
    return RiskRow(
        key,
        label,
        value,
        None if interval is None else (interval[0], interval[1]),
        best,
        None if best is None else rivals[best],
        None if difference is None else (difference[0], difference[1], difference[2]),
        ceiling,
        way,
        verdict(difference, more),
    )


def known(value: Any) -> float | None:
    """The number, or None where it is none."""
    return value if isinstance(value, (int, float)) and isfinite(value) else None


def verdict(difference: Any, more: bool) -> str:
    """``ahead`` of or ``behind`` the best baseline where the paired interval leaves no doubt, else ``level``."""
    if difference is None:
        return ""
    low, high = difference[1:] if more else (-difference[2], -difference[1])
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


def baseline_name(name: str) -> str:
    return BASELINE_NAMES.get(name, name.replace("_", " "))


def short(value: float | None, signed: bool = False) -> str:
    """Three digits without the leading zero: ``.893``, ``+.012``."""
    if value is None or known(value) is None:
        return "n/a"
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    if text.strip("+-0.") == "":
        return ".000"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def percent(value: float | None) -> str:
    return "n/a" if known(value) is None else f"{100 * value:.0f} %"  # type: ignore[operator]


def span(interval: Any, how: Any = short) -> str:
    """`` (.875 to .908)``, or nothing."""
    if not interval or any(known(each) is None for each in interval):
        return ""
    return f" ({how(interval[0]).removesuffix(' %')} to {how(interval[1]).removesuffix(' %')})"


def judged(risk: Metrics) -> str:
    """How many weeks it was judged on."""
    rows = sum(point["persons"] for point in risk["reliability"]["High"])
    return f"{rows:,} held-out weeks"


def risk_report(risk: Metrics) -> Group:
    """Everything the terminal says of the risk model, at most 100 columns wide."""
    parts: list[Any] = [risk_table(risk_rows(risk), judged(risk))]
    parts += [escape(line) for line in sentences(risk)]
    if "confusion" in risk:
        parts.append(confusion_table(risk["confusion"]))
    return Group(*parts)


def risk_table(rows: list[RiskRow], of: str) -> Table:
    title = f"Risk model, judged on {of}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("metric", no_wrap=True)
    differs, ceiling = any(row.difference for row in rows), any(row.ceiling is not None for row in rows)
    for column in ("model (95 % CI)", "best baseline", *(("model - baseline",) if differs else ())):
        table.add_column(column, justify="right", no_wrap=True)
    if differs:
        table.add_column("verdict", no_wrap=True)
    for column in ("ceiling", "way") if ceiling else ():
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.label, short(row.value) + span(row.interval)]
        cells.append("" if row.baseline is None else f"{baseline_name(row.baseline)} {short(row.baseline_value)}")
        if differs:
            cells.append(apart(row.difference))
            colour = COLOURS.get(row.verdict)
            cells.append(f"[{colour}]{row.verdict}[/]" if colour else row.verdict)
        if ceiling:
            cells += ["" if row.ceiling is None else short(row.ceiling), "" if row.way is None else percent(row.way)]
        table.add_row(*cells)
    table.caption_justify = "left"
    if ceiling:
        table.caption = "ceiling: one who knows the source; way: from the classes' shares (0 %) to the ceiling (100 %)"
    return table


def apart(difference: tuple[float, float, float] | None) -> str:
    """``+.004 (-.002 to +.010)``"""
    if difference is None:
        return ""
    return short(difference[0], True) + span(difference[1:], lambda each: short(each, True))


def sentences(risk: Metrics) -> list[str]:
    """What a table of metrics does not say, one line each; what was not measured is left out."""
    lines = [*_behind(risk), _calibration(risk)]
    if "alarm" in risk:
        lines.append(alarm_line(risk["alarm"]))
    curve = risk.get("decision_curve", {})
    if known(curve.get("useful_from")) is not None:
        lines.append(
            f"worth acting on where one would call at P(High) of {curve['useful_from']:.2f} to {curve['useful_to']:.2f}: "
            "better than all or nobody"
        )
    lines += subgroup_lines(risk.get("subgroups", {}))
    if risk.get("early_warning"):
        lines.append(early_line(risk["early_warning"]))
    return lines


def _behind(risk: Metrics) -> list[str]:
    behind = [row for row in risk_rows(risk) if row.verdict == "behind"]
    return [
        "below the best baseline: "
        + "; ".join(
            f"{row.label} {apart(row.difference)} against {baseline_name(row.baseline or '')}" for row in behind
        )
    ] * bool(behind)


def _calibration(risk: Metrics) -> str:
    text = f"calibration: ECE {short(risk['ece'])} (a true model's, by luck: {short(risk['ece_floor'])})"
    if known(risk.get("ece_debiased")) is not None:
        interval = span(risk.get("intervals", {}).get("ece_debiased"))
        text += f"; rms error without luck {short(risk['ece_debiased'])}{interval}"
    return text


def alarm_line(alarm: Metrics) -> str:
    """The threshold and what calling everybody above it amounts to."""
    finds = f"{percent(alarm['recall'])}{span(alarm.get('intervals', {}).get('recall'), percent)}"
    return (
        f"alarm at P(High) >= {alarm['threshold']:.2f}: finds {finds} of High (aim {percent(alarm['target_recall'])}), "
        f"flags {percent(alarm['flagged'])} of all, PPV {percent(alarm['ppv'])}"
    )


def subgroup_lines(subgroups: Metrics) -> list[str]:
    """Lowest to highest rates by column, which groups differ from all others beyond luck, who is too few to say."""
    lines = [f"by {column.replace('_', ' ')}: {_extremes(table['groups'])}" for column, table in subgroups.items()]
    unlike = [
        f"{name}: {label} {apart(row[rate])}"
        for table in subgroups.values()
        for name, row in table.get("differences", {}).items()
        for rate, label in GROUP_RATES
        if verdict(row.get(rate), True) in COLOURS
    ]
    if unlike:
        lines.append(f"unlike all others: {'; '.join(unlike)}")
    small = few(subgroups)
    return [*lines, *([f"too few to say: {small}"] if small else [])]


def _extremes(groups: Metrics) -> str:
    parts = []
    for rate, label in GROUP_RATES:
        rates = {name: row[rate] for name, row in groups.items() if known(row.get(rate)) is not None}
        if rates:
            low, high = (pick(rates, key=lambda name: rates[name]) for pick in (min, max))
            ends = f"{percent(rates[low])} ({low})" + (f" to {percent(rates[high])} ({high})" if low != high else "")
            parts.append(f"{label} {ends}")
    return ", ".join(parts) if parts else "no group is large enough to say"


def ordered(groups: Metrics) -> list[tuple[str, Metrics]]:
    """Groups by name, a lowest band (``<30``) first."""
    return sorted(groups.items(), key=lambda item: not item[0].startswith("<"))


def few(subgroups: Metrics) -> str:
    """The groups with too few persons for a rate, and how many they are."""
    rows = [(name, row) for table in subgroups.values() for name, row in table["groups"].items()]
    return ", ".join(f"{name} ({row['n']})" for name, row in rows if row.get("small"))


def early_line(early: Metrics) -> str:
    """AUC of High and what the alarm finds by the number of days known."""
    parts = []
    for days in sorted(early, key=int):
        seen = early[days]["masked"]
        finds = "" if known(seen.get("recall_alarm")) is None else f" ({percent(seen['recall_alarm'])})"
        parts.append(f"{days} days {short(seen.get('auc_high'))}{finds}")
    return "early, AUC of High (the alarm finds) after: " + ", ".join(parts)


def confusion_table(confusion: Metrics) -> Table:
    """Counts, actual by predicted class, with each class's recall and precision."""
    table = Table(
        title="Who is taken for whom", title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("actual", no_wrap=True)
    for name in (*(f"called {name}" for name in RISK_CLASSES), "recall"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, counts, recall in zip(RISK_CLASSES, confusion["counts"], confusion["recall"], strict=True):
        table.add_row(name, *(f"{count:,}" for count in counts), percent(recall))
    table.add_section()
    table.add_row("precision", *(percent(each) for each in confusion["precision"]), "")
    return table
