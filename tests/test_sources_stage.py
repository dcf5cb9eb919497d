"""The source stage on every kind of input: what it records, when it runs again, and the way to the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_here
from helpers_sources import REAL, dass_table, sleep_health_table, write_pmdata

from core.errors import DataError
from core.protocols import NullTracker
from core.signals import names
from pipeline.config import load_config
from pipeline.stages.source import persons
from pipeline.store import RunStore


def made_up(kind: str, folder: Path) -> tuple[list[str], Path]:
    """Overrides that read a made-up input of this kind, and one of its files."""
    rng = np.random.default_rng(0)
    if kind == "pmdata":
        write_pmdata(folder / "pm", 16, 70, rng)
        return ["data=pmdata", f"data.path={folder / 'pm'}"], folder / "pm/p03/fitbit/sleep.json"
    path = folder / "table.csv"
    if kind == "dass42":
        dass_table(300, rng).to_csv(path, index=False, sep="\t")
    else:
        sleep_health_table(200, rng).to_csv(path, index=False)
    return [f"data={kind}", f"data.path={path}"], path


@pytest.mark.parametrize("kind", ["sleep_health", "dass42", "pmdata"])
def test_the_stage_says_what_was_observed_and_sees_changed_files(kind: str, tmp_path: Path) -> None:
    overrides, file = made_up(kind, tmp_path)
    arguments = ["preset=smoke", "stage=source", f"runs_dir={tmp_path / 'runs'}", *overrides]
    first = run_here(*arguments)
    store = RunStore(tmp_path / "runs" / "smoke")
    metrics = store.metrics("source")
    if kind == "pmdata":
        assert metrics["rhythms"] == "observed" and metrics["observed_share"] > 0.9
    else:
        assert metrics["rhythms"] == "reference dynamics around the reported level" and metrics["observed_share"] == 0
        assert "no day is an observation" in " ".join(first.split())
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    assert not set(train.person) & set(holdout.person)
    assert not train.profiles.isna().any(axis=None) and not holdout.profiles.isna().any(axis=None)
    stamp = store.manifest("source")["inputs"]
    assert str(file) in stamp
    run_here(*arguments)
    assert store.manifest("source")["inputs"] == stamp
    file.write_text(
        file.read_text().replace("92", "93")
        if kind == "pmdata"
        else file.read_text() + file.read_text().splitlines()[5]
    )
    run_here(*arguments)
    assert store.manifest("source")["inputs"][str(file)] != stamp[str(file)]


def test_an_unknown_sensitive_column_is_refused_before_any_training() -> None:
    sizes = ["preset=smoke", "source.persons=100", "source.holdout_persons=100"]
    for wrong in ("cohort.sensitive=income", "source.drop=[prior_treatment]"):
        name = "income" if "income" in wrong else "prior_treatment"
        with pytest.raises(
            DataError, match=f"cohort.sensitive is '{name}', expected a profile column: age, "
        ) as caught:
            persons(load_config([*sizes, wrong]), NullTracker())
        assert "\n" not in str(caught.value)
    persons(load_config([*sizes, "cohort.sensitive=null"]), NullTracker())


@pytest.mark.slow
def test_simulated_weeks_go_all_the_way_and_the_report_says_so(tmp_path: Path) -> None:
    overrides, _ = made_up("dass42", tmp_path)
    run_here("preset=smoke", f"runs_dir={tmp_path / 'runs'}", *overrides)
    store = RunStore(tmp_path / "runs" / "smoke")
    assert json.loads((store.root / "summary.json").read_text())["run"]["rhythms"].startswith("reference dynamics")
    assert "No day was observed" in (store.folder("report") / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [["sleep_duration", "sleep_quality", "heart_rate"], None], ids=["three", "five"])
def test_any_number_of_signals_goes_all_the_way(kept: list[str] | None, tmp_path: Path) -> None:
    """LifeSnaps without stress, and with heart rate variability: configuration alone."""
    if not (REAL / "lifesnaps_daily.csv").is_file():
        pytest.skip("../shared/data/lifesnaps_daily.csv is absent")
    columns = {"sleep_duration": ("sleep_h", "h", 0, 14, 1), "sleep_quality": ("sleep_q", "score", 1, 10, 1), "heart_rate": ("rhr", "bpm", 35, 130, -1)}  # fmt: skip
    signals = [
        f"{{column: {columns[name][0]}, name: {name}, unit: {columns[name][1]}, low: {columns[name][2]}, "
        f"high: {columns[name][3]}, better: {columns[name][4]}}}"
        for name in kept or ()
    ]
    choice = ["data=lifesnaps", f"data.signals=[{','.join(signals)}]"] if kept else ["data=lifesnaps_hrv"]
    printed = run_here(
        "preset=smoke", *choice, f"data.path={REAL}", f"runs_dir={tmp_path}", "source.holdout_fraction=0.4"
    )
    store = RunStore(tmp_path / "smoke")
    cohort = store.cohort("cohort")
    assert cohort.rhythms.shape[1:] == (7, len(kept) if kept else 5)
    assert names(cohort.signals)[-1] == ("heart_rate" if kept else "hrv")
    assert ("'high_stress' is not applicable, no signal 'stress'" in " ".join(printed.split())) == bool(kept)
    assert set(pd.read_parquet(store.folder("evaluate") / "episodes.parquet").policy) >= {"ppo", "none"}
