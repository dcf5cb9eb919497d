"""The pages in docs/ and examples/ name what is there, and what they promise about another treatment holds."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers_docs import ROOT, commands, overrides

from pipeline.command import COMMANDS
from pipeline.config import load_config
from pipeline.stages import STAGES
from pipeline.store import RunStore

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/README.md"]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
ROOMS = [
    path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "runs"
]


def text_of(page: Path) -> str:
    """Without fenced code, which has tests of its own."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_names_what_is_there(page: Path) -> None:
    text = text_of(page)
    named = {word for word in re.findall(r"`([\w/.-]+)`", text) if word.split("/")[0] in ROOMS and "/" in word}
    named -= {"conf/data/mine.yaml"}  # the reader's own
    for path in named:
        assert (ROOT / path).exists(), f"{page.name}: {path}"
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).read_text() if file else page.read_text()
        headings = [
            re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", there, re.M)
        ]
        assert not anchor or anchor in headings, f"{page.name}: {target}"


def test_the_commands_of_the_pages_are_taken() -> None:
    text = "\n".join(text_of(page) for page in PAGES)
    for script, *_ in commands(text):
        assert (ROOT / script).is_file(), script
    for words in overrides(text) - overrides((ROOT / "README.md").read_text()):  # those have a test of their own
        load_config(words)


def test_the_arrows_are_those_of_the_import_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    drawn = re.findall(
        r"^    (?:run_pipeline.py ─► (\w+) ─► (\w+) ─► (\w+) ─► (\w+)|\s*[├└]─► (\w+))", ARCHITECTURE, re.M
    )
    line, *others = [[name for name in row if name] for row in drawn]
    middle = " | ".join([line[2], *(name for (name,) in others)])
    assert [line[0], line[1], middle, line[3]] == contract["layers"]


def test_every_stage_command_and_package_has_its_place() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w ,]+) \|", ARCHITECTURE, re.M)
    known = {name: what for name, what in rows}
    for stage in STAGES:
        assert stage.name in known
        if stage.needs and stage.name != "report":
            assert known[stage.name] == ", ".join(stage.needs)
    for command in COMMANDS:
        assert f"`{command}`" in ARCHITECTURE, command
    for package in ("core", "generators", "predictor", "envs", "intervention", "pipeline"):
        assert f"| `{package}` |" in ARCHITECTURE


SIXTH = """
import sys
import core.treatments as t
t.TREATMENTS += ("light",); t.LABELS += ("Light therapy",); t.SHORT_LABELS += ("light",); t.COLOURS += ("#CC79A7",)
import numpy as np
from core.errors import ManoError
import pipeline.command, pipeline.environments as e
from pipeline.config import load_config
from pipeline.parts import load_agent, load_twin
from pipeline.store import RunStore
from pathlib import Path

def refused(act, *words):
    try:
        act()
    except ManoError as error:
        assert all(word in str(error) for word in words) and "\\n" not in str(error), error
    else:
        raise AssertionError(words)

refused(lambda: e.make_trial(), "expected exactly", "light")
block = ("{effect: {stress: -0.4}, response_sigma: 1.0, onset_weeks: 1.5, washout_weeks: 3.0, half_dose: 0.3, hill: 2.0, "
         "adherence: 0.85, adherence_fall: 0.25, disengagement: 0.0, start_loss: 0.5, hazard: 0.01, side_effect: {}}")
both = ["+trial.treatments.light=" + block, "+env.treatment_cost.light=0.04"]
load = e.load_config
e.load_config = lambda: load(both[:1])
refused(lambda: e.make_trial(), "env.treatment_cost", "light")
e.load_config = lambda: load(both)
e.reference_world.cache_clear()
for form in ("Dict", "Box", "Discrete", "MultiDiscrete"):
    env = e.make_trial(form=form, render_mode="rgb_array")
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
assert env.render().shape[2] == 3 and env.action_space.nvec[0] == 6
light = {"treatment": 5, "intensity": np.array([1.0], np.float32)}
env = e.make_trial()
env.reset(seed=0)
assert env.step(light)[-1]["treatment"] == 5
store = RunStore(Path(sys.argv[1]))
refused(lambda: load_twin(store), "train the twin again")
refused(lambda: load_agent(store), "train the policy again")
"""


def test_another_treatment_is_three_files_and_old_runs_are_refused(smoke: RunStore) -> None:
    """In a process of its own, where the list is longer before anything reads it."""
    done = subprocess.run(
        [sys.executable, "-c", SIXTH, str(smoke.root)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
