"""Many persons and many steps in bounded memory."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from conftest import ROOT
from helpers_faults import PEAKS, copy_of, fault

import envs  # noqa: F401 - registers the ids
from pipeline.store import RunStore

MEASURED = """
import resource, sys
from pipeline.command import run
run(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def resident_mb() -> float:
    """Memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_a_hundred_thousand_persons_within_two_gigabytes(smoke: RunStore, tmp_path: Path) -> None:
    store = copy_of(smoke, tmp_path)
    line = ["preset=smoke", f"runs_dir={tmp_path}", "stage=cohort", "cohort.persons=100000"]
    with fault("load"):
        done = subprocess.run([sys.executable, "-c", MEASURED, *line], capture_output=True, text=True, cwd=ROOT, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        peak = float(done.stdout.split("PEAK")[1])
        PEAKS["cohort of 100,000 persons"] = peak
        assert peak <= 2000
        assert len(store.cohort("cohort")) == 100_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("world", ["Trial", "Twin"])
def test_a_million_steps_hold_no_more_memory_than_the_first(smoke: RunStore, world: str) -> None:
    many, rounds = 1000, {"Trial": 1000, "Twin": 200}[world]
    env = gym.make_vec(f"Mano/{world}-v0", num_envs=many, run=str(smoke.root))
    env.action_space.seed(0)
    env.reset(seed=0)
    held = []
    with fault("load"):
        for step in range(rounds):
            env.step(env.action_space.sample())
            if (step + 1) % (rounds // 10) == 0:
                gc.collect()
                held.append(resident_mb())
        PEAKS[f"{many * rounds:,} steps of {world}"] = max(held)
        grown = held[-1] - held[1]  # the first tenths fill caches
        assert grown < 20, json.dumps(held)
