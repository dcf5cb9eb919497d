"""Killed at any moment, interrupted, or beside another: what was finished stays, and the rerun ends as if nothing had been."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from helpers_faults import (
    command_in_child,
    contents,
    copy_of,
    fault,
    interrupted_at,
    killed_at,
    lean_and,
    leftovers,
    same_results,
    untouched,
)

from core.errors import ManoError
from pipeline.stages import STAGES
from pipeline.store import RunStore

KILLS = int(os.environ.get("FAULTS_KILLS", "2"))  # at random moments of every stage
SLOW_QUALITY = ("profiles", "rhythms", "cohort")


def survives(store: RunStore, smoke: RunStore, stage: str, before: dict[str, str], lean: bool = False) -> None:
    """What the killed process left behind is whole, and the stage made again is the old one to the byte."""
    assert untouched(store, before, (stage,))
    done = command_in_child(store.root.parent, f"stage={stage}", strike=lean_and(None) if lean else None)
    assert done.status == 0, done.said
    assert not leftovers(store)
    assert untouched(store, before, (stage,))
    if lean:
        assert store.digest(stage) == smoke.digest(stage) and store.damage(stage) is None
    else:
        assert same_results(store, smoke, stage)


@pytest.mark.parametrize("stroke", [2, 8])
def test_killed_within_a_save_or_between_two_renames(smoke: RunStore, tmp_path: Path, stroke: int) -> None:
    store = copy_of(smoke, tmp_path)
    before = contents(store, ("source",))
    with fault("killed at a stroke"):
        killed = command_in_child(tmp_path, "stage=source", "force=true", strike=killed_at(stroke))
        assert killed.status == -signal.SIGKILL, killed.said
        survives(store, smoke, "source", before)


@pytest.mark.parametrize("stage", ["source", pytest.param("policy", marks=pytest.mark.slow)])
def test_control_c_is_one_line_with_the_command_that_goes_on(smoke: RunStore, tmp_path: Path, stage: str) -> None:
    store = copy_of(smoke, tmp_path)
    before = contents(store)
    asked = (f"stage={stage}", "force=true", "threads=1")
    with fault("Ctrl-C"):
        # Of the policy: after the first clearing away and the first checkpoint's save and rename, so that one is whole.
        done = command_in_child(tmp_path, *asked, strike=interrupted_at(5))
        assert done.status == 130
        line = f"continue with: python run_pipeline.py preset=smoke runs_dir={tmp_path} {' '.join(asked)}"
        assert line in done.error()
        assert untouched(store, before) and not leftovers(store, checkpoints=False)
        again = command_in_child(tmp_path, *asked)
        assert again.status == 0 and ("went on from" in again.said) == (stage == "policy"), again.said
        assert same_results(store, smoke, stage) and not leftovers(store)


def test_the_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(smoke: RunStore, tmp_path: Path) -> None:
    store = copy_of(smoke, tmp_path)
    before = contents(store)
    with fault("second process"), store.lock():
        line = command_in_child(tmp_path, "stage=source").error()
        assert f"in use by process {os.getpid()}, started 2" in line and "choose another run=" in line
        assert untouched(store, before)
    with fault("lock of a dead process"):
        killed = command_in_child(tmp_path, "stage=source", "force=true", strike=killed_at(1))
        assert killed.status == -signal.SIGKILL and (store.root / ".lock").read_text()
        assert command_in_child(tmp_path, "stage=source").status == 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_killed_at_every_stroke_of_every_stage(smoke: RunStore, tmp_path: Path, stage: str) -> None:
    lean = stage in SLOW_QUALITY
    for stroke in range(1, 200):
        store = copy_of(smoke, tmp_path)
        before = contents(store, (stage,))
        with fault("killed at a stroke"):
            strike = lean_and(killed_at(stroke)) if lean else killed_at(stroke)
            killed = command_in_child(tmp_path, f"stage={stage}", "force=true", strike=strike)
            assert killed.status in (0, -signal.SIGKILL), killed.said
            survives(store, smoke, stage, before, lean)
        shutil.rmtree(store.root)
        if killed.status == 0:  # it has fewer strokes than that
            assert stroke > 8
            return


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage.name for stage in STAGES])
def test_killed_at_random_moments_of_every_stage(smoke: RunStore, tmp_path: Path, stage: str) -> None:
    moments = random.Random(stage)
    store = copy_of(smoke, tmp_path)
    before = contents(store, (stage,))
    shutil.rmtree(store.folder(stage))
    lasts = command_in_child(tmp_path, f"stage={stage}").seconds
    for _ in range(KILLS):
        with fault("killed at a moment"):
            shutil.rmtree(store.folder(stage))
            after = moments.uniform(0.1, lasts)
            killed = command_in_child(tmp_path, f"stage={stage}", signal_at=(signal.SIGKILL, after))
            assert killed.status in (0, -signal.SIGKILL), killed.said
            survives(store, smoke, stage, before)


@pytest.mark.slow
def test_control_c_from_the_first_second_on(smoke: RunStore, tmp_path: Path) -> None:
    """A process of its own, from its imports on: never a traceback, and never a file less."""
    store = copy_of(smoke, tmp_path)
    before = contents(store)
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "preset=smoke", f"runs_dir={tmp_path}", "stage=twin", "force=true"]  # fmt: skip
    for after in (1.0, 3.0, 6.0, 10.0, 14.0):
        with fault("Ctrl-C"):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
            time.sleep(after)
            child.send_signal(signal.SIGINT)
            said = child.communicate()[1].strip()
            assert child.returncode == 130 and said.count("\n") == 0 and "interrupted" in said, said
            assert untouched(store, before)


def test_a_second_reader_needs_no_lock(smoke: RunStore, tmp_path: Path) -> None:
    store = copy_of(smoke, tmp_path)
    with store.lock():
        assert RunStore(store.root).cohort("cohort").persons == 400
        with pytest.raises(ManoError), RunStore(store.root).lock():
            pass
