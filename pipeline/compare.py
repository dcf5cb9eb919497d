"""Finished runs beside each other, and what several seeds of the same settings come to together."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.markup import escape

from core.errors import ConfigError, ManoError
from core.random import numpy_generator
from intervention.evaluation import interquartile_mean
from pipeline.config import Config
from pipeline.console import lookup
from pipeline.stages import STAGES
from pipeline.store import RunStore, write_json
from pipeline.trial_table import new_table, with_caption

RESULT = "comparison.json"
# Of the policy trained in each run: (name, path into the metrics of `evaluate`, how it is written).
MEASURES = (
    ("return", "policies.ppo.return", ".2f"),
    ("remission", "policies.ppo.remission", ".1%"),
    ("dose_weeks", "policies.ppo.dose_weeks", ".2f"),
    ("adverse_events", "policies.ppo.adverse_events", ".2f"),
    ("normalised_score", "normalised_score", ".3f"),
    ("exploitation_gap", "exploitation_gap", ".3f"),
)
INTERVALS = {"return": "policies.ppo.return_ci", "normalised_score": "normalised_score_ci"}  # over persons


def compare_runs(config: Config, store: RunStore, console: Console) -> None:
    """Print the table of the runs named in ``compare`` and write it to ``RESULT`` in the folder of the runs.

    Raises:
        ConfigError: no runs are named, or one twice. ManoError: a run is not there or lacks the stage ``evaluate``.
    """
    names, folder = config.compare, Path(config.runs_dir)
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"compare=[{','.join(names)}]: expected names of different runs, as in stage=compare 'compare=[demo_seed0,demo_seed1]'"
        )
    rows = [run_row(RunStore(folder / name, f"runs_dir={config.runs_dir}")) for name in names]
    rng = numpy_generator(config.seed, "compare", "bootstrap")
    settings = config.evaluate
    groups = [group_row(members, rng, settings.resamples, settings.confidence) for members in grouped(rows)]
    console.print(comparison_table(rows, groups, settings.confidence))
    shown = [{key: value for key, value in row.items() if key != "settings"} for row in rows]
    write_json(folder / RESULT, {"runs": shown, "groups": groups, "confidence": settings.confidence})
    console.print(f"  written to {escape(str(folder / RESULT))}", soft_wrap=True)


def run_row(store: RunStore) -> dict[str, Any]:
    """What one run came to, and with which settings; ``seed`` is the one its policy was trained with."""
    if not store.root.is_dir():
        there = sorted(path.parent.parent.name for path in store.root.parent.glob("*/evaluate/manifest.json"))
        known = f"expected one of {', '.join(there)}" if there else "no run there has been evaluated"
        raise ManoError(f"compare: run '{store.root.name}' is not in {store.root.parent}; {known}")
    metrics = store.metrics("evaluate")
    found = {name: lookup(metrics, path) for name, path, _ in MEASURES}
    intervals = {f"{name}_ci": lookup(metrics, path) for name, path in INTERVALS.items()}
    sections = {stage.name: store.manifest(stage.name)["config"] for stage in STAGES if store.has(stage.name)}
    return {
        "run": store.root.name,
        "seed": store.manifest("policy")["seed"],
        **found,
        **intervals,
        "twin": store.digest("twin"),
        "settings": json.dumps({name: sections[name] for name in ("policy", "evaluate", "twin")}, sort_keys=True),
    }


def grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs that differ in nothing but their seed, together; groups of two and more."""
    by_settings: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_settings.setdefault(row["settings"], []).append(row)
    return [members for members in by_settings.values() if len(members) > 1]


def group_row(
    members: Sequence[dict[str, Any]], rng: np.random.Generator, resamples: int, confidence: float
) -> dict[str, Any]:
    """Mean and interquartile mean over seeds of every measure, with intervals by a bootstrap over the seeds.

    A measure that some run does not have is None. ``same_twin``: only the policy was trained anew with each seed.
    """
    names = [member["run"] for member in members]
    label = re.sub(r"[_.=-]*(seed)?[_.=-]*\d+$", "", names[0]) or names[0]  # the name without the seed
    result: dict[str, Any] = {"group": label, "runs": names, "same_twin": len({row["twin"] for row in members}) == 1}
    draws = rng.integers(len(members), size=(resamples, len(members)))
    tail = (1 - confidence) / 2
    for name, _, _ in MEASURES:
        if any(member[name] is None for member in members):
            result[name] = None
            continue
        values = np.array([member[name] for member in members], float)
        drawn = values[draws]
        result[name] = {
            "mean": float(values.mean()),
            "mean_ci": np.quantile(drawn.mean(axis=1), [tail, 1 - tail]).tolist(),
            "iqm": float(interquartile_mean(values)),
            "iqm_ci": np.quantile(interquartile_mean(drawn), [tail, 1 - tail]).tolist(),
        }
    return result


def comparison_table(rows: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]], confidence: float) -> Group:
    """A line a run, best first; below each group its mean and interquartile mean over seeds."""
    columns = [
        "seed",
        "return",
        "remission",
        "dose-\nweeks",
        "adverse\nevents",
        "normalised\nscore",
        "exploitation\ngap",
    ]
    table = new_table("PPO of each run, in Trial on held-out persons", columns)
    for row in sorted(rows, key=lambda row: -row["return"]):
        cells = [written(row[name], how) + span(row.get(f"{name}_ci"), how) for name, _, how in MEASURES]
        table.add_row(escape(row["run"]), str(row["seed"]), *cells)
    captions = [f"Of a run: {confidence:.0%} intervals over its persons. Of seeds: over the runs, by bootstrap."]
    for group in groups:
        table.add_section()
        for key, label in (("mean", "mean"), ("iqm", "IQM")):
            cells = [
                "n/a" if group[name] is None else written(group[name][key], how) + span(group[name][f"{key}_ci"], how)
                for name, _, how in MEASURES
            ]
            table.add_row(f"{escape(group['group'])}: {label}", f"{len(group['runs'])}", *cells, style="bold")
        what = "the policy alone" if group["same_twin"] else "everything from the source on, or the Twin"
        captions.append(f"{group['group']}: with each seed {what} was made anew.")
    return with_caption(table, *captions)


def written(value: float | None, how: str) -> str:
    return "n/a" if value is None else format(value, how)


def span(interval: Sequence[float] | None, how: str) -> str:
    """The interval below the number."""
    return "" if interval is None else f"\n{interval[0]:{how}} to {interval[1]:{how}}"
