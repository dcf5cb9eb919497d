"""A policy of one's own beside the standard ones: in Trial, on a run's held-out patients, with its normalised score.

    python run_pipeline.py                      # once: makes runs/demo
    python examples/own_policy.py [--run runs/demo]

Patients, luck, intervals and baselines are those of the run's evaluate stage, so the rows they share agree to the digit.
"""

import argparse
import re
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from core.protocols import NullTracker
from core.random import numpy_generator
from core.treatments import TREATMENTS
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.trial import TrialSettings
from intervention.baselines import Action, Memoryless, Policy, standard_policies
from intervention.evaluation import EvaluateSettings, normalised_score, run_policies, summarise
from pipeline.command import one_line_errors
from pipeline.environments import open_run
from pipeline.parts import HELD_OUT_SEED, holdout_patients, load_risk, section, simulations, trial_world
from pipeline.stages.evaluate import by_person, read_agents
from pipeline.store import RunStore

CBT, EXERCISE = TREATMENTS.index("cbt"), TREATMENTS.index("exercise")
FLOOR, CEILING = "none", "privileged"  # what scores 0 and 1


class SleepFirst(Memoryless):
    """CBT for whoever slept worse than the average person this week, exercise for the others; less as risk falls.

    A policy may look at the observation, whose layout has names, and at nothing else of the simulation.
    """

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        layout = simulation.layout
        nights = [i for i, name in enumerate(layout.names) if re.fullmatch(r"week\..*\.sleep_quality", name)]
        risk = observation[:, layout.slices["risk"]][:, 0]
        poor = observation[:, nights].mean(dim=1) < 0  # scaled: 0 is the training persons' mean
        return torch.where(poor, CBT, EXERCISE), (0.3 + 0.5 * risk).clamp(0.3, 0.7)


def judge(store: RunStore, own: dict[str, Policy]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The table of ``own`` policies and the standard ones, and the score and interval of every one between the two ends.

    Raises:
        MissingStageError: the run has not been evaluated. ConfigError: it has no privileged agent to score 1.
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


def span(value: float | None, interval: list[float] | None, digits: int) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def main(run: str) -> None:
    torch.set_num_threads(1)
    table, scores = judge(open_run(run), {"sleep first": SleepFirst()})
    print(
        f"{'policy':<14}{'return (95 % CI)':>22}{'remission':>11}{'dose-weeks':>12}{'adverse':>9}{'score (95 % CI)':>24}"
    )
    for name, row in sorted(table.items(), key=lambda item: -item[1]["return"]):
        means = f"{row['remission']:>11.1%}{row['dose_weeks']:>12.1f}{row['adverse_events']:>9.2f}"
        print(f"{name:<14}{span(row['return'], row['return_ci'], 2):>22}{means}{span(*scores[name], 3):>24}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="folder of a run that has been evaluated")
    with one_line_errors(()):
        main(**vars(parser.parse_args()))
