"""How the risk model is judged: metrics against closed forms, calibration, subgroups, the whole evaluation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers_predictor import distressed, risk_settings
from hypothesis import given
from hypothesis import strategies as st

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import NullTracker
from predictor.calibration import brier, ece, ece_floor, reliability_curve
from predictor.decision import operating_point, threshold_for_recall
from predictor.dual_lstm import DualLSTMRisk
from predictor.evaluation import evaluate_risk, groups_of, subgroup_table
from predictor.metrics import auc, bootstrap_intervals, risk_metrics
from predictor.training import train_risk


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return distressed(1200, seed=0)[0]


@pytest.fixture(scope="module")
def model(cohort: Cohort) -> DualLSTMRisk:
    settings = risk_settings(learning_rates=[[0.003, 0.0]], batch_size=128, epochs=4)
    return train_risk(cohort, settings, ("dass_stress",), 3, NullTracker())


@pytest.fixture(scope="module")
def holdout() -> tuple[Cohort, np.ndarray]:
    return distressed(800, seed=1)


# Metrics


def test_metrics_closed_form() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    p = np.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.5, 0.2, 0.3]])
    m = risk_metrics(labels, p)
    assert m["accuracy"] == pytest.approx(3 / 5)
    assert m["recall_high"] == pytest.approx(1 / 2)
    assert m["f1_high"] == pytest.approx(2 / 3)
    assert m["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)
    assert m["auc_high"] == 1.0
    by_hand = [0.06, 0.62, 0.24, 0.14, 0.78]
    assert m["brier"] == pytest.approx(np.mean(by_hand))


def test_auc_counts_ties_half_and_is_undefined_without_both() -> None:
    assert auc(np.array([True, False, True, False]), np.array([0.5, 0.5, 0.9, 0.1])) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_ece_closed_form() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    p = np.tile([0.9, 0.1, 0.0], (10, 1))  # class 0: .9 against .6, class 1: .1 against .4, class 2: right
    assert ece(labels, p) == pytest.approx((0.3 + 0.3 + 0.0) / 3)
    assert ece(np.array([0] * 9 + [1]), p) == pytest.approx(0.0, abs=1e-12)
    assert ece(np.array([2]), np.array([[0.0, 0.0, 1.0]])) == 0.0  # probability 1 has a bin


def test_brier_extremes() -> None:
    labels = np.array([0, 1, 2])
    assert brier(labels, np.eye(3)) == 0.0
    assert brier(labels, np.roll(np.eye(3), 1, axis=1)) == pytest.approx(2.0)


def test_ece_floor_is_what_true_probabilities_score(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    floor = ece_floor(truth, np.random.default_rng(0))
    assert ece(labelled.risk, truth) == pytest.approx(floor, abs=0.012)
    assert ece(labelled.risk, truth**3 / (truth**3).sum(1, keepdims=True)) > 2 * floor  # overconfidence is seen


def test_reliability_curve_accounts_for_everyone(holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    points = reliability_curve(labelled.risk, truth, 2)
    assert sum(point["persons"] for point in points) == len(labelled)
    observed = sum(point["persons"] * point["observed"] for point in points)
    assert observed == pytest.approx((labelled.risk == 2).sum())


def test_bootstrap_resamples_persons_not_rows() -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    once = bootstrap_intervals(labels, p, np.arange(60), 200, np.random.default_rng(1))
    repeat = [np.repeat(a, 4, axis=0) for a in (labels, p, np.arange(60))]
    cloned = bootstrap_intervals(*repeat, 200, np.random.default_rng(1))
    assert cloned["accuracy"] == pytest.approx(once["accuracy"])  # four copies of a person are no new evidence
    naive = bootstrap_intervals(repeat[0], repeat[1], np.arange(240), 200, np.random.default_rng(1))
    assert np.ptp(naive["accuracy"]) < 0.7 * np.ptp(once["accuracy"])


# Subgroups and evaluation


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
    table = subgroup_table(labelled, unfair, {"gender": (), "absent": ()}, min_n=50)
    groups = table["gender"]["groups"]
    assert groups["other"] == {"n": 5, "small": True}
    assert sum(row["n"] for row in groups.values()) == len(labelled)
    assert (groups["female"]["recall"], groups["male"]["recall"]) == (0.0, 1.0)
    assert table["gender"]["gaps"]["recall"] == 1.0
    assert "absent" not in table


def test_evaluation_reports_everything(model: DualLSTMRisk, cohort: Cohort, holdout: tuple[Cohort, np.ndarray]) -> None:
    labelled, truth = holdout
    settings = risk_settings(bootstrap=20)
    result = evaluate_risk(model, cohort, labelled, settings, truth, 0)
    headline = {"accuracy", "macro_f1", "f1_high", "recall_high", "auc_high", "ece", "brier"}
    assert headline <= set(result)
    assert set(result["bayes_ceiling"]) == headline
    assert set(result["baselines"]) == {"logistic", "gradient_boosting", "tree"}
    assert all(set(metrics) == headline for metrics in result["baselines"].values())
    for name, (low, high) in result["intervals"].items():
        if name != "ece":  # resampling adds noise of its own, so ECE's interval lies above its value
            assert low <= result[name] <= high, name
    assert result == evaluate_risk(model, cohort, labelled, settings, truth, 0)
    assert "bayes_ceiling" not in evaluate_risk(model, cohort, labelled, settings, None, 0)
    with pytest.raises(DataError, match="risk class 'High'"):
        evaluate_risk(model, cohort, labelled.select(labelled.risk < 2), settings, None, 0)


# Decision


def test_threshold_is_the_highest_that_finds_enough() -> None:
    labels = np.array([2] * 5 + [0] * 3)
    score = np.array([0.9, 0.7, 0.5, 0.3, 0.1, 0.95, 0.2, 0.0])
    assert threshold_for_recall(labels, score, 0.6) == 0.5
    assert threshold_for_recall(labels, score, 0.61) == 0.3
    assert threshold_for_recall(labels, score, 1.0) == 0.1  # recall 1 is always within reach
    assert threshold_for_recall(labels, score, 1e-6) == 0.9
    ten = np.full(10, 2)
    assert threshold_for_recall(ten, np.arange(10) / 10, 0.1 + 0.2) == 0.7  # 3 of 10, though .1 + .2 > .3


def test_tied_scores_are_called_together() -> None:
    labels, score = np.array([2, 2, 2, 2, 0, 1]), np.array([0.9, 0.4, 0.4, 0.4, 0.4, 0.1])
    threshold = threshold_for_recall(labels, score, 0.5)
    assert threshold == 0.4
    assert operating_point(labels, score, threshold) == {
        "recall": 1.0, "specificity": 0.5, "ppv": 0.8, "npv": 1.0, "flagged": 5 / 6,
    }  # fmt: skip
    constant = np.full(6, 0.3, np.float32)
    assert operating_point(labels, constant, threshold_for_recall(labels, constant, 0.8))["flagged"] == 1.0


def test_rates_without_a_case_are_absent_and_nobody_high_is_an_error() -> None:
    point = operating_point(np.array([2, 2]), np.array([0.6, 0.7]), 0.5)
    assert point == {"recall": 1.0, "specificity": None, "ppv": 1.0, "npv": None, "flagged": 1.0}
    with pytest.raises(DataError, match="none of 3 calibration rows has risk class 'High'"):
        threshold_for_recall(np.array([0, 1, 1]), np.zeros(3), 0.8)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(0.01, 1.0))
def test_recall_falls_with_the_threshold_and_the_chosen_one_is_the_last_to_reach_it(
    seed: int, n: int, r: float
) -> None:
    rng = np.random.default_rng(seed)
    labels, score = rng.integers(0, 3, n), rng.integers(0, 20, n) / 20
    labels[0] = 2
    recalls = [operating_point(labels, score, t)["recall"] for t in np.arange(0, 21) / 20]
    assert recalls == sorted(recalls, reverse=True)
    chosen = threshold_for_recall(labels, score, r)
    assert operating_point(labels, score, chosen)["recall"] >= r - 1e-9
    assert operating_point(labels, score, chosen + 0.05)["recall"] < r
