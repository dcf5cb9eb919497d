"""The example scripts run, and each prints its agent beside policies that learned nothing."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

from intervention.baselines import standard_policies
from pipeline.store import RunStore

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = {"sb3_ppo": 1536, "sb3_dqn": 2304, "sb3_recurrent_ppo": 1536, "plain_ppo": 1536}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name, monkeypatch, capsys):
    if name == "sb3_recurrent_ppo":
        pytest.importorskip("sb3_contrib", reason='needs sb3-contrib: pip install -e ".[rl]"')
    monkeypatch.syspath_prepend(EXAMPLES)
    for module in ("scoring", "sb3_training", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    state = torch.random.get_rng_state()
    monkeypatch.setattr(importlib.import_module("scoring"), "PATIENTS", 40)
    scores = importlib.import_module(name).main(steps=SCRIPTS[name], seed=0)
    torch.random.set_rng_state(state)
    assert list(scores)[:2] == ["no treatment", "random"] and len(scores) == 3
    assert all(math.isfinite(value) for score in scores.values() for value in score.values())
    assert scores["no treatment"]["dose-weeks"] == 0.0 < scores["random"]["dose-weeks"]
    printed = capsys.readouterr().out
    assert all(row in printed for row in scores) and "remission" in printed


def test_ones_own_policy_stands_in_the_table_of_the_run(smoke: RunStore, monkeypatch) -> None:
    """What the run's evaluate stage has measured comes out again, and the ends of the scale score 0 and 1."""
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("own_policy")
    table, scores = example.judge(
        smoke, {"own": example.SleepFirst(), "the same as none": standard_policies((), None)["none"]}
    )
    metrics = smoke.metrics("evaluate")
    for name in ("none", "random", "stepped_care", "ppo", "privileged"):
        for measure in ("return", "remission", "dose_weeks", "adverse_events"):
            assert table[name][measure] == pytest.approx(metrics["policies"][name][measure], abs=1e-9), (name, measure)
    assert scores["ppo"][0] == pytest.approx(metrics["normalised_score"])
    assert scores["none"][0] == scores["the same as none"][0] == 0.0 and scores["privileged"][0] == 1.0
    assert table["own"]["dose_weeks"] > 0 and table["own"]["return"] != table["none"]["return"]
