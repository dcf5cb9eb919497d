"""Metrics of risk predictions against closed forms, their resamples against plain re-indexing, calibration error."""

from itertools import permutations

import numpy as np
import pytest
from helpers_predictor import distressed, predictions

from predictor.calibration import brier, ece, ece_debiased, ece_floor, reliability_curve
from predictor.metrics import auc, confusion_matrix, metric_draws, risk_metrics, roc_curve, summarise
from predictor.resampling import Bootstrap, interval, resample_persons


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


def test_ece_floor_is_what_true_probabilities_score() -> None:
    labelled, truth = distressed(800, seed=1)
    floor = ece_floor(truth, np.random.default_rng(0))
    assert ece(labelled.risk, truth) == pytest.approx(floor, abs=0.012)
    assert ece(labelled.risk, truth**3 / (truth**3).sum(1, keepdims=True)) > 2 * floor  # overconfidence is seen


def test_reliability_curve_accounts_for_everyone() -> None:
    labelled, truth = distressed(800, seed=1)
    points = reliability_curve(labelled.risk, truth, 2)
    assert sum(point["persons"] for point in points) == len(labelled)
    observed = sum(point["persons"] * point["observed"] for point in points)
    assert observed == pytest.approx((labelled.risk == 2).sum())


def test_confusion_matrix_closed_form() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 0])
    matrix = confusion_matrix(labels, np.eye(3)[predicted])
    assert matrix["counts"] == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert matrix["recall"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert matrix["precision"] == pytest.approx([2 / 3, 1 / 2, 0])
    absent = confusion_matrix(np.array([0, 2]), np.eye(3)[[0, 0]])
    assert (absent["recall"], absent["precision"]) == ([1.0, None, 0.0], [0.5, None, None])


def test_roc_is_thinned_and_has_the_area_that_auc_says() -> None:
    labels, p = predictions(3000, np.random.default_rng(0))
    score = p[:, 2].round(2)  # with ties

    def area(points: list) -> float:
        return float(np.trapezoid([each["tpr"] for each in points], [each["fpr"] for each in points]))

    whole, thin = roc_curve(labels, score, 10_000), roc_curve(labels, score)
    assert area(whole) == pytest.approx(auc(labels == 2, score), abs=1e-12)
    assert len(thin) <= 60 < len(whole)
    assert area(thin) == pytest.approx(area(whole), abs=0.003)
    assert thin[0] == {"fpr": 0.0, "tpr": 0.0, "threshold": None}
    assert (thin[-1]["fpr"], thin[-1]["tpr"], thin[-1]["threshold"]) == (1.0, 1.0, score.min())
    for point in thin[1:]:
        assert point["tpr"] == pytest.approx((score[labels == 2] >= point["threshold"]).mean())
    assert [each["fpr"] for each in roc_curve(labels, np.full(3000, 0.2))] == [0.0, 1.0]


# Resamples


def test_resamples_are_what_re_indexing_gives() -> None:
    rng = np.random.default_rng(0)
    person = rng.integers(0, 40, 150)  # several weeks each, in no order
    labels, p = predictions(150, rng)
    p = p.round(1)  # with ties
    bootstrap = resample_persons(person, 5, rng)
    persons = np.unique(person)
    assert bootstrap.weights.sum(1).tolist() == [len(persons)] * 6
    draws = metric_draws(labels, p, bootstrap)
    for r in range(6):
        times = bootstrap.weights[r].astype(int)[np.searchsorted(persons, person)]
        rows = np.repeat(np.arange(150), times)
        for name, expected in risk_metrics(labels[rows], p[rows]).items():
            if name not in ("ece", "ece_debiased") or r == 0:  # these allow for the resamples' own noise
                assert draws[name][r] == pytest.approx(expected if name != "ece_debiased" else draws[name][0]), name


def test_a_part_of_the_rows_keeps_its_persons() -> None:
    rng = np.random.default_rng(0)
    person, values, chosen = rng.integers(0, 20, 50), rng.normal(size=(50, 2)), rng.random(50) < 0.4
    bootstrap = resample_persons(person, 7, rng)
    assert bootstrap.select(chosen).sums(values[chosen]) == pytest.approx(bootstrap.sums(values * chosen[:, None]))


def test_more_weeks_of_the_same_persons_are_no_new_evidence() -> None:
    rng = np.random.default_rng(0)
    labels, p = predictions(60, rng)

    def intervals(times: int, person: np.ndarray) -> dict:
        bootstrap = resample_persons(person, 200, np.random.default_rng(1))
        return summarise(metric_draws(np.repeat(labels, times), np.repeat(p, times, axis=0), bootstrap))["intervals"]

    once, cloned, naive = (
        intervals(times, person)
        for times, person in ((1, np.arange(60)), (4, np.arange(240) // 4), (4, np.arange(240)))
    )
    for name in once:
        assert cloned[name] == pytest.approx(once[name]), name
    assert np.ptp(naive["accuracy"]) < 0.7 * np.ptp(once["accuracy"])


def test_a_resample_without_a_case_says_nothing() -> None:
    labels, p = predictions(30, np.random.default_rng(3))
    labels[:], labels[0] = 0, 2
    bootstrap = resample_persons(np.arange(30), 100, np.random.default_rng(0))
    draws = metric_draws(labels, p, bootstrap)
    without = bootstrap.weights[:, 0] == 0
    assert 0 < without.sum() < 100
    assert np.array_equal(np.isnan(draws["recall_high"]), without)
    assert np.array_equal(np.isnan(draws["auc_high"]), without)
    assert interval(draws["recall_high"]) == [draws["recall_high"][0]] * 2
    assert summarise(metric_draws(np.zeros(30, int), p, bootstrap))["intervals"]["auc_high"] is None


def test_a_constant_score_has_an_auc_of_a_half_for_certain() -> None:
    labels, _ = predictions(50, np.random.default_rng(0))
    bootstrap = resample_persons(np.arange(50), 50, np.random.default_rng(0))
    result = summarise(metric_draws(labels, np.tile([0.5, 0.3, 0.2], (50, 1)), bootstrap))
    assert (result["auc_high"], result["intervals"]["auc_high"]) == (0.5, [0.5, 0.5])


def test_every_interval_holds_its_value() -> None:
    labels, p = predictions(400, np.random.default_rng(0), sharpness=1.5)
    result = summarise(metric_draws(labels, p, resample_persons(np.arange(400), 200, np.random.default_rng(0))))
    for name, (low, high) in result["intervals"].items():
        assert low < result[name] < high, name


# Calibration error free of chance


def test_debiased_error_is_the_mean_product_of_gaps_of_two_persons() -> None:
    rng = np.random.default_rng(0)
    person = rng.integers(0, 12, 30)
    labels, p = predictions(30, rng)
    weights = np.stack([np.ones(12), rng.integers(0, 4, 12)])
    squares = np.zeros(2)
    for k in range(3):
        which = np.minimum((p[:, k] * 15).astype(int), 14)
        gap = (labels == k) - p[:, k]
        for b in range(15):
            products, pairs, size = np.zeros(2), np.zeros(2), weights[:, person[which == b]].sum(1)
            for i, j in permutations(np.flatnonzero(which == b), 2):
                if person[i] != person[j]:
                    both = weights[:, person[i]] * weights[:, person[j]]
                    products, pairs = products + both * gap[i] * gap[j], pairs + both
            squares += size * np.divide(products, pairs, out=np.zeros(2), where=pairs > 0)
    expected = squares / weights[:, person].sum(1) / 3
    draws = np.array([metric_draws(labels, p, Bootstrap(row[None], person))["ece_debiased"][0] for row in weights])
    assert np.sign(draws) * np.square(draws) == pytest.approx(expected)


@pytest.mark.parametrize("n", [300, 1200])
def test_debiased_error_is_right_where_ece_is_too_large_and_ece_less_its_floor_too_small(n: int) -> None:
    rng = np.random.default_rng(0)

    def squared(error: float) -> float:
        return float(np.sign(error) * error**2)

    true = [ece_debiased(*predictions(200_000, rng, sharpness)) for sharpness in (1.0, 1.6)]
    assert abs(true[0]) < 0.005 < 0.05 < true[1]
    for error, sharpness in zip(true, (1.0, 1.6), strict=True):
        samples = [predictions(n, rng, sharpness) for _ in range(150)]
        found = [squared(ece_debiased(*sample)) for sample in samples]
        standard_error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) == pytest.approx(squared(error), abs=4 * standard_error)
        plain = np.mean([ece(*sample) for sample in samples])
        if sharpness == 1.0:
            assert plain > 0.02
        else:
            floors = np.mean([ece_floor(p, rng, 5) for _, p in samples])
            assert plain - floors < 0.8 * ece(*predictions(200_000, rng, sharpness))


@pytest.mark.parametrize("sharpness", [1.0, 1.6])
def test_interval_of_the_debiased_error_is_neither_blind_nor_rash(sharpness: float) -> None:
    rng = np.random.default_rng(1)
    true = ece_debiased(*predictions(200_000, rng, sharpness))
    covered, holds_0 = [], []
    for _ in range(100):
        bootstrap = resample_persons(np.arange(600), 100, rng)
        low, high = interval(metric_draws(*predictions(600, rng, sharpness), bootstrap)["ece_debiased"])  # type: ignore[misc]
        covered.append(low <= true <= high)
        holds_0.append(low <= 0 <= high)
    assert np.mean(covered) > 0.8
    assert np.mean(holds_0) > 0.9 if sharpness == 1.0 else np.mean(holds_0) < 0.4


def test_debiased_errors_of_resamples_are_centred_on_the_samples() -> None:
    labels, p = predictions(500, np.random.default_rng(0), 1.6)
    draws = metric_draws(labels, p, resample_persons(np.arange(500), 2000, np.random.default_rng(0)))
    squares = np.sign(draws["ece_debiased"]) * draws["ece_debiased"] ** 2
    assert squares[1:].mean() == pytest.approx(squares[0], rel=0.06)
    assert draws["ece"][1:].mean() == pytest.approx(draws["ece"][0], rel=0.01)
