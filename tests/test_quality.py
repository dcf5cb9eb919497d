"""Quality numbers find what was planted: shuffled columns, copied persons, leaked attributes, giveaway rows."""

import numpy as np
import pandas as pd
import pytest

from core.cohort import Cohort
from core.errors import DataError
from core.signals import DEFAULT_SIGNALS
from generators.quality.c2st import c2st_auc
from generators.quality.cohort import attribute_gain, cohort_quality, copy_rate, correlation_error, membership_auc
from generators.quality.persons import one_week_each
from generators.quality.profiles import profile_quality

N = 300


def cohort(seed: int, n: int = N, weeks: int = 1) -> Cohort:
    """Persons whose week, sleep disorder and risk follow from one latent."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n), weeks)
    distress, age = rng.normal(size=n)[person], rng.integers(18, 80, n)[person]
    secret = rng.choice(["a", "b", "c", "d"], n)[person]
    bmi = np.clip(np.round(25 + 2 * distress + 3 * rng.normal(size=n)[person], 1), 18, 33)
    disorder = np.where(distress + rng.normal(size=n)[person] > 0.7, "insomnia", "none")
    profiles = pd.DataFrame(
        {
            "age": age,
            "bmi": bmi,
            "sleep_disorder": disorder,
            "dass": (10 + 5 * np.clip(distress, -2, 2)).round(1),
            "secret": secret,
        }
    )
    means = np.array([7, 6.5, 65, 5]) + distress[:, None] * np.array([-0.4, -0.6, 3, 1])
    days = means[:, None] + rng.normal(size=(len(person), 7, 4)) * np.array([1.2, 1.3, 2, 1.3])
    risk = np.digitize(distress + 0.3 * rng.normal(size=len(person)), [0.3, 1.0]).astype(np.int8)
    return Cohort(profiles, days.astype(np.float32), np.ones(days.shape, bool), person, DEFAULT_SIGNALS, risk)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Two-sample test


def test_c2st_is_a_half_for_equals_and_one_for_strangers():
    a, b = rng().normal(size=(2, 500, 5))
    assert abs(c2st_auc(a, b, rng()) - 0.5) < 0.1  # three standard errors and the bias of out-of-fold scores
    assert c2st_auc(a, b + 3, rng()) > 0.99
    assert c2st_auc(a, b[:100], rng(1)) == c2st_auc(a, b[:100], rng(1))


def test_c2st_says_nothing_of_too_few_rows():
    assert c2st_auc(np.zeros((5, 2)), np.zeros((50, 2)), rng()) is None  # too few to tell


# Profiles


def test_profile_scores_order_equals_and_shuffled():
    quality = profile_quality(*(cohort(seed, 900).profiles for seed in (0, 1, 2)), rng())
    shuffled, ceiling = quality["shuffled"], quality["ceiling"]
    assert abs(quality["column_shapes"] - ceiling["column_shapes"]) < 0.03
    assert shuffled["column_shapes"] == pytest.approx(ceiling["column_shapes"], abs=1e-9)  # the same values, permuted
    for score in ("pair_trends", "all_pair_trends"):
        assert shuffled[score] < min(ceiling[score], quality[score]) - 0.02
    assert shuffled["c2st_auc"] > max(quality["c2st_auc"], ceiling["c2st_auc"]) + 0.08
    assert quality["rows"] == 900


def test_profile_scores_see_a_wrong_margin_and_a_lost_category():
    train, holdout = cohort(1).profiles, cohort(2).profiles
    wrong = profile_quality(cohort(0).profiles.assign(age=lambda t: t["age"] + 60, secret="a"), train, holdout, rng())
    assert wrong["column_shapes"] < 0.8 and wrong["boundary_adherence"] < 0.8 and wrong["coverage"] < 0.8
    assert wrong["c2st_auc"] > 0.95


def test_missing_values_are_refused_not_scored():
    holes = cohort(0).profiles
    holes.loc[3, "bmi"] = np.nan
    with pytest.raises(DataError, match="'bmi' has 1 missing values"):
        profile_quality(holes, cohort(1).profiles, cohort(2).profiles, rng())


# Cohorts


@pytest.fixture(scope="module")
def fresh() -> dict:
    return cohort_quality(cohort(0), cohort(1), cohort(2), ("dass",), "secret", rng())


def test_a_fresh_cohort_is_useful_and_leaks_nothing(fresh: dict):
    assert fresh["persons"] == N and sum(fresh["risk_counts"].values()) == N
    assert fresh["profile_rhythm_correlation_error"] < 2 * fresh["profile_rhythm_correlation_error_ceiling"]
    assert fresh["tstr_auc"] > 0.8 and abs(fresh["tstr_auc"] - fresh["trtr_auc"]) < 0.06 and fresh["trts_auc"] > 0.8
    assert abs(fresh["membership_auc"] - 0.5) < 0.08
    low, high = fresh["attribute_gain_ci"]
    assert low < 0 < high and low < fresh["attribute_gain"] < high
    assert fresh["copy_rate"] == 0


def test_a_copied_training_set_is_found_out():
    train, holdout = cohort(1), cohort(2)
    assert copy_rate(train, train) == 1
    assert membership_auc(train, train, holdout, rng()) > 0.95
    gain, (low, high) = attribute_gain(train, train, holdout, "secret", rng())
    assert gain > 0.5 and low > 0.4 and high < 1
    numeric, (low, _) = attribute_gain(train, train, holdout, "age", rng())
    assert numeric > 0.4 and low > 0.3


def test_half_copied_is_between():
    train, holdout, fresh = cohort(1), cohort(2), cohort(0)
    half = Cohort(
        pd.concat([train.profiles[: N // 2], fresh.profiles[N // 2 :]], ignore_index=True),
        np.concatenate([train.rhythms[: N // 2], fresh.rhythms[N // 2 :]]),
        fresh.mask,
        fresh.person,
        fresh.signals,
        fresh.risk,
    )
    assert copy_rate(half, train) == pytest.approx(0.5)
    assert 0.65 < membership_auc(half, train, holdout, rng()) < 0.9


def test_weeks_joined_to_the_wrong_profiles_are_found_out():
    whole, holdout = cohort(0), cohort(2)
    torn = Cohort(whole.profiles, whole.rhythms[::-1].copy(), whole.mask, whole.person, whole.signals, whole.risk)
    assert correlation_error(torn, holdout) > 2 * correlation_error(whole, holdout)


def test_one_week_each_takes_every_person_once():
    several = cohort(0, 40, weeks=3)
    once = one_week_each(several, rng())
    assert len(once) == once.persons == 40
    for i in range(40):  # the row is one of that person's own weeks, profile and risk included
        own = several.select(several.person == once.person[i])
        week = next(k for k in range(3) if np.array_equal(own.rhythms[k], once.rhythms[i]))
        assert own.profiles.iloc[week].equals(once.profiles.iloc[i]) and own.risk[week] == once.risk[i]
    assert len(one_week_each(several, rng(), 15)) == 15
    assert (one_week_each(several, rng(1)).rhythms != once.rhythms).any()


def test_people_with_several_weeks_look_synthetic_until_each_counts_once():
    train, holdout = cohort(1, 60, weeks=8), cohort(2, 60, weeks=8)
    every = profile_quality(train.profiles, train.profiles, holdout.profiles, rng())
    once = [one_week_each(part, rng(3)).profiles for part in (train, holdout)]
    assert every["c2st_auc"] > 0.9  # both sides are real: only the repeated persons give them away
    assert profile_quality(once[0], *once, rng())["c2st_auc"] < 0.7


def test_labels_without_meaning_do_not_transfer():
    scrambled = cohort(0).with_risk(rng(9).permutation(cohort(0).risk))
    quality = cohort_quality(scrambled, cohort(1), cohort(2), ("dass",), None, rng())
    assert quality["tstr_auc"] < 0.75 < quality["trtr_auc"]
    assert quality["attribute_gain"] is None and quality["attribute_gain_ci"] is None


def test_hidden_columns_stay_hidden():
    """A column that gives the label away must not help once it is hidden."""
    people = [cohort(seed) for seed in (0, 1, 2)]
    leaky = [
        Cohort(c.profiles.assign(answer=c.risk.astype(float)), c.rhythms, c.mask, c.person, c.signals, c.risk)
        for c in people
    ]
    seen = cohort_quality(*leaky, (), None, rng())["tstr_auc"]
    hidden = cohort_quality(*leaky, ("answer",), None, rng())["tstr_auc"]
    assert seen > 0.99 > hidden + 0.03


def test_persons_with_several_weeks_count_once_and_masked_days_do_not_count():
    train = cohort(1, 60, weeks=5)
    mask = train.mask.copy()
    mask[:, 2, 0] = False
    rhythms = train.rhythms.copy()
    rhythms[:, 2, 0] = 9e3
    masked = Cohort(train.profiles, rhythms, mask, train.person, train.signals, train.risk)
    quality = cohort_quality(cohort(0, 200), masked, cohort(2, 60, weeks=3), (), "secret", rng())
    assert 0.3 < quality["membership_auc"] < 0.7
    assert quality["profile_rhythm_correlation_error_ceiling"] < 0.3


def test_quality_is_repeatable(fresh: dict):
    assert cohort_quality(cohort(0), cohort(1), cohort(2), ("dass",), "secret", rng()) == fresh


def test_unlabelled_cohorts_and_unknown_columns_are_refused():
    unlabelled = Cohort(**{**vars(cohort(0)), "risk": None})
    with pytest.raises(DataError, match="the synthetic cohort has no risk labels"):
        cohort_quality(unlabelled, cohort(1), cohort(2), (), None, rng())
    with pytest.raises(DataError, match="sensitive column 'income' is unknown"):
        cohort_quality(cohort(0), cohort(1), cohort(2), (), "income", rng())
