"""docs/own_cohort.md, followed: its code makes the tables, its commands run, in an empty folder."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from conftest import run_here

from core.errors import ConfigError
from core.signals import names
from pipeline.config import load_config
from pipeline.store import RunStore

GUIDE = (Path(__file__).resolve().parent.parent / "docs/own_cohort.md").read_text()
TINY = (
    "preset=smoke", "rhythms.embedding_steps=5", "rhythms.supervisor_steps=5", "rhythms.joint_steps=10",
)  # fmt: skip


@cache
def commands() -> tuple[list[str], ...]:
    """What follows `python run_pipeline.py` in the guide's shell blocks, with its variable put in."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    known = dict(re.fullmatch(r'(\w+)="(.*)"', line).groups() for line in lines if re.match(r"\w+=", line))  # type: ignore[union-attr]
    found = [
        line.removeprefix("python run_pipeline.py ") for line in lines if line.startswith("python run_pipeline.py ")
    ]
    assert len(known) + len(found) == len(lines), "a command that this test does not know how to follow"
    return tuple(shlex.split(re.sub(r"\$(\w+)", lambda name: known[name[1]], line)) for line in found)


def of_stage(stage: str | None, run: str = "mine") -> list[str]:
    """The one command of a stage (None: of all) and a run."""
    found = [
        command for command in commands()
        if (f"stage={stage}" in command if stage else not any(word.startswith("stage=") for word in command))
        and [word for word in command if word.startswith("run=")][-1] == f"run={run}"
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's code has made its tables."""
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", GUIDE, re.S)
    assert code
    exec(code.group(1), {})
    return tmp_path


def test_the_way_to_synthetic_profiles(folder: Path) -> None:
    printed = " ".join(run_here(*of_stage("source"), *TINY).split())
    for line in re.findall(r"^    (note .*|✓ .*)$", GUIDE, re.M):
        said = re.sub(r"\s*\d+\.\d s\s*", " ", " ".join(line.split()))  # a time of its own
        assert said.removeprefix("✓ source") in printed or said in printed, line
    assert "✓ profiles" in run_here(*of_stage("profiles"), *TINY)
    store = RunStore(folder / "runs" / "mine")
    held_out = store.cohort("source", "holdout_")
    assert held_out.persons == 24 and set(held_out.profiles) == {"age", "gender", "sleep_disorder", "family_history"}
    assert store.metrics("profiles")["choice"]


def test_a_signal_is_added_by_configuration_alone(folder: Path) -> None:
    command = of_stage("source", "walked")
    run_here(*command, *TINY)
    cohort = RunStore(folder / "runs" / "walked").cohort("source", "train_")
    assert names(cohort.signals)[-1] == "walked" and cohort.rhythms.shape[1:] == (7, 5)
    promised = re.search(r"^    error: (.*)$", GUIDE, re.M)
    assert promised
    before, after = map(re.escape, promised[1].split("..."))
    with pytest.raises(ConfigError, match=f"{before}.*{after}"):
        run_here(*(word for word in command if not word.startswith("+trial.signals")), *TINY)


def test_the_long_commands_are_ones_the_program_takes(folder: Path) -> None:
    assert len(commands()) == 7
    for stage in (None, "journey", "predict"):  # the others are run above
        load_config(of_stage(stage))


@pytest.mark.slow
def test_the_whole_way(folder: Path) -> None:
    run_here(*of_stage("source"), *TINY)
    for stage in ("profiles", "rhythms", None):
        run_here(*of_stage(stage), *TINY)
    assert (folder / "runs/mine/report/report.html").is_file()
    assert "of the synthetic cohort" in run_here(*of_stage("journey"), *TINY)
    run_here(*of_stage("predict"), *TINY)
    assert len((folder / "scores.csv").read_text().splitlines()) == 81  # a line per person below the header
