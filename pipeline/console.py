"""What the terminal shows: one line a stage, tables of what was found, small sparklines."""

from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console

from pipeline.config import Config
from pipeline.store import RunStore
from pipeline.terminal.table import SOFT, Table

SPARKS = "▁▂▃▄▅▆▇█"

# The one or two numbers of each stage worth a glance: (path into its metrics, label, path to its reference, label).
HEADLINES: dict[str, list[tuple[str, str, str | None, str]]] = {
    "source": [("persons", "persons", None, ""), ("holdout_persons", "held out", None, "")],
    "profiles": [("column_shapes", "shapes", "ceiling.column_shapes", "ceiling"),
                 ("c2st_auc", "C2ST", "ceiling.c2st_auc", "ceiling")],
    "rhythms": [("distribution_score", "distribution", "ceiling.distribution_score", "ceiling"),
                ("c2st_auc", "C2ST", "hierarchical_baseline.c2st_auc", "baseline")],
    "cohort": [("tstr_auc", "TSTR", "trtr_auc", "TRTR"), ("membership_auc", "membership AUC", None, "")],
    "risk": [("auc_high", "AUC high", "bayes_ceiling.auc_high", "ceiling"), ("ece", "ECE", "ece_floor", "by luck"),
             ("alarm.recall", "alarm finds", "alarm.target_recall", "aim")],
    "trials": [("courses", "courses", None, ""), ("person_weeks", "person-weeks", None, "")],
    "twin": [
        ("crps_ratio", "CRPS ratio", None, ""),
        ("effect_error", "effect error (sd)", None, ""),
        ("person_effect_correlation", "individual effects r", "person_effect_ceiling", "ceiling"),
    ],
    "policy": [("steps", "steps", None, ""), ("steps_per_second", "steps/s", None, "")],
    "evaluate": [("policies.ppo.return", "PPO return", "policies.stepped_care.return", "stepped care"),
                 ("normalised_score", "normalised score", None, "")],
}  # fmt: skip


SEES = " (sees the response)"
PLAIN_WIDTH = 120  # columns where the output is no terminal


def console() -> Console:
    """The screen; NO_COLOR and the terminal's width are respected, a file gets plain text."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def lookup(metrics: dict[str, Any], path: str | None) -> Any:
    """The value at a dotted path, or None."""
    value: Any = metrics
    for part in (path or "").split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def number(value: Any) -> str:
    """A number as a person writes it: counts whole, shares with three digits."""
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        return "n/a"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def headline(stage: str, metrics: dict[str, Any]) -> str:
    parts = []
    for path, label, reference, reference_label in HEADLINES.get(stage, []):
        value, beside = lookup(metrics, path), lookup(metrics, reference)
        if value is not None:
            parts.append(
                f"{label} {number(value)}" + ("" if beside is None else f" ({reference_label} {number(beside)})")
            )
    return ", ".join(parts)


def banner(console: Console, config: Config) -> None:
    console.print(
        f"[bold]Manō[/] run [bold]{config.run}[/]: preset {config.preset}, data {config.data.kind}, "
        f"labels {config.labels.kind}, seed {config.seed}. Research simulator, not medical advice."
    )


def finish(console: Console, store: RunStore, seconds: float) -> None:
    console.print(
        f"done in {seconds:.1f} s; numbers in {store.root}/summary.json, report in {store.root}/report/report.html"
    )


def sparkline(values: np.ndarray, low: float, high: float) -> str:
    """One block per value between ``low`` and ``high``; a missing one is a dot."""
    share = np.clip((np.asarray(values, float) - low) / max(high - low, 1e-9), 0, 1)
    return "".join("·" if np.isnan(s) else SPARKS[min(int(s * len(SPARKS)), len(SPARKS) - 1)] for s in share)


def policy_table(evaluate: dict[str, Any]) -> Table:
    """The policies of a run beside each other, best first."""
    title = f"Policies in Trial, the ground truth, on held-out persons ({evaluate['weeks']} weeks)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("policy", no_wrap=True)
    interval = f"return\n({evaluate['confidence']:.0%} CI)"
    for column in (interval, f"remis{SOFT}sion", "weeks\nto it", "dose-\nweeks", "adverse\nevents", "level\ngain"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = sorted(evaluate["policies"].items(), key=lambda item: -item[1]["return"])
    for name, row in rows:
        style = "bold green" if name == "ppo" else None
        low, high = row["return_ci"]
        table.add_row(
            display_name(name, evaluate).removesuffix(SEES),
            f"{row['return']:.2f} ({low:.2f} to {high:.2f})",
            f"{row['remission']:.1%}",
            "n/a" if row["weeks_to_remission"] is None else f"{row['weeks_to_remission']:.1f}",
            f"{row['dose_weeks']:.2f}",
            f"{row['adverse_events']:.2f}",
            f"{row['level_gain']:+.2f}",
            style=style,
        )
    if "privileged" in evaluate["policies"]:
        table.caption, table.caption_justify = f"privileged PPO{SEES}: more than any policy could know", "left"
    return table


def display_name(policy: str, evaluate: dict[str, Any]) -> str:
    """A policy's name as a person reads it."""
    known = {
        "ppo": "PPO (type and intensity)",
        "ppo_trial": "PPO trained in Trial",
        "privileged": f"privileged PPO{SEES}",
        "none": "no treatment",
        "best_constant": f"best constant ({evaluate.get('best_constant', '')})",
        "stepped_care": "stepped care",
        "greedy": "one step ahead in the Twin",
        "tree": "trees that explain PPO",
        "least_dose": "PPO at its least dose",
    }
    return known.get(policy, policy.replace("_", " "))
