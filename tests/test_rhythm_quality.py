"""The rhythm metrics: equal to closed forms, silent on real against real, loud on planted faults."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_rhythms import made_cohort

from core.encoding import ProfileEncoder
from core.errors import DataError
from generators.quality.dependence import correlation_error, profile_rhythm_correlations
from generators.quality.rhythms import (
    cross_correlations,
    gru_discriminative,
    intraclass_correlations,
    lag1_correlations,
    rhythm_distance,
    rhythm_quality,
)

N = 600
TRAIN, HOLDOUT = made_cohort(N, 1), made_cohort(N, 2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def iid_days() -> np.ndarray:
    """Every day of every weekday drawn from anybody: right margins, no rhythm at all."""
    r = rng(3)
    weeks = TRAIN.rhythms.copy()
    for day in range(7):
        for k in range(weeks.shape[2]):
            weeks[:, day, k] = r.permutation(weeks[:, day, k])
    return weeks


def test_real_against_real_is_near_perfect():
    found = rhythm_quality(TRAIN.rhythms, HOLDOUT.rhythms, rng())
    assert min(found[k] for k in ("distribution_score", "day_signal_mean", "within_week_sd")) > 0.93
    assert max(found[k] for k in ("cross_correlation_error", "lag1_error", "icc_error")) < 0.04
    assert found["gru_discriminative"] < 0.08 and abs(found["c2st_auc"] - 0.5) < 0.08
    assert found["day_signal_min"] <= found["day_signal_mean"]


def test_days_without_rhythm_are_caught_where_margins_are_right():
    found = rhythm_quality(iid_days(), HOLDOUT.rhythms, rng())
    assert found["day_signal_mean"] > 0.93  # their margins are real
    assert found["lag1_error"] > 0.1 and found["icc_error"] > 0.2 and found["cross_correlation_error"] > 0.03
    assert found["within_week_sd"] < 0.9 and found["c2st_auc"] > 0.75


def test_a_generator_that_ignores_the_profile_is_caught_by_dependence_alone():
    shuffled = replace(TRAIN, rhythms=TRAIN.rhythms[rng(4).permutation(N)])
    assert correlation_error(TRAIN, HOLDOUT) < 0.06 < 0.1 < correlation_error(shuffled, HOLDOUT)
    assert gru_discriminative(shuffled.rhythms, HOLDOUT.rhythms, rng()) < 0.08  # its weeks are real weeks


def test_profile_correlations_are_pearsons_and_zero_where_nothing_varies():
    constant = replace(TRAIN, profiles=TRAIN.profiles.assign(constant=0.1))
    encoder = ProfileEncoder.fit(constant.profiles)
    found = profile_rhythm_correlations(constant, encoder)
    row = encoder.feature_names.index("dass_stress")
    wanted = np.corrcoef(constant.profiles["dass_stress"], constant.rhythms[:, :, 3].mean(1))[0, 1]
    assert found[row, 3] == pytest.approx(wanted, abs=1e-6)
    assert found[encoder.feature_names.index("constant")] == pytest.approx(0, abs=1e-6)
    assert correlation_error(constant, constant) == 0
    assert correlation_error(constant, replace(HOLDOUT, profiles=HOLDOUT.profiles.assign(constant=0.1))) == (
        pytest.approx(correlation_error(TRAIN, HOLDOUT))  # a column that says nothing does not dilute the error
    )


def test_rhythm_statistics_have_their_closed_forms():
    r = rng(5)
    n, between, within = 20_000, 2.0, 1.0
    day = r.normal(size=(n, 7, 2))
    day[:, :, 1] = 0.6 * day[:, :, 0] + 0.8 * day[:, :, 1]
    weeks = between * r.normal(size=(n, 1, 2)) + within * day
    share = between**2 / (between**2 + within**2)
    assert intraclass_correlations(weeks) == pytest.approx([share, share], abs=0.01)
    assert cross_correlations(weeks) == pytest.approx([0.6], abs=0.01)
    assert lag1_correlations(weeks) == pytest.approx([-1 / 6, -1 / 6], abs=0.01)  # -1/7 over 6/7: own mean removed


def test_a_constant_signal_gives_numbers_not_nan():
    weeks = TRAIN.rhythms.copy()
    weeks[:, :, 0] = 7
    for statistic in (cross_correlations, lag1_correlations, intraclass_correlations):
        assert np.isfinite(statistic(weeks)).all()


def test_the_gru_tells_a_reversed_week():
    trend = HOLDOUT.rhythms + np.linspace(-2, 2, 7, dtype=np.float32)[:, None]
    assert gru_discriminative(trend[:, ::-1].copy(), trend, rng()) > 0.4


def test_the_same_seed_gives_the_same_scores_whatever_the_sizes():
    a, b = (rhythm_quality(TRAIN.rhythms[:80], HOLDOUT.rhythms[:60], rng(6)) for _ in range(2))
    assert a == b
    assert rhythm_quality(TRAIN.rhythms[:6], HOLDOUT.rhythms[:6], rng())["c2st_auc"] is None  # too few weeks to tell


def test_what_nothing_was_observed_of_has_no_score():
    few = rhythm_quality(TRAIN.rhythms[:7], HOLDOUT.rhythms[:7], rng())
    assert few["gru_discriminative"] is None and few["c2st_auc"] is None and few["lag1_error"] is not None
    one = rhythm_quality(TRAIN.rhythms[:7, :, :1], HOLDOUT.rhythms[:7, :, :1], rng())
    assert one["cross_correlation_error"] is None and one["icc_error"] is not None
    mask = np.zeros((7, 7, 4), bool)
    errors = {"cross_correlation_error", "lag1_error", "icc_error"}
    for days, missing in (
        ([0], {*errors, "within_week_sd"}),
        ([0, 2], {"lag1_error", "within_week_sd"}),
        ([], {*errors, "within_week_sd", "distribution_score", "day_signal_mean", "day_signal_min"}),
    ):
        seen = mask.copy()
        seen[:, days] = True
        found = rhythm_quality(TRAIN.rhythms[:7], HOLDOUT.rhythms[:7], rng(), seen)
        assert {key for key, value in found.items() if value is None} == missing | {"gru_discriminative", "c2st_auc"}
        assert all(np.isfinite(value) for value in found.values() if value is not None)


def test_the_distance_leaves_out_what_is_not_defined():
    mask = np.zeros(HOLDOUT.mask.shape, bool)
    with pytest.raises(DataError, match="no day of the real weeks was observed"):
        rhythm_distance(TRAIN.rhythms, HOLDOUT.rhythms, mask)
    mask[:, 3] = True
    assert 0 < rhythm_distance(TRAIN.rhythms, HOLDOUT.rhythms, mask) < 0.1


def test_what_fills_a_gap_counts_nowhere_and_both_sides_are_masked_alike():
    mask = rng(7).random((50, 7, 4)) > 0.3
    found = [
        rhythm_quality(TRAIN.rhythms[:50], np.where(mask, HOLDOUT.rhythms[:50], fill), rng(8), mask)
        for fill in (5.0, -1e9)
    ]
    assert found[0] == found[1]
    real = HOLDOUT.rhythms[:50]
    same = rhythm_quality(real, np.where(mask, real, 0.0), np.random.default_rng(9), mask)
    assert same["day_signal_min"] > 0.6 and same["cross_correlation_error"] < 0.2  # the same weeks, other days hidden


def test_masked_statistics_are_those_of_the_whole_weeks_and_the_full_mask_changes_nothing():
    weeks = made_cohort(6000, 10).rhythms.astype(float)
    mask = rng(11).random(weeks.shape) > 0.25
    hidden = np.where(mask, weeks, np.nan)
    for statistic, tolerance in ((cross_correlations, 0.02), (intraclass_correlations, 0.02)):
        assert statistic(weeks, np.ones(weeks.shape, bool)) == pytest.approx(statistic(weeks))
        assert statistic(hidden, mask) == pytest.approx(statistic(weeks), abs=tolerance)
    assert lag1_correlations(hidden, mask)[2] > 0.3  # the heart rate's memory shows through the gaps


def test_distance_orders_real_weeks_before_days_without_rhythm():
    real, shuffled = (rhythm_distance(weeks, HOLDOUT.rhythms, HOLDOUT.mask) for weeks in (TRAIN.rhythms, iid_days()))
    assert real < 0.05 < 0.1 < shuffled
