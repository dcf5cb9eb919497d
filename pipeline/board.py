"""What TensorBoard shows of a whole run: its hyperparameters beside its results, so that `--logdir runs` compares runs,
what the policies earned and gave, and what the agent prescribes to whom.

Aggregates alone: no row of a real person is drawn.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from core.signals import DAYS, WEEKDAYS
from core.treatments import CONTROL, LABELS, TREATMENTS
from intervention.twin import TwinDynamics
from pipeline.config import Config, plain
from pipeline.console import HEADLINES, lookup
from pipeline.figures import new_figure, plain_axes
from pipeline.tracker import RunTracker

Metrics = dict[str, Any]
# Sections that make a run what it is; the rest says where it lies and what was asked of the command.
COMPARED = (
    "preset",
    "seed",
    "data",
    "labels",
    "source",
    "profiles",
    "rhythms",
    "cohort",
    "risk",
    "twin",
    "policy",
    "env",
)
LARGEST = 60  # characters of a hyperparameter
ATTENDED, LIVED, DOSE = 100, 4, 0.5  # patients of the attention figure, their weeks before it, the dose
CBT = TREATMENTS.index("cbt")


def show_run(
    tracker: RunTracker, config: Config, metrics: dict[str, Metrics], episodes: pd.DataFrame, dynamics: TwinDynamics
) -> None:
    """Write it all; ``metrics`` by stage, ``episodes`` those of the evaluation, ``dynamics`` the Twin of synthetic patients."""
    tracker.hyperparameters(hyperparameters(config), results(metrics))
    for name, values in histograms(episodes).items():
        tracker.histogram(f"evaluate/{name}", values)
    if "prescribed" in metrics["evaluate"]:
        tracker.figure("evaluate/policy_map", policy_map(metrics["evaluate"]["prescribed"]))
    tracker.figure("twin/attention", attention_figure(dynamics))


def hyperparameters(config: Config) -> dict[str, str | float | bool]:
    """The settings that a run follows from, by dotted name; lists and what is long are left out."""
    whole = plain(config)
    found: dict[str, str | float | bool] = {}
    for section in COMPARED:
        found |= _flat(whole[section], section)
    return found


def _flat(value: Any, name: str) -> dict[str, str | float | bool]:
    if isinstance(value, dict):
        return {key: each for inner, part in value.items() for key, each in _flat(part, f"{name}.{inner}").items()}
    kept = isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= LARGEST)
    return {name: value} if kept else {}


def results(metrics: dict[str, Metrics]) -> dict[str, float]:
    """The numbers of each stage that the terminal shows, by ``result/STAGE.PATH``; what was not measured is left out."""
    found = {}
    for stage, shown in HEADLINES.items():
        for path, *_ in shown:
            value = lookup(metrics.get(stage, {}), path)
            if isinstance(value, (int, float)) and np.isfinite(value):
                found[f"result/{stage}.{path}"] = float(value)
    return found


def histograms(episodes: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns of the courses of every policy that is no constant, and the doses that each policy gives where it treats."""
    found = {}
    for name, rows in episodes.groupby("policy"):
        if str(name).startswith("constant_"):
            continue
        found[f"return/{name}"] = rows.groupby(["patient", "seed"])["reward"].sum().to_numpy()
        given = rows.loc[rows["treatment"] != CONTROL, "intensity"].to_numpy()
        if len(given):
            found[f"dose/{name}"] = given
    return found


def policy_map(prescribed: Metrics) -> Figure:
    """Shares of treatments by risk score and by week, from the metrics of the evaluation."""
    figure = new_figure(10, 3.6)
    for ax, (by, label) in zip(figure.subplots(1, 2), (("risk", "risk score"), ("week", "week")), strict=True):
        shares = np.array([[row["treatments"][name] for row in prescribed[by].values()] for name in TREATMENTS])
        image = ax.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        ax.set_xticks(range(shares.shape[1]), list(prescribed[by]))
        ax.set_yticks(range(len(TREATMENTS)), LABELS)
        weeks = sum(row["weeks"] for row in prescribed[by].values())
        plain_axes(ax, f"What the agent prescribes, by {label}: share of {weeks:,} patient-weeks", label)
    figure.colorbar(image, ax=figure.axes, label="share")
    return figure


def attention_figure(dynamics: TwinDynamics) -> Figure:
    """How much each past day counts for the level and for the days of the coming week; a mean over patients."""
    rows = torch.arange(min(ATTENDED, len(dynamics.base)))
    state = dynamics.start(rows, rows)
    action = torch.full_like(rows, CBT), torch.full(rows.shape, DOSE)
    for _ in range(LIVED):
        state, _ = dynamics.step(state, *action, rows)
    found = dynamics.attention(state, *action).mean(dim=0)  # (8, weeks*7)
    weights = found[:, -DAYS * (LIVED + 1) :].numpy()
    figure = new_figure(10, 2.8)
    ax = figure.subplots()
    image = ax.imshow(weights, vmin=0, cmap="Blues", aspect="auto")
    days = weights.shape[1]
    ax.set_xticks(range(0, days, DAYS), [f"{days - k} days ago" for k in range(0, days, DAYS)])
    ax.set_yticks(range(len(weights)), ["level", *WEEKDAYS])
    plain_axes(
        ax, f"Twin: which past days count for the coming week's level and days; mean of {len(rows)} synthetic patients"
    )
    figure.colorbar(image, ax=ax, label="weight, sums to 1")
    return figure
