"""The reference population looks like real people and its posterior is right; weeks and splits keep to their rules."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers_sources import Notes, settings
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
from generators.sources.bayes import bayes_posterior
from generators.sources.reference import ReferenceParameters, sample_days, sample_reference
from generators.sources.split import fill_missing, split_persons
from generators.sources.weeks import calendar_weeks

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def parameters() -> ReferenceParameters:
    chosen = settings("reference")
    assert isinstance(chosen, ReferenceParameters)
    return chosen


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
    filled = [[0, 0, 0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 10], np.arange(12, 19)]  # held, interpolated, whole
    np.testing.assert_array_equal(weeks.rhythms[:, :, 0], filled)
    np.testing.assert_array_equal(weeks.mask[1, :, 0], [True, False, True, True, True, True, False])
    strict = calendar_weeks(np.zeros(len(dates), np.int64), dates, values, max_filled=0)
    np.testing.assert_array_equal(strict.rhythms[:, :, 0], filled[2:])


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
    when = {(p, np.float32(v)): d for p, d, row in zip(person, dates, values, strict=True) for v in row}
    monday: dict[int, np.datetime64] = {}  # of each row: its values lie in one calendar week
    for m, day, k in np.argwhere(weeks.mask):
        start = when[weeks.person[m], weeks.rhythms[m, day, k]] - day
        assert start == monday.setdefault(m, start) and start.item().weekday() == 0


# Split.


def test_no_person_stands_on_both_sides(parameters: ReferenceParameters) -> None:
    people = sample_reference(parameters, 90, np.random.default_rng(0))
    several = Cohort(people.profiles, people.rhythms, people.mask, people.person // 3, people.signals)
    train, holdout = split_persons(several, 0.2, np.random.default_rng(1))
    assert not set(train.person) & set(holdout.person)
    assert len(train) + len(holdout) == 90
    assert holdout.persons == 6


def test_missing_numbers_are_filled_from_training_persons_alone(parameters: ReferenceParameters) -> None:
    people = sample_reference(parameters, 40, np.random.default_rng(0))
    train, holdout = people.select(np.arange(30)), people.select(np.arange(30, 40))
    train.profiles.loc[0, "bmi"] = np.nan
    holdout.profiles.loc[:, "bmi"] = [np.nan, *[49.0] * 9]
    notes = Notes()
    filled, held = fill_missing(train, holdout, notes)
    median = train.profiles["bmi"].iloc[1:].median()
    assert filled.profiles["bmi"].iloc[0] == held.profiles["bmi"].iloc[0] == median
    assert not filled.profiles.isna().any(axis=None)
    assert notes.said("'bmi' lacks 2 of 40 rows", "median of the training persons")
    pd.testing.assert_frame_equal(filled.profiles.iloc[1:], train.profiles.iloc[1:])
    train.profiles.loc[:, "bmi"] = np.nan
    with pytest.raises(DataError, match="'bmi' is empty for every training person"):
        fill_missing(train, holdout, notes)
