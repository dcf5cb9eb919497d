"""Estimates against the truth, as a table and as a figure."""

from typing import Any

from rich.console import Group

from pipeline.console import number
from pipeline.trial_table import new_table, with_caption

NAMES = {
    "twin": "rolled out in the Twin",
    "fqe": "fitted Q evaluation",
    "doubly_robust": "doubly robust",
    "weighted_doubly_robust": "weighted doubly robust",
    "is": "importance sampling",
    "wis": "weighted",
    "pdis": "per decision",
    "weighted_pdis": "weighted, per decision",
    "logged_return": "the log's own return, for all",
}
HIGHEST_ERROR, LOWEST_RANK = 0.05, 0.9  # asked of the best estimator


def off_policy_table(found: dict[str, Any]) -> Group:
    """Every estimator's score over the target policies, and whether the best one does what is asked."""
    columns = ["error", "bias", "rank\ncorrelation", "intervals\nwith truth", "effective\ncourses"]
    table = new_table(
        f"What {found['policies']} policies are worth, from {found['logged_courses']:,} courses under usual care",
        columns,
    )
    scores = found["estimators"]
    for name, label in NAMES.items():
        row = scores[name]
        shares = [
            percent(row["error"]),
            percent(row["bias"], "+"),
            number(row["rank_correlation"]),
            percent(row["coverage"]),
        ]
        table.add_row(label, *shares, number(round(row["effective_sample_size"])))
    best = best_estimator(scores)
    captions = [
        f"Error and bias: shares of the mean true return, which is known from {found['true_courses']:,} courses of each policy "
        f"in Trial to {found['truth_error']:.1%} (standard error). Choices are densities: a single dose would meet no logged one."
    ]
    if best is not None:
        row, rank = scores[best], scores[best]["rank_correlation"]
        met = row["error"] <= HIGHEST_ERROR and rank is not None and rank >= LOWEST_RANK
        asked = f"error at most {HIGHEST_ERROR:.0%}, rank correlation at least {LOWEST_RANK}"
        captions.append(
            f"Asked of the best that has the log alone ({NAMES[best]}): {asked}; {'met' if met else 'not met'}."
        )
    return with_caption(table, *captions)


def percent(value: float | None, sign: str = "") -> str:
    return "n/a" if value is None else f"{value:{sign}.1%}"


def best_estimator(scores: dict[str, Any]) -> str | None:
    """Of those that see the log and nothing else, the one of the least error."""
    known = [name for name in scores if name not in ("twin", "logged_return") and scores[name]["error"] is not None]
    return min(known, key=lambda name: scores[name]["error"]) if known else None
