"""The quality report as one table: what was measured, beside real persons and beside a trivial cohort."""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from pipeline.console import number
from pipeline.store import RunStore
from pipeline.terminal.table import Table

Metrics = dict[str, Any]
Kind = Literal["score", "error", "chance", "attack", "gain", "copies", "plain"]
# Where each group's baseline comes from, for the reader.
BASELINES = {
    "fidelity": "columns shuffled",
    "rhythm": "hierarchical model",
    "dependence": "weeks dealt out anew",
    "utility": "shares of classes alone",
    "privacy": "training set published",
}
# The best value of each kind: chance and attack are areas under a ROC curve, 0.5 where nothing can be told.
BEST = {"score": 1.0, "error": 0.0, "chance": 0.5, "attack": 0.5, "gain": 0.0, "copies": 0.0}

ROWS: tuple[tuple[str, str, str, Kind], ...] = (
    ("fidelity", "column_shapes", "column shapes", "score"),
    ("fidelity", "pair_trends", "pair trends, strong pairs", "score"),
    ("fidelity", "all_pair_trends", "pair trends, all pairs", "score"),
    ("fidelity", "coverage", "coverage of ranges and categories", "score"),
    ("fidelity", "boundary_adherence", "within the real bounds", "score"),
    ("fidelity", "c2st_auc", "C2ST AUC, generator's profiles", "chance"),
    ("fidelity", "effective_share", "effective share of the raked pool", "plain"),
    ("rhythm", "distribution_score", "week means, 1-KS", "score"),
    ("rhythm", "day_signal_min", "day x signal, 1-KS, lowest", "score"),
    ("rhythm", "within_week_sd", "within-week sd, 1-KS", "score"),
    ("rhythm", "cross_correlation_error", "cross-correlation error", "error"),
    ("rhythm", "lag1_error", "lag-1 error", "error"),
    ("rhythm", "icc_error", "ICC error", "error"),
    ("rhythm", "gru_discriminative", "GRU discriminative score", "error"),
    ("rhythm", "c2st_auc", "C2ST AUC, weeks", "chance"),
    ("dependence", "profile_rhythm_correlation_error", "profile x week mean, correlation error", "error"),
    ("dependence", "profile_variability_correlation_error", "profile x within-week sd, correlation error", "error"),
    ("dependence", "whole_c2st_auc", "C2ST AUC, whole persons", "chance"),
    ("utility", "tstr_auc", "TSTR, AUC of High", "score"),
    ("utility", "tstr_ratio", "TSTR / TRTR", "score"),
    ("utility", "tstr_f1", "TSTR, macro F1", "score"),
    ("utility", "trts_auc", "TRTS, AUC of High", "score"),
    ("privacy", "membership_auc", "membership by distance, AUC", "attack"),
    ("privacy", "density_auc", "membership by density ratio, AUC", "attack"),
    ("privacy", "shadow_auc", "membership by shadow models, AUC", "attack"),
    ("privacy", "membership_tpr_10", "caught at 10 % false alarms, distance", "plain"),
    ("privacy", "density_tpr_10", "caught at 10 % false alarms, density ratio", "plain"),
    ("privacy", "shadow_tpr_10", "caught at 10 % false alarms, shadow models", "plain"),
    ("privacy", "attribute_gain", "attribute inference, gain over control", "gain"),
    ("privacy", "copy_rate", "exact copies of training persons", "copies"),
    ("privacy", "near_copy_rate", "near copies of training persons", "plain"),
)


FEW = 50  # with fewer held-out persons a number without an interval gets no verdict
QUALITY_STAGES = ("profiles", "rhythms", "cohort")


@dataclass(frozen=True)
class Row:
    """One number and what stands beside it; None where there is none."""

    group: str
    label: str
    value: float | None
    interval: tuple[float, float] | None
    ceiling: float | None
    baseline: float | None
    verdict: str


def stage_quality(stage: str, store: RunStore) -> Table:
    """The table of one of :data:`QUALITY_STAGES`; the cohort's shows the whole report."""
    shown = QUALITY_STAGES if stage == "cohort" else (stage,)
    return quality_table(quality_rows(*(store.metrics(each) if each in shown else None for each in QUALITY_STAGES)))


def quality_rows(profiles: Metrics | None, rhythms: Metrics | None, cohort: Metrics | None) -> list[Row]:
    """The rows that these stages' metrics fill; what was not measured is left out."""
    cohort = cohort or {}
    shown = {"dependence": cohort, "utility": cohort, "privacy": cohort}
    if profiles is not None:  # the fused cohort's profiles where there is one, the generator's else
        shown["fidelity"] = _with_baseline(profiles, "shuffled")
        for side in ("ceiling", "baseline"):
            shown["fidelity"][side] = shown["fidelity"][side] | cohort.get(side, {})
        shown["fidelity"] |= {key: cohort[key] for group, key, *_ in ROWS if group == "fidelity" and key in cohort}
    if rhythms is not None:
        shown["rhythm"] = _with_baseline(rhythms, "hierarchical_baseline")
    compared = cohort.get("compared_persons")
    persons = dict.fromkeys(BASELINES, compared)
    persons |= {"fidelity": compared or (profiles or {}).get("rows"), "rhythm": (rhythms or {}).get("rows")}
    found = []
    for group, key, label, kind in ROWS:
        metrics = shown.get(group, {})
        value, interval = metrics.get(key), metrics.get("ci", {}).get(key)
        ceiling, baseline = (metrics.get(side, {}).get(key) for side in ("ceiling", "baseline"))
        if key in metrics and (value is not None or key == "shadow_auc"):
            n = persons[group] or 0  # a number of persons nobody recorded bears no verdict
            told = interval is not None or kind == "copies" or n >= FEW
            floor = noise(key, n) if told and group == "rhythm" else 0.0
            word = verdict(group, kind, value, interval, ceiling, baseline, floor) if told else ""
            found.append(Row(group, label, value, interval, ceiling, baseline, word))
    return found


def _with_baseline(metrics: Metrics, name: str) -> Metrics:
    return {**metrics, "ceiling": metrics.get("ceiling", {}), "baseline": metrics.get(name, {})}


def verdict(
    group: str,
    kind: Kind,
    value: float | None,
    interval: tuple[float, float] | None,
    ceiling: float | None,
    baseline: float | None,
    floor: float = 0.0,
) -> str:
    """One word, or none where nothing can be said.

    An attack or a gain ``leaks`` as :func:`leaks` has it, is ``chance`` where its interval holds chance, and ``unclear``
    else. Against a trivial baseline a number is ``unclear`` where its interval holds the baseline, else it
    is ``good`` from four fifths of the way to the ceiling on, ``fair`` from half of it, else ``poor``; against the
    hierarchical model, which is no trivial one, it is ``ahead`` or ``behind`` where they differ by more than ``floor``
    (see :func:`noise`), else ``level``.
    """
    if value is None or kind == "plain":
        return ""
    if kind in ("attack", "gain"):
        if interval is None:
            return ""
        if interval[0] <= BEST[kind] <= interval[1]:
            return "chance"
        return "leaks" if leaks(interval, BEST[kind], ceiling) else "unclear"
    if kind == "copies":
        return "none" if value == 0 else "copies"
    if baseline is None or ceiling is None:
        return ""
    if interval is not None and interval[0] <= baseline <= interval[1]:
        return "unclear"
    off, off_ceiling, off_baseline = (_distance(each, kind) for each in (value, ceiling, baseline))
    if group == "rhythm":
        return "level" if abs(off - off_baseline) <= floor else "ahead" if off < off_baseline else "behind"
    if off_baseline - off_ceiling < 0.01:
        return ""  # the baseline is as good: this number does not tell
    way = (off_baseline - off) / (off_baseline - off_ceiling)
    return "good" if way >= 0.8 else "fair" if way >= 0.5 else "poor"


def leaks(interval: tuple[float, float], chance: float, ceiling: float | None) -> bool:
    """Whether the whole interval lies above chance, and above what other real persons give away: the very persons asked
    about are the same there, and so is their luck."""
    return interval[0] > max(chance, chance if ceiling is None else ceiling)


def noise(key: str, n: int) -> float:
    """How far two equally good generators' rhythm metrics may well lie apart, ``n`` persons on each side: two standard
    errors of a difference, taken as if the two errors were independent.

    ``c2st_auc``: the AUC of a blind classifier has variance (2n + 1) / 12n². ``gru_discriminative``: an accuracy on n
    weeks, half of each kind, has standard error 1 / 2sqrt(n). Errors of correlations: one of 6n free days (seven less
    the week's mean) has 1 / sqrt(6n), and their mean over the signals about half of that to all of it: 2 / sqrt(6n).
    All others are 1 - KS of n against n rows: a KS distance varies by about 0.37 / sqrt(n), so two of them by 1 / sqrt(n).
    """
    if key == "c2st_auc":
        return 2 * sqrt(2 * (2 * n + 1) / (12 * n**2))
    if key == "gru_discriminative":
        return 2 * sqrt(2 * 0.25 / n)
    return 2 / sqrt(6 * n) if key.endswith("_error") else 1 / sqrt(n)


def _distance(value: float, kind: Kind) -> float:
    """How far from the best; a two-sample test below one half is luck."""
    return max(value - 0.5, 0.0) if kind == "chance" else abs(BEST[kind] - value)


COLOURS = {"good": "green", "ahead": "green", "none": "green", "chance": "green", "poor": "red", "behind": "red",
           "leaks": "bold red", "copies": "bold red"}  # fmt: skip


def quality_table(rows: list[Row]) -> Table:
    """The rows for a terminal, a section a group."""
    groups = list(dict.fromkeys(row.group for row in rows))
    table = Table(title="Quality, judged on held-out persons", title_justify="left", caption_justify="left")
    table.caption = (
        "ceiling: real persons in the synthetic ones' place; baseline: "
        + ", ".join(f"{BASELINES[group]} ({group})" for group in groups)
        + ". An AUC of 0.5 is chance."
    )
    table.add_column("group", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for column in ("value (95 % CI)", "ceiling", "baseline"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for group in groups:
        for i, row in enumerate(each for each in rows if each.group == group):
            colour = COLOURS.get(row.verdict)
            word = f"[{colour}]{row.verdict}[/]" if colour else row.verdict
            table.add_row(
                group if i == 0 else "", row.label, with_interval(row), beside(row.ceiling), beside(row.baseline), word
            )
        table.add_section()
    return table


def with_interval(row: Row) -> str:
    if row.interval is None:
        return number(row.value)
    return f"{number(row.value)} ({number(row.interval[0])} to {number(row.interval[1])})"


def beside(value: float | None) -> str:
    return "" if value is None else number(value)
