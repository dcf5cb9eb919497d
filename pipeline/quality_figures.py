"""The figures of the quality report: synthetic persons beside held-out ones."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.cohort import Cohort, numeric_columns
from core.encoding import ProfileEncoder, divisor
from generators.quality.records import week_summary
from pipeline.console import number
from pipeline.figures import GREY, REAL, SYNTHETIC, new_figure, plain_axes, weeks_figure
from pipeline.quality_table import leaks

Metrics = dict[str, Any]
_BINS, _SHOWN_LEVELS = 24, 8
ATTACKS = (("membership", "distance"), ("density", "density ratio"), ("shadow", "shadow models"))


def quality_figures(holdout: Cohort, synthetic: Cohort, cohort: Metrics) -> dict[str, Figure]:
    """Every figure of the report by name; ``cohort`` are the metrics of :func:`cohort_quality`."""
    real = one_row_each(holdout)
    return {
        "profiles": profiles_figure(real, synthetic, cohort),
        "correlations": correlations_figure(real, synthetic, cohort),
        "weeks": weeks_figure(real, synthetic),
        "within_week_sd": spread_figure(real, synthetic),
        "utility": utility_figure(cohort),
        "privacy": privacy_figure(cohort),
    }


def one_row_each(cohort: Cohort) -> Cohort:
    """Each person's first week: nobody is drawn twice."""
    return cohort.select(np.unique(cohort.person, return_index=True)[1])


def against(holdout: Cohort, synthetic: Cohort) -> str:
    return f"{synthetic.persons:,} synthetic and {holdout.persons:,} held-out persons"


def profiles_figure(holdout: Cohort, synthetic: Cohort, cohort: Metrics) -> Figure:
    """The distribution of every profile column."""
    columns = [str(column) for column in holdout.profiles]
    rows = -(-len(columns) // 4)
    figure = new_figure(11, 1.9 * rows + 0.5)
    shapes, ceiling = cohort["column_shapes"], cohort["ceiling"]["column_shapes"]
    figure.suptitle(
        f"Profile columns: shapes {number(shapes)} (real persons {number(ceiling)}), {against(holdout, synthetic)}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(rows, 4, squeeze=False).ravel()
    numeric = set(numeric_columns(holdout.profiles))
    for ax, column in zip(axes, columns, strict=False):
        pair = holdout.profiles[column], synthetic.profiles[column]
        (_draw_numbers if column in numeric else _draw_levels)(ax, *pair)
        plain_axes(ax, column.replace("_", " "))
    for ax in axes[len(columns) :]:
        ax.set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def _draw_numbers(ax: Axes, real: pd.Series, synthetic: pd.Series) -> None:
    edges = _edges(np.concatenate([real, synthetic]).astype(float)).tolist()
    ax.hist(real, edges, density=True, color=REAL, alpha=0.35, label="held-out")
    ax.hist(synthetic, edges, density=True, histtype="step", color=SYNTHETIC, linewidth=1.6, label="synthetic")
    ax.set_yticks([])


def _edges(values: np.ndarray) -> np.ndarray:
    """About two dozen classes; of whole numbers equally many in each."""
    low, high = float(values.min()), float(values.max())
    if (values == np.round(values)).all():
        step = max(np.ceil((high - low + 1) / _BINS), 1.0)
        return np.arange(low - 0.5, high + step, step)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, _BINS + 1)


def _draw_levels(ax: Axes, real: pd.Series, synthetic: pd.Series) -> None:
    levels = real.astype(str).value_counts().index[:_SHOWN_LEVELS]
    y = np.arange(len(levels))[::-1]
    for table, shift, colour, alpha in ((real, 0.2, REAL, 0.5), (synthetic, -0.2, SYNTHETIC, 1.0)):
        share = table.astype(str).value_counts(normalize=True).reindex(levels).fillna(0.0)
        ax.barh(
            y + shift, share, height=0.38, color=colour, alpha=alpha, label="held-out" if shift > 0 else "synthetic"
        )
    ax.set_yticks(y, levels)


def correlations_figure(holdout: Cohort, synthetic: Cohort, cohort: Metrics) -> Figure:
    """Correlations of profile features, week means and within-week sds: real, synthetic, and their difference."""
    encoder = ProfileEncoder.fit(holdout.profiles)
    real, drawn = (_correlations(each, encoder) for each in (holdout, synthetic))
    names = [name.replace("_", " ") for name in _names(holdout, encoder)]
    error, baseline = (each["profile_rhythm_correlation_error"] for each in (cohort, cohort["baseline"]))
    figure = new_figure(13, 5.4)
    figure.suptitle(
        f"Who people are and how their weeks run: correlation error {number(error)} (weeks dealt out anew "
        f"{number(baseline)}), {against(holdout, synthetic)}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(1, 3)
    titles = "held-out", "synthetic", "synthetic minus held-out (x 4)"
    for ax, table, title in zip(axes, (real, drawn, 4 * (drawn - real)), titles, strict=True):
        image = ax.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize=9, loc="left")
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names), fontsize=5)
        ax.axhline(encoder.size - 0.5, color="black", linewidth=0.5)
        ax.axvline(encoder.size - 0.5, color="black", linewidth=0.5)
    figure.colorbar(image, ax=axes, fraction=0.012, pad=0.01).ax.tick_params(labelsize=7)
    return figure


def _names(cohort: Cohort, encoder: ProfileEncoder) -> list[str]:
    signals = [signal.name for signal in cohort.signals]
    return [*encoder.feature_names, *(f"{name} mean" for name in signals), *(f"{name} sd" for name in signals)]


def _correlations(cohort: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    """``[F, F]``; 0 where a column does not vary."""
    weeks = week_summary(cohort)[:, : 2 * len(cohort.signals)]
    table = np.hstack([encoder.encode(cohort.profiles), weeks]).astype(float)
    mean = table.mean(axis=0)
    scaled = (table - mean) / divisor(table.std(axis=0), mean)
    return scaled.T @ scaled / len(scaled)


def spread_figure(holdout: Cohort, synthetic: Cohort) -> Figure:
    """How far a person's days lie from their own mean, by signal."""
    c = len(holdout.signals)
    real, drawn = (week_summary(each)[:, c : 2 * c] for each in (holdout, synthetic))
    figure = new_figure(10, 2.6)
    figure.suptitle(
        f"Spread of days within a week, medians beside each other, {against(holdout, synthetic)}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(1, c, squeeze=False)[0]
    for k, (signal, ax) in enumerate(zip(holdout.signals, axes, strict=True)):
        _draw_numbers(ax, pd.Series(real[:, k]), pd.Series(drawn[:, k]))
        middle = f"{np.median(real[:, k]):.2f} / {np.median(drawn[:, k]):.2f}"
        plain_axes(ax, f"{signal.name.replace('_', ' ')}: {middle}", f"sd ({signal.unit})")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def utility_figure(cohort: Metrics) -> Figure:
    """AUC of High by what a classifier was trained and tested on."""
    ci = cohort["ci"]
    bars = [
        ("real, tested on real", cohort["trtr_auc"], ci["trtr_auc"], REAL),
        ("synthetic, tested on real", cohort["tstr_auc"], ci["tstr_auc"], SYNTHETIC),
        ("real, tested on synthetic", cohort["trts_auc"], ci["trts_auc"], GREY),
        ("shares of classes alone", cohort["baseline"]["tstr_auc"], None, GREY),
    ]
    bars = [bar for bar in bars if bar[1] is not None]
    figure = new_figure(8, 2.6)
    ax = figure.subplots()
    for y, (_, value, interval, colour) in enumerate(reversed(bars)):
        ax.barh(y, value, color=colour, height=0.6)
        if interval is not None:
            ax.plot(interval, [y, y], color="black", linewidth=1.2)
        ax.text(max(value, *(interval or (0,))) + 0.01, y, number(value), fontsize=8, va="center")
    ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1.08)
    ax.set_yticks(range(len(bars)), [bar[0] for bar in reversed(bars)])
    ratio = cohort["tstr_ratio"]
    title = f"A classifier trained on synthetic persons reaches {number(ratio)} of the real one's AUC"
    plain_axes(ax, title if ratio is not None else _no_ratio(cohort), "AUC of High; dotted: chance")
    return figure


def _no_ratio(cohort: Metrics) -> str:
    """Why there is no ratio; there is no F1 where a classifier could not be trained."""
    if cohort["tstr_f1"] is None:
        return "The synthetic persons have no High risk to learn from, or nothing else"
    if cohort["ceiling"]["tstr_f1"] is None:
        return "The training persons have no High risk to learn from, or nothing else"
    return "The held-out persons give no AUC of High to compare: none is High, or all are"


def privacy_figure(cohort: Metrics) -> Figure:
    """AUC of each membership attack with its interval, beside chance and the same attack on a published training set."""
    shown = [(name, label) for name, label in ATTACKS if cohort[f"{name}_auc"] is not None]
    figure = new_figure(8, 0.6 * len(shown) + 1.3)
    ax = figure.subplots()
    leaking, lowest = 0, 0.3
    for y, (name, _) in enumerate(reversed(shown)):
        key = f"{name}_auc"
        low, high = cohort["ci"][key]
        ceiling, baseline = (cohort[side][key] for side in ("ceiling", "baseline"))
        leaking, lowest = leaking + leaks((low, high), 0.5, ceiling), min(lowest, low - 0.05, ceiling - 0.05)
        legend = (
            ("this cohort, 95 % interval", "other real persons", "a published training set") if y == 0 else [None] * 3
        )
        ax.plot([low, high], [y, y], color=SYNTHETIC, linewidth=5, alpha=0.45, solid_capstyle="butt")
        ax.plot(cohort[key], y, "o", color=SYNTHETIC, label=legend[0])
        ax.plot(ceiling, y, "|", color=REAL, markersize=14, label=legend[1])
        ax.plot(baseline, y, "x", color="black", label=legend[2])
    ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    ax.set_xlim(lowest, 1.03)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_yticks(range(len(shown)), [label for _, label in reversed(shown)])
    found = f"{leaking} of {len(shown)} attacks tell" if leaking else "No attack clearly tells"
    n = cohort["attacked_persons"]
    plain_axes(ax, f"{found} members from others; at least {n:,} of each asked about", "AUC; dotted: chance")
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=3)
    return figure
