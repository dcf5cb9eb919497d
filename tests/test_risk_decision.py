"""The alarm threshold, its operating point and the decision curve, against closed forms and properties."""

import numpy as np
import pytest
from helpers_predictor import predictions
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from predictor.decision import decision_curve, net_benefit, operating_point, threshold_for_recall, useful_range


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


def test_threshold_is_exact_in_single_precision() -> None:
    labels, p = predictions(500, np.random.default_rng(0))
    score = p[:, 2].astype(np.float32)
    threshold = threshold_for_recall(labels, score, 0.8)
    stored = float(np.float32(threshold))  # as a model keeps it
    assert operating_point(labels, score, stored) == operating_point(labels, score, threshold)
    n = (labels == 2).sum()
    assert operating_point(labels, score, stored)["recall"] == pytest.approx(np.ceil(0.8 * n) / n)


# Decision curve


def test_net_benefit_closed_form() -> None:
    high = np.array([True] * 4 + [False] * 6)
    called = np.array([True] * 3 + [False] * 1 + [True] * 2 + [False] * 4)
    assert net_benefit(high, called, 0.2) == pytest.approx(3 / 10 - 2 / 10 * 0.2 / 0.8)
    assert net_benefit(high, called, 0.5) == pytest.approx(0.1)
    assert net_benefit(high, np.zeros(10, bool), 0.7) == 0.0


def test_perfect_and_harmful_predictors() -> None:
    labels = np.array([2] * 3 + [1] * 2 + [0] * 5)
    high = (labels == 2).astype(float)
    rows = decision_curve(labels, {"model": high, "wrong": 1 - high})
    assert [row["threshold"] for row in rows] == pytest.approx(np.arange(0.05, 0.96, 0.05))
    for row in rows:
        t = row["threshold"]
        assert row["model"] == pytest.approx(0.3)  # prevalence at every threshold
        assert row["all"] == pytest.approx(0.3 - 0.7 * t / (1 - t))
        assert row["wrong"] == pytest.approx(-0.7 * t / (1 - t))
    assert useful_range(rows, "model") == (0.05, 0.95)
    assert useful_range(rows, "wrong") == (None, None)


def test_useful_range_is_the_longest_run_strictly_above_both() -> None:
    def rows(*model: float) -> list[dict[str, float]]:
        alone = {"all": 0.1}
        return [{"threshold": i / 10, "model": each, **alone} for i, each in enumerate(model, start=1)]

    assert useful_range(rows(0.2, 0.1, 0.2, 0.3, 0.1), "model") == (0.3, 0.4)
    assert useful_range(rows(0.1, 0.1), "model") == (None, None)  # level with calling everybody
    assert useful_range([{"threshold": 0.5, "model": 0.0, "all": -0.4}], "model") == (None, None)  # and with nobody


def test_true_probabilities_are_never_worth_less_than_calling_all_or_none() -> None:
    labels, p = predictions(40_000, np.random.default_rng(0))
    for row in decision_curve(labels, {"model": p[:, 2]}):
        assert row["model"] > max(row["all"], 0.0) - 0.002


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_at_a_threshold_near_0_the_model_is_worth_what_calling_everybody_is(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    high, score = rng.random(n) < 0.4, rng.uniform(1e-3, 1, n)
    t = 1e-6
    assert net_benefit(high, score >= t, t) == net_benefit(high, np.ones(n, bool), t)
    assert net_benefit(high, score >= t, t) == pytest.approx(high.mean(), abs=1e-5)
    assert net_benefit(high, score >= 0.5, 0.5) <= high.mean()  # no predictor is worth more than a perfect one
