"""Published formats: what a row becomes, what is refused, and weeks that are simulated around what a table reports."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_sources import REAL, Notes, dass_table, read, settings, sleep_health_table

from core.cohort import DASS_COLUMNS
from core.errors import DataError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS
from generators.labels import label
from generators.sources import DataSettings, rhythm_origin
from generators.sources.around import conditional_draw, same_person, simulated_weeks
from generators.sources.dass42 import ITEMS
from generators.sources.reference import ReferenceParameters, latents_of_scores, sample_reference
from generators.sources.sleep_health import SleepHealthSettings
from generators.sources.split import split_persons
from pipeline.config import load_config

Change = Callable[[pd.DataFrame], object]


# Weeks around a reported level.


def test_a_conditional_draw_keeps_what_is_known_and_has_the_right_moments() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    covariance, mean, n = root @ root.T + np.eye(4), np.array([1.0, -2.0, 0.5, 3.0]), 60_000
    known = np.full((n, 4), np.nan)
    known[: n // 2, [1, 3]] = [0.5, 2.0]  # two patterns at once: two entries known, or none
    drawn = conditional_draw(np.tile(mean, (n, 1)), covariance, known, rng)
    first, second = drawn[: n // 2], drawn[n // 2 :]
    assert (first[:, [1, 3]] == [0.5, 2.0]).all()
    precision = np.linalg.inv(covariance)[np.ix_([0, 2], [0, 2])]  # the conditional's, by the other formula
    shift = np.linalg.inv(precision) @ np.linalg.inv(covariance)[np.ix_([0, 2], [1, 3])]
    expected = mean[[0, 2]] - shift @ (np.array([0.5, 2.0]) - mean[[1, 3]])
    np.testing.assert_allclose(first[:, [0, 2]].mean(axis=0), expected, atol=0.05)
    np.testing.assert_allclose(np.cov(first[:, [0, 2]].T), np.linalg.inv(precision), atol=0.15)
    np.testing.assert_allclose(np.cov(second.T), covariance, rtol=0.05, atol=0.15)


def test_with_nothing_reported_the_weeks_are_the_reference_populations() -> None:
    p = settings("reference")
    assert isinstance(p, ReferenceParameters)
    n, rng = 8000, np.random.default_rng(1)
    nothing = simulated_weeks(
        p, pd.DataFrame(index=range(n)), np.full((n, 3), np.nan), np.full((n, 4), np.nan), np.arange(n), rng
    )
    own = sample_reference(p, n, rng).rhythms
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(moment(nothing.mean(axis=1), axis=0), moment(own.mean(axis=1), axis=0), rtol=0.06)
    np.testing.assert_allclose(nothing.std(axis=1).mean(axis=0), own.std(axis=1).mean(axis=0), rtol=0.03)


def test_weeks_lie_around_the_reported_level_and_a_missing_one_follows_the_others() -> None:
    p = settings("reference")
    assert isinstance(p, ReferenceParameters)
    n = 6000
    levels = np.tile([6.0, 4.5, 70.0, 6.5], (n, 1))
    levels[n // 2 :] = [8.0, 8.0, 60.0, 3.5]
    levels[:, 3] = np.nan
    weeks = simulated_weeks(
        p, pd.DataFrame(index=range(n)), np.full((n, 3), np.nan), levels, np.arange(n), np.random.default_rng(0)
    )
    means = weeks.mean(axis=1).astype(float)
    for half in (slice(0, n // 2), slice(n // 2, n)):
        np.testing.assert_allclose(means[half, :3].mean(axis=0), levels[half][0, :3], atol=0.1)
    assert means[: n // 2, 3].mean() > means[n // 2 :, 3].mean() + 0.5  # short, poor sleep goes with stress


def test_scores_give_latents_and_latents_the_scores() -> None:
    p = settings("reference")
    assert isinstance(p, ReferenceParameters)
    scores = np.stack([np.arange(43)] * 3, axis=1)
    a, b, c = np.array(p.dass_log).T
    np.testing.assert_allclose(np.exp(a + b * latents_of_scores(p, scores)) - c, scores, atol=1e-9)


def test_equal_rows_are_one_person_and_stay_on_one_side() -> None:
    rows = pd.DataFrame({"a": [1.0, np.nan, 1.0, 2.0, np.nan], "b": list("xyxxy")})
    notes = Notes()
    assert same_person(rows, "t.csv", notes).tolist() == [0, 1, 0, 2, 1]
    assert notes.said("3 distinct rows of 5")
    same_person(rows.iloc[:2], "t.csv", quiet := Notes())
    assert not quiet.lines


# Sleep health.


def write_sleep_health(folder: Path, change: Change | None = None, rows: int = 60) -> DataSettings:
    table = sleep_health_table(rows, np.random.default_rng(0)).astype(object)
    if change is not None:
        change(table)
    table.to_csv(folder / "sleep.csv", index=False)
    return settings("sleep_health", path=str(folder / "sleep.csv"))


def test_sleep_health_rows_become_persons(tmp_path: Path) -> None:
    chosen, table = write_sleep_health(tmp_path), pd.read_csv(tmp_path / "sleep.csv", keep_default_na=False)
    notes = Notes()
    people = read(chosen, notes)
    assert len(people) == people.persons == 60 and people.signals == DEFAULT_SIGNALS
    assert "Person ID" not in people.profiles and set(people.profiles["sleep_disorder"]) <= {
        "No disorder",
        "Insomnia",
        "Sleep Apnea",
    }
    assert set(people.profiles["bmi_category"]) <= {"Normal", "Overweight", "Obese"}
    assert [f"{s:g}/{d:g}" for s, d in people.profiles[["systolic", "diastolic"]].to_numpy()] == table[
        "Blood Pressure"
    ].tolist()
    assert np.corrcoef(people.rhythms[:, :, 2].mean(axis=1), table["Heart Rate"])[0, 1] > 0.95
    assert notes.said("every week is simulated", "no day is an observation") and not notes.said("distinct rows")
    assert rhythm_origin(chosen) == "reference dynamics around the reported level"
    assert (read(chosen).rhythms == people.rhythms).all() and (read(chosen, seed=1).rhythms != people.rhythms).any()


def _cell(column: str, value: object, rows: object = 3) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.loc[rows, column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"Heart Rate": "HeartRate"}, inplace=True), "'Heart Rate' is missing .*did you mean 'HeartRate'"),
        (_cell("Blood Pressure", "126-83"), "'Blood Pressure' holds '126-83' at line 5 .*expected systolic/diastolic"),
        (_cell("Blood Pressure", "1260/83"), "'Blood Pressure' holds '1260/83' at line 5"),
        (_cell("Stress Level", 14), "'Stress Level' holds '14' at line 5 .*expected 1 to 10"),
        (_cell("Sleep Duration", 420, slice(None)), "'Sleep Duration' holds '420' .*are they in minutes\\? Then write them in h; else correct"),
        (_cell("Age", "old"), "'Age' holds 'old' at line 5 .*expected a number"),
        (_cell("Age", 230), "'Age' holds '230' at line 5 .*expected 0 to 120 years"),
        (_cell("Age", "NA", slice(None)), "'Age' is empty for everybody used"),
        (_cell("Physical Activity Level", "high", slice(None)), "'Physical Activity Level' holds 'high' at line 2, 'high' at line 3.* \\(60 of 60 rows\\), expected a number"),
        (lambda t: t.drop(index=range(1, len(t)), inplace=True), "1 persons with a usable week, expected at least 20"),
        (lambda t: t.drop(index=range(len(t)), inplace=True), "no rows below the header"),
    ],
)  # fmt: skip
def test_a_wrong_sleep_health_table_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_sleep_health(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_sleep_health_columns_that_cannot_be(tmp_path: Path) -> None:
    chosen = write_sleep_health(tmp_path)
    assert isinstance(chosen, SleepHealthSettings)
    fewer = {column: name for column, name in chosen.profile_columns.items() if name != "sleep_disorder"}
    for columns, message in (
        (fewer, "data.recode names 'sleep_disorder', expected one of the profile's columns age, gender, "),
        (chosen.profile_columns | {"Daily Steps": "age"}, "data.profile_columns: 'age' stands 2 times"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read(dataclasses.replace(chosen, profile_columns=columns))
        assert "\n" not in str(caught.value)


def test_missing_levels_and_missing_blood_pressure(tmp_path: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        table.loc[2, ["Stress Level", "Blood Pressure", "Sleep Disorder"]] = None
        table.drop(index=range(25, len(table)), inplace=True)  # twenty-five persons are enough

    notes = Notes()
    people = read(write_sleep_health(tmp_path, change), notes)
    assert len(people) == 25 and np.isfinite(people.rhythms).all()
    assert notes.said("'Stress Level' lacks 1 of 25", "given their other levels")
    assert (
        notes.said("'Sleep Disorder' lacks 1 of 25", "unknown")
        and people.profiles["sleep_disorder"].iloc[2] == "unknown"
    )
    assert people.profiles["systolic"].isna().tolist() == [i == 2 for i in range(25)]


def test_the_file_in_circulation_is_told_from_real_people() -> None:
    path = REAL / "sleep_health_and_lifestyle.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    notes = Notes()
    people = read(settings("sleep_health", path=str(path)), notes)
    assert len(people) == 374 and 120 <= people.persons <= 132
    assert notes.said("distinct rows of 374", "not of real people")
    train, holdout = split_persons(people, 0.3, np.random.default_rng(0))
    assert not set(train.person) & set(holdout.person)


# DASS-42.


def write_dass(folder: Path, change: Change | None = None, *overrides: str) -> DataSettings:
    table = dass_table(80, np.random.default_rng(0))
    if change is not None:
        change(table)
    table.to_csv(folder / "data.csv", index=False, sep="\t")
    return settings("dass42", *overrides, path=str(folder / "data.csv"))


def test_dass_answers_become_scores_and_labels(tmp_path: Path) -> None:
    def all_fours_in_depression(table: pd.DataFrame) -> None:
        table.loc[0, [f"Q{i}A" for i in range(1, 43)]] = 1
        table.loc[0, [f"Q{i}A" for i in ITEMS["dass_depression"]]] = 4
        table.loc[1, ["Q1A", "Q2A", "Q3A"]] = [4, 1, 2]

    chosen = write_dass(tmp_path, all_fours_in_depression)
    people, raw = read(chosen), pd.read_csv(tmp_path / "data.csv", sep="\t")
    assert people.profiles.loc[0, list(DASS_COLUMNS)].tolist() == [42, 0, 0]
    assert sorted(sum(ITEMS.values(), ())) == list(range(1, 43))  # every item counts once
    total = (raw[[f"Q{i}A" for i in range(1, 43)]] - 1).sum(axis=1)
    assert (people.profiles[list(DASS_COLUMNS)].sum(axis=1) == total).all()
    assert people.profiles["gender"].tolist() == raw["gender"].map({1: "Male", 2: "Female", 3: "Other"}).tolist()
    assert (
        people.profiles["married"].tolist()
        == raw["married"].map(dict(enumerate(("Never married", "Currently married", "Previously married"), 1))).tolist()
    )
    assert ((people.profiles["education"] == "unknown") == (raw["education"] == 0)).all()
    risk = label(people, load_config(["data=dass42"]).labels, NullTracker())
    assert risk[0] == 2
    # Distress shows in the simulated week as the reference population says: more stress, worse sleep.
    distress, means = total.to_numpy(), people.rhythms.mean(axis=1)
    assert np.corrcoef(distress, means[:, 3])[0, 1] > 0.3 and np.corrcoef(distress, means[:, 1])[0, 1] < -0.3


def test_dass_rows_that_cannot_be_believed_are_left_out_and_counted(tmp_path: Path) -> None:
    def spoil(table: pd.DataFrame) -> None:
        table.loc[0, "Q7A"] = 0
        table.loc[[1, 2], "age"] = [1996, 5]
        table.loc[3, "VCL9"] = 1
        table.loc[4, "familysize"] = 99
        table.loc[[4, 5], "gender"] = [0, 7]

    notes = Notes()
    people = read(write_dass(tmp_path, spoil), notes)
    assert len(people) == 76
    assert notes.said(
        "4 of 80 rows left out", "1 with an answer", "2 with an age outside 13 to 100", "1 with a word ticked"
    )
    assert notes.said("'gender' was not answered by 2 of 76")
    assert people.profiles["familysize"].isna().tolist() == [i == 0 for i in range(76)]


def test_dass_personality_and_further_columns_are_a_configuration_away(tmp_path: Path) -> None:
    extra = "+data.codes.hand={1:Right,2:Left,3:Both}"
    people, raw = (
        read(write_dass(tmp_path, None, "data.personality=true", extra)),
        dass_table(80, np.random.default_rng(0)),
    )
    assert set(people.profiles["hand"]) == {"Right", "Left", "Both"}
    np.testing.assert_allclose(people.profiles["emotional_stability"], (raw["TIPI9"] + 8 - raw["TIPI4"]) / 2)
    assert people.profiles["openness"].between(1, 7).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename(columns={"Q42A": "Q42"}, inplace=True), "column 'Q42A' is missing"),
        (_cell("Q5A", 9, slice(None)), "none of 80 rows is valid .80 with an answer outside 1 to 4"),
        (lambda t: t.drop(index=range(10, len(t)), inplace=True), "10 persons with a usable week"),
    ],
)
def test_a_wrong_dass_table_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_dass(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_dass_separated_by_commas_says_so(tmp_path: Path) -> None:
    chosen = write_dass(tmp_path)
    dass_table(30, np.random.default_rng(0)).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(DataError, match=r"set \"data\.separator=','\""):
        read(chosen)
