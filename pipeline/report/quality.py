"""The figures of the quality table: how far from trivial to real, who can tell, what a classifier learns, who leaks."""

from typing import Any

import numpy as np

from pipeline.console import number
from pipeline.quality_table import BASELINES, BEST, ROWS, Row, leaks
from pipeline.report.charts import GREY, REAL, SYNTHETIC, Chart, Figure, at, bars, chart, dots, downwards, whiskers

Metrics = dict[str, Any]
ATTACKS = (("membership", "distance"), ("density", "density ratio"), ("shadow", "shadow models"))
KIND = {label: kind for _, _, label, kind in ROWS}


def way(row: Row) -> float | None:
    """How far a number gets from its baseline (0) to its ceiling (1); None where the two are alike or not known."""
    kind = KIND[row.label]
    if row.value is None or row.ceiling is None or row.baseline is None or kind not in ("score", "error", "chance"):
        return None
    off, best, worst = (
        max(each - 0.5, 0.0) if kind == "chance" else abs(BEST[kind] - each)
        for each in (row.value, row.ceiling, row.baseline)
    )
    return (worst - off) / (worst - best) if worst - best >= 0.01 else None


def overview(rows: list[Row]) -> Figure:
    """Bars from each trivial baseline to the ceiling; weeks, whose baseline is no trivial one, as distances."""
    shown = [(row, share) for row in rows if row.group != "rhythm" and (share := way(row)) is not None]
    reached = sum(share >= 0.8 for _, share in shown)
    colours = [SYNTHETIC if share >= 0.8 else "@t2" if share >= 0.5 else "@bad" for _, share in shown]
    data = [bars([row.label for row, _ in shown], [100 * share for _, share in shown], colours)]
    ends = [at(0), at(100)]
    room = downwards(len(shown), shapes=ends)
    charts = [chart(data, "way from baseline to ceiling", "% of the way", **room)]
    weeks = [row for row in rows if row.group == "rhythm" and row.value is not None and row.ceiling is not None]
    if weeks:
        charts.append(_distances(weeks))
    legend = [("synthetic, 80 % or more", SYNTHETIC, "box"), ("50 % or more", "@t2", "box"), ("less", "@bad", "box"),
              ("real persons", REAL, "tick"), ("hierarchical model", GREY, "dot")]  # fmt: skip
    beside = "Ceiling: real persons in the synthetic ones' place. Baselines: " + ", ".join(
        f"{name} ({group})" for group, name in BASELINES.items() if group in {row.group for row in rows}
    )
    title = f"{reached} of {len(shown)} measures go four fifths of the way from a trivial cohort to real persons, or further"
    return Figure(title, beside + ".", charts, legend, wide=330)


def _distances(rows: list[Row]) -> Chart:
    def off(row: Row, value: float | None) -> float | None:
        kind = KIND[row.label]
        return None if value is None else max(value - 0.5, 0.0) if kind == "chance" else abs(BEST[kind] - value)

    labels = [row.label for row in rows]
    data = [
        dots([off(row, row.ceiling) for row in rows], labels, "real persons", REAL, "line-ns", size=14),
        dots([off(row, row.baseline) for row in rows], labels, "hierarchical model", GREY, "x"),
        dots([off(row, row.value) for row in rows], labels, "synthetic", SYNTHETIC),
    ]
    return chart(data, "weeks: distance from the best value", "0 is best", **downwards(len(rows)))


def told_apart(rows: list[Row]) -> Figure:
    """The classifier two-sample tests."""
    found = [row for row in rows if row.label.startswith("C2ST") and row.value is not None]
    names = [row.label.removeprefix("C2ST AUC, ") for row in found]
    worst = max(found, key=lambda row: row.value or 0.0)
    values = [row.value for row in found]
    data = [
        dots([row.baseline for row in found], names, "baseline", GREY, "x"),
        dots([row.ceiling for row in found], names, "other real persons", REAL, "line-ns", size=16),
        dots(values, names, "synthetic", SYNTHETIC, error_x=whiskers(values, [row.interval for row in found], SYNTHETIC)),
    ]  # fmt: skip
    drawn = chart(data, x="AUC; dotted: chance", **downwards(len(found), shapes=[at(0.5)]))
    title = f"A classifier tells synthetic {worst.label.removeprefix('C2ST AUC, ')} from real ones with an AUC of {number(worst.value)} at most"  # fmt: skip
    beside = (
        f"Chance is 0.5; real against real persons {number(worst.ceiling)}, baseline {number(worst.baseline)}. "
        "Cross-validated classifiers; bars: 95 % intervals where resampled."
    )
    legend = [("synthetic", SYNTHETIC, "dot"), ("other real persons", REAL, "tick"), ("baseline", GREY, "dot")]
    return Figure(title, beside, [drawn], legend)


def utility(cohort: Metrics) -> Figure:
    """AUC of High by what a classifier was trained and tested on."""
    known = [
        ("real, tested on real", cohort["trtr_auc"], cohort["ci"]["trtr_auc"], REAL),
        ("synthetic, tested on real", cohort["tstr_auc"], cohort["ci"]["tstr_auc"], SYNTHETIC),
        ("real, tested on synthetic", cohort["trts_auc"], cohort["ci"]["trts_auc"], GREY),
        ("shares of classes alone", cohort["baseline"]["tstr_auc"], None, GREY),
    ]
    shown = [row for row in known if row[1] is not None]
    labels, values, intervals, colours = (list(column) for column in zip(*shown, strict=True)) if shown else ([],) * 4
    data = [
        bars(
            labels,
            values,
            colours,
            intervals,
            text=[number(v) for v in values],
            textposition="inside",
            insidetextanchor="start",
        )
    ]
    drawn = chart(
        data, x="AUC of High; dotted: chance", **downwards(len(labels), shapes=[at(0.5)], xaxis={"range": [0, 1]})
    )
    ratio = cohort["tstr_ratio"]
    title = "A classifier could not be trained and tested on both sides: a cohort lacks High risk, or has nothing else"
    if ratio is not None:
        title = (
            f"A classifier trained on synthetic persons reaches {number(ratio)} of the AUC of one trained on real ones"
        )
    n = cohort.get("compared_persons")
    beside = "Ceiling: trained and tested on real persons; baseline: the classes' shares" + ("" if n is None else f"; {n:,} persons a side")  # fmt: skip
    return Figure(title, beside + "; 95 % intervals.", [drawn])


def privacy(cohort: Metrics) -> Figure:
    """A gauge of the strongest membership attack, and every attack with its interval."""
    shown = [(name, label) for name, label in ATTACKS if cohort[f"{name}_auc"] is not None]
    values, ceilings, published = (
        [side[f"{name}_auc"] for name, _ in shown] for side in (cohort, cohort["ceiling"], cohort["baseline"])
    )
    intervals, labels = [cohort["ci"][f"{name}_auc"] for name, _ in shown], [label for _, label in shown]
    telling = sum(leaks(each, 0.5, ceiling) for each, ceiling in zip(intervals, ceilings, strict=True))
    strongest = int(np.argmax(values))
    gauge: dict[str, Any] = {
        "type": "indicator", "mode": "gauge+number", "value": values[strongest], "number": {"valueformat": ".3f"},
        "gauge": {"axis": {"range": [0.5, 1]}, "bar": {"color": SYNTHETIC, "thickness": 0.5}, "borderwidth": 0,
                  "steps": [{"range": [0.5, 0.55], "color": "@good/0.35"}, {"range": [0.55, 0.65], "color": "@t2/0.3"},
                            {"range": [0.65, 1], "color": "@bad/0.3"}]},
    }  # fmt: skip
    data = [
        dots(published, labels, "training set published", GREY, "x"),
        dots(ceilings, labels, "other real persons", REAL, "line-ns"),
        dots(values, labels, "this cohort", SYNTHETIC, error_x=whiskers(values, intervals, SYNTHETIC)),
    ]
    low = min([0.4, *(each[0] for each in intervals if each)])
    axis = {"range": [low - 0.02, 1.03]}
    charts = [
        chart([gauge], f"strongest attack: {labels[strongest]}, AUC", height=210),
        chart(data, "every attack", "AUC; dotted: chance", **downwards(len(shown), height=210, shapes=[at(0.5)], xaxis=axis)),
    ]  # fmt: skip
    found = f"{telling} of {len(shown)} attacks tell" if telling else f"None of {len(shown)} attacks clearly tells"
    gain, gain_ci = cohort.get("attribute_gain"), cohort.get("attribute_gain_ci")
    more = "" if gain is None or not gain_ci else f" Attribute inference gains {100 * gain:+.1f} points over control ({100 * gain_ci[0]:+.1f} to {100 * gain_ci[1]:+.1f})."  # fmt: skip
    beside = (
        f"{cohort['attacked_persons']:,} persons of each kind asked about; chance 0.5, a published training set 1.0; "
        f"95 % intervals.{more} No differential-privacy guarantee."
    )
    legend = [
        ("this cohort", SYNTHETIC, "dot"),
        ("other real persons", REAL, "tick"),
        ("training set published", GREY, "dot"),
    ]
    return Figure(f"{found} members of the training set from others", beside, charts, legend, wide=270)
