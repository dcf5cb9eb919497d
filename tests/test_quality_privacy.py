"""Attackers catch a generator that copies, learn nothing from one that does not, and count persons, not weeks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from test_quality import cohort, rng

from core.cohort import Cohort
from core.errors import DataError, NumericalError
from generators.quality.cohort import cohort_quality
from generators.quality.intervals import auc, bootstrap, caught_at, newcombe_auc, once, weighted_auc, wilson
from generators.quality.persons import one_week_each
from generators.quality.privacy import (
    Game,
    attack_intervals,
    attack_report,
    attribute_inference,
    copy_rate,
    density_attack,
    distance_attack,
    near_copy_rate,
)
from generators.quality.records import Space, by_person, record, week_days
from generators.quality.shadows import Shadows, learn_attack

N = 300
TRAIN, HOLDOUT, FRESH = cohort(1, N), cohort(2, 2 * N), cohort(0, N)
GAME = Game.deal(TRAIN, HOLDOUT, N, rng())


def copied(members: Cohort, seed: int, share: float = 1.0) -> Cohort:
    """A generator that publishes members with a little noise, the rest of its persons being new."""
    random = rng(seed)
    drawn, new = one_week_each(members, random), cohort(1000 + seed % 1000, members.persons)
    keep = random.random(len(drawn)) < share
    profiles = pd.DataFrame({c: np.where(keep, drawn.profiles[c], new.profiles[c]) for c in new.profiles})
    profiles["bmi"] = (profiles["bmi"] + 0.05 * random.normal(size=len(drawn))).round(1)
    weeks = np.where(keep[:, None, None], drawn.rhythms, new.rhythms)
    noisy = weeks + 0.05 * random.normal(size=weeks.shape) * weeks.std(axis=(0, 1))
    return Cohort(profiles, noisy.astype(np.float32), np.ones(weeks.shape, bool), np.arange(len(drawn)), TRAIN.signals)


def honest(members: Cohort, seed: int) -> Cohort:
    """A generator that publishes nobody's secrets: new persons."""
    return cohort(2000 + seed % 1000, members.persons)


ATTACKS = {
    "distance": lambda fit: distance_attack,
    "density": lambda fit: density_attack,
    "shadow": lambda fit: learn_attack(Shadows(fit, 4), GAME.reference, rng(5)),
}


# Attacks


@pytest.mark.parametrize("name", ATTACKS)
def test_copying_with_noise_is_caught_and_new_persons_give_nobody_away(name: str):
    for fit, low, high in ((copied, 0.8, 1.0), (honest, 0.4, 0.6)):
        report = attack_report("x", *ATTACKS[name](fit)(fit(TRAIN, 7), GAME))
        assert low <= report["x_auc"] <= high, (fit.__name__, report)
    assert attack_report("x", *ATTACKS[name](copied)(copied(TRAIN, 7), GAME))["x_tpr_10"] > 0.7


def test_shadows_learn_how_a_generator_that_copies_a_few_gives_them_away():
    """A third of the members copied: the threshold that matters is the one few others pass."""

    def some(members: Cohort, seed: int) -> Cohort:
        return copied(members, seed, share=1 / 3)

    report = attack_report("x", *learn_attack(Shadows(some, 4), GAME.reference, rng(5))(some(TRAIN, 7), GAME))
    assert report["x_auc"] > 0.6 and report["x_tpr_10"] > 0.28  # a third would be all of them


def test_one_who_copies_weeks_alone_is_caught_by_shadows():
    """Profiles of others, weeks of members: only the space of weeks knows."""

    def weeks_only(members: Cohort, seed: int) -> Cohort:
        copy, new = copied(members, seed), honest(members, seed)
        return replace(copy, profiles=new.profiles)

    report = attack_report(
        "x", *learn_attack(Shadows(weeks_only, 4), GAME.reference, rng(5))(weeks_only(TRAIN, 7), GAME)
    )
    assert report["x_auc"] > 0.9


def test_a_game_shares_no_person():
    parts = (
        [set(each.person) for each in (GAME.members, GAME.rest)],
        [set(each.person) for each in (GAME.others, GAME.reference)],
    )
    for one, other in parts:
        assert not one & other
    assert GAME.members.persons == GAME.others.persons == N // 2 and GAME.reference.persons == N
    few = Game.deal(TRAIN, HOLDOUT, 2 * N - 10, rng())
    assert few.members.persons == few.others.persons == 10


def test_shadow_persons_are_none_of_those_asked_about():
    seen: set[bytes] = set()

    def watched(members: Cohort, seed: int) -> Cohort:
        seen.update(week.tobytes() for week in members.rhythms)
        return honest(members, seed)

    learn_attack(Shadows(watched, 3), GAME.reference, rng())
    asked = {week.tobytes() for each in (GAME.members, GAME.others) for week in each.rhythms}
    assert len(seen) > N // 2 and not seen & asked


def test_too_few_persons_for_shadows_is_said_not_hidden():
    few = cohort(3, 30)
    with pytest.raises(DataError, match="15 reference persons, expected at least 40"):
        learn_attack(Shadows(honest, 2), Game.deal(TRAIN, few, 15, rng()).reference, rng())
    found = cohort_quality(FRESH, TRAIN, few, (), None, Shadows(honest, 2), rng())
    assert found["shadow_auc"] is None and "15 reference persons" in found["shadow_note"]
    assert found["membership_tpr_1"] is None  # a hundredth of 30 persons is nobody
    low, high = found["ci"]["membership_auc"]
    assert high - low > 0.25


def test_a_refusing_shadow_generator_is_said_with_its_reason():
    def refuses(members: Cohort, seed: int) -> Cohort:
        raise DataError("effective share too low")

    found = cohort_quality(FRESH, TRAIN, HOLDOUT, (), None, Shadows(refuses, 2), rng())
    assert found["shadow_auc"] is None and found["shadow_note"] == "effective share too low"


def test_a_shadow_that_diverges_leaves_the_rest_of_the_report_as_it_is():
    def diverges(members: Cohort, seed: int) -> Cohort:
        raise NumericalError("loss is nan at step 3")

    train, holdout, fresh = cohort(1, 60), cohort(2, 90), cohort(0, 60)
    found, without = (
        cohort_quality(fresh, train, holdout, (), "secret", shadows, rng()) for shadows in (Shadows(diverges, 2), None)
    )
    assert found["shadow_auc"] is None and found.pop("shadow_note") == "loss is nan at step 3"
    assert "shadows=0" in without.pop("shadow_note") and found == without


def test_the_shadows_draws_move_no_other_part():
    train, holdout, fresh = cohort(1, 60), cohort(2, 90), cohort(0, 60)
    none, some = (
        cohort_quality(fresh, train, holdout, (), "secret", shadows, rng()) for shadows in (None, Shadows(honest, 2))
    )
    assert none["shadow_auc"] is None and some["shadow_auc"] is not None
    for key in none:
        if not key.startswith("shadow") and key not in ("ceiling", "baseline", "ci"):
            assert none[key] == some[key], key


def test_the_whole_report_with_shadows():
    found = cohort_quality(
        copied(TRAIN, 7).with_risk(TRAIN.risk), TRAIN, HOLDOUT, (), "secret", Shadows(copied, 2), rng()
    )
    for attack in ("membership", "density", "shadow"):
        assert found[f"{attack}_auc"] > 0.8 and found["ci"][f"{attack}_auc"][0] > 0.7
        assert 0.4 < found["ceiling"][f"{attack}_auc"] < 0.6 and found["baseline"][f"{attack}_auc"] > 0.95
    assert found["shadow_note"] is None and found["near_copy_rate"] > 0.9 and found["copy_rate"] == 0
    assert found["attribute_gain_ci"][0] > 0.3


def test_a_person_with_many_weeks_is_asked_about_once():
    train, holdout = cohort(1, 60, weeks=5), cohort(2, 60, weeks=5)
    game = Game.deal(train, holdout, 30, rng())
    score, member = distance_attack(train, game)
    assert len(score) == 60 and member.sum() == 30
    assert attack_report("x", score, member)["x_auc"] == 1.0


def test_attribute_inference_knows_its_control_and_a_naive_guess():
    found = attribute_inference(TRAIN, TRAIN, HOLDOUT, "secret", rng())
    assert found["success"]["members"] == 1 and abs(found["success"]["control"] - 0.25) < 0.08
    assert abs(found["success"]["naive"] - 0.27) < 0.06 and found["ci"][0] > 0.6
    assert (
        attribute_inference(TRAIN, TRAIN, HOLDOUT, "age", rng())["gain"] > 0.4
    )  # a number, within a quarter of its sd
    fresh = attribute_inference(FRESH, TRAIN, HOLDOUT, "secret", rng())
    assert fresh["ci"][0] < 0 < fresh["ci"][1]


def test_copies_are_counted_exact_and_near():
    assert copy_rate(TRAIN, TRAIN) == 1 and copy_rate(FRESH, TRAIN) == 0
    half = copied(TRAIN, 3, share=0.5)
    assert copy_rate(half, TRAIN) == 0 and 0.4 < near_copy_rate(half, TRAIN, HOLDOUT) < 0.6
    assert near_copy_rate(FRESH, TRAIN, HOLDOUT) < 0.01
    # Nine weeks of one person who was copied weigh as one.
    rows = np.concatenate([np.zeros(9, int), np.arange(1, 10)])
    many, fresh = replace(TRAIN.select(rows), person=rows), FRESH.select(rows)
    mixed = replace(
        many,
        profiles=pd.concat([many.profiles[:9], fresh.profiles[9:]], ignore_index=True),
        rhythms=np.concatenate([many.rhythms[:9], fresh.rhythms[9:]]),
    )
    assert copy_rate(mixed, TRAIN) == near_copy_rate(mixed, TRAIN, HOLDOUT) == pytest.approx(0.1)


# Records


def test_what_was_not_observed_tells_nothing():
    mask = TRAIN.mask.copy()
    mask[:, 2, 0] = False
    filled = TRAIN.rhythms.copy()
    filled[:, 2, 0] = 9e3
    a, b = replace(TRAIN, mask=mask), replace(TRAIN, mask=mask, rhythms=filled)
    encoder = Space.fit(TRAIN, "whole").encoder
    assert np.array_equal(record(a, encoder), record(b, encoder)) and np.array_equal(week_days(a), week_days(b))
    report = [attack_report("x", *distance_attack(FRESH, Game.deal(each, HOLDOUT, N, rng()))) for each in (a, b)]
    assert report[0] == report[1]


def test_by_person_takes_the_least_of_each_persons_rows():
    values, person = np.array([3.0, 1.0, 2.0, 5.0]), np.array([7, 4, 7, 4])
    assert by_person(values, person).tolist() == [1.0, 2.0]  # person 4, then 7
    assert by_person(np.stack([values, -values], axis=1), person).tolist() == [[1.0, -5.0], [2.0, -3.0]]


# Intervals


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.booleans(), st.integers(1, 5)), min_size=2, max_size=30
    ).filter(lambda rows: len({row[1] for row in rows}) == 2)
)
def test_the_weighted_auc_is_sklearns(rows):
    score, positive, weight = (np.array(column) for column in zip(*rows, strict=True))
    assert weighted_auc(score, positive)(weight) == pytest.approx(roc_auc_score(positive, score, sample_weight=weight))


def test_members_caught_at_a_share_of_false_alarms():
    score = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], float)
    positive = np.array([1, 0, 1, 1, 0, 1, 0, 0, 0, 0], bool)
    ones = np.ones(10)
    assert caught_at(score, positive, 0.0)(ones) == 0.25  # above every other: one of four
    assert caught_at(score, positive, 1 / 6)(ones) == 0.75 and caught_at(score, positive, 1.0)(ones) == 1
    assert caught_at(np.zeros(10), positive, 0.5)(ones) == 0  # no threshold separates equals


def test_weeks_share_their_persons_vote():
    person = np.array([0, 0, 0, 1])
    assert once(person).tolist() == [1 / 3] * 3 + [1]
    # Twenty persons of one week and one of a thousand: the interval is that of 21 persons, wide.
    person = np.concatenate([np.arange(20), np.full(1000, 20)])
    value = rng().normal(size=21)[person]
    low, high = bootstrap(lambda weights: float(np.average(value, weights=weights)), person, rng())
    assert 0.4 < high - low < 1.6


def test_a_perfect_score_of_three_persons_has_a_wide_interval():
    value, (low, high) = auc(np.arange(6.0), np.arange(6) >= 3, np.arange(6), rng())
    assert value == 1 and low < 0.6 and high == pytest.approx(1)
    _, (low, _) = auc(np.arange(600.0), np.arange(600) >= 300, np.arange(600), rng())
    assert low > 0.98
    assert auc(np.arange(4.0), np.ones(4), np.arange(4), rng()) == (None, None)


def test_a_share_of_nobody_caught_has_a_wide_interval():
    score, member = np.arange(40.0), np.arange(40) < 20  # every other scores higher than every member
    low, high = attack_intervals("x", score, member, rng())["x_tpr_10"]
    assert attack_report("x", score, member)["x_tpr_10"] == 0
    assert low == pytest.approx(0, abs=1e-9) and high >= wilson(0.0, 20)[1] > 0.15


def test_intervals_cover_as_often_as_they_say():
    random, hits = rng(3), {"auc": 0, "share": 0}
    for _ in range(200):
        score = np.concatenate([random.normal(1, 1, 20), random.normal(0, 1, 20)])
        value = weighted_auc(score, np.arange(40) < 20)(np.ones(40))
        low, high = newcombe_auc(value, 20, 20)
        hits["auc"] += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
        low, high = wilson(random.binomial(15, 0.2) / 15, 15)
        hits["share"] += low <= 0.2 <= high
    assert all(0.9 <= each / 200 <= 1.0 for each in hits.values()), hits
