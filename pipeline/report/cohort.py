"""The figures of the synthetic cohort. Of real persons they show aggregates alone, and no cell of a few."""

from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort, numeric_columns
from core.encoding import ProfileEncoder, divisor
from core.signals import WEEKDAYS
from generators.quality.records import week_summary
from pipeline.console import number
from pipeline.quality_table import BASELINES, BEST, ROWS, Row, leaks
from pipeline.report.charts import (
    GREY,
    REAL,
    SYNTHETIC,
    Chart,
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

Metrics = dict[str, Any]
FEWEST = 5  # real persons in a cell that is shown
BINS, LEVELS = 22, 8
INNER, OUTER = (0.25, 0.75), (0.1, 0.9)
PAIR = [("held-out persons", REAL, "box"), ("synthetic", SYNTHETIC, "line")]
ATTACKS = (("membership", "distance"), ("density", "density ratio"), ("shadow", "shadow models"))
KIND = {label: kind for _, _, label, kind in ROWS}


def cohort_figures(holdout: Cohort, synthetic: Cohort, cohort: Metrics, rows: list[Row]) -> dict[str, Figure]:
    """Every figure by name. ``cohort`` are the metrics of the cohort stage, ``rows`` those of the quality table."""
    real = holdout.select(np.unique(holdout.person, return_index=True)[1])  # a person's first week: nobody twice
    return {
        "overview": overview(rows),
        "c2st": told_apart(rows),
        "profiles": profiles(real, synthetic, cohort),
        "weeks": fan_of_weeks(real, synthetic, rows),
        "weekdays": weekday_profile(real, synthetic),
        "spread": spread(real, synthetic, rows),
        "correlations": correlations(real, synthetic, cohort),
        "utility": utility(cohort),
        "privacy": privacy(cohort),
    }


def persons(holdout: Cohort, synthetic: Cohort) -> str:
    return f"{synthetic.persons:,} synthetic and {holdout.persons:,} held-out persons, each counted once"


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
    charts = [
        chart(data, "way from baseline to ceiling", "%: 0 baseline, 100 real persons", **downwards(len(shown)))
        | {"shapes": [0, 100]}
    ]
    weeks = [row for row in rows if row.group == "rhythm" and row.value is not None and row.ceiling is not None]
    if weeks:
        charts.append(_distances(weeks))
    legend = [("synthetic, 80 % or more", SYNTHETIC, "box"), ("50 % or more", "@t2", "box"), ("less", "@bad", "box"),
              ("real persons", REAL, "tick"), ("hierarchical model", GREY, "dot")]  # fmt: skip
    beside = "Ceiling: real persons in the synthetic ones' place. Baselines: " + ", ".join(
        f"{name} ({group})" for group, name in BASELINES.items() if group in {row.group for row in rows}
    )
    title = f"{reached} of {len(shown)} measures go four fifths of the way from a trivial cohort to real persons, or further"
    return Figure(title, beside + ".", [_lined(each) for each in charts], legend, wide=330)


def _lined(drawn: Chart) -> Chart:
    """Lines at the ends of the way."""
    ends = drawn.pop("shapes", [])
    return drawn | {"layout": drawn["layout"] | {"shapes": [at(end) for end in ends]}}


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


def profiles(holdout: Cohort, synthetic: Cohort, cohort: Metrics) -> Figure:
    """The distribution of every profile column."""
    numeric = set(numeric_columns(holdout.profiles))
    charts = [
        (_numbers if column in numeric else _levels)(holdout.profiles[column], synthetic.profiles[column], str(column))
        for column in holdout.profiles
    ]
    shapes, ceiling = cohort["column_shapes"], cohort["ceiling"]["column_shapes"]
    title = (
        f"Profile columns are distributed as real ones: column shapes {number(shapes)}, real persons' {number(ceiling)}"
    )
    if ceiling - shapes > 0.05:
        title = (
            f"Profile columns differ from real ones: column shapes {number(shapes)}, real persons' {number(ceiling)}"
        )
    worst = (
        f"Shares of persons, %; {persons(holdout, synthetic)}. Cells of fewer than {FEWEST} real persons are left out."
    )
    return Figure(title, worst, charts, PAIR)


def _numbers(real: pd.Series, synthetic: pd.Series, name: str, unit: str = "") -> Chart:
    edges = _edges(real.astype(float).to_numpy(), synthetic.astype(float).to_numpy())
    middle = (edges[:-1] + edges[1:]) / 2
    counts, drawn = (
        np.histogram(np.clip(each.astype(float), edges[0], edges[-1]), edges)[0] for each in (real, synthetic)
    )
    data: list[dict[str, Any]] = [
        {"type": "bar", "x": middle, "y": shown_share(counts), "marker": {"color": f"{REAL}/0.45"}, "name": "held-out"},
        line(middle, 100 * drawn / max(drawn.sum(), 1), "synthetic", SYNTHETIC) | {"line": {"shape": "hvh", "color": SYNTHETIC, "width": 2}},
    ]  # fmt: skip
    return chart(data, readable(name), unit, "", 190, bargap=0.04)


def shown_share(counts: np.ndarray) -> np.ndarray:
    """Percent by cell; NaN for a cell of fewer real persons than may be shown."""
    return np.where(counts < FEWEST, np.nan, 100 * counts / max(counts.sum(), 1))


def _edges(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """About two dozen classes of equal width (of whole numbers equally many in each), between quantiles: an end that one
    real person marks would show that person."""
    low, high = np.quantile(synthetic, [0.002, 0.998])
    if (synthetic == np.round(synthetic)).all() and (real == np.round(real)).all():
        step = max(np.ceil((high - low + 1) / BINS), 1.0)
        return np.arange(low - 0.5, high + step, step)
    if high - low < 1e-9:
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, BINS + 1)


def _levels(real: pd.Series, synthetic: pd.Series, name: str) -> Chart:
    counts = real.astype(str).value_counts()
    counts = counts[counts >= FEWEST][:LEVELS]
    share = 100 * synthetic.astype(str).value_counts(normalize=True).reindex(counts.index).fillna(0.0)
    labels = [str(level) for level in counts.index]
    data = [
        bars(labels, 100 * counts / len(real), f"{REAL}/0.45", name="held-out"),
        bars(labels, share, SYNTHETIC, name="synthetic"),
    ]
    return chart(data, readable(name), **downwards(len(labels), height=190))


def fan(days: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The quantile bands of ``[N, ...]`` by day, widest first; a band beyond whose edges too few persons lie is left out."""
    kept = [ends for ends in (OUTER, INNER) if ends[0] * len(days) >= FEWEST]
    return [tuple(np.quantile(days, ends, axis=0)) for ends in kept]


def fan_of_weeks(holdout: Cohort, synthetic: Cohort, rows: list[Row]) -> Figure:
    """Median and quantile bands of every signal by day."""
    charts = []
    for k, signal in enumerate(holdout.signals):
        data = []
        for cohort, colour, name in ((holdout, REAL, "held-out"), (synthetic, SYNTHETIC, "synthetic")):
            days = cohort.rhythms[:, :, k]
            data += [band(WEEKDAYS, *ends, name, f"{colour}/0.16") for ends in fan(days)]
            data.append(
                line(WEEKDAYS, np.median(days, axis=0), name, colour, "solid" if name == "synthetic" else "dash")
            )
        charts.append(chart(data, readable(signal.name), "", signal.unit))
    found = {row.label: row for row in rows}.get("day x signal, 1-KS, lowest")
    title = "Weeks fan out as real ones do"
    if found is not None and found.value is not None:
        title = f"Even the least alike day of a signal overlaps with the real one by {number(found.value)} (1 - KS), real persons by {number(found.ceiling)}"  # fmt: skip
    beside = f"Median, middle 50 % and 80 % of persons; {persons(holdout, synthetic)}."
    return Figure(title, beside, charts, [("held-out persons", REAL, "dash"), ("synthetic", SYNTHETIC, "line")])


def weekday_profile(holdout: Cohort, synthetic: Cohort) -> Figure:
    """How a day of the week differs from the person's own week, with 95 % intervals of the mean."""
    charts, gaps = [], []
    for k, signal in enumerate(holdout.signals):
        data, means = [], []
        for cohort, colour, name in ((holdout, REAL, "held-out"), (synthetic, SYNTHETIC, "synthetic")):
            days = np.where(cohort.mask[:, :, k], cohort.rhythms[:, :, k], np.nan)
            if not cohort.mask[:, :, k].any():  # weeks that were simulated around a profile
                days = cohort.rhythms[:, :, k]
            apart = days - np.nanmean(days, axis=1, keepdims=True)
            mean = np.nanmean(apart, axis=0)
            half = 1.96 * np.nanstd(apart, axis=0) / np.sqrt(len(apart))
            means.append(mean)
            data += [
                band(WEEKDAYS, mean - half, mean + half, name, f"{colour}/0.2"),
                line(WEEKDAYS, mean, name, colour),
            ]
        gaps.append((float(np.abs(means[0] - means[1]).max()), signal))
        charts.append(chart(data, readable(signal.name), "", signal.unit, shapes=[at(0, "y")]))
    spreads = [gap / float(holdout.rhythms[:, :, k].std()) for k, (gap, _) in enumerate(gaps)]
    worst = int(np.argmax(spreads))
    gap, signal = gaps[worst]
    title = f"The weekly rhythm is off by {gap:.2g} {unit(signal.unit)} at most in {readable(signal.name)}, {100 * spreads[worst]:.0f} % of the spread of its days"  # fmt: skip
    beside = f"Days minus the person's own week mean; areas: 95 % intervals of the mean; {persons(holdout, synthetic)}."
    return Figure(title, beside, charts, [("held-out persons", REAL, "line"), ("synthetic", SYNTHETIC, "line")])


def spread(holdout: Cohort, synthetic: Cohort, rows: list[Row]) -> Figure:
    """How far a person's days lie from their own mean, by signal."""
    c = len(holdout.signals)
    real, drawn = (week_summary(each)[:, c : 2 * c] for each in (holdout, synthetic))
    charts = [
        _numbers(pd.Series(real[:, k]), pd.Series(drawn[:, k]), signal.name, f"sd, {signal.unit}")
        for k, signal in enumerate(holdout.signals)
    ]
    ratio = np.median(drawn, axis=0) / np.maximum(np.median(real, axis=0), 1e-9)
    worst = int(np.argmax(np.abs(np.log(np.maximum(ratio, 1e-9)))))
    found = {row.label: row for row in rows}.get("within-week sd, 1-KS")
    title = f"Days vary within a week as real ones do to {100 * abs(ratio[worst] - 1):.0f} % (worst: {readable(holdout.signals[worst].name)})"  # fmt: skip
    beside = "Shares of persons, %, by the sd of the seven days" + (
        "" if found is None or found.value is None
        else f"; overlap (1 - KS) {number(found.value)}, real persons {number(found.ceiling)}, hierarchical model {number(found.baseline)}"
    )  # fmt: skip
    return Figure(title, f"{beside}; {persons(holdout, synthetic)}.", charts, PAIR)


def unit(name: str) -> str:
    """A unit as it stands behind a number: of a scale, its points."""
    return "points" if name[:1].isdigit() else name


def correlations(holdout: Cohort, synthetic: Cohort, cohort: Metrics) -> Figure:
    """Correlations of profile features, week means and within-week sds: real, synthetic, and their difference."""
    encoder = ProfileEncoder.fit(holdout.profiles)
    real, drawn = (correlation(each, encoder) for each in (holdout, synthetic))
    signals = [signal.name for signal in holdout.signals]
    names = [readable(name) for name in [*encoder.feature_names, *(f"{s} mean" for s in signals), *(f"{s} sd" for s in signals)]]  # fmt: skip
    bare = {"showticklabels": False, "ticks": ""}
    charts = [
        chart(
            [heat(table, names, names, "diverging", -1, 1, xgap=0, ygap=0, showscale=title.startswith("diff"))],
            title, height=300, xaxis=bare, yaxis=bare | {"autorange": "reversed"},
        )
        for title, table in (("held-out", real), ("synthetic", drawn), ("difference x 4", 4 * (drawn - real)))
    ]  # fmt: skip
    error, ceiling, baseline = (each["profile_rhythm_correlation_error"] for each in (cohort, cohort["ceiling"], cohort["baseline"]))  # fmt: skip
    title = f"Who people are fits how their weeks run: correlations are off by {number(error)}, real persons' by {number(ceiling)}"  # fmt: skip
    beside = (
        f"Weeks dealt out to other persons: {number(baseline)}. {len(names)} features: profile, then week means, then sds "
        f"(touch a cell for its pair); {persons(holdout, synthetic)}."
    )
    return Figure(title, beside, charts, wide=260)


def correlation(cohort: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    """``[F, F]``; 0 where a column does not vary."""
    weeks = week_summary(cohort)[:, : 2 * len(cohort.signals)]
    table = np.hstack([encoder.encode(cohort.profiles), weeks]).astype(float)
    mean = table.mean(axis=0)
    scaled = (table - mean) / divisor(table.std(axis=0), mean)
    return scaled.T @ scaled / len(scaled)


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
