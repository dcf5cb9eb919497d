"""The figures of the policies: what they earn in Trial, at what dose and risk, and what the agent gives to whom."""

from typing import Any

import pandas as pd

from core.treatments import CONTROL, TREATMENTS
from pipeline.console import display_name, number
from pipeline.off_policy_table import NAMES, best_estimator, percent
from pipeline.prescription_table import RIVALS, beside, verdict
from pipeline.report.charts import (
    GREY,
    INK,
    NAME_OF_TREATMENT,
    OF_TREATMENT,
    REAL,
    SYNTHETIC,
    Figure,
    Trace,
    at,
    bars,
    chart,
    dots,
    downwards,
    line,
    readable,
    whiskers,
)
from pipeline.report.cohort import FEWEST

Metrics = dict[str, Any]
AGENT = "ppo"
COLOURS = {AGENT: SYNTHETIC, "privileged": REAL, "tree": "@t2"}
ACTIVE = [name for number, name in enumerate(TREATMENTS) if number != CONTROL]
TREATMENT_LEGEND = [(NAME_OF_TREATMENT[name], OF_TREATMENT[name], "box") for name in TREATMENTS]


def policy_figures(evaluate: Metrics, policy: Metrics) -> dict[str, Figure]:
    """Every figure by name, of the metrics of the evaluate and the policy stages; what was not measured has none."""
    figures = {"policies": policies(evaluate), "trade": trade(evaluate)}
    if evaluate.get("prescribed"):
        figures["prescribed"] = prescribed(evaluate)
    tables = (evaluate.get("subgroups") or {}).values()
    if any(row["persons"] >= FEWEST for table in tables for row in table.values()):
        figures["groups"] = groups(evaluate)
    if evaluate.get("dose_saved"):
        figures["rivals"] = rivals(evaluate)
    if any(policy.get("returns", {}).values()) or any(policy.get("learning_curves", {}).values()):
        figures["learning"] = learning(policy, evaluate)
    return figures


def judged(evaluate: Metrics) -> str:
    n = evaluate["policies"][AGENT]["patients"]
    return (
        f"{evaluate['weeks']} weeks in Trial, {n:,} held-out persons, {evaluate['confidence']:.0%} intervals by person"
    )


def policies(evaluate: Metrics) -> Figure:
    """Return with interval of every policy, best first."""
    rows = dict(sorted(evaluate["policies"].items(), key=lambda item: -item[1]["return"]))
    values, ends = [row["return"] for row in rows.values()], [row["return_ci"] for row in rows.values()]
    labels = [display_name(name, evaluate) for name in rows]
    text = [f"{row['remission']:.0%} remission, {row['dose_weeks']:.1f} dose-weeks" for row in rows.values()]
    data = [bars(labels, values, [COLOURS.get(name, GREY) for name in rows], ends, hovertext=text)]
    drawn = chart(data, "", "return", **downwards(len(rows)))
    remission = [100 * row["remission"] for row in rows.values()]
    second = bars(labels, remission, [COLOURS.get(name, GREY) for name in rows], [
        [100 * each for each in row["remission_ci"]] for row in rows.values()])  # fmt: skip
    charts = [drawn, chart([second], "", "remission, % of courses", **downwards(len(rows)))]
    return Figure(_standing(evaluate), f"{judged(evaluate)}; {_score(evaluate)}.", charts, wide=380)


def _standing(evaluate: Metrics) -> str:
    """Where the agent stands to its strongest rival that needs neither training on the truth nor hindsight."""
    table = evaluate["policies"]
    rivals = {name: row for name, row in table.items() if name not in (AGENT, "privileged", "tree")}
    name = max(rivals, key=lambda each: rivals[each]["return"])
    mine, best = table[AGENT]["return"], rivals[name]["return"]
    low, high = table[AGENT]["return_ci"]
    word = "above" if mine > best else "below" if mine < best else "like"
    sure = "" if not low <= best <= high else ", within its interval"
    return f"The agent returns {mine:.2f}, {word} the best rival ({display_name(name, evaluate)}: {best:.2f}){sure}"


def _score(evaluate: Metrics) -> str:
    if evaluate.get("normalised_score") is None:
        return "no privileged reference was trained; baseline: no treatment"
    low, high = evaluate["normalised_score_ci"]
    return (
        f"{100 * evaluate['normalised_score']:.0f} % ({100 * low:.0f} to {100 * high:.0f}) of the way from no treatment to "
        "the privileged agent, which sees the response"
    )


def trade(evaluate: Metrics) -> Figure:
    """Return against dose and against adverse events: every constant by dose, and every policy."""
    charts = []
    for key, label in (("dose_weeks", "dose-weeks a course"), ("adverse_events", "adverse events a course")):
        data = [_constants(evaluate, name, key) for name in ACTIVE]
        for name, row in evaluate["policies"].items():
            point = dots(
                [row[key]], [row["return"]], display_name(name, evaluate), COLOURS.get(name, INK), _symbol(name)
            )
            whisker = whiskers([row["return"]], [row["return_ci"]], COLOURS.get(name, INK))
            named = {"mode": "markers+text", "text": [SHORT_NAMES.get(name, "")], "textposition": "middle right"}
            data.append(point | named | {"error_y": whisker, "cliponaxis": False})
        charts.append(chart(data, "", label, "return", 340))
    legend = [("agent", SYNTHETIC, "dot"), ("privileged", REAL, "dot"), ("other policies", INK, "dot")]
    legend += [(f"constant {NAME_OF_TREATMENT[name]}", OF_TREATMENT[name], "line") for name in ACTIVE]
    return Figure(_trade(evaluate), f"{judged(evaluate)}; lines: each constant treatment from intensity 0.1 to 1.", charts, legend, wide=380)  # fmt: skip


SHORT_NAMES = {AGENT: " agent", "privileged": " privileged", "stepped_care": " stepped care", "none": " none"}


def _symbol(name: str) -> str:
    return {AGENT: "star", "privileged": "diamond"}.get(name, "circle")


def _constants(evaluate: Metrics, treatment: str, key: str) -> Trace:
    """One constant treatment by dose, lowest first."""
    prefix = f"constant_{treatment}_"
    rows = sorted((float(name.removeprefix(prefix)), row) for name, row in evaluate["constants"].items() if name.startswith(prefix))  # fmt: skip
    x, y = [row[key] for _, row in rows], [row["return"] for _, row in rows]
    return line(x, y, NAME_OF_TREATMENT[treatment], OF_TREATMENT[treatment]) | {
        "text": [f"{dose:g}" for dose, _ in rows]
    }


def _trade(evaluate: Metrics) -> str:
    """Whether any policy or constant that could be played earns as much with fewer adverse events."""
    mine = evaluate["policies"][AGENT]
    others = {name: row for name, row in (evaluate["policies"] | evaluate["constants"]).items() if name not in (AGENT, "privileged")}  # fmt: skip
    better = [name for name, row in others.items() if row["return"] >= mine["return"] and row["adverse_events"] <= mine["adverse_events"]]  # fmt: skip
    found = "no other policy earns as much with as few"
    if better:
        found = f"{len(better)} other{'s' if len(better) > 1 else ''} earn{'s' if len(better) == 1 else ''} as much with as few"
    stepped = evaluate["policies"].get("stepped_care")
    beside = (
        "" if stepped is None else f" (stepped care {stepped['dose_weeks']:.1f} and {stepped['adverse_events']:.2f})"
    )
    return f"The agent gives {mine['dose_weeks']:.1f} dose-weeks and {mine['adverse_events']:.2f} adverse events a course{beside}; {found}"  # fmt: skip


def prescribed(evaluate: Metrics) -> Figure:
    """Shares of treatments and mean intensity, by week and by risk score."""
    charts = []
    for by, label in (("risk", "risk score before the week"), ("week", "week")):
        rows = evaluate["prescribed"][by]
        x = list(rows)
        data: list[Trace] = [
            {"type": "bar", "x": x, "y": [100 * rows[key]["treatments"][name] for key in x],
             "marker": {"color": OF_TREATMENT[name]}, "name": NAME_OF_TREATMENT[name]}
            for name in TREATMENTS
        ]  # fmt: skip
        dose = [None if row["intensity"] is None else 100 * row["intensity"] for row in rows.values()]
        data.append(line(x, dose, "intensity, %", INK, "dot", points=True))
        axis = {"type": "category"}
        charts.append(chart(data, "", label, "% of weeks; intensity, %", 310, barmode="stack", xaxis=axis))
    whole = _mix(evaluate["prescribed"]["week"])
    most = sorted(whole, key=lambda name: -whole[name])[:2]
    title = "The agent mostly gives " + " and ".join(f"{NAME_OF_TREATMENT[name]} ({100 * whole[name]:.0f} %)" for name in most)  # fmt: skip
    bands = evaluate["prescribed"]["risk"]
    ends = [(key, row["intensity"]) for key, row in bands.items() if row["intensity"] is not None]
    if len(ends) > 1:
        title += f"; its dose is {ends[0][1]:.0%} where risk is {spoken(ends[0][0])}, {ends[-1][1]:.0%} where it is {spoken(ends[-1][0])}"
    weeks = sum(row["weeks"] for row in evaluate["prescribed"]["week"].values())
    legend = [*TREATMENT_LEGEND, ("mean intensity of active weeks", INK, "dash")]
    return Figure(title, f"Shares of {weeks:,} weeks of treatment of held-out persons in Trial, before remission.", charts, legend, wide=330)  # fmt: skip


def spoken(band: str) -> str:
    """A band of numbers in words."""
    return f"below {band[1:]}" if band.startswith("<") else f"{band[2:]} or more" if band.startswith(">=") else band


def _mix(rows: Metrics) -> dict[str, float]:
    """The share of each treatment over all weeks."""
    weeks = sum(row["weeks"] for row in rows.values())
    return {name: sum(row["weeks"] * row["treatments"][name] for row in rows.values()) / weeks for name in TREATMENTS}


def groups(evaluate: Metrics) -> Figure:
    """Gain over stepped care and shares of treatments, by group of persons."""
    rows = {
        f"{readable(column.removeprefix('baseline '))}: {name} ({row['persons']})": row
        for column, table in evaluate["subgroups"].items()
        for name, row in table.items()
        if row["persons"] >= FEWEST
    }
    labels, gains = list(rows), [row["gain"] for row in rows.values()]
    data = [
        dots(
            gains,
            labels,
            "gain",
            SYNTHETIC,
            error_x=whiskers(gains, [row["gain_ci"] for row in rows.values()], SYNTHETIC),
        )
    ]
    mix = [bars(labels, [100 * row["treatments"][name] for row in rows.values()], OF_TREATMENT[name], name=NAME_OF_TREATMENT[name])
           for name in TREATMENTS]  # fmt: skip
    charts = [
        chart(data, "gain over stepped care", "return", **downwards(len(rows), shapes=[at(0)])),
        chart(mix, "who gets what", "% of weeks", **downwards(len(rows), barmode="stack")),
    ]
    worse, better = (
        sum(test(row["gain_ci"]) for row in rows.values()) for test in (lambda ci: ci[1] < 0, lambda ci: ci[0] > 0)
    )
    title = f"Of {len(rows)} groups of persons the agent clearly helps {better} more than stepped care does, and {worse} less"
    low, high = min(rows, key=lambda name: rows[name]["gain"]), max(rows, key=lambda name: rows[name]["gain"])
    beside = f"Persons in brackets (none below {FEWEST}); {evaluate['confidence']:.0%} intervals; gain from {gains[labels.index(low)]:+.2f} ({low}) to {gains[labels.index(high)]:+.2f} ({high}); 0: stepped care, same persons."  # fmt: skip
    return Figure(title, beside, charts, TREATMENT_LEGEND, wide=380)


def rivals(evaluate: Metrics) -> Figure:
    """Dose and remission beside stepped care and the constant with the most remissions, as it is and at its least dose."""
    found = beside(evaluate)
    labels = [label.replace(" (", "<br>(").replace(", least", "<br>least") for label in found]
    charts = []
    for title, value, ends, scale, unit in (
        ("dose", "dose_ratio", "dose_ratio_ci", 1, "dose-weeks, ratio"),
        ("remission", "remission_difference", "remission_difference_ci", 100, "points"),
        ("adverse events", "adverse_difference", "adverse_difference_ci", 1, "a course, difference"),
    ):
        values = [None if row[value] is None else scale * row[value] for row in found.values()]
        spans = [None if row[ends] is None else [scale * each for each in row[ends]] for row in found.values()]
        data = [dots(values, labels, title, SYNTHETIC, error_x=whiskers(values, spans, SYNTHETIC))]
        equal = 1.0 if value == "dose_ratio" else 0.0
        charts.append(chart(data, title, unit, **downwards(len(labels), shapes=[at(equal)])))
    first, row = next(iter(evaluate["least_dose"]["saved"].items()))
    ratio = "an unknown share" if row["dose_ratio"] is None else f"{100 * row['dose_ratio']:.0f} %"
    title = f"At its least dose the agent needs {ratio} of the dose of {RIVALS[first]}; remission no worse: {verdict(row)} ({100 * row['remission_difference']:+.1f} points)"  # fmt: skip
    return Figure(title, f"Agent against each rival, same persons; dotted: alike; no worse means by 1 point at most. {judged(evaluate)}.", charts, wide=340)  # fmt: skip


def learning(policy: Metrics, evaluate: Metrics) -> Figure:
    """Returns while training, where it trains and in Trial, of every agent."""
    charts, legend = [], [("agent", SYNTHETIC, "line"), ("privileged", REAL, "dash")]
    curves = {name: points for name, points in policy.get("learning_curves", {}).items() if points}
    returns = [values for values in policy.get("returns", {}).values() if values]
    where = policy["world"].capitalize()
    if returns:
        step = policy["steps"] / max(len(each) for each in returns)
        data = [line([(i + 1) * step for i in range(len(values))], values, "agent", SYNTHETIC) for values in returns]
        charts.append(chart(data, f"while it trains, in the {where}", "weeks of experience", "return", 300))
    title = f"Training in the {where} brings the return to {returns[0][-1]:.2f}" if returns and returns[0][-1] is not None else "What training brings"  # fmt: skip
    if curves:
        data = []
        for name, points in curves.items():
            colour, dash = (REAL, "dash") if name == "privileged" else (SYNTHETIC, "solid")
            steps, returns_there, _ = zip(*points, strict=True)
            data.append(line(steps, returns_there, name, colour, dash, points=True))
        charts.append(chart(data, "in Trial, the truth", "weeks of experience", "return", 300))
        own = next((points for name, points in curves.items() if name != "privileged"), next(iter(curves.values())))
        title = f"Training in the {where} raises the return in Trial, where the agent never trained, from {own[0][1]:.2f} to {own[-1][1]:.2f}"  # fmt: skip
        if own[-1][1] <= own[0][1]:
            title = f"Training in the {where} does not raise the return in Trial: {own[0][1]:.2f} before, {own[-1][1]:.2f} after"
    n = len(returns)
    gap = evaluate.get("exploitation_gap")
    beside = f"{n} agent{'s' if n != 1 else ''}, {policy['steps']:,} weeks of experience each; Trial's curve is of synthetic patients, the same at every point" + ("" if gap is None else f"; exploitation gap {number(gap)}")  # fmt: skip
    caution = float(policy.get("caution", 1.0))
    if returns and caution != 1.0:
        beside += f"; what it learns from, as drawn, counts an adverse event {caution:g} times"
    return Figure(title, beside + ".", charts, legend, wide=330)


def off_policy(table: pd.DataFrame, found: Metrics) -> Figure:
    """Estimate against truth, a point a policy with its interval, an estimator a panel; on the line it is right."""
    charts = []
    low, high = float(table["truth"].min()) - 0.5, float(table["truth"].max()) + 0.5
    for name, label in NAMES.items():
        one = table[table["estimator"] == name]
        if name == "logged_return" or one.empty:
            continue
        colour, values = (SYNTHETIC if name == "twin" else REAL), one["estimate"].tolist()
        ends = list(zip(one["low"], one["high"], strict=True))
        data = [line([low, high], [low, high], "right", GREY, "dash", 1),
                dots(one["truth"].tolist(), values, label, colour, size=5, error_y=whiskers(values, ends, f"{colour}/0.5"))]  # fmt: skip
        axes = {"xaxis": {"range": [low, high]}, "yaxis": {"range": [low - 1, high + 1]}}
        charts.append(chart(data, label, "true return", "estimate", 220, **axes))
    best = best_estimator(found["estimators"])
    title = "No estimator could be scored"
    if best is not None:
        row = found["estimators"][best]
        title = f"From logged courses alone {NAMES[best]} comes closest: off by {percent(row['error'])} of the mean return, the Twin by {percent(found['estimators']['twin']['error'])}"  # fmt: skip
    beside = f"{found['policies']} policies, {found['logged_courses']:,} logged courses of synthetic patients; dashed: the truth, known to {percent(found['truth_error'])}."  # fmt: skip
    return Figure(title, beside, charts)
