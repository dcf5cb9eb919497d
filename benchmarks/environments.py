"""Environment steps a second: the batched core and every face of it, beside a batch of one and SB3's DummyVecEnv.

    python benchmarks/environments.py [--run runs/demo] [--device cuda] [--threads 2] [--seconds 2]

Trial with the closed-form severity index needs nothing; with a run also Trial and Twin with that run's risk model.
Treatments and intensities are random, ended episodes begin anew within the time, and episodes are out of step with
each other, as they are in training. Each number is the best of several windows, since what else a machine does only
ever slows it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose names are no packages

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from core.errors import ManoError
from envs.patient_env import PatientEnv
from envs.sb3 import PatientVecEnv
from envs.simulation import Simulation
from envs.vector_env import PatientVectorEnv
from pipeline.console import console
from pipeline.environments import reference_world, run_world
from pipeline.parts import World

BATCHES = (1, 64, 1024, 8192)
DUMMY = 16  # environments of SB3's DummyVecEnv, which steps one after the other
FACE = 1024  # environments of the vectorised faces
WINDOWS = 5
WARM_UP = 14  # weeks: over a horizon, so that episodes are out of step
PLANS = 32  # weeks of actions drawn beforehand

Step = Callable[[], int]  # takes some steps and says how many


def core(world: World, batch: int) -> Step:
    """``Simulation`` and its resets, as the faces use it."""
    simulation = Simulation(world.patients, world.dynamics, world.risk_model, world.settings, batch, seed=0)
    device, draws = world.patients.week.device, torch.Generator().manual_seed(0)
    treatments = torch.randint(5, (PLANS, batch), generator=draws).to(device)
    intensities = (0.1 + 0.9 * torch.rand(PLANS, batch, generator=draws)).to(device)
    weeks = endless(PLANS)
    simulation.reset()
    for _ in range(6):
        simulation.reset(which=torch.rand(batch, generator=draws).to(device) < 0.3)
        simulation.step(treatments[0], intensities[0])

    def step() -> int:
        week = next(weeks)
        taken = simulation.step(treatments[week], intensities[week])
        done = taken.terminated | taken.truncated
        if bool(done.any()):
            simulation.reset(which=done)
        return batch

    return step


def single(world: World) -> Step:
    """``gym.make``'s environment, with its spaces, checks and info."""
    env = PatientEnv(world.patients, world.dynamics, world.risk_model, world.settings)
    env.action_space.seed(0)
    actions, weeks = [env.action_space.sample() for _ in range(PLANS)], endless(PLANS)
    env.reset(seed=0)

    def step() -> int:
        _, _, terminated, truncated, _ = env.step(actions[next(weeks)])
        if terminated or truncated:
            env.reset()
        return 1

    return step


def vector(world: World) -> Step:
    """``gym.make_vec``'s environment."""
    env = PatientVectorEnv(world.patients, world.dynamics, world.risk_model, world.settings, FACE)
    env.action_space.seed(0)
    actions, weeks = [env.action_space.sample() for _ in range(PLANS)], endless(PLANS)
    env.reset(seed=0)
    return lambda: len(env.step(actions[next(weeks)])[1])


def sb3(env: VecEnv, actions: list[np.ndarray]) -> Step:
    weeks = endless(len(actions))
    env.reset()
    return lambda: len(env.step(actions[next(weeks)])[1])


def ours(world: World) -> Step:
    """The VecEnv that the project gives SB3."""
    draws, parts = np.random.default_rng(0), (world.patients, world.dynamics, world.risk_model, world.settings)
    pairs = [np.stack([draws.integers(0, 5, FACE), draws.random(FACE)], axis=1) for _ in range(PLANS)]
    return sb3(PatientVecEnv(*parts, FACE, seed=0), [pair.astype(np.float32) for pair in pairs])


def dummy(world: World) -> Step:
    """What SB3 makes of the single environment."""
    parts = (world.patients, world.dynamics, world.risk_model, world.settings)
    draws = np.random.default_rng(0)
    actions = [draws.uniform(-1, 1, (DUMMY, 6)).astype(np.float32) for _ in range(PLANS)]
    return sb3(DummyVecEnv([lambda: PatientEnv(*parts, form="Box")] * DUMMY), actions)


def endless(n: int) -> Iterator[int]:
    while True:
        yield from range(n)


def rate(step: Step, seconds: float, device: str) -> float:
    """Steps a second in the best of several windows, after a warm-up."""
    best, wait = 0.0, torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    for _ in range(WARM_UP):
        step()
    for _ in range(WINDOWS):
        wait()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / WINDOWS:
            steps += step()
        wait()
        best = max(best, steps / (time.perf_counter() - start))
    return best


def resident_gigabytes() -> float:
    """Memory of this process now, from the kernel where it says (Linux); 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 2**20


def measured(world: World, options: argparse.Namespace) -> list[tuple[str, int, float]]:
    """Face, environments and steps a second."""
    batches = BATCHES[:2] if options.quick else BATCHES
    made: list[tuple[str, int, Callable[[], Step]]] = [
        *(("batched core", b, lambda b=b: core(world, b)) for b in batches),  # type: ignore[misc]
        ("gym.make", 1, lambda: single(world)),
        ("gym.make_vec", FACE, lambda: vector(world)),
        ("SB3 VecEnv, ours", FACE, lambda: ours(world)),
        ("SB3 DummyVecEnv", DUMMY, lambda: dummy(world)),
    ]
    return [(face, size, rate(make(), options.seconds, options.device)) for face, size, make in made]


def worlds(options: argparse.Namespace) -> Iterator[tuple[str, World]]:
    yield "Trial, severity index", reference_world(device=options.device)
    if options.run:
        yield "Trial, risk LSTM", run_world(options.run, twin=False, device=options.device)
        yield "Twin, risk LSTM", run_world(options.run, twin=True, device=options.device)


def report(name: str, rows: list[tuple[str, int, float]], screen: Console) -> None:
    one, ordinary = rows[0][2], rows[-1][2]
    table = Table(
        "face", "environments", "steps/s", "x batch of one", "x DummyVecEnv", title=name, title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for face, size, speed in rows:
        table.add_row(face, f"{size:,}", f"{speed:,.0f}", f"{speed / one:.1f}", f"{speed / ordinary:.1f}")
    screen.print(table)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="DIR", help="a finished run, for its risk model and Twin")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each number")
    parser.add_argument("--quick", action="store_true", help="small batches, to see that it runs")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: no such device here; leave it out for the processor")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options, screen = parsed(arguments), console()
    torch.set_num_threads(options.threads)
    try:
        for name, world in list(worlds(options)):  # a missing run is told of before anything is measured
            report(name, measured(world, options), screen)
            largest = core(world, BATCHES[1] if options.quick else BATCHES[-1])
            for _ in range(WARM_UP):
                count = largest()
            screen.print(f"memory of the process with {count:,} environments: {resident_gigabytes():.2f} GB\n")
    except ManoError as error:
        screen.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(2) from error
    screen.print(f"threads: {torch.get_num_threads()}, device: {options.device}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
