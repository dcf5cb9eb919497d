"""Quality numbers find what was planted: shuffled columns, copied persons, leaked attributes, giveaway rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.cohort import RISK_CLASSES, Cohort
from core.errors import DataError
from core.signals import DEFAULT_SIGNALS
from generators.quality.c2st import c2st_auc
from generators.quality.cohort import cohort_quality
from generators.quality.dependence import correlation_error, dependence
from generators.quality.persons import one_week_each, set_apart
from generators.quality.profiles import profile_quality
from generators.quality.records import week_summary
from generators.quality.utility import Transfer, ratio_interval, transfer

N = 300


def quality(
    synthetic: Cohort, train: Cohort, holdout: Cohort, hidden: tuple[str, ...] = (), sensitive: str | None = None
) -> dict:
    """The whole report without shadows (they have a test file of their own)."""
    return cohort_quality(synthetic, train, holdout, hidden, sensitive, None, rng())


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
    return Cohort(
        profiles, days.astype(np.float32), np.ones(days.shape, bool), 10_000 * seed + person, DEFAULT_SIGNALS, risk
    )


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
    return quality(cohort(0), cohort(1), cohort(2), ("dass",), "secret")


def test_a_fresh_cohort_is_useful_and_leaks_nothing(fresh: dict):
    ceiling, baseline, ci = fresh["ceiling"], fresh["baseline"], fresh["ci"]
    assert fresh["persons"] == N and sum(fresh["risk_counts"].values()) == N
    assert abs(fresh["column_shapes"] - ceiling["column_shapes"]) < 0.05
    for key in ("profile_rhythm_correlation_error", "profile_variability_correlation_error"):
        assert fresh[key] < 2 * ceiling[key]
    assert fresh["tstr_auc"] > 0.8 and abs(fresh["tstr_auc"] - fresh["trtr_auc"]) < 0.06 and fresh["trts_auc"] > 0.8
    assert ceiling["tstr_auc"] == fresh["trtr_auc"] and ci["tstr_auc"][0] < fresh["tstr_auc"] < ci["tstr_auc"][1]
    assert ci["tstr_ratio"][0] < fresh["tstr_ratio"] < ci["tstr_ratio"][1]
    assert baseline["tstr_auc"] < 0.7 and baseline["tstr_f1"] < fresh["tstr_f1"] - 0.1
    for attack in ("membership", "density"):
        low, high = ci[f"{attack}_auc"]
        assert low < 0.5 < high and abs(ceiling[f"{attack}_auc"] - 0.5) < 0.12
        assert baseline[f"{attack}_auc"] > 0.95 and baseline[f"{attack}_tpr_10"] > 0.95
    low, high = fresh["attribute_gain_ci"]
    assert low < 0 < high and low < fresh["attribute_gain"] < high and baseline["attribute_gain"] > 0.5
    assert fresh["copy_rate"] == fresh["near_copy_rate"] == 0 and baseline["copy_rate"] == 1
    assert fresh["shadow_auc"] is None and "shadows=0" in fresh["shadow_note"]


def test_weeks_joined_to_the_wrong_profiles_are_found_out():
    """The margins of both tables stay perfect: only the dependence falls to the level of the baseline."""
    whole, train, holdout = cohort(0, 900), cohort(1, 900), cohort(2, 900)
    torn = Cohort(whole.profiles, whole.rhythms[::-1].copy(), whole.mask, whole.person, whole.signals, whole.risk)
    good, bad = (dependence(each, train, holdout, rng()) for each in (whole, torn))
    key = "profile_rhythm_correlation_error"
    assert good[key] < 1.5 * good["ceiling"][key] < 3 * good["ceiling"][key] < bad[key]
    assert bad[key] == pytest.approx(bad["baseline"][key], rel=0.25)
    assert good["whole_c2st_auc"] < 0.56 < 0.6 < bad["whole_c2st_auc"]
    assert good["ci"]["whole_c2st_auc"][1] < bad["ci"]["whole_c2st_auc"][0]


def test_a_spread_that_does_not_follow_the_profile_is_found_out():
    """Week means keep their dependence while the sd of the days loses its own."""

    def irregular(seed: int, aware: bool) -> Cohort:
        people = cohort(seed, 900)
        age = people.profiles["age"].to_numpy() if aware else rng(seed).permutation(people.profiles["age"])
        mean = people.rhythms.mean(axis=1, keepdims=True)
        wide = mean + (people.rhythms - mean) * (0.4 + age / 50)[:, None, None]
        return Cohort(people.profiles, wide, people.mask, people.person, people.signals, people.risk)

    holdout = irregular(2, True)
    aware, blind = (correlation_error(irregular(0, knows), holdout, statistic=1) for knows in (True, False))
    assert blind > 2 * aware
    assert correlation_error(irregular(0, False), holdout) < 1.5 * correlation_error(irregular(0, True), holdout)


def test_persons_are_split_whole():
    several = cohort(0, 40, weeks=3)
    some, others = set_apart(several, rng(), 15)
    assert some.persons == 15 and len(some) == 45 and len(others) == 75 and not set(some.person) & set(others.person)


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


@pytest.mark.slow
def test_people_with_several_weeks_look_synthetic_until_each_counts_once():
    train, holdout = cohort(1, 60, weeks=8), cohort(2, 60, weeks=8)
    every = profile_quality(train.profiles, train.profiles, holdout.profiles, rng())
    once = [one_week_each(part, rng(3)).profiles for part in (train, holdout)]
    assert every["c2st_auc"] > 0.9  # both sides are real: only the repeated persons give them away
    assert profile_quality(once[0], *once, rng())["c2st_auc"] < 0.7


def test_labels_without_meaning_do_not_transfer():
    scrambled = cohort(0).with_risk(rng(9).permutation(cohort(0).risk))
    found = quality(scrambled, cohort(1), cohort(2), ("dass",))
    assert found["tstr_auc"] < 0.75 < found["trtr_auc"] and found["ci"]["tstr_ratio"][1] < 1
    assert found["attribute_gain"] is None and found["attribute_gain_ci"] is None


def test_hidden_columns_stay_hidden():
    """A column that gives the label away must not help once it is hidden."""
    people = [cohort(seed) for seed in (0, 1, 2)]
    leaky = [
        Cohort(c.profiles.assign(answer=c.risk.astype(float)), c.rhythms, c.mask, c.person, c.signals, c.risk)
        for c in people
    ]
    seen = quality(*leaky)["tstr_auc"]
    hidden = quality(*leaky, ("answer",))["tstr_auc"]
    assert seen > 0.99 > hidden + 0.03


def test_persons_with_several_weeks_count_once_and_masked_days_do_not_count():
    train = cohort(1, 60, weeks=5)
    mask = train.mask.copy()
    mask[:, 2, 0] = False
    rhythms = train.rhythms.copy()
    rhythms[:, 2, 0] = 9e3
    masked = Cohort(train.profiles, rhythms, mask, train.person, train.signals, train.risk)
    found = quality(cohort(0, 200), masked, cohort(2, 60, weeks=3), (), "secret")
    assert 0.3 < found["membership_auc"] < 0.7
    assert found["ceiling"]["profile_rhythm_correlation_error"] < 0.3 and found["trtr_auc"] > 0.7


def test_quality_is_repeatable(fresh: dict):
    assert quality(cohort(0), cohort(1), cohort(2), ("dass",), "secret") == fresh


def test_what_cannot_be_scored_is_refused():
    unlabelled = Cohort(**{**vars(cohort(0)), "risk": None})
    with pytest.raises(DataError, match="the synthetic cohort has no risk labels"):
        quality(unlabelled, cohort(1), cohort(2))
    with pytest.raises(DataError, match="the holdout cohort has 1 person, expected at least 2"):
        quality(cohort(0), cohort(1), cohort(2, 1, weeks=3))
    with pytest.raises(DataError, match=r"300 persons .* are both in training and held out"):
        quality(cohort(0), cohort(1), cohort(1))
    with pytest.raises(DataError, match="sensitive column 'income' is unknown"):
        quality(cohort(0), cohort(1), cohort(2), (), "income")
    holes = cohort(0)
    holes.rhythms[3, 2, 1] = np.nan
    with pytest.raises(DataError, match="synthetic weeks have 1 missing values"):
        quality(holes, cohort(1), cohort(2))


def judged(persons: int, wrong: int = 0) -> Transfer:
    """Every second person is at High risk, and called so but for the first ``wrong``."""
    truth = np.where(np.arange(persons) % 2, RISK_CLASSES.index("High"), 0)
    score = np.where(np.arange(persons) < wrong, truth == 0, truth > 0).astype(float)
    return Transfer(score, truth, truth, np.arange(persons))


def test_the_ratio_of_few_persons_is_no_point():
    assert ratio_interval(judged(6), judged(6), rng()) is None
    low, high = ratio_interval(judged(24), judged(24), rng())
    assert low < 0.95 and 1.05 < high < 2
    low, high = ratio_interval(judged(24, wrong=12), judged(24), rng())
    assert low < 0.5 < high < 1
    assert ratio_interval(judged(24), judged(24, wrong=24), rng()) is None  # nothing to divide by


def test_who_learns_from_several_weeks_of_a_person_learns_from_one_person():
    train, test = cohort(1, 60), cohort(2, 80)
    rows = np.repeat(np.arange(60), np.where(np.arange(60) < 6, 50, 1))  # six persons' weeks fifty times each
    often = train.select(rows)
    once, many = (transfer(each, test, ()) for each in (train, often))
    alone = transfer(replace(often, person=np.arange(len(often))), test, ())  # the same weeks, of 354 persons
    gap = [np.abs(each.high - once.high).mean() for each in (many, alone)]
    assert gap[0] < 0.5 * gap[1]


@pytest.mark.parametrize("days", [0, 1, 2, 7])
def test_the_sd_of_a_week_is_that_of_the_observed_days(days: int):
    people = cohort(0, 5)
    mask = np.zeros(people.mask.shape, bool)
    mask[:, :days] = True
    found = week_summary(replace(people, mask=mask))[:, 4:8]
    wanted = people.rhythms[:, :days].astype(float).std(axis=1, ddof=1) if days > 1 else np.zeros((5, 4))
    assert found == pytest.approx(wanted)


def test_a_cohort_without_high_risk_has_no_utility_but_a_report():
    calm = cohort(0).with_risk(np.minimum(cohort(0).risk, 1))
    found = quality(calm, cohort(1), cohort(2))
    assert found["tstr_auc"] is None and found["tstr_ratio"] is None and found["trtr_auc"] > 0.8
