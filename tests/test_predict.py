"""Scoring a table of one's own: what is read, what comes out, and what is said where something is wrong."""

import io
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_here
from helpers_predictor import distressed
from rich.console import Console

from core.cohort import RISK_CLASSES, Cohort
from core.errors import ArtifactError, ConfigError, DataError, MissingStageError
from core.protocols import NullTracker
from core.signals import names
from pipeline.config import Config, check_command_line, load_config, plain
from pipeline.predict import predict
from pipeline.scores_file import without_formulas
from pipeline.store import SCHEMA, RunStore, save_artifact, sha256, write_json
from predictor.dual_lstm import DualLSTMRisk
from predictor.explain import batch_drivers
from predictor.training import train_risk

HIDDEN = ("dass_stress",)
SCORES = [
    "person", "week", "days_observed", "risk_score", "p_low", "p_medium", "p_high", "risk_class", "alarm",
]  # fmt: skip


def quick_model(cohort: Cohort) -> DualLSTMRisk:
    return train_risk(cohort, load_config(["preset=smoke"]).risk, HIDDEN, 0, NullTracker())


def store_model(model: DualLSTMRisk, root: Path, *overrides: str) -> RunStore:
    """A run that has nothing but a risk stage, as configured by ``overrides``."""
    folder = root / "risk"
    save_artifact(folder, "risk", model.to_artifact())
    outputs = {path.name: sha256(path) for path in folder.iterdir()}
    config = load_config(overrides)
    sections = {"data": plain(config.data), "labels": plain(config.labels)}
    write_json(folder / "manifest.json", {"schema": SCHEMA, "config": sections, "outputs": outputs})
    return RunStore(root)


@pytest.fixture(scope="module")
def trained() -> DualLSTMRisk:
    model = quick_model(distressed(120, 0)[0])
    model.alarm.fill_(float(np.median(model.predict_cohort(distressed(60, 1)[0])[:, 2])))
    return model


@pytest.fixture(scope="module")
def runs(trained: DualLSTMRisk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    store_model(trained, folder / "mine")
    return folder


@pytest.fixture(scope="module")
def people() -> Cohort:
    return distressed(60, 1)[0]


@pytest.fixture
def days(people: Cohort) -> pd.DataFrame:
    return table_of(people)


def table_of(cohort: Cohort, monday: str = "2026-01-05") -> pd.DataFrame:
    """A cohort as a long table of days with the profile beside them."""
    n = len(cohort)
    dates = pd.date_range(monday, periods=7).strftime("%Y-%m-%d")
    table = pd.DataFrame({"person": np.repeat([f"P{i:02d}" for i in range(n)], 7), "date": np.tile(dates, n)})
    for k, signal in enumerate(cohort.signals):
        table[signal.name] = cohort.rhythms[:, :, k].reshape(-1)
    return table.join(cohort.profiles.loc[cohort.profiles.index.repeat(7)].reset_index(drop=True))


@cache
def configured() -> Config:
    return load_config(["stage=predict", "input=x.csv", "run=mine", "predict.drivers=0"])


def predicted(runs: Path, file: Path, force: bool = False, **settings: Any) -> str:
    """What scoring ``file`` with these ``predict.*`` settings prints."""
    config = configured()
    config = replace(config, input=str(file), force=force, predict=replace(config.predict, **settings))
    screen = io.StringIO()
    predict(config, RunStore(runs / "mine", "seed=3"), Console(file=screen, highlight=False, width=120))
    return " ".join(screen.getvalue().split())


def scored(
    runs: Path,
    table: pd.DataFrame,
    folder: Path,
    how: dict[str, Any] | None = None,
    force: bool = False,
    **settings: Any,
) -> tuple[pd.DataFrame, str]:
    """The scores of a table, written as ``how`` says, and what was printed."""
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "days.csv", **{"index": False, **(how or {})})
    printed = predicted(runs, folder / "days.csv", force, **{"output": str(folder / "scores.parquet"), **settings})
    return pd.read_parquet(folder / "scores.parquet"), printed


def probabilities(scores: pd.DataFrame) -> np.ndarray:
    return scores[["p_low", "p_medium", "p_high"]].to_numpy()


# What comes out is what the model says.


def test_every_person_gets_what_the_model_says(
    runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    days.to_csv(tmp_path / "days.csv", index=False)
    file, output = tmp_path / "days.csv", tmp_path / "scores.parquet"
    printed = run_here(
        f"runs_dir={runs}",
        "run=mine",
        "stage=predict",
        f"input={file}",
        f"predict.output={output}",
        "predict.drivers=0",
    )
    printed, scores = " ".join(printed.split()), pd.read_parquet(output)
    expected = trained.predict_cohort(people)
    assert np.abs(probabilities(scores) - expected).max() < 1e-6
    assert scores["person"].tolist() == [f"P{i:02d}" for i in range(60)]
    assert (scores["week"].astype(str) == "2026-01-05").all() and (scores["days_observed"] == 7).all()
    assert scores["risk_score"].to_numpy() == pytest.approx(expected[:, 1] / 2 + expected[:, 2], abs=1e-6)
    assert scores["risk_class"].tolist() == [RISK_CLASSES[k] for k in expected.argmax(1)]
    assert scores["alarm"].tolist() == (expected[:, 2] >= float(trained.alarm)).tolist()
    assert scores["alarm"].nunique() == 2  # else the line above says little
    assert list(scores) == SCORES
    assert "60 of 60 persons scored, 60 of 60 calendar weeks" in printed and "not medical advice" in printed
    assert f"alarms: {int(scores['alarm'].sum())} (P(High) of {float(trained.alarm):.2f} or more)" in printed
    assert "ignored, 1 (dass_stress)" in printed  # what the model must not see is not asked for


def test_the_drivers_are_those_of_the_model(
    runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    scores, _ = scored(runs, days.head(7 * 5), tmp_path, drivers=2)
    for row, drivers in enumerate(batch_drivers(trained, people.select(np.arange(5)), 2)):
        for k, (name, contribution) in enumerate(drivers, start=1):
            assert scores[f"driver_{k}"][row] == name
            assert scores[f"driver_{k}_contribution"][row] == pytest.approx(contribution, abs=1e-5)
    assert list(scores) == [*SCORES, "driver_1", "driver_1_contribution", "driver_2", "driver_2_contribution"]


def _shuffled(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    return table.sample(frac=1, random_state=0), {}, {}


def _european(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    table = table.assign(date=pd.to_datetime(table["date"]).dt.strftime("%d.%m.%Y"))
    chosen = {"separator": ";", "decimal": ",", "date_format": "%d.%m.%Y"}
    return table, {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}, chosen


def _two_files(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    traits = ["age", "bmi", "gender"]
    table[["person", *traits]].drop_duplicates().iloc[::-1].to_csv(folder / "people.csv", index=False)
    return table.drop(columns=traits), {}, {"profiles": str(folder / "people.csv")}


def _renamed(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    table = table.rename(columns={"person": "Who", "date": "When", "stress": "St ress", "age": "years"})
    return table, {}, {"person": "Who", "date": "When", "columns": {"stress": "St ress", "age": "years"}}


def _tabs(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    return table, {"sep": "\t"}, {"separator": "\\t"}


def _profile_once(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    traits = ["age", "bmi", "gender"]
    return table.assign(**{name: table[name].where(table["date"] == "2026-01-08") for name in traits}), {}, {}


@pytest.mark.parametrize("written", [_shuffled, _european, _two_files, _renamed, _tabs, _profile_once])
def test_however_the_table_is_written_the_scores_are_the_same(
    written: Any, runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    table, how, chosen = written(days, tmp_path)
    scores, _ = scored(runs, table, tmp_path, how, **chosen)
    expected = trained.predict_cohort(people)
    assert np.abs(probabilities(scores.sort_values("person")) - expected).max() < 1e-6
    assert list(scores) == SCORES


def test_the_table_is_read_as_the_run_was_trained(trained: DualLSTMRisk, days: pd.DataFrame, tmp_path: Path) -> None:
    signal = "{{column: {0}_x, name: {0}, unit: u, low: 0, high: 200, better: 1}}"
    signals = ",".join(signal.format(name) for name in names(trained.signals))
    wanted = (
        "data.separator=';'",
        "data.decimal=','",
        "data.person=id",
        "data.date=day",
        "data.date_format='%d.%m.%Y'",
    )
    store_model(trained, tmp_path / "runs" / "mine", "data=csv", *wanted, f"data.signals=[{signals}]")
    table = days.assign(date=pd.to_datetime(days["date"]).dt.strftime("%d.%m.%Y"))
    table = table.rename(columns={"person": "id", "date": "day"} | {n: f"{n}_x" for n in names(trained.signals)})
    how = {"sep": ";", "decimal": ","}
    scores, _ = scored(tmp_path / "runs", table, tmp_path, how)
    assert len(scores) == 60
    changed = table.rename(columns={"id": "pid"})
    again, _ = scored(tmp_path / "runs", changed, tmp_path, how, person="pid")
    assert again.equals(scores)


@pytest.mark.slow
def test_a_table_like_lifesnaps_keeps_its_zeros_and_bands(days: pd.DataFrame, people: Cohort, tmp_path: Path) -> None:
    def banded(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(bmi=np.where(table["bmi"] < 25, "19 to under 25", "25 and over").astype(object))

    train = distressed(120, 0)[0]
    train = Cohort(banded(train.profiles), train.rhythms, train.mask, train.person, train.signals, train.risk)
    model = quick_model(train)
    store_model(model, tmp_path / "runs" / "mine", "data=lifesnaps")
    table = days.rename(
        columns={"person": "pid", "sleep_duration": "sleep_h", "sleep_quality": "sleep_q", "heart_rate": "rhr"}
    )
    table["bmi"] = np.where(table["bmi"] < 25, "20", ">=30").astype(object)
    table.loc[0, "rhr"] = 0
    scores, printed = scored(tmp_path / "runs", table, tmp_path)
    mask = np.ones_like(people.mask)
    mask[0, 0, 2] = False
    profiles = people.profiles.assign(
        bmi=np.where(days["bmi"][::7] < 25, "19 to under 25", "25 and over").astype(object)
    )
    expected = model.predict_cohort(Cohort(profiles, people.rhythms, mask, people.person, people.signals))
    assert np.abs(probabilities(scores) - expected).max() < 1e-6
    assert "'rhr' is 0 on 1 days, taken as not measured" in printed and scores["days_observed"][0] == 6


# Which weeks.


def test_the_latest_week_with_enough_days_counts(
    runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    second = days.assign(date=(pd.to_datetime(days["date"]) + pd.Timedelta(days=7)).dt.strftime("%Y-%m-%d"))
    second.loc[0:4, "stress"] = np.nan  # P00: two days of stress are too few
    second.loc[7:13, "heart_rate"] = np.nan  # P01: no heart rate at all
    second.loc[14:17, "stress"] = np.nan  # P02: three days will do
    only = days["person"] != "P03"  # P03 has no first week, and P04 nothing that could be scored
    table = pd.concat([days[only], second])
    table.loc[table["person"] == "P04", "stress"] = np.nan
    scores, printed = scored(runs, table, tmp_path)
    week = dict(zip(scores["person"], scores["week"].astype(str), strict=True))
    assert week["P00"] == week["P01"] == "2026-01-05" and week["P02"] == week["P03"] == week["P59"] == "2026-01-12"
    assert "P04" not in week and len(scores) == 59
    assert scores.set_index("person")["days_observed"][["P00", "P02", "P59"]].tolist() == [7, 3, 7]
    for said in (
        "59 of 60 persons scored, 59 of 119 calendar weeks (each person's latest)",
        "1 weeks with fewer than 3 observed days of a signal",
        "3 weeks in which a signal was never observed (heart_rate 1, stress 2)",
        "56 earlier weeks (predict.weeks=all scores them)",
        "1 persons without a week to score",
    ):
        assert said in printed, said
    every, printed = scored(runs, table, tmp_path, weeks="all", min_days=2)
    assert len(every) == 59 + 57 and "earlier weeks" not in printed
    assert every.groupby("person").size()["P00"] == 2 and every["week"].is_monotonic_increasing is False
    mask = people.mask.copy()
    mask[2, :4, 3] = False
    expected = trained.predict_cohort(Cohort(people.profiles, people.rhythms, mask, people.person, people.signals))
    assert probabilities(scores[scores["person"] == "P02"])[0] == pytest.approx(expected[2], abs=1e-6)


def test_what_was_not_observed_does_not_matter_however_it_is_missing(
    runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    table = days.astype({"stress": object})
    table.loc[0:2, "stress"] = ["", "NA", "NaN"]
    gone = table.drop(index=[3])  # no row for the Thursday of P00
    scores, _ = scored(runs, gone, tmp_path)
    mask = people.mask.copy()
    mask[0, :3, 3] = mask[0, 3] = False
    noise = np.where(mask, people.rhythms, 99).astype(np.float32)
    expected = trained.predict_cohort(Cohort(people.profiles, noise, mask, people.person, people.signals))
    assert np.abs(probabilities(scores) - expected).max() < 1e-6 and scores["days_observed"][0] == 3


# What the profile lacks.


def test_gaps_of_the_profile_are_filled_counted_and_said(
    runs: Path, days: pd.DataFrame, people: Cohort, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    table = days.astype({"gender": object})
    table.loc[0:6, "age"] = np.nan
    table.loc[7:13, "gender"] = np.nan
    table.loc[14:20, "gender"] = "Female"
    scores, printed = scored(runs, table, tmp_path)
    profiles = people.profiles.astype({"age": float, "gender": object})
    profiles.loc[0, "age"] = trained.encoder.numeric["age"][0]
    profiles.loc[1:2, "gender"] = "none of these"
    expected = trained.predict_cohort(Cohort(profiles, people.rhythms, people.mask, people.person, people.signals))
    assert np.abs(probabilities(scores) - expected).max() < 1e-6
    assert "column 'age' is empty for 1 of 60 persons, taken as" in printed
    assert "column 'gender' is empty for 1 of 60 persons, which counts as no category" in printed
    assert "'Female' of 1 (did you mean 'female'?) (of 60 persons); known are female, male" in printed


def test_another_unit_within_the_range_is_asked_about(runs: Path, days: pd.DataFrame, tmp_path: Path) -> None:
    _, printed = scored(runs, days.assign(age=days["age"] * 365, heart_rate=129.0), tmp_path)
    assert re.search(
        r"mean of column 'heart_rate' is 129, of the training persons 6\d\.?\d* bpm .*unit another", printed
    )
    assert re.search(r"mean of column 'age' is 1\d{4}\.?\d*, of the training persons 4\d\.?\d* \(sd", printed)
    _, printed = scored(runs, days, tmp_path)
    assert "is the unit another" not in printed


# What is wrong is one line, and nothing is written.


def _cell(row: int | slice, column: str, value: object) -> Any:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(object)
        table.loc[row, column] = value
        return table

    return change


def _times(column: str, factor: float) -> Any:
    return lambda table: table.assign(**{column: table[column] * factor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"stress": "stres"}), r"days.csv: column 'stress' is missing .*mean 'stres'.*predict.columns=\{stress: stres\}"),
        (lambda t: t.rename(columns={"stress": "hrv"}), r"'stress' is missing \(found person, date, .*hrv.*predict.columns=\{stress: "),
        (lambda t: t.drop(columns="gender"), "column 'gender' is missing .*predict.columns={gender: COLUMN}"),
        (lambda t: t.rename(columns={"person": "persn"}), "'person' is missing .*predict.person=persn"),
        (_times("sleep_duration", 60), r"'sleep_duration' holds .* at line 2.*expected 0 to 14 h; observed .*in minutes\? Then set .predict.convert=.sleep_duration: minutes"),
        (_times("stress", 10), "'stress' holds .*expected 1 to 10 .*predict.convert={stress: 0-100}"),
        (_times("heart_rate", 1 / 60), "'heart_rate' holds .*expected 35 to 130 bpm; .*in beats per second"),
        (_cell(4, "stress", "high"), "column 'stress' holds 'high' at line 6 .*, expected a number"),
        (_cell(4, "stress", "5,5"), "column 'stress' holds '5,5' at line 6.*set \"predict.decimal=','\""),
        (_cell(4, "stress", "inf"), "column 'stress' holds 'inf' at line 6"),
        (_cell(4, "date", "yesterday"), "column 'date' holds 'yesterday' at line 6.*predict.date_format"),
        (_cell(4, "person", None), "column 'person' is empty at line 6"),
        (_cell(slice(0, 6), "age", "old"), "column 'age' holds 'old' at line 2, 'old' at line 3.*, expected a number"),
        (_cell(slice(0, 6), "age", "inf"), "column 'age' holds 'inf' at line 2, 'inf' at line 3.*, expected a finite number"),
        (_cell(4, "age", 99), r"column 'age' holds '99' at line 6 \(1 of 420 rows\), other than on an earlier line of the same person"),
        (_cell(4, "gender", "other"), "column 'gender' holds 'other' at line 6 .*same person"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "two rows for one day, the second at line 422 .*2026-01-08"),
        (lambda t: t[t["date"] < "2026-01-07"], "none of 60 calendar weeks has 3 observed days of every signal .*lower predict.min_days"),
        (lambda t: t.assign(stress=""), "'stress' is observed on 0 of 420 days.*bring days on which"),
        (lambda t: t.iloc[:0], "days.csv: no rows below the header"),
        (lambda t: t.set_axis([*t.columns[:-1], "date"], axis=1), "column 'date' stands twice in the header"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_line_and_nothing_is_written(
    change: Any, message: str, runs: Path, days: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as error:
        scored(runs, change(days), tmp_path)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"days.csv"}


def test_persons_without_a_profile_row_are_counted(runs: Path, days: pd.DataFrame, tmp_path: Path) -> None:
    table, _, chosen = _two_files(days, tmp_path)
    people = pd.read_csv(tmp_path / "people.csv")
    people[people["person"] != "P07"].to_csv(tmp_path / "people.csv", index=False)
    with pytest.raises(DataError, match=r"people.csv: 1 of \d+ persons have days to score but no line here"):
        scored(runs, table, tmp_path, **chosen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"stres": "x"}}, "reads no 'stres' .*did you mean 'stress'"),
        ({"columns": {"stress": "heart_rate"}}, "'heart_rate' stands 2 times"),
        ({"separator": ";"}, "set \"predict.separator=','\""),
        ({"date_format": "%Q"}, "predict.date_format"),
        ({"profiles": "nowhere.csv"}, "nowhere.csv: no such file"),
    ],
)
def test_a_wrong_choice_is_one_line(
    settings: dict[str, Any], message: str, runs: Path, days: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises((DataError, ConfigError), match=message) as error:
        scored(runs, days, tmp_path, **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage=predict"], "input=null: expected the CSV to score; give it as stage=predict input=FILE.csv"),
        (["input=x.csv"], "input='x.csv': only stage=predict reads it"),
        (["stage=predict", "input=x.csv", "predict.min_days=0"], "predict.min_days=0: expected greater"),
        (["stage=predict", "input=x.csv", "predict.weeks=last"], "predict.weeks='last': expected 'latest' or 'all'"),
        (
            ["stage=predict", "input=x.csv", "predict.output=x.xls"],
            "expected a file name that ends in .parquet or .csv",
        ),
        (["stage=predict", "input=x.csv", "predict.driver=1"], "predict.driver"),
    ],
)
def test_a_wrong_configuration_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(overrides)


def test_columns_can_be_named_on_the_command_line() -> None:
    named = load_config(["stage=predict", "input=x.csv", "predict.columns={stress: 'St ress'}"])
    assert named.predict.columns == {"stress": "St ress"}


def test_an_untrained_or_damaged_run_is_named(trained: DualLSTMRisk, days: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(
        MissingStageError, match=r"no trained risk model; make it with `python run_pipeline.py seed=3 run=mine"
    ):
        scored(tmp_path / "runs", days, tmp_path)
    store = store_model(trained, tmp_path / "runs" / "mine")
    (store.folder("risk") / "risk.safetensors").write_bytes(b"not this")
    with pytest.raises(ArtifactError, match="SHA-256"):
        scored(tmp_path / "runs", days, tmp_path)


# The file.


def test_the_same_command_works_again_and_nothing_else_is_replaced(
    runs: Path, days: pd.DataFrame, tmp_path: Path
) -> None:
    output = tmp_path / "scores.parquet"
    first, _ = scored(runs, days, tmp_path)
    again, _ = scored(runs, days, tmp_path)
    assert again.equals(first)
    scored(runs, days.assign(heart_rate=80.0), tmp_path)  # next week's table of the same name
    before = output.read_bytes()
    with pytest.raises(
        DataError, match=r"holds the scores of another table, .*days.csv; choose another predict.output="
    ):
        days.to_csv(tmp_path / "others.csv", index=False)
        predicted(runs, tmp_path / "others.csv", output=str(output))
    assert output.read_bytes() == before
    output.write_bytes(before + b"a remark")
    with pytest.raises(DataError, match=r"was changed since stage=predict wrote it.*force=true"):
        scored(runs, days, tmp_path)
    scored(runs, days, tmp_path, force=True)
    (tmp_path / "thesis.csv").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis.csv: exists, and was not written by stage=predict"):
        predicted(runs, tmp_path / "days.csv", output=str(tmp_path / "thesis.csv"))
    (tmp_path / "thesis.csv.json").write_text('{"kind": "mano_scores", "inputs": {}}')
    with pytest.raises(DataError, match=r"thesis.csv: exists, and was not written by stage=predict"):
        predicted(runs, tmp_path / "days.csv", output=str(tmp_path / "thesis.csv"))
    with pytest.raises(DataError, match="this is the table to score"):
        predicted(runs, tmp_path / "days.csv", force=True, output=str(tmp_path / "days.csv"))
    assert (tmp_path / "thesis.csv").read_text() == "years of work"


def test_the_file_lies_in_the_run_unless_asked_and_says_what_it_is_of(
    runs: Path, days: pd.DataFrame, trained: DualLSTMRisk, tmp_path: Path
) -> None:
    days.head(70).to_csv(tmp_path / "january.csv", index=False)  # ten persons
    printed = predicted(runs, tmp_path / "january.csv", drivers=2)
    output = runs / "mine" / "predict" / "january.parquet"
    assert "10 rows written to" in printed and str(output) in printed
    facts = json.loads(output.with_name("january.parquet.json").read_text())
    assert facts["output"] == sha256(output)
    assert facts["inputs"] == {str(tmp_path / "january.csv"): sha256(tmp_path / "january.csv")}
    assert facts["run"] == "mine" and facts["rows"] == 10 and facts["alarm"] == float(trained.alarm)
    assert facts["risk_model"] == RunStore(runs / "mine").digest("risk")
    named = re.compile(r"\bP\d\d\b")  # a person's name stands in the scores alone
    assert not named.search(printed) and not named.search(json.dumps(facts))
    assert not list(runs.rglob("events.out.tfevents*"))


def test_a_csv_is_written_as_the_table_is_and_runs_no_formula(runs: Path, days: pd.DataFrame, tmp_path: Path) -> None:
    names = {"P00": '=cmd|"/c calc"!A1', "P01": "+1", "P02": "-2", "P03": "@x", "P04": "\tq", "P05": "1=1"}
    table = days.head(70).replace({"person": names})
    how, chosen = {"sep": ";", "decimal": ","}, {"separator": ";", "decimal": ",", "drivers": 1}
    kept, _ = scored(runs, table, tmp_path, how, **chosen)
    printed = predicted(runs, tmp_path / "days.csv", output=str(tmp_path / "out.csv"), **chosen)
    assert "5 cells of text begin with a sign that a spreadsheet takes for a formula" in printed
    back = pd.read_csv(tmp_path / "out.csv", sep=";", decimal=",")
    assert back["person"].head(6).tolist() == ["'" + names[f"P0{i}"] for i in range(5)] + ["1=1"]
    assert kept["person"].head(5).tolist() == list(names.values())[:5]
    assert np.abs(probabilities(back) - probabilities(kept)).max() < 1e-6
    assert back["driver_1_contribution"].to_numpy() == pytest.approx(kept["driver_1_contribution"].to_numpy(), abs=1e-6)
    assert pd.to_datetime(back["week"]).dt.dayofweek.eq(0).all()


def test_every_text_column_is_neutralised() -> None:
    frame = pd.DataFrame({"person": ["a", "\r=1"], "driver_1": ["=x (Mon)", "b"], "p_low": [-1.0, 0.5]})
    safe = without_formulas(frame, NullTracker())
    assert safe["person"].tolist() == ["a", "'\r=1"] and safe["driver_1"].tolist() == ["'=x (Mon)", "b"]
    assert safe["p_low"].tolist() == [-1.0, 0.5]


def test_rows_do_not_depend_on_the_chunk_they_are_in(
    runs: Path, people: Cohort, trained: DualLSTMRisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(people).head(7 * 17)
    whole, _ = scored(runs, table, tmp_path, drivers=1)
    monkeypatch.setattr("pipeline.predict.BATCH", 16)
    monkeypatch.setattr("predictor.dual_lstm.BATCH", 16)
    parts, _ = scored(runs, table, tmp_path, drivers=1)
    assert np.abs(probabilities(parts) - probabilities(whole)).max() < 1e-6
    assert parts["driver_1"].tolist() == whole["driver_1"].tolist()


def test_the_commands_of_the_guide_are_right() -> None:
    guide = (ROOT / "docs" / "own_cohort.md").read_text()
    section = guide[guide.index("## Score persons") : guide.index("## Add a signal")]
    commands = re.findall(r"^ +python run_pipeline.py (.*)", section, re.M)
    assert len(commands) >= 2
    for line in commands:
        check_command_line(line.split())
    for key in re.findall(r"`predict\.(\w+)`", section):
        assert hasattr(configured().predict, key), key
