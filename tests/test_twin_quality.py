"""Scores of a Twin: right for a Twin that is Trial, and each of them catches a planted fault."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers_envs import env_settings, people, trial_settings
from helpers_twin import design, untrained
from helpers_twin import make_patients as two_columns
from torch import Tensor

from core.patients import Patients
from core.protocols import NullTracker, Outcome, State
from core.random import numpy_generator, stream_keys
from core.signals import DAYS
from envs.severity import SeverityIndex
from envs.trial import Trial, TrialSettings
from intervention import twin_effects
from intervention.trials import enrol, simulate_trials
from intervention.twin import TwinDynamics
from intervention.twin_effects import correlation, effect_quality, person_effects
from intervention.twin_quality import _rank, crps, forecast_quality, remission_gaps, remission_policies

PERSONS = 600


def steady() -> TrialSettings:
    """Without drift, so that a week shows all that the next one depends on."""
    return replace(trial_settings(), drift_sd=0.0)


class Stand(Trial):
    """Trial in the Twin's place: the same truth, with luck of its own."""

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        return super().step(state, treatment, intensity, stream_keys(keys, 1))

    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        after = self._advance(state, self._dose(treatment, intensity), adverse.float())
        level = self._standing(after)
        residual = (week[:, -1] - self._physical(level)) / self.within - self.weekend[-1]
        return {**after, "residual": residual / self._spread(level)}


class Quiet(Stand):
    """Days with half the noise."""

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        state, outcome = super().step(state, treatment, intensity, keys)
        level = outcome.level[:, None]
        return state, replace(outcome, week=level + 0.5 * (outcome.week - level))


class Mistaken(Stand):
    """Who responds to what is another person's."""

    def start(self, rows: Tensor, keys: Tensor) -> State:
        state = super().start(rows, keys)
        return {**state, "response": self.response[(rows + 1) % len(self.patients)]}


def with_effects(factor: float) -> TrialSettings:
    settings = steady()
    changed = {
        name: replace(each, effect={signal: factor * size for signal, size in each.effect.items()})
        for name, each in settings.treatments.items()
    }
    return replace(settings, treatments=changed)


Make = Callable[[Patients], Any]
TWINS: dict[str, Make] = {
    "true": lambda p: Stand(p, steady(), 0),
    "doubled": lambda p: Stand(p, with_effects(2.0), 0),
    "nobody responds": lambda p: Stand(p, with_effects(0.0), 0),
    "quiet": lambda p: Quiet(p, steady(), 0),
}


@pytest.fixture(scope="module")
def patients() -> Patients:
    return enrol(people(200), np.random.default_rng(0).integers(200, size=PERSONS))


@pytest.fixture(scope="module")
def trial(patients: Patients) -> Trial:
    return Trial(patients, steady(), 0)


# --- one week ahead ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forecasts(patients: Patients, trial: Trial) -> dict[str, dict[str, float]]:
    return {name: forecast_quality(make(patients), trial, design(weeks=6), 200, 19, 0) for name, make in TWINS.items()}


def test_a_forecast_that_is_the_truth_scores_as_the_truth(forecasts: dict[str, dict[str, float]]) -> None:
    found = forecasts["true"]
    assert found["crps_ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["coverage_50"] == pytest.approx(0.5, abs=0.02)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.01)


def test_a_wrong_forecast_is_caught(forecasts: dict[str, dict[str, float]]) -> None:
    ratio = {name: found["crps_ratio"] for name, found in forecasts.items()}
    assert ratio["quiet"] > 1.05 and ratio["doubled"] > 1.01 and ratio["nobody responds"] > 1.01
    assert forecasts["quiet"]["coverage_90"] < 0.75 and forecasts["quiet"]["coverage_50"] < 0.35


# --- mean effects -----------------------------------------------------------------------------------------------------


def test_a_twin_with_the_same_luck_has_no_error_in_its_effects(patients: Patients, trial: Trial) -> None:
    found = effect_quality(Trial(patients, steady(), 0), trial, PERSONS, 0)
    assert found["effect_error"] == 0 and found["placebo_change"] == 0


@pytest.fixture(scope="module")
def effects(patients: Patients, trial: Trial) -> dict[str, dict[str, Any]]:
    kinds = ("true", "doubled", "nobody responds")
    return {name: effect_quality(TWINS[name](patients), trial, PERSONS, 0) for name in kinds}


def test_true_effects_are_within_luck_and_wrong_ones_are_not(effects: dict[str, dict[str, Any]], trial: Trial) -> None:
    # effect: of 600 persons, days of each of them, a difference of differences
    noise = (trial.within / trial.between).max().item() / math.sqrt(PERSONS * DAYS)
    error = {name: found["effect_error"] for name, found in effects.items()}
    assert error["true"] < noise and effects["true"]["placebo_change"] < 2 * noise
    assert error["nobody responds"] > 5 * error["true"] and error["doubled"] > 5 * error["true"]


def test_another_natural_history_is_the_placebo_change(patients: Patients, trial: Trial) -> None:
    """With the same luck all that differs is what passes by itself of the unhealthy deviations."""
    found = effect_quality(Trial(patients, replace(steady(), recovery_share=0.0), 0), trial, PERSONS, 0)
    weeks = torch.tensor([4.0, 8.0, 12.0])
    passed = trial.settings.recovery_share * (1 - torch.exp(-weeks / trial.settings.recovery_weeks))
    unhealthy = torch.where(trial.deviation * trial.better < 0, trial.deviation, 0.0).mean(dim=0)
    expected = (passed[:, None] * unhealthy).abs().mean().item()
    assert found["placebo_change"] == pytest.approx(expected, rel=0.1) and expected > 0.03
    assert found["effect_error"] < 0.2 * expected


# --- remission --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gaps(patients: Patients, trial: Trial) -> dict[str, dict[str, Any]]:
    judge = SeverityIndex(patients.signals, patients.scaler)
    return {
        name: remission_gaps(TWINS[name](patients), trial, judge, env_settings(), PERSONS, 0)
        for name in ("true", "doubled", "nobody responds")
    }


def test_remission_in_the_truth_is_within_luck(gaps: dict[str, dict[str, Any]]) -> None:
    found = gaps["true"]
    assert set(found["remission_gap"]) == set(remission_policies(env_settings().horizon))
    assert 0.5 < found["remission_gap_luck"] < 100 / math.sqrt(2 * PERSONS)
    assert max(map(abs, found["remission_gap"].values())) < 3 * found["remission_gap_luck"]


def test_wrong_remission_is_caught(gaps: dict[str, dict[str, Any]]) -> None:
    luck, untreated = gaps["true"]["remission_gap_luck"], "none"
    doubled, unmoved = (gaps[name]["remission_gap"] for name in ("doubled", "nobody responds"))
    assert max(doubled.values()) > 3 * luck and min(unmoved.values()) < -3 * luck
    assert all(abs(gap[untreated]) < 3 * luck for gap in (doubled, unmoved))


# --- individual effects -----------------------------------------------------------------------------------------------


def of_persons(monkeypatch: pytest.MonkeyPatch, kind: type[Stand], persons: int = 300) -> dict[str, Any]:
    """``person_effects`` of a Trial that stands in for the Twin."""
    monkeypatch.setattr(twin_effects, "TwinDynamics", lambda twin, tested: kind(tested, steady(), 0))
    cohort = people(200)
    return person_effects(untrained(), lambda p: Trial(p, steady(), 0), cohort, people(300, 1), persons, 500, 2, 0)


def test_a_prediction_that_is_the_truth_is_perfect_and_its_ceiling_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_persons(monkeypatch, Stand)
    assert 0.97 < found["person_effect_correlation"] <= 1
    assert 0.1 < found["person_effect_ceiling"] < 0.9
    assert all(twin > ceiling > 0 for twin, ceiling in found["person_effects"].values())
    share = found["person_effect_correlation"] / found["person_effect_ceiling"]
    assert found["person_effect_share"] == pytest.approx(share)


def test_a_prediction_for_somebody_else_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(of_persons(monkeypatch, Mistaken)["person_effect_correlation"]) < 0.15


def test_correlation_needs_variation() -> None:
    varied = torch.tensor([0.1, 0.2, 0.4])
    assert correlation(varied, -varied) == pytest.approx(-1)
    assert correlation(torch.full((3,), 0.1), varied) is None
    assert correlation(varied, torch.full((3,), 0.1)) is None


# --- the parts --------------------------------------------------------------------------------------------------------


def test_crps_of_a_gaussian_is_the_closed_form() -> None:
    samples = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)  # of N(0, 1) at 0
    assert crps(samples, torch.zeros(1)).item() == pytest.approx(expected, abs=0.01)
    assert crps(samples + 1, torch.zeros(1)).item() > expected + 0.2


def test_rank_is_uniform_for_a_right_forecast_and_not_for_a_narrow_one() -> None:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    samples, truth = torch.randn(9, 4000, generator=generator), torch.randn(4000, generator=generator)
    right, narrow = _rank(samples, truth, rng), _rank(0.5 * samples, truth, rng)

    def share(rank: Tensor) -> float:
        return ((rank > 0.25) & (rank < 0.75)).float().mean().item()

    assert share(right) == pytest.approx(0.5, abs=0.03)
    assert share(narrow) < 0.4
    assert share(_rank(torch.zeros(9, 4000), torch.zeros(4000), rng)) == pytest.approx(0.5, abs=0.03)  # all ties


class Overheard(Trial):
    """Trial, noting the keys of all it is asked to draw."""

    def __init__(self, patients: Patients, heard: set[int]) -> None:
        super().__init__(patients, trial_settings(), 0)
        self.heard = heard

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        self.heard |= set(keys.tolist())
        return super().step(state, treatment, intensity, keys)


def test_no_score_meets_the_noise_of_the_training_courses_or_of_another() -> None:
    patients, plan, seed = two_columns(), design(courses=30, weeks=6, batch=30), 5
    dynamics, judge = TwinDynamics(untrained(), patients), SeverityIndex(patients.signals, patients.scaler)
    training, forecast, effect, remission, watched, taught = heard = [set[int]() for _ in range(6)]
    simulate_trials(lambda tested: Overheard(tested, training), patients, plan, seed, NullTracker())
    forecast_quality(dynamics, Overheard(patients, forecast), plan, 30, 2, seed)
    effect_quality(dynamics, Overheard(patients, effect), 40, seed)
    remission_gaps(dynamics, Overheard(patients, remission), judge, env_settings(), 40, seed)
    enrolled = iter((watched, taught))
    person_effects(untrained(), lambda p: Overheard(p, next(enrolled)), patients, two_columns(50), 40, 60, 2, seed)
    assert len(training) == 30 * 6
    assert len(forecast) == 30 * 6 + 30 * 2 * 2  # the truth, and two samples in weeks 2 and 5
    assert all(heard)
    assert len(set.union(*heard)) == sum(map(len, heard))


def test_the_streams_of_a_seed_are_not_those_of_the_next() -> None:
    draws = [numpy_generator(seed, "twin", "remission").integers(2**31) for seed in range(4)]
    assert len(set(draws)) == 4
