"""What the generators' benchmark measures, the bars it holds them to, and how it prints them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

Scores = dict[str, float | None]  # metric -> value; an interval's ends as metric_low and metric_high
Rows = dict[str, dict[str, Scores]]  # generator -> seed -> scores
Results = dict[str, Rows]  # part -> rows
OURS = "Manō"  # rows whose name begins so are held to the bars
REAL = "real people"  # the ceiling


@dataclass(frozen=True)
class Metric:
    """A number, and the bar the project's generator should reach: a least or largest mean, or 0 in its interval."""

    key: str
    label: str
    at_least: float | None = None
    at_most: float | None = None
    covers_zero: bool = False

    @property
    def bar(self) -> str:
        if self.covers_zero:
            return "0 in it"
        return f"≥ {short(self.at_least)}" if self.at_least is not None else self._most

    @property
    def _most(self) -> str:
        return "" if self.at_most is None else f"≤ {short(self.at_most)}"

    def mean(self, seeds: dict[str, Scores]) -> float | None:
        found = self.values(seeds)
        return float(np.mean(found)) if found else None

    def values(self, seeds: dict[str, Scores], end: str = "") -> list[float]:
        """One a seed that has it; ``end`` "_low" or "_high" takes the interval's."""
        found = [scores.get(self.key + end) for scores in seeds.values()]
        return [value for value in found if value is not None]

    def interval(self, seeds: dict[str, Scores]) -> tuple[float, float] | None:
        """Of the mean over seeds; None where a seed with a value has none.

        The bar on 0 is for seeds that draw everybody anew: they are independent, so the interval is the mean and the
        seeds' half-widths (root mean square) by the root of their number. Other intervals are of seeds that share
        persons, and one more seed tells little more of them: the mean of the ends.
        """
        mean, lows, highs = self.mean(seeds), self.values(seeds, "_low"), self.values(seeds, "_high")
        if mean is None or not len(lows) == len(highs) == len(self.values(seeds)):
            return None
        if not self.covers_zero:
            return float(np.mean(lows)), float(np.mean(highs))
        half = float(np.sqrt(np.mean(np.square(np.subtract(highs, lows) / 2)) / len(lows)))
        return mean - half, mean + half

    def met(self, seeds: dict[str, Scores]) -> bool | None:
        """Whether the bar is reached; None without a bar or a value."""
        mean, interval = self.mean(seeds), self.interval(seeds)
        if self.covers_zero:
            return None if interval is None else interval[0] <= 0 <= interval[1]
        if mean is None or (self.at_least is None and self.at_most is None):
            return None
        return mean >= self.at_least if self.at_least is not None else mean <= (self.at_most or 0.0)

    def cell(self, seeds: dict[str, Scores]) -> str:
        """Mean, sd over seeds where there are several, and the interval where there is one: of the attribute gain
        pooled over seeds (half-width by the root of their number), else the mean of its ends (:meth:`interval`)."""
        mean, ends = self.mean(seeds), self.interval(seeds)
        if mean is None:
            return "-"
        values = self.values(seeds)
        spread = f"±{short(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
        return short(mean) + spread + ("" if ends is None else f" [{short(ends[0])}, {short(ends[1])}]")


RHYTHM = (
    Metric("distribution_score", "distribution of week means", at_least=0.965),
    Metric("day_signal_mean", "day x signal, mean"),
    Metric("day_signal_min", "day x signal, lowest", at_least=0.94),
    Metric("within_week_sd", "within-week sd", at_least=0.955),
    Metric("cross_correlation_error", "cross-correlation error", at_most=0.02),
    Metric("lag1_error", "lag-1 error", at_most=0.015),
    Metric("icc_error", "ICC error", at_most=0.02),
    Metric("gru_discriminative", "GRU |accuracy - .5|", at_most=0.06),
    Metric("c2st_auc", "forest C2ST AUC", at_most=0.62),
)
_SCORES = ("distribution_score", "day_signal_mean", "day_signal_min", "within_week_sd")
_TRAINED = ("gru_discriminative", "c2st_auc")  # by a classifier
_REAL_BARS = {"distribution_score": 0.95, "day_signal_min": 0.93, "within_week_sd": 0.93}
_REAL_LIMITS = {"lag1_error": 0.02, "gru_discriminative": 0.15}
METRICS: dict[str, tuple[Metric, ...]] = {
    "profiles": (
        Metric("column_shapes", "column shapes", at_least=0.965),
        Metric("pair_trends", "pair trends, strong", at_least=0.89),
        Metric("all_pair_trends", "pair trends, all"),
        Metric("c2st_auc", "C2ST AUC", at_most=0.56),
        Metric("effective_share", "effective share", at_least=0.25),
        Metric("copy_rate", "copied rows"),
        Metric("fit_seconds", "fit, s", at_most=40.0),
        Metric("sample_seconds", "draw 10,000, s"),
    ),
    "rhythms": (
        *RHYTHM,
        Metric("profile_rhythm_correlation_error", "profile x rhythm error", at_most=0.03),
        Metric("fit_seconds", "fit, s", at_most=90.0),
        Metric("sample_seconds", "draw 10,000, s"),
    ),
    "cohort": (
        Metric("tstr_auc", "TSTR AUC"),
        Metric("tstr_ratio", "TSTR/TRTR", at_least=0.98),
        Metric("trts_auc", "TRTS AUC"),
        Metric("membership_auc", "membership AUC", at_most=0.55),
        Metric("attribute_gain", "attribute gain", covers_zero=True),
        Metric("profile_rhythm_correlation_error", "profile x rhythm error", at_most=0.03),
        Metric("whole_c2st_auc", "whole-record C2ST AUC"),
        Metric("copy_rate", "copied persons"),
        Metric("sample_seconds", "draw 10,000, s", at_most=3.0),
    ),
    "trained on": (
        *(Metric(m.key, m.label, _REAL_BARS.get(m.key), _REAL_LIMITS.get(m.key)) for m in RHYTHM),
        Metric("fit_seconds", "fit, s"),
    ),
    "held out": (
        Metric("membership_auc", "membership AUC, by person", at_most=0.60),
        *(Metric(m.key, m.label) for m in RHYTHM if m.key not in _TRAINED),
        *(Metric(f"{m.key}_loss", f"below real: {m.label}", at_most=0.03) for m in RHYTHM if m.key in _SCORES),
    ),
}
TITLES = {
    "profiles": "Profiles of held-out persons: how near each generator comes",
    "rhythms": "Weeks for the training persons' profiles, against the weeks of held-out persons",
    "cohort": "Whole cohorts, labelled, against training and held-out persons",
    "trained on": "LifeSnaps: weeks of a generator trained on everybody, against everybody's own weeks",
    "held out": "LifeSnaps: weeks of a generator trained on some persons, against those of the others",
}


def short(value: float) -> str:
    """Three digits after the point below 2, a share's without the leading zero; one above."""
    text = f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def table(title: str, metrics: Sequence[Metric], rows: Rows) -> Table:
    """Metrics down, generators across; the project's own marked where a bar stands."""
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column("", no_wrap=True)
    result.add_column("bar", justify="right", no_wrap=True)
    for name in rows:
        result.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for metric in metrics:
        marks = {True: " ✓", False: " ✗", None: ""}
        cells = [
            metric.cell(seeds) + marks[metric.met(seeds) if name.startswith(OURS) else None]
            for name, seeds in rows.items()
        ]
        result.add_row(metric.label, metric.bar, *map(escape, cells))
    return result


def verdicts(part: str, metrics: Sequence[Metric], rows: Rows) -> list[str]:
    """One line for each row of the project's own: how many bars it reaches, and which it misses."""
    lines = []
    for name in rows:
        if name.startswith(OURS):
            found = {metric.label: metric.met(rows[name]) for metric in metrics}
            judged = {label: met for label, met in found.items() if met is not None}
            missed = [label for label, met in judged.items() if not met]
            line = f"{part}, {name}: {len(judged) - len(missed)} of {len(judged)} bars met"
            lines.append(line + (f"; missed: {', '.join(missed)}" if missed else ""))
    return lines
