"""The risk model judged by subgroup, beside its baselines, and as a whole."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers_predictor import distressed, gentle, predictions, risk_settings

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import NullTracker
from predictor.decision import decision_curve, operating_point
from predictor.dual_lstm import DualLSTMRisk
from predictor.evaluation import COMPARED, compare, evaluate_risk, prior_probabilities
from predictor.metrics import confusion_matrix
from predictor.resampling import resample_persons
from predictor.subgroups import groups_of, subgroup_table
from predictor.training import train_risk

RATES = {"recall", "false_positive_rate", "recall_alarm", "false_positive_rate_alarm", "ece_debiased"}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return distressed(1200, seed=0)[0]


@pytest.fixture(scope="module")
def model(cohort: Cohort) -> DualLSTMRisk:
    return train_risk(cohort, gentle(60), ("dass_stress",), 3, NullTracker())


@pytest.fixture(scope="module")
def holdout() -> tuple[Cohort, np.ndarray]:
    return distressed(800, seed=1)


def by_gender(cohort: Cohort, probabilities: np.ndarray, resamples: int = 200, alarm: float = 0.4) -> dict[str, Any]:
    """The gender part of the subgroup table, with "absent" asked for as well."""
    rng = np.random.default_rng(0)
    bootstrap = resample_persons(cohort.person, resamples, rng)
    table = subgroup_table(cohort, probabilities, alarm, {"gender": (), "absent": ()}, 50, bootstrap, rng)
    assert set(table) == {"gender"}
    return table["gender"]


def excludes_0(difference: list[float]) -> bool:
    value, low, high = difference
    assert low <= value <= high
    return low > 0 or high < 0


# Subgroups


def test_groups_have_bands_and_categories() -> None:
    assert groups_of(pd.Series([29, 30, 44, 70]), (30.0, 45.0)).tolist() == ["<30", "30-45", "30-45", ">=45"]
    assert groups_of(pd.Series(["f", "m"]), ()).tolist() == ["f", "m"]
    assert groups_of(pd.Series(["<30", ">=30"]), (30.0,)).tolist() == ["<30", ">=30"]


def test_subgroups_are_counted_small_ones_named_unfair_ones_seen(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled = holdout[0]
    gender = labelled.profiles["gender"].to_numpy(str).astype(object)
    gender[:5] = "other"
    labelled = replace(labelled, profiles=labelled.profiles.assign(gender=gender))
    unfair = np.eye(3)[np.where(gender == "female", 0, labelled.risk)]  # women are always called Low
    table = by_gender(labelled, unfair)
    groups = table["groups"]
    assert groups["other"] == {"n": 5, "small": True}
    assert sum(row["n"] for row in groups.values()) == len(labelled)
    assert (groups["female"]["recall"], groups["male"]["recall"]) == (0.0, 1.0)
    assert groups["male"]["intervals"]["recall"] == [1.0, 1.0]
    assert table["gaps"]["recall"] == 1.0
    assert set(table["differences"]) == {"female", "male"}


def test_a_fair_model_differs_from_nobody(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    differences = by_gender(labelled, truth)["differences"]
    assert {name for row in differences.values() for name in row} == RATES
    assert not any(excludes_0(each) for row in differences.values() for each in row.values())
    for rate in RATES:  # of two groups, each is the other's other
        value, low, high = differences["male"][rate]
        assert differences["female"][rate] == pytest.approx([-value, -high, -low])


def test_planted_unfairness_is_found_where_it_is(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    women = labelled.profiles["gender"].to_numpy(str) == "female"
    timid = np.where(women[:, None], truth * [1.0, 1.0, 0.3], truth)
    timid /= timid.sum(1, keepdims=True)
    differences = by_gender(labelled, timid)["differences"]["female"]
    for rate in ("recall", "recall_alarm", "false_positive_rate", "false_positive_rate_alarm"):
        assert excludes_0(differences[rate]) and differences[rate][0] < 0, rate
    assert excludes_0(differences["ece_debiased"]) and differences["ece_debiased"][0] > 0
    called = timid[:, 2] >= 0.4
    expected = (called & women & (labelled.risk == 2)).sum() / (women & (labelled.risk == 2)).sum()
    assert by_gender(labelled, timid)["groups"]["female"]["recall_alarm"] == pytest.approx(expected)


def test_a_small_group_of_a_calibrated_model_is_not_called_worse_calibrated() -> None:
    gaps = []
    for seed in range(20):
        labelled, truth = distressed(1500, seed)
        gender = np.where(np.arange(1500) < 100, "few", "many")
        table = by_gender(replace(labelled, profiles=labelled.profiles.assign(gender=gender)), truth, resamples=50)
        few, many = table["groups"]["few"], table["groups"]["many"]
        assert few["ece"] > 2 * many["ece"]  # by chance alone, as its floor says
        assert few["ece"] == pytest.approx(few["ece_floor"], abs=0.05)
        difference = table["differences"]["few"]["ece_debiased"]
        assert difference[0] == pytest.approx(few["ece_debiased"] - many["ece_debiased"])
        gaps.append(excludes_0(difference))
    assert sum(gaps) <= 2


def test_rates_without_a_case_are_absent(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    women = labelled.profiles["gender"].to_numpy(str) == "female"
    table = by_gender(labelled.with_risk(np.where(women, 0, labelled.risk)), truth)
    row = table["groups"]["female"]
    assert row["recall"] is None and row["intervals"]["recall"] is None and row["recall_alarm"] is None
    assert row["false_positive_rate"] is not None
    assert table["differences"]["male"]["recall"] is None
    assert table["gaps"]["recall"] is None
    json.dumps(table, allow_nan=False)


def test_group_sizes_and_intervals_count_persons(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    weeks = np.repeat(np.arange(len(labelled)), 3)
    once, thrice = by_gender(labelled, truth), by_gender(labelled.select(weeks), truth[weeks])
    for name, row in once["groups"].items():
        assert thrice["groups"][name]["n"] == row["n"]
        for rate, bounds in row["intervals"].items():
            assert thrice["groups"][name]["intervals"][rate] == pytest.approx(bounds), rate
    lone = replace(labelled, person=np.zeros(len(labelled), np.int64))
    assert all(row["small"] for row in by_gender(lone, truth)["groups"].values())


# Beside the baselines


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    labels, p = predictions(600, rng)
    noisy = np.exp(np.log(p) + rng.normal(size=p.shape))
    slightly = np.exp(np.log(p) + 0.02 * rng.normal(size=p.shape))
    rivals = {"itself": p, "noisy": noisy, "slightly": slightly, "prior": np.tile([0.4, 0.3, 0.3], (600, 1))}
    rivals = {name: each / each.sum(1, keepdims=True) for name, each in rivals.items()}
    result = compare(labels, {"model": p, **rivals}, resample_persons(np.arange(600), 200, rng))
    assert set(result["differences"]) == set(result["baselines"]) == set(rivals)
    for metric in COMPARED:
        assert result["differences"]["itself"][metric] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12), metric
    for rival in ("noisy", "prior"):
        for metric, sign in (("auc_high", 1), ("macro_f1", 1), ("brier", -1)):
            difference = result["differences"][rival][metric]
            assert difference[0] == pytest.approx(result[metric] - result["baselines"][rival][metric])
            assert excludes_0(difference) and sign * difference[0] > 0, (rival, metric)
    # Unpaired, the interval of a difference would be wider than either one's own.
    assert np.ptp(result["differences"]["slightly"]["auc_high"][1:]) < 0.2 * np.ptp(result["intervals"]["auc_high"])
    assert "bayes_ceiling" not in result


def test_brier_skill_is_what_is_saved_of_the_class_frequencies_score() -> None:
    labels = np.array([0, 0, 1, 2])
    prior = np.tile([0.5, 0.25, 0.25], (4, 1))  # scores (2 * .375 + 2 * .875) / 4 = .625
    half = (np.eye(3)[labels] + prior) / 2
    predictors = {"model": half, "prior": prior, "bayes": np.eye(3)[labels]}
    result = compare(labels, predictors, resample_persons(np.arange(4), 20, np.random.default_rng(0)))
    assert result["baselines"]["prior"]["brier"] == pytest.approx(0.625)
    assert result["baselines"]["prior"]["brier_skill"] == 0.0
    assert result["brier_skill"] == pytest.approx(0.75)  # half the distance, a quarter of its square
    assert result["bayes_ceiling"]["brier_skill"] == 1.0


def test_prior_is_the_training_cohorts(cohort: Cohort) -> None:
    p = prior_probabilities(cohort.with_risk(np.arange(1200) % 4 % 3), 5)
    assert p == pytest.approx(np.tile([0.5, 0.25, 0.25], (5, 1)))


# The whole


@pytest.fixture(scope="module")
def result(model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]) -> dict[str, Any]:
    return evaluate_risk(model, cohort, holdout[0], risk_settings(bootstrap=40), holdout[1], 0)


def test_evaluation_reports_everything(
    result: dict[str, Any], model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]
) -> None:
    labelled, truth = holdout
    settings = risk_settings(bootstrap=40)
    headline = {
        "accuracy", "macro_f1", "f1_high", "recall_high", "auc_high", "ece", "ece_debiased", "brier", "brier_skill",
    }  # fmt: skip
    parts = {
        "ece_floor",
        "reliability",
        "signal_response",
        "confusion",
        "alarm",
        "decision_curve",
        "roc",
        "differences",
    }
    assert headline | parts <= set(result)
    assert set(result["bayes_ceiling"]) == headline
    assert set(result["baselines"]) == {"logistic", "gradient_boosting", "tree", "prior"} == set(result["differences"])
    assert all(set(metrics) == headline for metrics in result["baselines"].values())
    for name, (low, high) in result["intervals"].items():
        assert low <= result[name] <= high, name
    json.dumps(result, allow_nan=False)
    assert result == evaluate_risk(model, cohort, labelled, settings, truth, 0)
    assert "bayes_ceiling" not in evaluate_risk(model, cohort, labelled, settings, None, 0)
    with pytest.raises(DataError, match="risk class 'High'"):
        evaluate_risk(model, cohort, labelled.select(labelled.risk < 2), settings, None, 0)


def test_parts_of_the_evaluation_are_the_models_own(
    result: dict[str, Any], model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]
) -> None:
    labels, p = holdout[0].risk.astype(int), model.predict_cohort(holdout[0])
    assert result["confusion"] == confusion_matrix(labels, p)
    assert sum(map(sum, result["confusion"]["counts"])) == len(labels)
    shares = np.bincount(cohort.risk) / len(cohort)  # the training persons', not the held-out ones'
    prior = np.square(shares - np.eye(3)[labels]).sum(1).mean()
    assert result["baselines"]["prior"]["brier"] == pytest.approx(prior, abs=1e-12)
    rows = result["decision_curve"]["rows"]
    assert set(rows[0]) == {"threshold", "all", "model", "bayes", *result["baselines"]}
    bayes_alone = decision_curve(labels, {"bayes": holdout[1][:, 2]})
    assert [row["bayes"] for row in rows] == [row["bayes"] for row in bayes_alone]
    assert result["decision_curve"]["useful_from"] < result["decision_curve"]["useful_to"]
    assert len(result["roc"]) <= 60


def test_alarm_is_judged_at_the_models_own_threshold(
    model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]
) -> None:
    labels, p = holdout[0].risk.astype(int), model.predict_cohort(holdout[0])
    before = model.alarm.clone()
    try:
        model.alarm.fill_(float(np.median(p[:, 2])))
        alarm = evaluate_risk(model, cohort, holdout[0], risk_settings(bootstrap=40), None, 0)["alarm"]
    finally:
        model.alarm.copy_(before)
    assert alarm["target_recall"] == 0.8
    assert alarm["threshold"] == float(np.float32(np.median(p[:, 2])))
    point = operating_point(labels, p[:, 2], alarm["threshold"])
    assert {name: alarm[name] for name in point} == point
    assert point["flagged"] == pytest.approx(0.5, abs=0.01)
    for name, (low, high) in alarm["intervals"].items():
        assert low <= alarm[name] <= high, name


def test_several_weeks_of_a_person_are_evaluated(
    model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]
) -> None:
    weeks = replace(holdout[0], person=np.arange(800) // 4)
    result = evaluate_risk(model, cohort, weeks, risk_settings(bootstrap=20), None, 0)
    json.dumps(result, allow_nan=False)
    persons = evaluate_risk(model, cohort, holdout[0], risk_settings(bootstrap=20), None, 0)
    assert result["intervals"]["accuracy"] != persons["intervals"]["accuracy"]  # a quarter of the persons
    same = evaluate_risk(
        model, cohort, weeks.select(np.repeat(np.arange(800), 2)), risk_settings(bootstrap=20), None, 0
    )
    assert same["intervals"]["accuracy"] == pytest.approx(result["intervals"]["accuracy"])
    one_high = holdout[0].with_risk(np.where(np.arange(800) == 3, 2, holdout[0].risk % 2))
    lone = evaluate_risk(model, cohort, one_high, risk_settings(bootstrap=20), None, 0)
    json.dumps(lone, allow_nan=False)
    assert lone["confusion"]["recall"][2] in (0.0, 1.0)
