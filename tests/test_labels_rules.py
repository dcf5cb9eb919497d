"""Rule labels: every rule fires and matters, temporal rules need time, filled days are no evidence, bad rules are refused."""

import dataclasses
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers_profiles import QUICK
from test_labels import CALM, Notes, cohort_of, conf
from test_labels import _with as week_with

from core.cohort import Cohort, require_classes
from core.errors import ConfigError, DataError
from core.protocols import NullTracker
from core.random import numpy_generator
from generators.copula import fit_copula
from generators.fusion import fuse
from generators.hierarchical import fit_hierarchical
from generators.labels import RulesSettings, WeekRule, concepts, fired_rules, label
from generators.missingness import Missingness
from generators.sources.reference import ReferenceParameters, sample_reference
from pipeline.config import load_config
from pipeline.stages import risk as stage
from pipeline.stages.risk import knowable

RULES: RulesSettings = conf("labels/rules", "labels", RulesSettings)  # type: ignore[assignment]
NAMES = (*RULES.week, *RULES.profile)


@pytest.fixture(scope="module")
def real() -> Cohort:
    parameters = conf("data/reference", "data", ReferenceParameters)
    assert isinstance(parameters, ReferenceParameters)
    return sample_reference(parameters, 2000, np.random.default_rng(7))


@pytest.fixture(scope="module")
def synthetic(real: Cohort) -> Cohort:
    """2,000 persons of two generators fitted to the real ones, who miss every seventh day."""
    profiles = fit_copula(real.profiles, QUICK.copula, 0, NullTracker())
    missing = Missingness(np.random.default_rng(3).random((200, 7, 4)) > 1 / 7, np.arange(200))
    return fuse(profiles, fit_hierarchical(real), 2000, real.signals, numpy_generator(0, "cohort"), missing)


def test_concepts_are_what_labels_are_made_of(real: Cohort, synthetic: Cohort) -> None:
    """By the cut-offs of the real persons, not their own: the fired rules' points add up to the label."""
    calmer = replace(synthetic, rhythms=synthetic.rhythms * 0.9)
    fired = concepts(calmer, RULES, NullTracker(), relative_to=real)
    assert set(fired) == set(NAMES) and all(rows.dtype == bool for rows in fired.values())
    points = {name: rule.points for name, rule in {**RULES.week, **RULES.profile}.items()}
    share = sum(points[name] * rows for name, rows in fired.items()) / sum(points.values())
    expected = label(calmer, RULES, NullTracker(), relative_to=real)
    assert ((share >= RULES.medium_at).astype(int) + (share >= RULES.high_at)).tolist() == expected.tolist()
    assert expected.tolist() != label(calmer, RULES, NullTracker()).tolist()


def test_the_stage_trains_on_synthetic_persons_and_validates_on_real_ones(
    real: Cohort, synthetic: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[int, Any] = {}
    monkeypatch.setattr(stage, "train_risk", lambda *given: told.update(enumerate(given)))
    rules = load_config(["labels=rules"]).labels
    one, other = (each.with_risk(label(each, rules, NullTracker(), real)) for each in (synthetic, real))
    store = SimpleNamespace(cohort=lambda *_: other)
    for options in ((), ("risk.validate_on=synthetic",)):
        config = load_config(["labels=rules", *options])
        context: Any = SimpleNamespace(config=config, tracker=NullTracker(), store=store)
        stage.trained(context, one, stage.validation_persons(context, other))
        assert told[0] is one and told[6] is (None if options else other)
        fired = concepts(one, rules, NullTracker(), real)
        assert {name: rows.tolist() for name, rows in told[5].items()} == {n: r.tolist() for n, r in fired.items()}


def fires(name: str, cohort: Cohort, base: Cohort, rules: RulesSettings = RULES) -> np.ndarray:
    return fired_rules(cohort, rules, NullTracker(), base)[name][0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["real", "synthetic"])
def test_every_rule_fires_on_some_and_not_on_most(kind: str, name: str, real: Cohort, synthetic: Cohort) -> None:
    share = fires(name, {"real": real, "synthetic": synthetic}[kind], real).mean()
    assert 0.01 < share < 0.60


@pytest.mark.parametrize("name", NAMES)
def test_without_a_rule_somebody_gets_another_label(name: str, real: Cohort) -> None:
    """The rule's points stay attainable but go to nobody: a label that changes was the rule's doing."""
    where = "week" if name in RULES.week else "profile"
    rules = dict(getattr(RULES, where))
    rules[name] = dataclasses.replace(rules[name], points=1e-9)
    without = dataclasses.replace(RULES, **{where: rules})
    changed = label(real, RULES, NullTracker()) != label(real, without, NullTracker())
    assert 0.005 < changed.mean() < 0.5


# Time. The weekly means stay as they are.


@pytest.mark.parametrize(("name", "kept"), [("short_nights", 0.8), ("rising_stress", 0.5)])
def test_the_order_of_days_decides(name: str, kept: float, real: Cohort) -> None:
    """Whole days dealt out anew within each week: every mean, sd and correlation of the week stays."""
    order = np.argsort(np.random.default_rng(0).random((len(real), 7)), axis=1)
    shuffled = dataclasses.replace(real, rhythms=np.take_along_axis(real.rhythms, order[:, :, None], axis=1))
    np.testing.assert_allclose(shuffled.rhythms.mean(axis=1), real.rhythms.mean(axis=1), rtol=1e-5)
    before, after = fires(name, real, real), fires(name, shuffled, real)
    assert 0 < (before & after).sum() < kept * before.sum()
    assert (after & ~before).any()


@pytest.mark.parametrize("name", ["irregular_sleep", "raised_heart_rate", "short_nights", "rising_stress"])
def test_a_week_of_equal_days_with_the_same_mean_rests(name: str, real: Cohort) -> None:
    flat = np.repeat(real.rhythms.mean(axis=1, keepdims=True), 7, axis=1)
    still, signal = dataclasses.replace(real, rhythms=flat), RULES.week[name].signal
    always = flat[:, 0, 0] < RULES.week[name].threshold if signal == "sleep_duration" else np.zeros(len(real), bool)
    after = fires(name, still, real)
    assert fires(name, real, real).any()
    assert not (after & ~(always & (name == "short_nights"))).any()


def test_the_spread_of_nights_decides_not_their_mean(real: Cohort) -> None:
    """Deviations from the week's mean go to another person: all means stay, other persons are irregular."""
    sleep = real.rhythms[:, :, 0].astype(float)
    mean = sleep.mean(axis=1, keepdims=True)
    moved = real.rhythms.copy()
    moved[:, :, 0] = mean + np.roll(sleep - mean, 1, axis=0)
    other = dataclasses.replace(real, rhythms=moved)
    np.testing.assert_allclose(moved.mean(axis=1), real.rhythms.mean(axis=1), atol=1e-4)
    before, after = fires("irregular_sleep", real, real), fires("irregular_sleep", other, real)
    np.testing.assert_array_equal(after, np.roll(before, 1))
    assert (before != after).mean() > 0.1


def test_raised_days_count_together_not_across_weeks() -> None:
    """One person, two weeks of mean 60: two raised days in one week fire, one in each does not."""
    together = [week_with(2, [64, 56, 64, 56, 60, 60, 60]), CALM]
    apart = [week_with(2, [64, 56, 60, 60, 60, 60, 60]), week_with(2, [60, 60, 60, 60, 60, 64, 56])]
    for weeks, expected in ((together, [True, False]), (apart, [False, False])):
        cohort = cohort_of(pd.DataFrame({"age": [30, 30]}), np.stack(weeks).astype(np.float32))
        cohort = dataclasses.replace(cohort, person=np.zeros(2, np.int64))
        assert cohort.rhythms[:, :, 2].mean(axis=1).tolist() == [60.0, 60.0]
        assert fires("raised_heart_rate", cohort, cohort).tolist() == expected


# Filled days.


def hidden(week: np.ndarray, signal: int, days: list[int]) -> Cohort:
    """One person whose signal was not observed on these days; the numbers there are what a filling left."""
    cohort = cohort_of(pd.DataFrame({"age": [30]}), week[None].astype(np.float32))
    mask = cohort.mask.copy()
    mask[0, days, signal] = False
    return dataclasses.replace(cohort, mask=mask)


@pytest.mark.parametrize(
    ("name", "week", "unseen"),
    [
        ("short_nights", week_with(0, [5, 5, 5, 7, 7, 7, 7]), [0, 1]),  # Wednesday's short night, held back to Monday
        ("short_nights", week_with(0, [7, 5, 5, 5, 7, 7, 7]), [2]),  # two short nights around one nobody saw
        ("irregular_sleep", week_with(0, [3, 7, 7, 7, 7, 7, 11]), [0, 6]),
        ("poor_quality", week_with(1, [7, 7, 7, 7, 7, 1, 1]), [5, 6]),
        ("high_stress", week_with(3, [5, 5, 5, 5, 5, 10, 10]), [5, 6]),
        ("rising_stress", week_with(3, [4, 4, 4, 4, 4, 10, 10]), [5, 6]),
        ("raised_heart_rate", week_with(2, [60, 60, 60, 60, 60, 64, 64]), [6]),
    ],
)
def test_a_filled_day_is_no_evidence(name: str, week: np.ndarray, unseen: list[int], real: Cohort) -> None:
    signal = {"sleep_duration": 0, "sleep_quality": 1, "heart_rate": 2, "stress": 3}[RULES.week[name].signal]
    assert fires(name, hidden(week, signal, []), real)[0]
    assert not fires(name, hidden(week, signal, unseen), real)[0]


@pytest.mark.filterwarnings("error")
def test_labels_do_not_depend_on_what_a_filling_left(synthetic: Cohort, real: Cohort) -> None:
    assert not synthetic.mask.all()
    lowest = np.array([signal.low for signal in synthetic.signals], np.float32)
    nonsense = dataclasses.replace(synthetic, rhythms=np.where(synthetic.mask, synthetic.rhythms, lowest))
    expected = label(synthetic, RULES, NullTracker(), relative_to=real)
    np.testing.assert_array_equal(label(nonsense, RULES, NullTracker(), relative_to=real), expected)


@pytest.mark.filterwarnings("error")
def test_a_signal_of_which_no_day_was_observed_fires_nothing(real: Cohort) -> None:
    for name in RULES.week:
        nobody = hidden(np.full((7, 4), 5.0), slice(None), list(range(7)))  # type: ignore[arg-type]
        assert not fires(name, nobody, real).any()


def test_what_rules_read_is_knowable_unless_a_person_has_other_weeks(synthetic: Cohort, real: Cohort) -> None:
    config = load_config(["labels=rules"])
    labelled = synthetic.with_risk(label(synthetic, RULES, NullTracker(), relative_to=real))
    ceiling = knowable(config, labelled)
    assert ceiling is not None
    np.testing.assert_array_equal(ceiling.argmax(axis=1), labelled.risk)
    assert knowable(config, dataclasses.replace(labelled, person=labelled.person // 2)) is None


# Bad input.


@pytest.mark.filterwarnings("error")
def test_constant_signals_fire_nothing_and_leave_an_absent_class_to_be_named(real: Cohort) -> None:
    week = np.tile(np.array([7.3, 6.1, 60.7, 4.1], np.float32), (len(real), 7, 1))
    still = dataclasses.replace(real, rhythms=week)
    for name in RULES.week:
        assert not fires(name, still, still).any(), name
    with pytest.raises(DataError, match=r"no person has the risk class 'High'.*choose other labels="):
        require_classes(still.with_risk(label(still, RULES, Notes())), "source")


def broken(**changed: object) -> RulesSettings:
    return dataclasses.replace(RULES, **changed)  # type: ignore[arg-type]


def test_a_rule_that_cannot_be_is_refused_in_one_line(real: Cohort) -> None:
    for threshold in (25.0, 0.0, -1.0):
        share = WeekRule(2.0, "sleep_quality", "mean_below_share", threshold, 7)
        with pytest.raises(DataError, match=r"'x' has threshold .*labels\.week\.x\.threshold"):
            label(real, broken(week={"x": share}), NullTracker())
    with pytest.raises(DataError, match=r"nobody would be Medium; expected labels\.medium_at below labels\.high_at"):
        label(real, broken(medium_at=0.4), NullTracker())
    with pytest.raises(ConfigError, match=r"days=8: expected less than or equal to 7"):
        load_config(["labels=rules", "labels.week.short_nights.days=8"])
