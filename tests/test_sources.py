"""The reference population looks like real people, its posterior is right, and tables are read or refused clearly."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.cohort import DASS_COLUMNS, Cohort
from core.encoding import ProfileEncoder
from core.errors import DataError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS, WEEKEND
from generators.labels import QuestionnaireSettings, label
from generators.sources import DataSettings, read_source
from generators.sources.bayes import bayes_posterior
from generators.sources.lifesnaps import LifeSnapsSettings, bmi_band
from generators.sources.reference import ReferenceParameters, sample_days, sample_reference
from generators.sources.split import split_persons
from generators.sources.tables import TableSettings, read_tables
from generators.sources.weeks import calendar_weeks

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"


class Notes(NullTracker):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def settings(name: str, into: Any = DataSettings) -> Any:
    return TypeAdapter(into).validate_python(yaml.safe_load((ROOT / f"conf/data/{name}.yaml").read_text())["data"])


@pytest.fixture(scope="module")
def parameters() -> ReferenceParameters:
    return settings("reference", ReferenceParameters)


@pytest.fixture(scope="module")
def questionnaire() -> QuestionnaireSettings:
    text = (ROOT / "conf/labels/questionnaire.yaml").read_text()
    return TypeAdapter(QuestionnaireSettings).validate_python(yaml.safe_load(text)["labels"])


@pytest.fixture(scope="module")
def long_series(parameters: ReferenceParameters) -> tuple[pd.DataFrame, np.ndarray]:
    """Twelve weeks a person, as the real data were measured: seven days pull lag-1 down by about (1 + 3 lag)/7 and
    hide the slow swings of heart rate inside the week's mean."""
    return sample_days(parameters, 5000, 84, np.random.default_rng(0))


def within(days: np.ndarray) -> np.ndarray:
    return days - days.mean(axis=1, keepdims=True)


# The reference population: bounds from real 7-day rhythms (PMData, LifeSnaps, HRV49, StudentLife).


@pytest.mark.parametrize(
    ("k", "lag1", "icc", "sd", "weekend"),
    [
        (0, (-0.05, 0.05), (0.15, 0.30), (1.1, 1.4), (0.2, 0.5)),
        (1, (0.05, 0.15), (0.20, 0.50), (1.1, 1.6), (0.0, 0.2)),
        (2, (0.83, 0.90), (0.85, 0.92), (2.2, 2.8), (0.3, 0.6)),
        (3, (0.25, 0.35), (0.25, 0.45), (1.2, 1.6), (-0.4, 0.0)),
    ],
    ids=[signal.name for signal in DEFAULT_SIGNALS],
)
def test_rhythms_have_the_statistics_of_real_ones(
    long_series: tuple[pd.DataFrame, np.ndarray],
    k: int,
    lag1: tuple[float, float],
    icc: tuple[float, float],
    sd: tuple[float, float],
    weekend: tuple[float, float],
) -> None:
    days = long_series[1][:, :, k]
    noise = within(days)
    variance, between = (noise**2).mean(), days.mean(axis=1).var()
    free = np.isin(np.arange(days.shape[1]) % 7, WEEKEND)
    assert lag1[0] <= (noise[:, 1:] * noise[:, :-1]).mean() / variance <= lag1[1]
    assert icc[0] <= between / (between + variance) <= icc[1]
    assert sd[0] <= np.sqrt(variance) <= sd[1]
    assert weekend[0] <= days[:, free].mean() - days[:, ~free].mean() <= weekend[1]


def test_signals_move_together_within_persons_as_in_real_data(long_series: tuple[pd.DataFrame, np.ndarray]) -> None:
    noise = within(long_series[1])
    same = np.corrcoef(noise.reshape(-1, 4).T)
    assert -0.30 <= same[1, 3] <= -0.25
    assert 0.15 <= same[0, 1] <= 0.25
    assert -0.20 <= same[0, 3] <= -0.10
    both = np.corrcoef(noise[:, 1:].reshape(-1, 4).T, noise[:, :-1].reshape(-1, 4).T)[:4, 4:]
    assert np.abs(both - np.diag(np.diag(both))).max() <= 0.13


def test_distress_makes_sleep_irregular(long_series: tuple[pd.DataFrame, np.ndarray]) -> None:
    profiles, days = long_series
    irregular, distress = days[:, :, 0].std(axis=1), profiles[list(DASS_COLUMNS)].sum(axis=1)
    assert np.corrcoef(irregular, distress)[0, 1] > 0.2
    assert irregular[distress > distress.quantile(0.75)].mean() > 1.1 * irregular[distress < distress.median()].mean()


def test_profiles_are_jointly_plausible(long_series: tuple[pd.DataFrame, np.ndarray]) -> None:
    people = long_series[0]
    assert set(people["sleep_disorder"]) == {"No disorder", "Insomnia", "Sleep Apnea"}
    assert set(people["gender"]) == {"Female", "Male", "Other"}
    assert people.groupby("occupation")["age"].median()["Student"] < 25
    assert people.groupby("occupation")["age"].median()["Retired"] > 60
    assert people.groupby("sleep_disorder")["bmi"].mean()["Sleep Apnea"] > people["bmi"].mean() + 1.5
    scores = people[list(DASS_COLUMNS)]
    assert ((scores >= 0) & (scores <= 42)).all(axis=None)
    assert (scores.skew() > 0.5).all()
    correlation = scores.corr().to_numpy()[np.triu_indices(3, 1)]
    assert (correlation > 0.6).all()
    assert (correlation < 0.76).all()
    for column in ("family_history", "prior_treatment"):
        distress = scores.sum(axis=1).groupby(people[column]).mean()
        assert distress["Yes"] > distress["No"] + 5


def test_dass_bands_give_the_intended_shares(
    parameters: ReferenceParameters, questionnaire: QuestionnaireSettings
) -> None:
    risk = label(sample_reference(parameters, 20_000, np.random.default_rng(1)), questionnaire, NullTracker())
    low, medium, high = np.bincount(risk) / len(risk)
    assert 0.45 <= low <= 0.55
    assert 0.20 <= medium <= 0.27
    assert 0.22 <= high <= 0.30


def test_days_are_rarely_clipped(long_series: tuple[pd.DataFrame, np.ndarray]) -> None:
    for k, signal in enumerate(DEFAULT_SIGNALS):
        days = long_series[1][:, :, k]
        assert ((days <= signal.low) | (days >= signal.high)).mean() < 0.015


def test_sampling_is_reproducible(parameters: ReferenceParameters) -> None:
    one, two, other = (sample_reference(parameters, 50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one.rhythms == two.rhythms).all()
    pd.testing.assert_frame_equal(one.profiles, two.profiles)
    assert (one.rhythms != other.rhythms).any()
    assert one.mask.all()
    assert one.persons == 50


def test_an_effect_of_no_column_is_refused(parameters: ReferenceParameters) -> None:
    wrong = dataclasses.replace(parameters, distress_effects={"gendr=Female": (1.0, 1.0, 1.0)})
    with pytest.raises(DataError, match="'gendr=Female' names no profile column"):
        sample_reference(wrong, 30, np.random.default_rng(0))


# What is knowable.


@pytest.fixture(scope="module")
def knowable(parameters: ReferenceParameters, questionnaire: QuestionnaireSettings) -> tuple[Cohort, np.ndarray]:
    people = sample_reference(parameters, 20_000, np.random.default_rng(2))
    people = people.with_risk(label(people, questionnaire, NullTracker()))
    visible = people.profiles.drop(columns=list(DASS_COLUMNS))
    return people, bayes_posterior(parameters, questionnaire, visible, people.rhythms, np.random.default_rng(0))


def calibration_error(probability: np.ndarray, event: np.ndarray, bins: int = 15) -> float:
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs((probability - event)[index == b].sum()) for b in range(bins)]
    return sum(gaps) / len(event)


def test_posterior_is_calibrated(knowable: tuple[Cohort, np.ndarray]) -> None:
    people, posterior = knowable
    assert people.risk is not None
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-9)
    assert posterior.min() >= 0
    for k in range(3):
        assert calibration_error(posterior[:, k], (people.risk == k).astype(float)) < 0.015
    assert 0.85 <= roc_auc_score(people.risk == 2, posterior[:, 2]) <= 0.93
    assert f1_score(people.risk, posterior.argmax(axis=1), average="macro") > 0.57


def summaries(people: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    week = people.rhythms
    trend = np.einsum("ntc,t->nc", week, np.arange(7) - 3)
    return np.concatenate([encoder.encode(people.profiles), week.mean(axis=1), week.std(axis=1), trend], axis=1)


def test_posterior_beats_a_regression_on_weekly_summaries(knowable: tuple[Cohort, np.ndarray]) -> None:
    people, posterior = knowable
    train, test = np.arange(10_000), np.arange(10_000, 20_000)
    encoder = ProfileEncoder.fit(people.select(train).profiles, DASS_COLUMNS)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    x, y = summaries(people, encoder), people.risk
    assert y is not None
    fitted = model.fit(x[train], y[train]).predict_proba(x[test])
    assert log_loss(y[test], posterior[test]) < log_loss(y[test], fitted)
    assert roc_auc_score(y[test] == 2, posterior[test, 2]) > roc_auc_score(y[test] == 2, fitted[:, 2])


def test_posterior_of_another_model_is_not_calibrated(
    parameters: ReferenceParameters, questionnaire: QuestionnaireSettings, knowable: tuple[Cohort, np.ndarray]
) -> None:
    """The calibration test can fail: a posterior that ignores how distress shows in the week is caught."""
    blind = dataclasses.replace(parameters, level_distress=((0.0, 0.0, 0.0, 0.0),) * 3)
    people = knowable[0].select(np.arange(4000))
    assert people.risk is not None
    wrong = bayes_posterior(blind, questionnaire, people.profiles, people.rhythms, np.random.default_rng(0))
    right = knowable[1][:4000]
    assert log_loss(people.risk, wrong) > log_loss(people.risk, right) + 0.05


def test_posterior_ignores_the_batch_and_the_answers(
    parameters: ReferenceParameters, questionnaire: QuestionnaireSettings, knowable: tuple[Cohort, np.ndarray]
) -> None:
    """A person's posterior does not depend on the batch it stands in, nor on the DASS columns."""
    people, posterior = knowable
    few = people.select(np.arange(200))
    hidden = few.profiles.assign(**dict.fromkeys(DASS_COLUMNS, 0))
    again = bayes_posterior(parameters, questionnaire, hidden, few.rhythms, np.random.default_rng(5))
    np.testing.assert_allclose(again, posterior[:200], atol=0.03)


@pytest.mark.parametrize("missing", DASS_COLUMNS)
def test_posterior_of_labels_that_lack_a_subscale(
    parameters: ReferenceParameters, questionnaire: QuestionnaireSettings, missing: str
) -> None:
    """A subscale without a band counts for nobody: the posterior follows the labels that the other two give."""
    bands = [
        {c: v for c, v in cut.items() if c != missing}
        for cut in (questionnaire.moderate_from, questionnaire.severe_from)
    ]
    fewer = dataclasses.replace(questionnaire, moderate_from=bands[0], severe_from=bands[1])
    people = sample_reference(parameters, 3000, np.random.default_rng(4))
    risk = label(people, fewer, NullTracker())
    posterior = bayes_posterior(parameters, fewer, people.profiles, people.rhythms, np.random.default_rng(0))
    for k in range(3):
        assert abs(posterior[:, k].mean() - (risk == k).mean()) < 0.03
    all_three = bayes_posterior(parameters, questionnaire, people.profiles, people.rhythms, np.random.default_rng(0))
    assert (posterior[:, 0] >= all_three[:, 0] - 1e-9).all() and posterior[:, 0].mean() > all_three[:, 0].mean()


# Weeks.


def test_weeks_are_calendar_weeks_with_few_filled_days() -> None:
    dates = np.arange("2024-01-03", "2024-01-22", dtype="datetime64[D]")  # Wednesday to Sunday of the third week
    values = np.arange(len(dates), dtype=float)[:, None]
    values[[6, 11], 0] = np.nan  # Tuesday and Sunday of the second week
    weeks = calendar_weeks(np.zeros(len(dates), np.int64), dates, values, max_filled=2)
    assert [str(day) for day in weeks.monday] == ["2024-01-01", "2024-01-08", "2024-01-15"]
    np.testing.assert_array_equal(weeks.rhythms[0, :, 0], [0, 0, 0, 1, 2, 3, 4])  # held before the first day
    np.testing.assert_array_equal(weeks.rhythms[1, :, 0], [5, 6, 7, 8, 9, 10, 10])  # interpolated, then held
    np.testing.assert_array_equal(weeks.mask[1, :, 0], [True, False, True, True, True, True, False])
    strict = calendar_weeks(np.zeros(len(dates), np.int64), dates, values, max_filled=0)
    assert [str(day) for day in strict.monday] == ["2024-01-15"]


@given(st.integers(0, 6), st.integers(0, 10_000))
def test_weeks_keep_what_was_observed(max_filled: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dates = np.tile(np.datetime64("2024-02-29") + np.arange(40), 2)
    person, values = np.repeat([4, 9], 40), rng.normal(size=(80, 2))
    values[rng.random(values.shape) < 0.3] = np.nan
    order = rng.permutation(80)  # the table's order does not matter
    weeks = calendar_weeks(person[order], dates[order], values[order], max_filled)
    assert ((~weeks.mask).sum(axis=1) <= max_filled).all()
    assert np.isfinite(weeks.rhythms).all()
    table = {(p, d): v for p, d, v in zip(person, dates, values, strict=True)}
    for m, day, k in np.argwhere(weeks.mask):
        assert weeks.rhythms[m, day, k] == np.float32(table[weeks.person[m], weeks.monday[m] + day][k])


# Split.


def test_no_person_stands_on_both_sides(parameters: ReferenceParameters) -> None:
    people = sample_reference(parameters, 90, np.random.default_rng(0))
    several = Cohort(people.profiles, people.rhythms, people.mask, people.person // 3, people.signals)
    train, holdout = split_persons(several, 0.2, np.random.default_rng(1))
    assert not set(train.person) & set(holdout.person)
    assert len(train) + len(holdout) == 90
    assert holdout.persons == 6


# LifeSnaps.


def test_lifesnaps_gives_four_signal_weeks() -> None:
    if not (REAL / "lifesnaps_daily.csv").is_file():
        pytest.skip("../shared/data/lifesnaps_daily.csv is absent")
    chosen = settings("lifesnaps")
    assert isinstance(chosen, LifeSnapsSettings)
    notes = Notes()
    people = read_source(dataclasses.replace(chosen, path=str(REAL)), 0, np.random.default_rng(0), notes)
    assert 20 <= people.persons <= 30
    assert len(people) > 100
    assert ((~people.mask).sum(axis=1) <= 2).all()
    assert set(people.profiles["bmi"]) <= {"under 19", "19 to under 25", "25 and over", "unknown"}
    assert "stai_state_mean" not in people.profiles
    assert any("filled with" in line for line in notes.lines)
    assert not people.profiles.isna().any(axis=None)
    raw = pd.read_csv(REAL / "lifesnaps_daily.csv")
    assert np.isin(people.rhythms[:, :, 3][people.mask[:, :, 3]], raw["stress"].astype(np.float32)).all()


def test_bmi_bands_agree_across_spellings() -> None:
    bounds = (19.0, 25.0)
    assert bmi_band("<19", bounds) == bmi_band("18", bounds) == "under 19"
    assert bmi_band("19.0", bounds) == bmi_band("24.9", bounds) == "19 to under 25"
    assert bmi_band(">=25", bounds) == bmi_band(">=30", bounds) == bmi_band("25", bounds) == "25 and over"
    with pytest.raises(DataError, match="straddles"):
        bmi_band(">=25", (19.0, 30.0))
    with pytest.raises(DataError, match="neither"):
        bmi_band("tall", bounds)


# The user's tables.

PERSONS, DAYS = 24, 14


def write_tables(folder: Path, daily: pd.DataFrame, profiles: pd.DataFrame) -> TableSettings:
    daily.to_csv(folder / "daily.csv", index=False)
    profiles.to_csv(folder / "profiles.csv", index=False)
    chosen = settings("csv")
    assert isinstance(chosen, TableSettings)
    return dataclasses.replace(chosen, daily=str(folder / "daily.csv"), profiles=str(folder / "profiles.csv"))


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    who = [f"p{i:02d}" for i in range(PERSONS)]
    daily = pd.DataFrame(
        {
            "person": np.repeat(who, DAYS),
            "date": np.tile(pd.date_range("2024-01-01", periods=DAYS).strftime("%Y-%m-%d"), PERSONS),
            "sleep_duration": rng.normal(7, 1, PERSONS * DAYS).round(2),
            "sleep_quality": rng.uniform(3, 8, PERSONS * DAYS).round(1),
            "heart_rate": rng.normal(65, 3, PERSONS * DAYS).round(1),
            "stress": rng.uniform(3, 8, PERSONS * DAYS).round(1),
        }
    ).astype({"sleep_duration": object, "heart_rate": object})
    static = {"person": who, "age": rng.integers(20, 60, PERSONS), "job": ["a", "None"] * (PERSONS // 2)}
    return daily, pd.DataFrame(static | {"risk": ["Low", "Medium", "High"] * (PERSONS // 3)})


def test_tables_give_the_values_written(tmp_path: Path) -> None:
    daily, profiles = tables()
    people = read_tables(write_tables(tmp_path, daily, profiles), NullTracker())
    assert len(people) == 2 * PERSONS
    assert people.persons == PERSONS
    expected = daily["sleep_duration"].astype(np.float32).to_numpy().reshape(-1, 7)
    np.testing.assert_array_equal(people.rhythms[:, :, 0], expected)
    assert people.profiles["job"].tolist() == [j for j in profiles["job"] for _ in range(2)]
    assert people.profiles["age"].dtype.kind in "if"


def test_tables_take_any_signals_and_formats(tmp_path: Path) -> None:
    daily, profiles = tables()
    daily["date"] = pd.to_datetime(daily["date"]).dt.strftime("%d.%m.%Y")
    daily["hrv"] = 40.0
    chosen = write_tables(tmp_path, daily, profiles)
    hrv = dataclasses.replace(chosen.signals[0], column="hrv", name="hrv", unit="ms", low=0, high=250)
    chosen = dataclasses.replace(
        chosen, date_format="%d.%m.%Y", signals=(*chosen.signals, hrv), profile_columns=("age",), label="risk"
    )
    people = read_tables(chosen, NullTracker())
    assert people.rhythms.shape == (2 * PERSONS, 7, 5)
    assert list(people.profiles) == ["age", "risk"]


def test_missing_profile_values_are_filled_and_told(tmp_path: Path) -> None:
    daily, profiles = tables()
    profiles = profiles.astype({"age": object})
    profiles.loc[0, ["age", "job"]] = None
    notes = Notes()
    people = read_tables(write_tables(tmp_path, daily, profiles), notes)
    assert people.profiles["job"].iloc[0] == "unknown"
    assert people.profiles["age"].iloc[0] == profiles["age"].iloc[1:].median()
    assert any("'age' lacks 1 of 24" in line and "held-out ones included" in line for line in notes.lines)


def _set(table: str, row: int, column: str, value: str | float | None) -> Callable[[dict[str, pd.DataFrame]], None]:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[table] = frames[table].astype(object)
        frames[table].loc[row, column] = value

    return change


def _minutes(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"]["sleep_duration"] = frames["daily"]["sleep_duration"].astype(float) * 60


def _rename(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"] = frames["daily"].rename(columns={"heart_rate": "heartrate"})


def _few(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"] = frames["daily"].iloc[: 5 * DAYS]


def _orphan(frames: dict[str, pd.DataFrame]) -> None:
    frames["profiles"] = frames["profiles"].iloc[1:]


def _twin(frames: dict[str, pd.DataFrame]) -> None:
    frames["profiles"] = pd.concat([frames["profiles"], frames["profiles"].iloc[:1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename, "column 'heart_rate' is missing .*did you mean 'heartrate'"),
        (_set("daily", 3, "stress", "high"), "column 'stress' holds 'high' at line 5, expected a number"),
        (_set("daily", 4, "stress", 11), "holds 11 at line 6 .*expected 1 to 10 1-10"),
        (_minutes, "expected 0 to 14 h .*is the column in minutes"),
        (_set("daily", 1, "date", "2024-01-01"), "person 'p00' has two rows for 2024-01-01 .*line 3"),
        (_set("daily", 2, "date", "yesterday"), "column 'date' holds 'yesterday' at line 4"),
        (_set("daily", 2, "person", None), "column 'person' is empty at line 4"),
        (_orphan, "person 'p00' has days but no profile"),
        (_twin, "person 'p00' stands twice .*line 26"),
        (_few, "5 persons with a usable week, expected at least 20"),
        (_set("profiles", 2, "age", "forty"), "column 'age' holds 'forty' at line 4 among numbers"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, pd.DataFrame]], None], message: str
) -> None:
    daily, profiles = tables()
    frames = {"daily": daily, "profiles": profiles}
    change(frames)
    chosen = write_tables(tmp_path, frames["daily"], frames["profiles"])
    with pytest.raises(DataError, match=message) as caught:
        read_source(chosen, 0, np.random.default_rng(0), NullTracker())
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    chosen = write_tables(tmp_path, *tables())
    with pytest.raises(DataError, match="no such file"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "dayly.csv")), NullTracker())
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="not a readable table"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "empty.csv")), NullTracker())
    (tmp_path / "wide.csv").write_text("person,date\na,2024-01-01,3\n")
    with pytest.raises(DataError, match="more fields than the header"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "wide.csv")), NullTracker())
    with pytest.raises(DataError, match=r"column 'risc' is missing .*did you mean 'risk'"):
        read_tables(dataclasses.replace(chosen, label="risc"), NullTracker())
    with pytest.raises(DataError, match="date_format"):
        read_tables(dataclasses.replace(chosen, date_format="%Q"), NullTracker())
