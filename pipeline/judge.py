"""Policies that no stage trained, judged as a run's own are: the same held-out patients, luck and intervals."""

from typing import Any

import pandas as pd
import torch

from core.protocols import NullTracker
from core.random import numpy_generator
from envs.rewards import EnvSettings
from envs.trial import TrialSettings
from intervention.baselines import Policy, standard_policies
from intervention.evaluation import EvaluateSettings, normalised_score, run_policies, summarise
from pipeline.parts import HELD_OUT_SEED, holdout_patients, load_risk, section, simulations, trial_world
from pipeline.stages.evaluate import by_person, read_agents
from pipeline.store import RunStore

FLOOR, CEILING = "none", "privileged"  # what scores 0 and 1
Score = tuple[float | None, list[float] | None]  # normalised score and its interval


def judge(store: RunStore, own: dict[str, Policy]) -> tuple[dict[str, dict[str, Any]], dict[str, Score]]:
    """``own`` policies beside the run's agents and standard ones (constants apart), by name: the measures of
    ``evaluation.summarise``, and the normalised scores.

    Raises:
        MissingStageError: the run has not been evaluated.
    """
    settings = section(store, "evaluate", "evaluate", EvaluateSettings)
    trial, env = section(store, "evaluate", "trial", TrialSettings), section(store, "evaluate", "env", EnvSettings)
    seed = store.manifest("evaluate")["seed"]
    patients, agents = holdout_patients(store, env), read_agents(store)
    rows = torch.arange(min(len(patients), settings.patients))
    world = trial_world(patients, load_risk(store), trial, env, seed + HELD_OUT_SEED)
    policies = standard_policies((), settings.stepped_care) | agents | own
    seeds = [seed + index for index in range(settings.seeds)]
    episodes = run_policies(policies, simulations(world, rows), rows, seeds, NullTracker())
    episodes = by_person(episodes, pd.Series(store.cohort("source", "holdout_").person))
    rng, how = numpy_generator(seed, "own policy"), (settings.resamples, settings.confidence)
    table = summarise(episodes, rng, *how)
    return table, {name: normalised_score(episodes, name, FLOOR, CEILING, rng, *how) for name in table}


def table_of(table: dict[str, dict[str, Any]], scores: dict[str, Score]) -> str:
    """What :func:`judge` found as lines of text, the best first."""
    columns = f"{'return (95 % CI)':>22}{'remission':>11}{'dose-weeks':>12}{'adverse':>9}{'score (95 % CI)':>24}"
    lines = [f"{'policy':<14}{columns}"]
    for name, row in sorted(table.items(), key=lambda item: -item[1]["return"]):
        means = f"{row['remission']:>11.1%}{row['dose_weeks']:>12.1f}{row['adverse_events']:>9.2f}"
        lines.append(f"{name:<14}{_span(row['return'], row['return_ci'], 2):>22}{means}{_span(*scores[name], 3):>24}")
    return "\n".join(lines)


def _span(value: float | None, interval: list[float] | None, digits: int) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
