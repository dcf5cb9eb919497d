"""The figures of the risk model: is it true, whom does it find, what is acting on it worth, for whom, how early, and why."""

from typing import Any

import numpy as np

from core.cohort import RISK_CLASSES
from core.signals import WEEKDAYS
from pipeline.report.charts import (
    GREY,
    INK,
    REAL,
    SYNTHETIC,
    Figure,
    at,
    band,
    bars,
    chart,
    dots,
    downwards,
    heat,
    line,
    readable,
    whiskers,
)
from pipeline.risk_figures import KINDS, RATES, everybody, large, widest
from pipeline.risk_table import baseline_name, few, judged, known, percent, short, span

Metrics = dict[str, Any]
OF_KIND = dict(zip(KINDS, ((SYNTHETIC, "solid"), (GREY, "dash"), (REAL, "solid"), (INK, "dot")), strict=True))
Z = 1.96


def risk_charts(risk: Metrics) -> dict[str, Figure]:
    """Every figure by name; what was not measured has none."""
    figures = {"reliability": reliability(risk)}
    if risk.get("roc"):
        figures["roc"] = roc(risk)
    if risk.get("confusion"):
        figures["confusion"] = confusion(risk)
    if risk.get("decision_curve", {}).get("rows"):
        figures["decision"] = decision(risk)
    if any(large(table) for table in risk.get("subgroups", {}).values()):
        figures["subgroups"] = subgroups(risk)
    if risk.get("early_warning"):
        figures["early"] = early(risk)
    if risk.get("attribution"):
        figures["attribution"] = attribution(risk["attribution"])
    return figures


def wilson(share: np.ndarray, n: Any) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share of ``n`` (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def reliability(risk: Metrics) -> Figure:
    """Predicted against observed share of each class, beside the diagonal of a true model."""
    charts = []
    unit = {"range": [-0.03, 1.03]}
    for name in RISK_CLASSES:
        points = risk["reliability"][name]
        x, y, n = (np.array([point[side] for point in points], float) for side in ("predicted", "observed", "persons"))
        ends = list(zip(*wilson(y, n), strict=True))
        data = [
            line([0, 1], [0, 1], "a true model", GREY, "dash", 1),
            dots(x, y, "risk model", SYNTHETIC, error_y=whiskers(y, ends, SYNTHETIC)),
        ]
        data[1]["marker"] |= {"size": 6 + 9 * np.sqrt(n / n.max())}
        charts.append(chart(data, name, f"predicted P({name})", "observed share", xaxis=unit, yaxis=unit))
    bayes = known(risk.get("bayes_ceiling", {}).get("ece"))
    title = f"Probabilities are off by {short(risk['ece'])}{span(risk.get('intervals', {}).get('ece'))} on average; a true model's would be by {short(risk['ece_floor'])}, by luck"  # fmt: skip
    beside = f"Expected calibration error, {judged(risk)}" + (
        "" if bayes is None else f"; Bayes ceiling {short(bayes)}"
    )
    legend = [("risk model, area: weeks", SYNTHETIC, "dot"), ("a true model", GREY, "dash")]
    return Figure(title, beside + "; bars: 95 % Wilson intervals of a bin.", charts, legend)


def roc(risk: Metrics) -> Figure:
    """Share of the High found against share of the others called, with its interval and the alarm's place."""
    fpr, tpr = (np.array([point[side] for point in risk["roc"]], float) for side in ("fpr", "tpr"))
    data = [line([0, 1], [0, 1], "chance", GREY, "dot", 1)]
    n = sum(risk["confusion"]["counts"][-1]) if risk.get("confusion") else None
    if n:
        data.append(band(fpr, *wilson(tpr, n), "95 % interval", f"{SYNTHETIC}/0.2"))
    data.append(line(fpr, tpr, "risk model", SYNTHETIC))
    alarm, legend = risk.get("alarm", {}), [("risk model", SYNTHETIC, "line"), ("chance", GREY, "dash")]
    if known(alarm.get("recall")) is not None and known(alarm.get("specificity")) is not None:
        data.append(dots([1 - alarm["specificity"]], [alarm["recall"]], "alarm", REAL))
        legend.append((f"alarm, P(High) >= {alarm['threshold']:.2f}", REAL, "dot"))
    unit = {"range": [-0.01, 1.01]}
    drawn = chart(data, "", "share of the others called", "share of High found", 330, xaxis=unit, yaxis=unit)
    rivals = {
        **{k: v for k, v in risk["baselines"].items() if k != "prior"},
        "Bayes ceiling": risk.get("bayes_ceiling", {}),
    }
    told = [f"{baseline_name(name)} {short(row['auc_high'])}" for name, row in rivals.items() if known(row.get("auc_high")) is not None]  # fmt: skip
    title = f"A week of High risk outranks another {short(risk['auc_high'])}{span(risk.get('intervals', {}).get('auc_high'))} of the time"  # fmt: skip
    beside = f"AUC of High; {judged(risk)}" + (f", {n:,} of them High" if n else "") + f"; chance .500, {', '.join(told)}. Area: pointwise 95 % Wilson interval."  # fmt: skip
    return Figure(title, beside, [drawn], legend)


def decision(risk: Metrics) -> Figure:
    """Net benefit by the threshold at which one acts (Vickers and Elkin 2006, doi 10.1177/0272989X06295361)."""
    curve = risk["decision_curve"]
    rows = curve["rows"]
    x = [row["threshold"] for row in rows]
    styles = {"model": (SYNTHETIC, "solid", "risk model"), "all": (GREY, "solid", "everybody called"), "bayes": (INK, "dot", "Bayes ceiling")}  # fmt: skip
    names = [name for name in rows[0] if name not in ("threshold", "none", "prior")]
    data, legend = [], []
    for name in names:
        colour, dash, label = styles.get(name, (f"{REAL}/0.7", "dash", baseline_name(name)))
        data.append(line(x, [known(row[name]) for row in rows], label, colour, dash, 3 if name == "model" else 1.5))
        if name in styles:
            legend.append((label, colour, "dash" if dash == "dot" else "line"))
    best = max([0.04, *(row["model"] for row in rows if known(row["model"]) is not None)])
    axis = {"range": [-0.25 * best, 1.1 * best]}
    drawn = chart(data, "", "act where P(High) is at least", "net benefit", 330, shapes=[at(0, "y")], yaxis=axis)
    start, end = known(curve.get("useful_from")), known(curve.get("useful_to"))
    title = "At no threshold is acting on the model worth more than calling everybody or nobody"
    if start is not None and end is not None:
        title = (
            f"Acting on the model is worth more than calling everybody or nobody at thresholds {start:.2f} to {end:.2f}"
        )
    beside = f"Net benefit: High found per week judged, less false alarms at the threshold's odds; {judged(risk)}; dotted line: nobody called."  # fmt: skip
    return Figure(title, beside, [drawn], [*legend, ("baseline models", f"{REAL}/0.7", "dash")])


def confusion(risk: Metrics) -> Figure:
    """Counts, shaded by the share of the actual class."""
    counts = np.array(risk["confusion"]["counts"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    words = [
        [f"{n:,.0f}<br>{percent(s)}" for n, s in zip(*row, strict=True)] for row in zip(counts, share, strict=True)
    ]
    actual = [f"{name}, {percent(r)} found" for name, r in zip(RISK_CLASSES, risk["confusion"]["recall"], strict=True)]
    called = [
        f"{name}<br>{percent(p)} right" for name, p in zip(RISK_CLASSES, risk["confusion"]["precision"], strict=True)
    ]
    table = heat(share, called, actual, "warm", 0, 1, text=words, texttemplate="%{text}", showscale=False)
    drawn = chart([table], "", "called", "", 330, yaxis={"autorange": "reversed", "automargin": True})
    apart = int(counts[0, -1] + counts[-1, 0])
    title = f"{percent(risk['accuracy'])} of weeks are called what they are; {percent(apart / max(counts.sum(), 1))} are taken for the opposite"  # fmt: skip
    prior, bayes = (known(risk.get(part, {}).get("accuracy")) for part in ("prior", "bayes_ceiling"))
    prior = known(risk["baselines"].get("prior", {}).get("accuracy")) if prior is None else prior
    beside = f"{judged(risk)}; rows: actual class" + ("" if prior is None else f"; always the commonest class: {percent(prior)}") + ("" if bayes is None else f"; Bayes ceiling {percent(bayes)}")  # fmt: skip
    return Figure(title, beside + ".", [drawn])


def subgroups(risk: Metrics) -> Figure:
    """Recall, false alarms and calibration of every group with its interval, beside all persons."""
    rows = [
        (f"{name} ({row['n']:,})", row) for table in risk["subgroups"].values() for name, row in large(table).items()
    ]
    labels, charts = [name for name, _ in rows], []
    for rate, label in RATES:
        values = [known(row.get(rate)) for _, row in rows]
        ends = [row.get("intervals", {}).get(rate) for _, row in rows]
        data = [dots(values, labels, label, SYNTHETIC, error_x=whiskers(values, ends, SYNTHETIC))]
        if rate == "ece":
            data.append(dots([known(row.get("ece_floor")) for _, row in rows], labels, "by luck alone", INK, "line-ns"))
        whole = everybody(risk, rate)
        shapes = [] if whole is None else [at(whole)]
        charts.append(chart(data, label, **downwards(len(rows), shapes=shapes, xaxis={"rangemode": "tozero"})))
    small = few(risk["subgroups"])
    beside = "Persons in brackets; 95 % intervals; dotted: all persons; bar: ECE by luck alone" + (f"; too few to say: {small}" if small else "")  # fmt: skip
    return Figure(widest(risk["subgroups"]), f"{beside}; {judged(risk)}.", charts, wide=300)


def early(risk: Metrics) -> Figure:
    """AUC of High by the days known from Monday on."""
    found = risk["early_warning"]
    days = sorted(found, key=int)
    data, legend = [], []
    for kind, (colour, dash) in OF_KIND.items():
        key, label = kind[:2]
        values = [known((found[day].get(key) or {}).get("auc_high")) for day in days]
        if any(value is not None for value in values):
            data.append(line([int(day) for day in days], values, label, colour, dash, points=True))
            legend.append((label, colour, "line" if dash == "solid" else "dash"))
    axis = {
        "tickvals": [int(day) for day in days],
        "ticktext": [f"{day} (to {WEEKDAYS[int(day) - 1]})" for day in days],
    }
    first, last = (short(found[day]["masked"].get("auc_high")) for day in (days[0], days[-1]))
    title = f"With {days[0]} days known the model ranks with an AUC of {first}, with {days[-1]} of {last}"
    drawn = chart(data, "", "days known, from Monday on", "AUC of High", 300, xaxis=axis)
    return Figure(title, f"{judged(risk)}; chance .500; ceiling and rivals as in the legend.", [drawn], legend)


def attribution(found: Metrics) -> Figure:
    """What moves the risk score: mean absolute contribution by source, and by day and signal."""
    moved = {**found["signals"], **found["profile"]}
    order = sorted(moved, key=lambda name: -moved[name])
    colours = [SYNTHETIC if name in found["signals"] else REAL for name in order]
    data = [bars([readable(name) for name in order], [moved[name] for name in order], colours)]
    days = heat([found["days"][name] for name in found["days"]], WEEKDAYS, [readable(n) for n in found["days"]], "warm", 0,
                max(max(row) for row in found["days"].values()))  # fmt: skip
    rows = downwards(len(order))
    charts = [
        chart(data, "by source", "mean absolute change of the risk score", **rows),
        chart([days], "by day and signal", height=rows["height"], yaxis={"autorange": "reversed", "automargin": True}),
    ]
    week = sum(found["signals"].values()) / max(sum(moved.values()), 1e-12)
    title = (
        f"{readable(order[0]).capitalize()} moves the risk score most; the week carries {percent(week)} of all movement"
    )
    beside = (
        f"Integrated gradients of {found['persons']:,} held-out weeks (mean), against the average person; parts miss the "
        f"score by {found['completeness_error_mean']:.4f} on average."
    )
    return Figure(title, beside, charts, [("week", SYNTHETIC, "box"), ("profile", REAL, "box")], wide=330)
