"""The figures of the synthetic cohort. Of real persons they show aggregates alone, and no cell of a few."""

from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort, numeric_columns
from core.encoding import ProfileEncoder, divisor
from core.signals import WEEKDAYS
from generators.quality.records import week_summary
from pipeline.console import number
from pipeline.quality_table import Row
from pipeline.report.charts import (
    REAL,
    SYNTHETIC,
    Chart,
    Figure,
    at,
    band,
    bars,
    chart,
    downwards,
    heat,
    line,
    readable,
)
from pipeline.report.quality import overview, privacy, told_apart, utility

Metrics = dict[str, Any]
FEWEST = 5  # real persons in a cell that is shown
BINS, LEVELS = 22, 8
INNER, OUTER = (0.25, 0.75), (0.1, 0.9)
PAIR = [("held-out persons", REAL, "box"), ("synthetic", SYNTHETIC, "line")]


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
