"""What TensorBoard holds of a run, read back from its events."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from core.treatments import TREATMENTS
from pipeline.board import histograms, hyperparameters, policy_map, results
from pipeline.config import load_config
from pipeline.store import RunStore
from pipeline.tracker import RunTracker

METRICS = {"twin": {"crps_ratio": 1.0625, "effect_error": None}, "evaluate": {"policies": {"ppo": {"return": 3.5}}}}


def read_back(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0})
    found.Reload()
    return found


def episodes() -> pd.DataFrame:
    """Two patients of two weeks: 'ppo' returns 3 and 1, and treats three times; 'none' returns nothing."""
    rows = [("ppo", 1, 1, 0.5, 1.0), ("ppo", 1, 2, 0.25, 2.0), ("ppo", 2, 3, 0.75, 1.0), ("ppo", 2, 0, 0.0, 0.0)]
    rows += [(name, patient, 0, 0.0, 0.0) for name in ("none", "constant_cbt_0.1") for patient in (1, 2)]
    return pd.DataFrame(rows, columns=["policy", "patient", "treatment", "intensity", "reward"]).assign(seed=0)


def test_hyperparameters_tell_runs_apart_and_stand_beside_the_results(tmp_path: Path) -> None:
    config = load_config(["policy.steps=4321", "seed=7"])
    settings = hyperparameters(config)
    assert settings["policy.steps"] == 4321 and settings["seed"] == 7 and settings["data.kind"] == "reference"
    assert not [name for name in settings if name.startswith(("run", "stage", "force"))]
    tracker = RunTracker(tmp_path, Console(file=io.StringIO()))
    tracker.hyperparameters(settings, results(METRICS))
    tracker.close()
    assert len(list(tmp_path.iterdir())) == 1  # in the run's own events, no folder beside it
    found = read_back(tmp_path)
    assert {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]} == {
        "result/twin.crps_ratio": 1.0625, "result/evaluate.policies.ppo.return": 3.5,
    }  # fmt: skip
    begun = HParamsPluginData.FromString(found.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert begun.session_start_info.hparams["policy.steps"].number_value == 4321


def test_histograms_hold_the_returns_of_courses_and_the_doses_given(tmp_path: Path) -> None:
    found = histograms(episodes())
    assert set(found) == {"return/ppo", "dose/ppo", "return/none"}  # no constants, and none gives no dose
    assert sorted(found["return/ppo"]) == [1.0, 3.0]
    assert sorted(found["dose/ppo"]) == [0.25, 0.5, 0.75]
    tracker = RunTracker(tmp_path, Console(file=io.StringIO()))
    tracker.histogram("dose", found["dose/ppo"])
    tracker.close()
    read = read_back(tmp_path).Histograms("dose")[0].histogram_value
    assert (read.num, read.min, read.max) == (3, 0.25, 0.75)


def test_the_policy_map_shows_the_shares_of_the_metrics() -> None:
    shares = dict(zip(TREATMENTS, (0.1, 0.2, 0.3, 0.4, 0.0), strict=True))
    one = {"weeks": 50, "treatments": shares}
    figure = policy_map({"risk": {"<0.5": one, ">=0.5": one}, "week": {"1": one}})
    by_risk, by_week = (ax for ax in figure.axes if ax.get_title(loc="left"))
    np.testing.assert_allclose(by_risk.images[0].get_array(), np.array([list(shares.values())] * 2).T)
    assert by_week.images[0].get_array().shape == (len(TREATMENTS), 1)
    assert "50 patient-weeks" in by_week.get_title(loc="left")


def test_a_run_leaves_events_by_which_runs_are_compared(smoke: RunStore) -> None:
    found = read_back(smoke.folder("report"))
    tags = found.Tags()
    assert {"evaluate/policy_map", "twin/attention"} <= set(tags["images"])
    assert {"evaluate/return/ppo", "evaluate/dose/ppo"} <= set(tags["histograms"])
    told = json.loads((smoke.root / "summary.json").read_text())["evaluate"]["policies"]["ppo"]["return"]
    assert found.Scalars("result/evaluate.policies.ppo.return")[0].value == pytest.approx(told)
    assert "_hparams_/session_start_info" in found.summary_metadata
    risk, cohort = (read_back(smoke.folder(stage)).Tags()["images"] for stage in ("risk", "cohort"))
    assert "risk/reliability" in risk and "cohort/weeks" in cohort
