"""What week models share: person regression, condition, correction, missing days, and the choice between models."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_rhythms import FIFTH, hide_days, made_cohort, tiny_settings

from core.artifact import Artifact
from core.cohort import Cohort
from core.errors import ArtifactError, DataError, NumericalError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS
from generators import timegan_training
from generators.condition import fit_condition
from generators.fusion import fuse
from generators.hierarchical import HierarchicalRhythms, fit_hierarchical
from generators.missingness import Missingness, fill
from generators.person_regression import PENALTIES, regress_persons
from generators.quality.rhythms import intraclass_correlations, lag1_correlations, rhythm_distance
from generators.rhythms import fit_rhythms, rhythms_from_artifact
from generators.timegan_training import fit_timegan
from generators.week_correction import ScoredWeeks, WeekShape, fit_correction, fit_shape
from generators.week_space import WeekSpace


class Notes(NullTracker):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Regression over persons


def test_left_out_predictions_are_those_of_fits_without_the_person():
    r = rng(1)
    person = np.repeat(np.arange(60), 3)
    features = r.normal(size=(60, 4))[person]
    values = features @ r.normal(size=(4, 1)) + r.normal(size=(180, 1))
    found = regress_persons(features, values, np.ones((180, 1)), person)
    means = values.reshape(60, 3).mean(1)
    x = features[::3]

    def without(i: int, penalty: float) -> float:
        rest = np.arange(60) != i
        centre = x[rest].mean(0)
        z = x[rest] - centre
        slope = np.linalg.solve(z.T @ z + penalty * np.eye(4), z.T @ (means[rest] - means[rest].mean()))
        return float(means[rest].mean() + (x[i] - centre) @ slope)

    # The closed form holds the penalty fixed while the centre moves with the person left out: equal up to that.
    errors = [np.mean([(without(i, p) - means[i]) ** 2 for i in range(60)]) for p in PENALTIES]
    best = PENALTIES[int(np.argmin(errors))]
    assert found.left_out[::3, 0] == pytest.approx([without(i, best) for i in range(60)], abs=0.05)
    assert np.array_equal(found.left_out[::3], found.left_out[1::3])


def test_a_profile_that_says_nothing_gets_no_slope_and_weeks_of_one_person_count_once():
    """Twelve weeks each of fifteen persons: by week a profile names the person, by person it says nothing."""
    r = rng(2)
    person = np.repeat(np.arange(15), 12)
    features, level = r.normal(size=(15, 30))[person], r.normal(size=(15, 1))[person]
    found = regress_persons(features, level + 0.1 * r.normal(size=(180, 1)), np.ones((180, 1)), person)
    assert found.gain[0] == 0 and not found.slope.any()
    condition, given = fit_condition(np.repeat(level[:, None], 7, 1), np.ones((180, 7, 1), bool), features, person)
    assert condition.size == 1 and not given.any() and not condition(features).any()


def test_a_profile_in_which_nobody_differs_says_nothing():
    """Rounding must not pass the others' mean, which mirrors a person's own level, for a prediction."""
    person = np.arange(15)
    for seed in range(40):
        scores, features = rng(seed).normal(size=(15, 7, 2)), np.full((15, 3), 0.1, np.float32)
        condition, given = fit_condition(scores, np.ones(scores.shape, bool), features, person)
        assert not given.any() and not condition(features).any()
        assert not regress_persons(features, scores.mean(1), np.ones((15, 2)), person).gain.any()


def test_many_persons_show_the_networks_more_of_the_profile_than_few():
    cohort = made_cohort(1500, 3)
    space = WeekSpace.fit(cohort)
    scores, features = space.scores(cohort, rng()), space.encoder.encode(cohort.profiles).astype(np.float32)
    few = np.arange(15)
    predicted = [
        fit_condition(scores[rows], cohort.mask[rows], features[rows], cohort.person[rows])[1]
        for rows in (np.arange(1500), few)
    ]
    level = scores.mean(1)[:, 3]
    design = np.column_stack([predicted[0], np.ones(1500)])
    residual = level - design @ np.linalg.lstsq(design, level, rcond=None)[0]
    assert 1 - residual.var() / level.var() > 0.25  # distress tells a third of the stress level's variance
    assert predicted[1].shape[1] <= predicted[0].shape[1]


# The final correction


def weeks_of(covariance: np.ndarray, mean: np.ndarray, n: int, seed: int) -> np.ndarray:
    return rng(seed).multivariate_normal(mean, covariance, n).reshape(n, 7, -1)


def test_correction_gives_generated_weeks_the_mean_covariance_and_slope_of_the_real():
    r = rng(4)
    roots = r.normal(size=(2, 14, 14)) / 3
    covariances = [root @ root.T + 0.1 * np.eye(14) for root in roots]
    features = r.normal(size=(40_000, 2))
    slope = np.array([[0.5, -0.4], [0.0, 0.3]])
    fake = weeks_of(covariances[0], r.normal(size=14), 40_000, 5) + (features @ (slope - 0.2))[:, None]
    real = weeks_of(covariances[1], r.normal(size=14), 40_000, 6) + (features @ slope)[:, None]
    seen, person = np.ones(fake.shape, bool), np.arange(40_000)
    correction = fit_correction(
        ScoredWeeks(fake, seen, features, person), ScoredWeeks(real, seen, features, person), 0.0
    )
    found = correction(fake, features).reshape(len(fake), -1)
    assert found.mean(0) == pytest.approx(real.reshape(len(real), -1).mean(0), abs=0.01)
    assert np.cov(found.T) == pytest.approx(np.cov(real.reshape(len(real), -1).T), abs=0.03)
    assert features.T @ found.reshape(fake.shape).mean(1) / len(fake) == pytest.approx(slope, abs=0.03)


def test_correction_leaves_alone_what_is_right_and_what_nobody_observed():
    weeks = weeks_of(np.eye(14), np.zeros(14), 4000, 7)
    features, person, seen = np.zeros((4000, 1)), np.arange(4000), np.ones(weeks.shape, bool)
    same = ScoredWeeks(weeks, seen, features, person)
    assert fit_correction(same, same, 0.0)(weeks, features) == pytest.approx(weeks, abs=1e-6)
    other = ScoredWeeks(weeks * 2 + 1, seen, features, person)
    assert fit_correction(same, other, 1e12)(weeks, features) == pytest.approx(
        weeks, abs=1e-4
    )  # all trust in the networks
    seen = seen.copy()
    seen[:, 6] = False
    blind = ScoredWeeks(weeks * 2 + 1, seen, features, person)
    found = fit_correction(same, blind, 0.0)(weeks, features)
    assert found[:, 6] == pytest.approx(weeks[:, 6], abs=0.15) and found[:, 0].std() == pytest.approx(2, abs=0.05)


def test_shape_gives_weeks_the_means_sds_and_values_of_the_real_and_keeps_the_order_of_days():
    real, fake = made_cohort(3000, 24).rhythms, made_cohort(3000, 25).rhythms * 0.8 + 3
    seen = np.ones(real.shape, bool)
    seen[:, 3, 1] = False
    shape = fit_shape(fake, np.where(seen, real, 1e6).astype(np.float32), seen)
    found = shape(fake)
    for statistic in (lambda w: w.mean(1), lambda w: w.std(1, ddof=1)):
        for level in (0.2, 0.5, 0.8):
            gap = np.quantile(statistic(found), level, axis=0) - np.quantile(statistic(real), level, axis=0)
            assert (np.abs(gap) < 0.08 * real.std((0, 1))).all()
    assert np.array_equal(found[:, :, 0].argmax(1), fake[:, :, 0].argmax(1))
    assert np.array_equal(found, WeekShape.from_tensors(shape.tensors())(fake))
    nothing = fit_shape(fake, real, np.zeros(real.shape, bool))
    assert nothing(fake) == pytest.approx(fake)


# Missing days


def spoilt(cohort: Cohort, seed: int, value: float) -> Cohort:
    """A third of the days unobserved, filled with ``value``."""
    mask = rng(seed).random(cohort.rhythms.shape) > 0.3
    return replace(cohort, rhythms=np.where(mask, cohort.rhythms, np.float32(value)), mask=mask)


def test_what_fills_a_gap_does_not_move_a_single_weight():
    cohort = made_cohort(80, 8)
    quick = replace(tiny_settings(), embedding_steps=8, supervisor_steps=4, joint_steps=8)
    pairs = [
        [fit_timegan(spoilt(cohort, 9, value), quick, 0, NullTracker()).to_artifact() for value in (6.0, -1e9)],
        [fit_hierarchical(spoilt(cohort, 9, value)).to_artifact() for value in (6.0, np.nan)],
    ]
    for one, other in pairs:
        assert one.meta == other.meta
        for name, tensor in one.tensors.items():
            assert torch.equal(tensor, other.tensors[name]), name


@pytest.mark.parametrize("model", ["timegan", "hierarchical"])
def test_with_a_third_of_the_days_gone_weeks_are_learned_all_the_same(model: str):
    full, holdout = made_cohort(400, 10), made_cohort(1500, 11)
    short = replace(tiny_settings(), joint_steps=50, embedding_steps=40)
    distance = []
    for cohort in (full, spoilt(full, 12, 1e6)):
        trained = fit_hierarchical(cohort) if model == "hierarchical" else fit_timegan(cohort, short, 0, NullTracker())
        weeks = trained.sample(full.profiles, rng())
        distance.append(rhythm_distance(weeks, holdout.rhythms, holdout.mask))
    assert distance[1] < distance[0] + 0.02 and distance[1] < 0.06


def test_a_signal_nobody_observed_is_refused_by_name():
    cohort = made_cohort(30, 13)
    mask = cohort.mask.copy()
    mask[:, :, 2] = False
    with pytest.raises(DataError, match="'heart_rate' was not observed"):
        fit_hierarchical(replace(cohort, mask=mask))


def test_realistic_gaps_are_those_of_real_weeks_persons_alike():
    mask = np.ones((40, 7, 4), bool)
    mask[:39, 5:, :2] = False  # one person brought 39 weeks, another a single whole one
    cohort = replace(made_cohort(40, 14), mask=mask, person=np.array([0] * 39 + [1]))
    drawn = Missingness.fit(cohort).sample(4000, rng())
    gaps = ~drawn
    assert gaps[:, 5:, :2].mean() == pytest.approx(0.5, abs=0.03) and not gaps[:, :5].any() and not gaps[..., 2:].any()
    assert np.array_equal(gaps[:, 5, 0], gaps[:, 6, 1])  # signals and days go missing together


def test_fusion_hides_days_as_real_people_miss_them_and_fills_as_a_source_does():
    class Profiles:
        def sample(self, n: int, random: np.random.Generator) -> pd.DataFrame:
            return made_cohort(n, 15).profiles

    cohort = hide_days(made_cohort(200, 16), 17)
    model = fit_hierarchical(cohort)
    whole = fuse(Profiles(), model, 300, DEFAULT_SIGNALS, rng(1))
    gappy = fuse(Profiles(), model, 300, DEFAULT_SIGNALS, rng(1), Missingness.fit(cohort))
    assert whole.mask.all() and gappy.mask.mean() == pytest.approx(cohort.mask.mean(), abs=0.02)
    assert np.array_equal(whole.rhythms[gappy.mask], gappy.rhythms[gappy.mask])
    week = np.arange(7, dtype=np.float32)[None, :, None].repeat(2, 2)
    hidden = np.ones(week.shape, bool)
    hidden[0, [0, 3, 6], 0] = False
    hidden[0, :, 1] = False
    assert fill(week, hidden)[0].T.tolist() == [[1, 1, 2, 3, 4, 5, 5], [0, 1, 2, 3, 4, 5, 6]]


# Losses that are not finite


def broken_at(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    calls = iter(range(10_000))
    losses = timegan_training._Training.generator_losses

    def wrapped(self, *args):
        made = losses(self, *args)
        return made | {"moment_loss": made["moment_loss"] * float("nan")} if next(calls) == broken else made

    monkeypatch.setattr(timegan_training._Training, "generator_losses", wrapped)


def test_a_late_non_finite_loss_keeps_the_last_good_generator_and_says_so(monkeypatch: pytest.MonkeyPatch):
    tracker, cohort = Notes(), made_cohort(100, 18)
    quick = replace(tiny_settings(), embedding_steps=20, supervisor_steps=5, joint_steps=20)
    broken_at(monkeypatch, 12)
    model = fit_timegan(cohort, quick, 0, tracker)
    assert np.isfinite(model.sample(cohort.profiles, rng())).all()
    assert all(torch.isfinite(tensor).all() for tensor in model.to_artifact().tensors.values())
    (note,) = tracker.notes
    assert "joint phase, step 12: moment_loss is nan" in note and "12 steps before is kept" in note


def test_an_early_non_finite_loss_is_an_error_that_names_its_step(monkeypatch: pytest.MonkeyPatch):
    quick = replace(tiny_settings(), embedding_steps=5, supervisor_steps=2, joint_steps=20)
    broken_at(monkeypatch, 9)
    with pytest.raises(NumericalError, match="joint phase, step 9: moment_loss is nan"):
        fit_timegan(made_cohort(40, 18), quick, 0, NullTracker())


# One way in


def test_any_number_of_signals():
    for c in (1, 3, 5):
        cohort = hide_days(made_cohort(60, 19, FIFTH[:c]), 20)
        quick = replace(tiny_settings(), embedding_steps=4, supervisor_steps=2, joint_steps=4)
        for name in ("timegan", "hierarchical"):
            fitted = fit_rhythms(cohort, replace(quick, generator=name), 0, NullTracker())
            copy = rhythms_from_artifact(fitted.model.to_artifact())
            weeks = fitted.model.sample(cohort.profiles, rng())
            assert weeks.shape == (60, 7, c) and np.isfinite(weeks).all() and fitted.choice == {"generator": name}
            assert np.array_equal(weeks, copy.sample(cohort.profiles, rng()))
            for statistic in (lag1_correlations, intraclass_correlations):
                assert np.isfinite(statistic(weeks.astype(float))).all()


def test_auto_takes_what_is_nearer_to_validation_persons_and_says_why():
    tracker = Notes()
    untrained = replace(tiny_settings(), embedding_steps=1, supervisor_steps=1, joint_steps=1, generator="auto")
    fitted = fit_rhythms(made_cohort(150, 21), replace(untrained, correction_prior=1e9), 0, tracker)
    assert isinstance(fitted.model, HierarchicalRhythms) and fitted.choice["generator"] == "hierarchical"
    assert fitted.choice["distance"]["hierarchical"] < fitted.choice["distance"]["timegan"]
    assert "takes hierarchical" in tracker.notes[0] and "30 validation persons" in tracker.notes[0]


def test_auto_does_without_a_candidate_that_diverges():
    tracker = Notes()
    wild = replace(tiny_settings(), embedding_rate=1e30, generator="auto")
    fitted = fit_rhythms(made_cohort(60, 23), wild, 0, tracker)
    assert isinstance(fitted.model, HierarchicalRhythms) and list(fitted.choice["distance"]) == ["hierarchical"]
    assert "timegan is out of the choice" in tracker.notes[0]


def test_artifacts_are_read_back_by_their_kind():
    assert isinstance(rhythms_from_artifact(fit_hierarchical(made_cohort(40, 22)).to_artifact()), HierarchicalRhythms)
    with pytest.raises(ArtifactError, match="kind 'twin', expected one of timegan, hierarchical"):
        rhythms_from_artifact(Artifact({}, {"kind": "twin"}))
    whole = fit_hierarchical(made_cohort(40, 22)).to_artifact()
    partial = Artifact({name: tensor for name, tensor in whole.tensors.items() if name != "rho"}, whole.meta)
    with pytest.raises(ArtifactError, match=r"another version, or incomplete \('rho'\); .*stage=rhythms force=true"):
        rhythms_from_artifact(partial)
