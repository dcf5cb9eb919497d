"""How the risk model is judged: metrics against closed forms, calibration, subgroups, the whole evaluation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers_predictor import distressed, risk_settings

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import NullTracker
from predictor.calibration import brier, ece, ece_floor, reliability_curve
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
