"""The example scripts run, and each prints its agent beside no treatment and chance."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = {"sb3_ppo": 1536, "sb3_dqn": 2304, "sb3_recurrent_ppo": 1536, "plain_ppo": 1536}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name, monkeypatch, capsys):
    if name == "sb3_recurrent_ppo":
        pytest.importorskip("sb3_contrib", reason='needs sb3-contrib: pip install -e ".[rl]"')
    monkeypatch.syspath_prepend(EXAMPLES)
    for module in ("scoring", name):
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
