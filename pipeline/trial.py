"""What Trial implies, beside what was published: effects, doses, onset, remission, and whether there is much to learn.

A command like the journey, not a stage: it reads a finished run's held-out patients and risk model, simulates them in Trial
as it is configured now, and prints.
"""

import torch
from rich.console import Console
from rich.markup import escape

from envs.simulation import Simulation
from intervention.trial_effects import Arms, simulate_arms
from pipeline.config import Config, plain
from pipeline.parts import HELD_OUT_SEED, holdout_patients, load_risk, trial_world
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
    learning_lines,
    natural_history,
    onset_table,
    remission_table,
)


def show_trial(config: Config, store: RunStore, console: Console) -> None:
    """Simulate every treatment and dose in Trial, and print what follows.

    Raises:
        MissingStageError: the run has no held-out persons or no risk model. ArtifactError: its files are damaged.
        DataError: nobody held out is in care.
    """
    torch.set_num_threads(config.wide_threads)
    arms = simulate(config, store, console)
    run, courses = escape(store.root.name), config.evaluate.seeds
    console.print(
        f"[bold]Manō[/] run [bold]{run}[/]: what Trial, the ground truth, implies. Research simulator, not medical advice.\n"
        f"  {arms.units} held-out patients in care; every arm the same patients and the same luck, courses of each: {courses}"
    )
    parts = (
        effect_table(arms), published_table(arms, config.published), dose_table(arms), onset_table(arms),
        remission_table(arms), natural_history(arms, config.env), "[bold]Is it worth learning?[/]",
        learning_lines(store.metrics("evaluate") if store.has("evaluate") else None),
    )  # fmt: skip
    for part in parts:
        console.print(part)
        if not isinstance(part, str):
            console.print()
    for name in made_otherwise(config, store):
        console.print(f"  [yellow]note[/] the evaluate stage was made with other settings of '{name}' than these")


def simulate(config: Config, store: RunStore, console: Console) -> Arms:
    """The arms, on the patients and with the luck that the evaluate stage gives its policies."""
    patients, risk = holdout_patients(store, config.env), load_risk(store)
    units = min(len(patients), config.evaluate.patients)
    seeds = [config.seed + index for index in range(config.evaluate.seeds)]
    world = trial_world(patients, risk, config.trial, config.env, config.seed + HELD_OUT_SEED)
    simulation = Simulation(patients, world.dynamics, risk, config.env, units * len(seeds), seed=0)
    doses = sorted({*DOSES, *SHOWN_DOSES})
    tracker = RunTracker(store.root, console)
    return simulate_arms(simulation, units, seeds, doses, WEEKS, (REFERENCE_DOSE, STOP), tracker)


def made_otherwise(config: Config, store: RunStore) -> list[str]:
    """Settings that differ between the evaluate stage's and these."""
    if not store.has("evaluate"):
        return []
    made = store.manifest("evaluate")["config"]
    return [name for name in ("trial", "env") if made.get(name) != plain(getattr(config, name))]
