"""Commands that something befalls: killed at a moment or at a stroke of the pen, interrupted, or out of room.

A child is forked from a server that has imported everything once, so that a fault costs what the stage costs. As a
plugin of pytest (``make faults``) the module prints the tally of all faults at the end.
"""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages import STAGES
from pipeline.store import METRICS, PARTIAL, PREVIOUS, RunStore, sha256

os.environ["OMP_NUM_THREADS"] = "1"  # of the server, as of conftest's runs: numpy's last bits hang on it
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pipeline.command"])
Strike = Callable[[], None]  # what befalls a child, set up before its command begins
# What a stage leaves that tells how long it took, and so is no one's to repeat.
TIMED = ("second", "memory", "notes", "page_bytes", "threads")

TALLY: Counter[str] = Counter()  # of one process: `make faults` takes no workers
PEAKS: dict[str, float] = {}  # MB, by what was done


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The tally, where this module is a plugin."""
    failed = len(terminalreporter.stats.get("failed", ())) + len(terminalreporter.stats.get("error", ()))
    say = terminalreporter.write_line
    terminalreporter.section("faults")
    tried = {name: n for name, n in TALLY.items() if name.startswith("tried ")}
    for name, n in sorted(tried.items()):
        survived = TALLY[name.replace("tried", "survived")]
        say(f"{name.removeprefix('tried '):<34} {n:>5} tried {survived:>5} survived")
    say(
        f"{'all':<34} {sum(tried.values()):>5} tried {sum(n for k, n in TALLY.items() if k.startswith('survived ')):>5} survived"
    )
    say(f"artefacts lost {TALLY['lost']}, payloads run {TALLY['payloads run']}, digests equal {TALLY['digests equal']} of "
        f"{TALLY['digests compared']}, tests failed {failed}")  # fmt: skip
    for what, peak in PEAKS.items():
        say(f"peak memory, {what}: {peak:,.0f} MB")


@contextmanager
def fault(kind: str) -> Iterator[None]:
    """One fault in the tally: tried, and survived where the block ends without a failed assertion."""
    TALLY[f"tried {kind}"] += 1
    yield
    TALLY[f"survived {kind}"] += 1


# Runs, as they are and as they were.


def contents(store: RunStore, but: tuple[str, ...] = ()) -> dict[str, str]:
    """The SHA-256 of every file of the run's stages, those of ``but`` left out."""
    return {
        str(path.relative_to(store.root)): sha256(path)
        for stage in STAGES
        if stage.name not in but
        for path in sorted(store.folder(stage.name).rglob("*"))
        if path.is_file()
    }


def results(store: RunStore, stage: str) -> dict[str, Any]:
    """All that a stage must give again: the digests of its files, and its metrics without times."""
    outputs = store.manifest(stage)["outputs"]
    timed = ("summary.json", "report.html", METRICS)
    files = {name: digest for name, digest in outputs.items() if name not in timed and not name.endswith(".md")}
    return {"files": files, METRICS: timeless(store.metrics(stage))}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not any(word in key for word in TIMED)}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def same_results(store: RunStore, reference: RunStore, stage: str) -> bool:
    """Whether a stage's files are byte for byte those of the reference, and in order; it goes into the tally."""
    same = store.damage(stage) is None and results(store, stage) == results(reference, stage)
    TALLY["digests compared"] += 1
    TALLY["digests equal"] += same
    return same


def untouched(store: RunStore, before: dict[str, str], but: tuple[str, ...] = ()) -> bool:
    """Whether all files of ``before`` are there as they were; those that are not count as lost."""
    now = contents(store, but)
    lost = [name for name, digest in before.items() if now.get(name) != digest]
    TALLY["lost"] += len(lost)
    return not lost


def leftovers(store: RunStore, checkpoints: bool = True) -> list[Path]:
    """What only an interrupted process leaves: half-written files and folders, and the checkpoints it could go on from."""
    kinds = (PARTIAL, PREVIOUS, *((".checkpoint",) if checkpoints else ()))
    return [path for path in store.root.rglob("*") if path.name.endswith(kinds)]


def copy_of(smoke: RunStore, folder: Path) -> RunStore:
    shutil.copytree(smoke.root, folder / smoke.root.name)
    return RunStore(folder / smoke.root.name, "preset=smoke")


# Children.


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status (negative: the signal it died of), what it said, and how long it took."""

    status: int
    said: str
    seconds: float

    def error(self) -> str:
        """The one line of an error.

        Raises:
            AssertionError: there is none, or a traceback.
        """
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        assert self.status > 0 and len(lines) == 1 and "Traceback" not in self.said, self.said
        return lines[0]


def command_in_child(
    folder: Path, *arguments: str, strike: Strike | None = None, signal_at: tuple[int, float] | None = None
) -> Ended:
    """A command on the runs in ``folder``; ``signal_at`` sends a signal after so many seconds."""
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    line = ["preset=smoke", f"runs_dir={folder}", *arguments]
    child = SERVER.Process(target=_child, args=(line, str(said), strike))
    started = time.perf_counter()
    child.start()
    if signal_at is not None:
        _send(child, *signal_at)
    child.join()
    assert child.exitcode is not None
    return Ended(child.exitcode, said.read_text() if said.exists() else "", time.perf_counter() - started)


def _send(child: BaseProcess, number: int, after: float) -> None:
    child.join(after)
    if child.is_alive() and child.pid is not None:
        os.kill(child.pid, number)


def _child(line: list[str], said: str, strike: Strike | None) -> None:
    paper = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(paper, 1), os.dup2(paper, 2)
    from pipeline.command import execute, one_line_errors
    from pipeline.config import load_config
    from pipeline.console import console

    # As the command does it, but for Hydra's own checks of the line, which take longer than most stages here.
    with one_line_errors(line):
        config = load_config(line)
        if strike is not None:
            strike()
        execute(config, console(), line)


# What may befall them. A stroke is a moment at which what lies on disk changes its meaning.


def on_stroke(number: int, then: Callable[[], None]) -> None:
    """Call ``then`` right before stroke ``number``; what a save has written so far is cut in half."""
    left = [number]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def stroke(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if given and isinstance(given[0], int):
                    os.ftruncate(given[0], os.fstat(given[0]).st_size // 2)
                then()
            return real(*given, **named)

        return stroke

    os.fsync = counted(os.fsync)
    Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)  # type: ignore[method-assign]
    shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]


def killed_at(stroke: int) -> Strike:
    return partial(on_stroke, stroke, _kill)


def interrupted_at(stroke: int) -> Strike:
    return partial(on_stroke, stroke, _interrupt)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background ignores it
    os.kill(os.getpid(), signal.SIGINT)


def no_file_beyond(size: int) -> None:
    """From here on no file of this process may grow beyond ``size`` bytes, as where a disk is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def lean() -> None:
    """Quality reports left out: what is tested is how a stage is kept, and they are most of its time."""
    from pipeline.stages import cohort, profiles, rhythms

    profiles.profile_quality = lambda *_: {}  # type: ignore[assignment]
    rhythms.rhythm_quality = lambda *_: {}  # type: ignore[assignment]
    cohort._quality = lambda *_: {}  # type: ignore[assignment]


def lean_and(strike: Strike | None) -> Strike:
    return partial(_both, strike)


def _both(strike: Strike | None) -> None:
    lean()
    if strike is not None:
        strike()


def seal_again(store: RunStore, stage: str, **changes: Any) -> None:
    """A manifest someone has written to fit the files that lie there now, and to say what ``changes`` say."""
    from pipeline.store import MANIFEST, write_manifest

    path = store.folder(stage) / MANIFEST
    manifest = json.loads(path.read_text())
    outputs = {name: sha256(store.folder(stage) / name) for name in manifest["outputs"]}
    write_manifest(store.folder(stage), manifest | {"outputs": outputs} | changes)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
