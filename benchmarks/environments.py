"""How many environment steps a second: the batched core beside a batch of one and SB3's DummyVecEnv, in one run.

    python benchmarks/environments.py [RUN]

Trial with the closed-form severity index; with RUN (runs/demo, say) also Trial and Twin with that run's risk model.
"""

import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv

from envs.patient_env import PatientEnv
from envs.simulation import Simulation
from pipeline.environments import run_world, trial_of
from pipeline.parts import World

SECONDS = 3.0  # each measurement


def batched(world: World, batch: int) -> float:
    simulation = Simulation(world.patients, world.dynamics, world.risk_model, world.settings, batch, seed=0)
    simulation.reset()
    generator = torch.Generator().manual_seed(0)

    def step() -> int:
        treatment = torch.randint(5, (batch,), generator=generator)
        taken = simulation.step(treatment, torch.full((batch,), 0.5))
        simulation.reset(which=taken.terminated | taken.truncated)
        return batch

    return rate(step)


def dummy(world: World, batch: int) -> float:
    env = DummyVecEnv(
        [lambda: PatientEnv(world.patients, world.dynamics, world.risk_model, world.settings, form="Box")] * batch
    )
    env.reset()
    return rate(lambda: len(env.step([env.action_space.sample() for _ in range(batch)])[1]))


def rate(step: Callable[[], int]) -> float:
    """Steps a second, after a warm-up."""
    step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        steps += step()
    return steps / (time.perf_counter() - start)


def main() -> None:
    worlds = {"Trial, severity index": trial_of(None)}
    if len(sys.argv) > 1:
        worlds |= {"Trial, risk LSTM": trial_of(sys.argv[1]), "Twin, risk LSTM": run_world(sys.argv[1], twin=True)}
    table = Table("environment", "batch", "steps/s", "against a batch of one")
    for name, world in worlds.items():
        one = batched(world, 1)
        rows = {"1": one, "16, DummyVecEnv": dummy(world, 16), **{str(b): batched(world, b) for b in (64, 1024, 8192)}}
        for batch, speed in rows.items():
            table.add_row(name, batch, f"{speed:,.0f}", f"{speed / one:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
