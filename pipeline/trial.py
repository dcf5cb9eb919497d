"""What Trial implies, beside what was published: effects, doses, onset, remission, and whether there is much to learn.

A command like the journey, not a stage: it reads a finished run's held-out patients and risk model, simulates them in Trial
as it is configured now, and prints.
"""

import torch
from rich.console import Console
from rich.markup import escape

from core.protocols import Tracker
from envs.simulation import Simulation
from intervention.baselines import Constant, SteppedCare, standard_policies
from intervention.cheats import Late, StopAndGo
from intervention.evaluation import courses, run_policies
from intervention.trial_effects import Arms, best_arm, simulate_arms
from pipeline.config import Config, plain
from pipeline.learning_table import Row, learning_table
from pipeline.parts import HELD_OUT_SEED, World, holdout_patients, load_risk, trial_world
from pipeline.published_table import published_table
from pipeline.store import RunStore
from pipeline.tracker import RunTracker
from pipeline.trial_table import (
    DOSES,
    REFERENCE_DOSE,
    SHOWN_DOSES,
    STOP,
    WEEKS,
    dose_table,
    effect_table,
    natural_history,
    onset_table,
    recovered,
    remission_table,
)

LATE = 4  # weeks that the planted policy waits before it treats
MARGIN = 0.1  # above the threshold of remission, at which the planted policy pauses


def show_trial(config: Config, store: RunStore, console: Console) -> None:
    """Simulate every treatment and dose in Trial, and policies that need no training, and print what follows.

    Raises:
        MissingStageError: the run has no held-out persons or no risk model. ArtifactError: its files are damaged.
        DataError: nobody held out is in care.
    """
    torch.set_num_threads(config.wide_threads)
    world, units, seeds = judged(config, store)
    tracker = RunTracker(store.root, console)
    arms = simulate(config, world, units, seeds, tracker)
    learned, notes = trained(config, store)
    earned = untrained(config, world, units, seeds, best_arm(arms), tracker) | learned
    console.print(
        f"[bold]Manō[/] run [bold]{escape(store.root.name)}[/]: what Trial, the ground truth, implies. Research simulator, not "
        f"medical advice.\n  {arms.units} held-out patients in care; every arm the same patients and the same luck, courses of "
        f"each: {len(seeds)}"
    )
    parts = (
        effect_table(arms), published_table(arms, config.published), dose_table(arms), onset_table(arms),
        remission_table(arms), natural_history(arms, config.env), learning_table(arms, earned, recovered(arms), notes),
    )  # fmt: skip
    for part in parts:
        console.print(part)
        console.print()


def judged(config: Config, store: RunStore) -> tuple[World, int, list[int]]:
    """The world, how many of its patients, and the seeds of luck with which the evaluate stage judges its policies."""
    patients = holdout_patients(store, config.env)
    world = trial_world(patients, load_risk(store), config.trial, config.env, config.seed + HELD_OUT_SEED)
    seeds = [config.seed + index for index in range(config.evaluate.seeds)]
    return world, min(len(patients), config.evaluate.patients), seeds


def simulate(config: Config, world: World, units: int, seeds: list[int], tracker: Tracker) -> Arms:
    """The arms, long enough for every table and for the return of a whole course."""
    simulation = Simulation(
        world.patients, world.dynamics, world.risk_model, world.settings, units * len(seeds), seed=0
    )
    doses, weeks = sorted({*DOSES, *SHOWN_DOSES}), max(WEEKS, config.env.horizon)
    return simulate_arms(simulation, units, seeds, doses, weeks, (REFERENCE_DOSE, STOP), tracker)


def untrained(
    config: Config, world: World, units: int, seeds: list[int], best: tuple[int, float], tracker: Tracker
) -> dict[str, Row]:
    """Mean measures of the policies that need no training, the best constant and its planted cheats among them."""
    known = standard_policies((), config.evaluate.stepped_care)
    policies = known | {
        "best_constant": Constant(*best),
        "late": Late(SteppedCare(config.evaluate.stepped_care), LATE),
        "stop_and_go": StopAndGo(*best, MARGIN),
        "put_off": StopAndGo(*best, 0.0),
    }

    def make(seed: int) -> Simulation:
        return Simulation(world.patients, world.dynamics, world.risk_model, world.settings, units, seed)

    table = courses(run_policies(policies, make, torch.arange(units), seeds, tracker))
    means = table.groupby(level="policy").mean()
    return {str(name): row.to_dict() for name, row in means.iterrows()}


def trained(config: Config, store: RunStore) -> tuple[dict[str, Row], list[str]]:
    """What the evaluate stage found of the trained policies, and what must be said of it."""
    if not store.has("evaluate"):
        return {}, ["PPO is not known: the run has no evaluate stage."]
    other = made_otherwise(config, store)
    if other:
        return {}, [
            f"PPO is not known: the evaluate stage was made with other settings of {' and '.join(other)} than these; "
            f"remake it with `{store.command('evaluate')}`."
        ]
    policies, world = store.metrics("evaluate")["policies"], store.metrics("policy")["world"]
    note = f"PPO was trained in the {world.capitalize()}, privileged PPO in Trial with the response in view: the evaluate stage's."
    return {name: policies[name] for name in ("ppo", "privileged") if name in policies}, [note]


def made_otherwise(config: Config, store: RunStore) -> list[str]:
    """Settings that differ between the evaluate stage's and these."""
    if not store.has("evaluate"):
        return []
    made = store.manifest("evaluate")["config"]
    return [name for name in ("trial", "env") if made.get(name) != plain(getattr(config, name))]
