"""A full disk and a folder that must not be written to: the old state stays, and a rerun goes on once there is room."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers_faults import (
    command_in_child,
    contents,
    copy_of,
    fault,
    lean_and,
    leftovers,
    needs_root,
    no_file_beyond,
    same_results,
    untouched,
)

from pipeline.command import but_the_writers
from pipeline.stages import STAGES
from pipeline.store import RunStore


@pytest.mark.parametrize(("stage", "size"), [("source", 4096), pytest.param("policy", 30_000, marks=pytest.mark.slow)])
def test_a_file_that_cannot_be_written_whole_is_not_written(
    smoke: RunStore, tmp_path: Path, stage: str, size: int
) -> None:
    store = copy_of(smoke, tmp_path)
    before = contents(store)
    with fault("disk full"):
        line = command_in_child(tmp_path, f"stage={stage}", "force=true", strike=partial(no_file_beyond, size)).error()
        assert "File too large" in line and "raise the limit" in line and f"stage={stage} force=true" in line
        assert untouched(store, before) and not leftovers(store, checkpoints=False)
        assert command_in_child(tmp_path, f"stage={stage}", "force=true").status == 0
        assert same_results(store, smoke, stage)


@pytest.mark.parametrize(("module", "error", "said"), [
    ("tensorboard.summary.writer.event_file_writer", OSError("no space"), False),  # raised in the main thread as well
    ("tensorboard.summary.writer.event_file_writer", ValueError("a bug"), True),
    ("elsewhere", OSError("no space"), True),
])  # fmt: skip
def test_only_the_writers_own_error_is_not_said_twice(
    module: str, error: Exception, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = type("Writer", (threading.Thread,), {"__module__": module})
    but_the_writers(threading.ExceptHookArgs((type(error), error, None, kind())))
    assert bool(capsys.readouterr().err) == said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], capture_output=True, check=False)  # fmt: skip
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
@pytest.mark.parametrize("room", [0, 3_000, 60_000])
def test_a_full_disk_leaves_the_old_state(smoke: RunStore, small_disk: Path, stage: str, room: int) -> None:
    store = copy_of(smoke, small_disk)
    before = contents(store)
    ballast = small_disk / "ballast"
    with fault("disk full"):
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(free - room - 4096, 0)))
        full = command_in_child(small_disk, f"stage={stage}", "force=true", strike=lean_and(None))
        if full.status == 0:  # what it writes is that little
            assert room and store.damage(stage) is None
            return
        ballast.unlink()
        assert untouched(store, before) and not leftovers(store, checkpoints=False)
        assert full.status == 1 and "No space left on device" in full.error() and "free some space" in full.error()
        assert command_in_child(small_disk, f"stage={stage}", "force=true", strike=lean_and(None)).status == 0
        assert store.digest(stage) == smoke.digest(stage)


@pytest.mark.slow
@needs_root
def test_a_read_only_folder_is_one_line(smoke: RunStore, small_disk: Path, tmp_path: Path) -> None:
    store = copy_of(smoke, small_disk)
    before = contents(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with fault("read-only folder"):
        child = command_in_child_elsewhere(small_disk, tmp_path, "stage=source", "force=true")
        assert "Read-only file system" in child and "runs_dir=" in child
        assert untouched(store, before)
        assert store.cohort("cohort").persons == 400  # and it can be read
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert command_in_child(small_disk, "stage=source", "force=true").status == 0
    assert same_results(store, smoke, "source")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_someone_elses_is_one_line(smoke: RunStore, tmp_path: Path) -> None:
    store = copy_of(smoke, tmp_path)
    before = contents(store)
    (store.root / ".lock").touch()
    store.root.chmod(0o555)
    with fault("read-only folder"):
        line = command_in_child(tmp_path, "stage=source", "force=true").error()
        assert "Permission denied" in line and "runs_dir=" in line
        assert untouched(store, before)
    store.root.chmod(0o755)


def command_in_child_elsewhere(runs: Path, scratch: Path, *arguments: str) -> str:
    """The error of a command on runs that cannot be written to; what it says is kept in ``scratch``."""
    return command_in_child(scratch, f"runs_dir={runs}", *arguments).error()
