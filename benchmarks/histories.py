"""How an agent may read a course so far: its latest observation, or all of them by a recurrent network or by attention.

    python benchmarks/histories.py [--run runs/demo] [--seed 0]

Each network has the dual head and learns by likelihood, in the same steps, what one-week-ahead planning in the run's Twin would do
in every week of the same courses. `agreement` is how often it would give the planner's treatment on courses it did not learn from;
`return` what it earns in Trial with 4,000 held-out patients (standard error about .07, but all share their luck). About two
minutes on one thread.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose names are no packages

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from core.random import numpy_generator, seeded_init, torch_generator
from envs.observation import ObservationLayout
from envs.rewards import EnvSettings
from envs.simulation import Simulation, Step
from envs.trial import TrialSettings
from intervention.baselines import Action, Greedy, Policy
from intervention.demonstrations import demonstrated_courses
from intervention.evaluation import courses, run_policy
from intervention.imitation import SURE
from intervention.policy import OUTPUTS, DualHeadDistribution, intensity_of
from intervention.training import PolicySettings
from intervention.trials import enrol
from intervention.twin import TwinDynamics
from intervention.week_summary import WeekSummary
from pipeline.command import one_line_errors
from pipeline.console import console
from pipeline.environments import open_run
from pipeline.parts import (
    HELD_OUT_SEED,
    holdout_patients,
    load_twin,
    section,
    simulations,
    synthetic_patients,
    worlds,
)

WIDTH, ENTROPY, JUDGED = 64, 0.01, 4000
RESPONSES = ("exposure", "change_per_exposure")  # what the observation says of the course as a whole


class Reader(nn.Module):
    """Observations ``[W, B, D]`` of the weeks so far to the distribution's ``[W, B, 13]``; ``kind`` is how it reads them,
    ``without`` names parts of the observation it does not see."""

    def __init__(self, kind: str, layout: ObservationLayout, weeks: int, without: tuple[str, ...] = ()) -> None:
        super().__init__()
        space = spaces.Box(-np.inf, np.inf, (layout.size,), np.float32)
        self.kind, self.hidden = kind, [layout.slices[part] for part in without]
        self.summary = WeekSummary(space, layout.names)
        self.first = nn.Linear(self.summary.features_dim, WIDTH)
        if kind == "recurrent":
            self.over_weeks: nn.Module = nn.GRU(WIDTH, WIDTH)
        elif kind == "attention":
            self.over_weeks, self.week = nn.MultiheadAttention(WIDTH, 4), nn.Parameter(torch.zeros(weeks, 1, WIDTH))
        self.second, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, OUTPUTS)

    def forward(self, observations: Tensor) -> Tensor:
        seen = observations.clone()
        for part in self.hidden:
            seen[..., part] = 0.0
        x = torch.tanh(self.first(self.summary(seen.flatten(0, 1)))).unflatten(0, seen.shape[:2])
        if self.kind == "recurrent":
            x = x + self.over_weeks(x)[0]
        elif self.kind == "attention":
            placed, later = x + self.week[: len(x)], torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
            x = x + self.over_weeks(placed, placed, placed, attn_mask=later, need_weights=False)[0]
        out: Tensor = self.last(torch.tanh(self.second(x)))
        return out


class Reading:
    """A ``Reader`` as a policy, at its likeliest action."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        self.seen.append(observation.clone())
        action = DualHeadDistribution().proba_distribution(self.reader(torch.stack(self.seen))[-1]).mode()
        return action[:, 0].long(), intensity_of(action[:, 1])

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        pass


@dataclass(frozen=True)
class Shown:
    """Courses ``[W, B, ...]``: what was observed, what the planner would have done, and whether the course was going."""

    observation: Tensor
    action: Tensor
    alive: Tensor


def imitated(reader: Reader, shown: Shown, steps: int, courses_a_step: int, rate: float, seed: int) -> Reader:
    """``reader`` after these steps of likelihood, as ``intervention.imitation`` teaches an actor."""
    optimizer, draw = torch.optim.Adam(reader.parameters(), rate), torch_generator(seed, "histories")
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        rows = torch.randint(shown.alive.shape[1], (courses_a_step,), generator=draw)
        alive = shown.alive[:, rows]
        law = DualHeadDistribution().proba_distribution(reader(shown.observation[:, rows])[alive])
        gained = law.log_prob(shown.action[:, rows][alive]).clamp(max=SURE) + ENTROPY * law.treatment_entropy()
        optimizer.zero_grad()
        (-gained.mean()).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return reader


@torch.no_grad()
def agreement(reader: Reader, shown: Shown) -> float:
    """Share of weeks in which the reader's likeliest treatment is the planner's."""
    chosen = reader(shown.observation)[..., :5].argmax(dim=-1)
    return float((chosen == shown.action[..., 0])[shown.alive].float().mean())


def main(run: str, seed: int) -> None:
    torch.set_num_threads(1)
    store, screen = open_run(run), console()
    env, trial = section(store, "policy", "env", EnvSettings), section(store, "policy", "trial", TrialSettings)
    settings, twin = section(store, "policy", "policy", PolicySettings), load_twin(store)
    how = settings.imitation
    patients, held_out = synthetic_patients(store, env), holdout_patients(store, env)

    def demonstrated(number: int, seed: int) -> Shown:
        rows = torch.arange(number) % len(patients)
        world = worlds(store, patients, trial, env, seed)["twin"]
        planner = Greedy(TwinDynamics(twin, patients), how.intensities)
        made = demonstrated_courses(planner, simulations(world, rows)(seed), rows, how.explored, settings.gamma, seed)
        return Shown(made[0], made[1], made[3])

    learned, other = demonstrated(how.courses, seed), demonstrated(1000, seed + HELD_OUT_SEED)
    drawn = numpy_generator(seed, "histories").integers(len(held_out), size=JUDGED)
    people = enrol(held_out, drawn)
    world, rows = worlds(store, people, trial, env, seed + HELD_OUT_SEED)["trial"], torch.arange(JUDGED)
    layout = simulations(world, rows)(seed).layout

    def told(name: str, policy: Policy, agreed: float | None, seconds: float) -> None:
        made = courses(run_policy(name, policy, simulations(world, rows)(seed), rows, seed)).mean()
        share = "" if agreed is None else f"{agreed:.3f}"
        screen.print(
            f"{name:<38}{share:>10}{made['return']:>9.3f}{made['remission']:>11.1%}{seconds:>7.0f} s", highlight=False
        )

    screen.print(f"{'network':<38}{'agreement':>10}{'return':>9}{'remission':>11}{'trained':>9}", highlight=False)
    make = partial(Reader, layout=layout, weeks=env.horizon)
    for kind in ("latest week", "recurrent", "attention"):
        for without in (RESPONSES, ()):
            with seeded_init(seed):
                reader = make(kind, without=without)
            began = time.perf_counter()
            imitated(reader, learned, how.steps, how.batch // env.horizon, how.learning_rate, seed)
            seconds = time.perf_counter() - began
            name = f"{kind}, without responses" if without else kind
            told(name, Reading(reader.eval()), agreement(reader, other), seconds)
    told("the planner itself", Greedy(TwinDynamics(twin, people), how.intensities), None, 0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="folder of a run that has a policy")
    parser.add_argument("--seed", type=int, default=0)
    with one_line_errors(()):
        main(**vars(parser.parse_args()))
