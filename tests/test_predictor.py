"""The risk model: calibration, what it learns, determinism, storage, errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_predictor import distressed, drifting, gentle, risk_settings, ruled, steep
from sklearn.linear_model import LogisticRegression

from core.artifact import Artifact
from core.cohort import Cohort
from core.errors import ArtifactError, DataError
from core.protocols import NullTracker
from core.signals import Signal
from pipeline.stages.risk import VALIDATORS, enough_to_validate
from predictor.baselines import summary_names, weekly_summaries
from predictor.calibration import brier, ece, ece_debiased, fit_temperature
from predictor.dual_lstm import DualLSTMRisk, day_views, week_patterns
from predictor.metrics import auc, risk_metrics
from predictor.split import split_by_person
from predictor.training import batch_loss, class_weights, hide_at_random, persons, train_risk

HIDDEN = ("dass_stress",)


class Recorder(NullTracker):
    def __init__(self) -> None:
        self.scalars: dict[str, list[float]] = {}
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append(value)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return distressed(1200, seed=0)[0]


@pytest.fixture(scope="module")
def model(cohort: Cohort) -> DualLSTMRisk:
    return train_risk(cohort, gentle(150), HIDDEN, 3, NullTracker())


@pytest.fixture(scope="module")
def holdout() -> tuple[Cohort, np.ndarray]:
    return distressed(800, seed=1)


# Calibration


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_planted_temperature_and_bias_are_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits, bias = rng.normal(size=(20_000, 3)) * 2, np.array([0.6, -0.2, -0.4])
    truth = np.exp(logits / temperature + bias)
    truth /= truth.sum(1, keepdims=True)
    labels = torch.from_numpy((rng.random((20_000, 1)) > truth.cumsum(1)[:, :2]).sum(1))
    got, shift = fit_temperature(torch.from_numpy(logits), labels, torch.zeros(3))
    assert got.item() == pytest.approx(temperature, rel=0.05)
    assert shift.numpy() == pytest.approx(bias, abs=0.08)


def test_class_weights_do_not_bias_probabilities() -> None:
    labels = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    weights = class_weights(labels, 1.0)
    assert (weights * torch.bincount(labels)).numpy() == pytest.approx([100 / 3] * 3)
    assert class_weights(labels, 0.0).numpy() == pytest.approx([1.0] * 3)
    trained = train_risk(distressed(1200, 0)[0], gentle(150, class_weight_power=1.0), HIDDEN, 0, NullTracker())
    fresh, _ = distressed(1500, 5)
    share = np.bincount(fresh.risk) / len(fresh)
    assert trained.predict_cohort(fresh).mean(0) == pytest.approx(share, abs=0.04)


# Split


def test_split_has_no_person_on_both_sides_and_keeps_class_shares(cohort: Cohort) -> None:
    weeks = cohort.select(np.repeat(np.arange(len(cohort)), 3))
    fit, held = split_by_person(weeks, 0.2, np.random.default_rng(0))
    assert not set(weeks.person[fit]) & set(weeks.person[held])
    assert sorted([*fit, *held]) == list(range(len(weeks)))
    share = [np.bincount(weeks.risk[rows], minlength=3) / len(rows) for rows in (fit, held)]
    assert share[0] == pytest.approx(share[1], abs=0.01)


@pytest.mark.parametrize(("high", "message"), [(0, "class 'High' has 0 persons"), (1, "class 'High' has 1 persons")])
def test_a_class_without_persons_is_an_error(cohort: Cohort, high: int, message: str) -> None:
    risk = np.tile(np.array([0, 1]), len(cohort) // 2)
    risk[:high] = 2
    with pytest.raises(DataError, match=message):
        train_risk(cohort.with_risk(risk), gentle(10), HIDDEN, 0, NullTracker())


def test_many_weeks_of_one_person_are_one_person(cohort: Cohort) -> None:
    person = np.where(cohort.risk == 2, 0, cohort.person + 1)  # all High weeks belong to a single person
    with pytest.raises(DataError, match="class 'High' has 1 persons"):
        split_by_person(replace(cohort, person=person), 0.2, np.random.default_rng(0))


# Learning


def test_learns_an_order_of_days_that_means_cannot_show() -> None:
    train, new = drifting(1500, 0), drifting(600, 1)
    trained = train_risk(train, gentle(250), HIDDEN, 0, NullTracker())
    accuracy = risk_metrics(new.risk, trained.predict_cohort(new))["accuracy"]
    means = LogisticRegression().fit(train.rhythms.mean(1), train.risk)
    assert means.score(new.rhythms.mean(1), new.risk) < 0.45
    assert accuracy > 0.85


@pytest.mark.slow
def test_sharp_labels_choose_the_recipe_that_finds_thresholds() -> None:
    train, new = (ruled(1500, seed) for seed in (0, 1))
    recorder = Recorder()
    both = risk_settings(graded={"steps": 100}, sharp={"steps": 300}, validate_every=20)
    trained = train_risk(train, both, HIDDEN, 0, recorder)
    graded, sharp = (float(note.rsplit(" ", 1)[1]) for note in recorder.notes)
    assert sharp < graded
    assert trained.network.shape["flags"] and trained.network.patterns.concepts.weight.abs().max() > 0
    assert risk_metrics(new.risk, trained.predict_cohort(new))["accuracy"] > 0.85


def test_untrained_steps_say_nothing(model: DualLSTMRisk) -> None:
    assert not model.network.patterns.concepts.weight.any()


@pytest.mark.slow
def test_concepts_teach_more_than_classes() -> None:
    """With the distress behind the label known in training, fewer persons do; and it never becomes an input."""
    (train, truth), (new, _) = distressed(250, 0), distressed(1500, 1)
    distress = np.log(truth[:, 2] / truth[:, 0])
    briers = [
        brier(new.risk, train_risk(train, gentle(150), HIDDEN, 0, NullTracker(), known).predict_cohort(new))
        for known in (None, {"distress": distress})
    ]
    assert briers[1] < briers[0]


def test_flags_are_learned_as_rules_that_fire() -> None:
    train, new = (ruled(1500, seed) for seed in (0, 1))

    def fired(cohort: Cohort) -> dict[str, np.ndarray]:
        stressed = cohort.rhythms[:, :, 3].mean(1) > 5.2
        return {"short": (cohort.risk - stressed).astype(bool), "stressed": stressed}

    trained = train_risk(train, steep(300), HIDDEN, 0, NullTracker(), fired(train))
    features, week, mask = trained.inputs(new)
    with torch.inference_mode():
        concepts = trained.network.concepts(features, trained.scaler.scale(week), mask) > 0
    for k, rows in enumerate(fired(new).values()):
        assert (concepts[:, k].numpy() == rows).mean() > 0.9
    assert risk_metrics(new.risk, trained.predict_cohort(new))["accuracy"] > 0.9


def test_validation_persons_of_ones_own_calibrate_and_never_fit(cohort: Cohort) -> None:
    others, _ = distressed(600, 7)
    flipped = others.with_risk(2 - others.risk)
    trained, misled = (
        train_risk(cohort, gentle(40), HIDDEN, 0, NullTracker(), validation=people) for people in (others, flipped)
    )
    share = np.bincount(others.risk) / len(others)
    assert trained.predict_cohort(others).mean(0) == pytest.approx(share, abs=0.02)
    found = trained.predict_cohort(others)[others.risk == 2, 2] >= trained.alarm.item()
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    # Validation persons whose labels are turned round choose other weights and temperatures, but teach no direction.
    assert auc(others.risk == 2, misled.predict_cohort(others)[:, 2]) > 0.6
    with pytest.raises(DataError, match="risk validation"):
        train_risk(cohort, gentle(10), HIDDEN, 0, NullTracker(), validation=others.select(others.risk < 2))


def test_many_weeks_of_few_persons_do_not_validate() -> None:
    people, _ = distressed(400, 7)
    assert enough_to_validate(people) and not enough_to_validate(people.select(np.arange(VALIDATORS - 1)))
    one_high = replace(people, person=np.where(people.risk == 2, 0, people.person))
    assert (one_high.risk == 2).sum() > 20 and one_high.persons > VALIDATORS
    assert not enough_to_validate(one_high)


def test_fewer_days_are_less_sure_and_calibrated(cohort: Cohort, holdout: tuple[Cohort, np.ndarray]) -> None:
    model = train_risk(cohort, gentle(100), HIDDEN, 0, NullTracker(), validation=distressed(2000, 9)[0])
    entropies, errors = [], []
    for days in (1, 3, 7):
        mask = holdout[0].mask & (np.arange(7) < days)[None, :, None]
        p = model.predict_cohort(replace(holdout[0], mask=mask)).astype(float)
        entropies.append(-(p * np.log(p)).sum(1).mean())
        errors.append(ece(holdout[0].risk, p))
    assert entropies == sorted(entropies, reverse=True)
    assert max(errors) < 0.05


def test_missing_days_count_as_fewer_days(cohort: Cohort) -> None:
    """Calibrated where days of the validation persons are missing, for whole weeks and for weeks not over yet."""
    (others, _), (new, _) = distressed(2000, 9), distressed(4000, 20)
    rng = np.random.default_rng(0)
    others, new = (replace(each, mask=rng.random(each.mask.shape) > 0.35) for each in (others, new))
    model = train_risk(cohort, gentle(60), HIDDEN, 0, NullTracker(), validation=others)
    found = model.predict_cohort(others)[others.risk == 2, 2] >= model.alarm.item()
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    weeks = [replace(new, mask=new.mask & (np.arange(7) < days)[:, None]) for days in (4, 5, 7)]
    assert np.mean([ece_debiased(new.risk, model.predict_cohort(known)) for known in weeks]) < 0.03


def test_a_handful_of_validation_persons_leaves_finite_calibration() -> None:
    model = train_risk(distressed(60, 3)[0], gentle(20), HIDDEN, 0, NullTracker())
    assert (model.temperature > 0.1).all() and (model.temperature < 10).all()
    assert torch.isfinite(model.bias).all() and 0 < model.alarm < 1


def test_beats_chance(model: DualLSTMRisk, holdout: tuple[Cohort, np.ndarray]) -> None:
    metrics = risk_metrics(holdout[0].risk, model.predict_cohort(holdout[0]))
    assert metrics["auc_high"] > 0.8
    assert metrics["ece"] < 0.06


def test_reports_its_progress(cohort: Cohort) -> None:
    recorder = Recorder()
    train_risk(cohort, gentle(30), HIDDEN, 0, recorder)
    tags = {"risk/train_loss", "risk/validation_loss", "risk/validation_auc_high", "risk/learning_rate"}
    assert set(recorder.scalars) == tags
    *graded, _ = recorder.scalars["risk/train_loss"]  # the last is the other candidate's
    assert graded[-1] < graded[0]


def test_stops_early_on_noise(cohort: Cohort) -> None:
    recorder = Recorder()
    noise = cohort.with_risk(np.random.default_rng(0).integers(0, 3, len(cohort)))
    train_risk(noise, gentle(600, rate=0.01, patience=2), HIDDEN, 0, recorder)
    assert len(recorder.scalars["risk/validation_loss"]) < 60 + 1


def test_same_seed_gives_equal_weights_and_leaves_global_randomness_alone(cohort: Cohort) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        train_risk(cohort, gentle(20), HIDDEN, seed, NullTracker()).state_dict() for seed in (5, 5, 6)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["network.head.0.weight"], other["network.head.0.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_hidden_columns_stay_hidden(model: DualLSTMRisk, holdout: tuple[Cohort, np.ndarray]) -> None:
    assert "dass_stress" not in model.encoder.columns
    changed = replace(holdout[0], profiles=holdout[0].profiles.assign(dass_stress=0))
    assert np.array_equal(model.predict_cohort(changed), model.predict_cohort(holdout[0]))


# Use


def test_batch_size_does_not_matter(model: DualLSTMRisk, holdout: tuple[Cohort, np.ndarray]) -> None:
    features, week, _ = model.inputs(holdout[0])
    with torch.inference_mode():
        whole = model.probabilities(features, week)
        ones = torch.cat([model.probabilities(features[i : i + 1], week[i : i + 1]) for i in range(50)])
        some = torch.cat([model.probabilities(f, w) for f, w in zip(features.split(37), week.split(37), strict=True)])
    assert torch.allclose(whole.sum(1), torch.ones(len(whole)), atol=1e-6)
    assert (whole[:50] - ones).abs().max() < 2e-6
    assert (whole - some).abs().max() < 2e-6


def test_what_was_not_observed_does_not_matter(model: DualLSTMRisk, holdout: tuple[Cohort, np.ndarray]) -> None:
    features, week, mask = (tensor[:64] for tensor in model.inputs(holdout[0]))
    hidden = mask.clone()
    hidden[:, 2, :], hidden[:, 4, 1] = False, False
    scrambled = torch.where(hidden, week, torch.full_like(week, 3.3))
    assert torch.equal(model.probabilities(features, week, hidden), model.probabilities(features, scrambled, hidden))
    assert torch.equal(model.probabilities(features, week), model.probabilities(features, week, mask))
    assert not torch.allclose(model.probabilities(features, week, hidden), model.probabilities(features, week))
    nothing = model.probabilities(features, week, torch.zeros_like(mask))
    assert torch.isfinite(nothing).all()


def test_day_views_measure_distance_from_the_observed_mean() -> None:
    z = torch.arange(7.0)[None, :, None].clone()
    mask = torch.ones(1, 7, 1, dtype=torch.bool)
    mask[0, 6] = False
    value, distance, observed = day_views(z, mask)[0].T
    assert value.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert distance.tolist() == [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0]
    assert observed.tolist() == [1, 1, 1, 1, 1, 1, 0]


def test_week_patterns_closed_form() -> None:
    z = torch.tensor([3.0, 0, 0, 1, 5, 4, 6])[None, :, None]
    mean, spread, trend, high, low, below, above = week_patterns(z, torch.ones_like(z, dtype=torch.bool))[0].tolist()
    assert mean == pytest.approx(19 / 7)
    assert spread == pytest.approx(np.std([3, 0, 0, 1, 5, 4, 6]), abs=1e-5)
    assert trend == pytest.approx(np.polyfit(range(7), [3, 0, 0, 1, 5, 4, 6], 1)[0])
    assert (high, low, below, above) == (5 - 3, 0 - 3, 1, 4)  # days 2-4 stay below 1, days 5-7 above 4


def test_hiding_is_as_asked() -> None:
    mask = torch.ones(4000, 7, 4, dtype=torch.bool)
    mask[:, 0] = False
    hidden = hide_at_random(mask, 0.3, torch.Generator().manual_seed(0))
    assert not hidden[:, 0].any()
    touched = (hidden != mask).flatten(1).any(1).float().mean().item()
    assert touched == pytest.approx(0.3, abs=0.03)
    assert torch.equal(hide_at_random(mask, 0.0, torch.Generator()), mask)
    # One week of three is not over yet; in three of five such weeks, Friday and what follows is still to come.
    all_touched = hide_at_random(torch.ones_like(mask), 1.0, torch.Generator().manual_seed(0))
    assert (~all_touched[:, 4:]).all((1, 2)).float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_days_are_hidden_while_it_learns(model: DualLSTMRisk, cohort: Cohort) -> None:
    settings, people = gentle(1), persons(model, cohort)
    whole, gappy = (
        batch_loss(model, people, torch.ones(3), settings, replace(settings.graded, missing_share=share), seeded)
        for share, seeded in ((0.0, torch.Generator()), (1.0, torch.Generator().manual_seed(0)))
    )
    assert gappy > whole + 0.02


def test_artifact_round_trip_is_exact(model: DualLSTMRisk, holdout: tuple[Cohort, np.ndarray]) -> None:
    artifact = model.to_artifact()
    stored = Artifact(artifact.tensors, json.loads(json.dumps(artifact.meta)))
    again = DualLSTMRisk.from_artifact(stored)
    assert np.array_equal(again.predict_cohort(holdout[0]), model.predict_cohort(holdout[0]))
    assert (again.encoder, again.scaler, again.signals) == (model.encoder, model.scaler, model.signals)
    with pytest.raises(ArtifactError, match="expected 'dual_lstm_risk'"):
        DualLSTMRisk.from_artifact(Artifact(artifact.tensors, {"kind": "timegan"}))


def test_other_signals_are_refused(model: DualLSTMRisk, cohort: Cohort) -> None:
    hrv = (*cohort.signals[:3], Signal("hrv", "ms", 5, 200, 1))
    with pytest.raises(DataError, match="hrv"):
        model.predict_cohort(replace(cohort, signals=hrv))


def test_a_fifth_signal_is_only_data(cohort: Cohort) -> None:
    hrv = np.random.default_rng(0).uniform(20, 80, (len(cohort), 7, 1)).astype(np.float32)
    wider = Cohort(
        cohort.profiles,
        np.concatenate([cohort.rhythms, hrv], axis=2),
        np.ones((len(cohort), 7, 5), bool),
        cohort.person,
        (*cohort.signals, Signal("hrv", "ms", 5, 200, 1)),
        cohort.risk,
    )
    trained = train_risk(wider, gentle(10), HIDDEN, 0, NullTracker())
    assert trained.predict_cohort(wider).shape == (len(cohort), 3)


def test_one_signal_without_a_profile_is_enough(cohort: Cohort, recwarn: pytest.WarningsRecorder) -> None:
    stress = Cohort(
        cohort.profiles[["dass_stress"]], cohort.rhythms[:, :, 3:], cohort.mask[:, :, 3:], cohort.person,
        cohort.signals[3:], cohort.risk,
    )  # fmt: skip
    trained = train_risk(stress, gentle(60), HIDDEN, 0, NullTracker())
    again = DualLSTMRisk.from_artifact(trained.to_artifact())
    assert auc(stress.risk == 2, again.predict_cohort(stress)[:, 2]) > 0.7
    assert not recwarn.list


# Baselines


def test_weekly_summaries_closed_form(cohort: Cohort, model: DualLSTMRisk) -> None:
    scaler = replace(model.scaler, mean=(0.0,) * 4, sd=(1.0,) * 4)
    rhythms = np.zeros((1, 7, 4), np.float32)
    rhythms[0, :, 3] = [1, 2, 0, 1, 2, 3, 0]  # bad (above .5): runs of two and three days
    rhythms[0, :, 0] = np.arange(7)
    one = Cohort(cohort.profiles[:1], rhythms, np.ones((1, 7, 4), bool), np.zeros(1, np.int64), cohort.signals)
    table = dict(zip(summary_names(one), weekly_summaries(one, scaler)[0], strict=True))
    assert table["stress_run"] == 3
    assert table["stress_mean"] == pytest.approx(9 / 7)
    assert table["sleep_duration_trend"] == pytest.approx(1)
    assert table["sleep_duration_change"] == pytest.approx(1)
    assert table["sleep_duration_weekend"] == pytest.approx(5.5 - 2)
    assert (table["sleep_duration_min"], table["sleep_duration_max"]) == (0, 6)
    assert table["sleep_duration_run"] == 0
