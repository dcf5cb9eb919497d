"""What several test files share: a run of the smoke preset, made once for all workers; each has a copy of its own."""

import fcntl
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from pipeline.command import execute
from pipeline.config import load_config
from pipeline.store import RunStore

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
# Tests run in as many processes as there are cores: two threads in each would wait for each other.
ONE_THREAD = threadpool_limits(1)
torch.set_num_threads(1)


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python run_pipeline.py ...` as a user would."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run_pipeline.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_here(*overrides: str) -> str:
    """The same without a new process: what it printed; errors are raised."""
    screen = io.StringIO()
    execute(load_config(overrides), Console(file=screen, highlight=False, width=120))
    return screen.getvalue()


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def smoke_output(runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a full run of the smoke preset printed; the run itself is copied to ``runs_dir``, free to be changed there."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # of all workers
    printed = shared / "smoke.txt"
    with (shared / "smoke.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first to come makes it, the others wait
        if not printed.exists():
            done = run_command("preset=smoke", f"runs_dir={shared / 'made'}")
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    shutil.copytree(shared / "made" / "smoke", runs_dir / "smoke")
    return printed.read_text()


@pytest.fixture(scope="session")
def smoke(smoke_output: str, runs_dir: Path) -> RunStore:
    return RunStore(runs_dir / "smoke")


@pytest.fixture(scope="session")
def lifesnaps_folder() -> Path:
    if not (DATA / "lifesnaps_daily.csv").is_file():
        pytest.skip(f"the LifeSnaps files are not at {DATA}")
    return DATA
