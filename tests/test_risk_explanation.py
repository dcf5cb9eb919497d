"""Why a score is what it is: attributions against closed forms, their check against planted bugs, drivers, response."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_predictor import distressed, gentle, ruled, steep, week_of
from torch import Tensor

from core.cohort import Cohort
from core.protocols import NullTracker, risk_score
from core.signals import WEEKDAYS, names
from predictor import explain
from predictor.dual_lstm import DualLSTMRisk
from predictor.explain import (
    TOLERANCE,
    attribution_summary,
    attributions,
    batch_drivers,
    carrying_days,
    driver_names,
    integrate,
    reference_weeks,
    signal_response,
    top_drivers,
)
from predictor.settings import RiskSettings
from predictor.training import train_risk

HIDDEN = ("dass_stress",)
STRESS, THURSDAY = 3, WEEKDAYS.index("Thu")
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return distressed(1000, seed=0)[0]


def trained(cohort: Cohort, settings: RiskSettings) -> DualLSTMRisk:
    return train_risk(cohort, settings, HIDDEN, 0, NullTracker())


@pytest.fixture(scope="module")
def scored_by(cohort: Cohort) -> Callable[[Score], DualLSTMRisk]:
    """Makes a risk model, of persons like these, whose score is ``score(features, z, mask)``."""
    untold = trained(cohort, gentle(10))
    return lambda score: scoring(copy.deepcopy(untold), score)


def scoring(model: DualLSTMRisk, score: Score) -> DualLSTMRisk:
    def probabilities(features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        observed = torch.ones_like(week, dtype=torch.bool) if mask is None else mask
        z = model.scaler.scale(week)
        high = score(features, torch.where(observed, z, torch.zeros_like(z)), observed)
        return torch.stack([1 - high, torch.zeros_like(high), high], dim=-1)

    model.probabilities = probabilities  # type: ignore[method-assign]
    return model


def linear(features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    return 0.5 + 0.05 * features[:, 0] + 0.02 * z[:, THURSDAY, STRESS] - 0.01 * z[:, :, 0].sum(1)


def sharp(features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """Thresholds: of Thursday's stress, and of the longest night's sleep."""
    steps = torch.sigmoid(80 * (z[:, THURSDAY, STRESS] - 0.31)) + torch.sigmoid(-200 * (z[:, :, 0].amax(1) - 1.2))
    return 0.1 + 0.4 * steps + 0.01 * features[:, 0]


@pytest.fixture(scope="module")
def gentle_model(cohort: Cohort) -> DualLSTMRisk:
    return trained(cohort, gentle(120))


@pytest.fixture(scope="module")
def sharp_model() -> DualLSTMRisk:
    return trained(ruled(1000, 0), steep(150))


# Integration


def test_parts_of_a_polynomial_are_exact_and_take_no_halving() -> None:
    asked: list[int] = []

    def slope(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(rows))
        return torch.stack([3 * share**2, rows * 2 * share], dim=1), share**3 + rows * share**2

    parts, first, last = integrate(slope, 3, segments=2)
    assert torch.allclose(parts, torch.tensor([[1.0, 0], [1, 1], [1, 2]]), atol=1e-6)
    assert first.tolist() == [0, 0, 0] and last.tolist() == [1, 2, 3]
    assert sum(asked) == 3 * (3 + 2)


def test_a_step_that_a_fixed_grid_misses_is_found() -> None:
    at, steepness = torch.tensor([0.137, 0.5, 0.871]), 500.0

    def slope(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.sigmoid(steepness * (share - at[rows]))
        return (steepness * value * (1 - value))[:, None], value

    found = integrate(slope, 3)[0]
    grid = integrate(slope, 3, segments=16, halvings=0)[0]
    assert (found - 1).abs().max() < TOLERANCE
    assert (grid - 1).abs().max() > 0.3


# Attributions


def test_linear_scores_have_closed_form_attributions(
    cohort: Cohort, scored_by: Callable[[Score], DualLSTMRisk]
) -> None:
    model = scored_by(linear)
    features, week, mask = (tensor[:50] for tensor in model.inputs(cohort))
    found = attributions(model, features, week, mask)
    z = model.scaler.scale(week)
    by_day = torch.zeros_like(week)
    by_day[:, THURSDAY, STRESS] = 0.02 * z[:, THURSDAY, STRESS]
    by_day[:, :, 0] = -0.01 * z[:, :, 0]
    assert torch.allclose(found.days, by_day, atol=1e-6)
    assert torch.allclose(found.profile[:, 0], 0.05 * features[:, 0], atol=1e-6)
    assert not found.profile[:, 1:].any()
    assert torch.allclose(found.reference, torch.tensor(0.5), atol=1e-6)


def check_completeness(model: DualLSTMRisk, cohort: Cohort, tolerance: float) -> None:
    """The attributions' sum is what the model itself says, with some values unobserved."""
    features, week, mask = model.inputs(cohort)
    mask = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) > 0.1)
    found = attributions(model, features, week, mask)
    score = risk_score(model.probabilities(features, week, mask))
    average = torch.stack(
        [
            risk_score(model.probabilities(torch.zeros_like(features), origin.expand_as(week), mask))
            for origin in reference_weeks(model)
        ]
    ).mean(0)
    gap = found.profile.sum(1) + found.days.sum((1, 2)) - (score - average).detach()
    assert torch.allclose(gap, found.error, atol=1e-5)
    assert gap.abs().max() < tolerance
    assert (score - average).abs().max() > 20 * tolerance  # there is something to explain


def test_attributions_add_up_for_a_sharp_score(cohort: Cohort, scored_by: Callable[[Score], DualLSTMRisk]) -> None:
    check_completeness(scored_by(sharp), cohort.select(np.arange(64)), TOLERANCE)


def test_attributions_add_up_for_trained_models(gentle_model: DualLSTMRisk, sharp_model: DualLSTMRisk) -> None:
    check_completeness(gentle_model, distressed(64, 5)[0], TOLERANCE)
    check_completeness(sharp_model, ruled(64, 5), TOLERANCE)


@pytest.mark.parametrize("bug", ["wrong sign", "dropped signal"])
def test_completeness_catches_a_wrong_gradient(
    cohort: Cohort, bug: str, scored_by: Callable[[Score], DualLSTMRisk]
) -> None:
    right = attributions(scored_by(linear), *scored_by(linear).inputs(cohort.select(np.arange(5))))

    def wrong(features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """The same score; the gradient by the stress that autograd sees is not its own."""
        stress = z[:, :, STRESS:].detach()
        if bug == "wrong sign":
            stress = 2 * stress - z[:, :, STRESS:]
        return linear(features, torch.cat([z[:, :, :STRESS], stress], dim=2), mask)

    model = scored_by(wrong)
    found = attributions(model, *model.inputs(cohort.select(np.arange(5))))
    assert torch.allclose(found.score, right.score)
    assert right.error.abs().max() < 1e-5
    assert found.error.abs().max() > 4 * TOLERANCE


def test_what_was_not_observed_adds_exactly_nothing(gentle_model: DualLSTMRisk, cohort: Cohort) -> None:
    features, week, mask = (tensor[:32] for tensor in gentle_model.inputs(cohort))
    mask = mask.clone()
    mask[:, 2], mask[:16, :, 1], mask[0] = False, False, False
    found = attributions(gentle_model, features, torch.where(mask, week, torch.full_like(week, torch.nan)), mask)
    assert not found.days[~mask].any()
    assert (found.days[mask] != 0).float().mean() > 0.9
    assert torch.isfinite(found.days).all() and found.error.abs().max() < TOLERANCE
    same = attributions(gentle_model, features, week, mask)
    assert torch.equal(same.days, found.days)  # what fills the gap is of no account


def test_attributions_depend_on_nothing_but_the_person(sharp_model: DualLSTMRisk) -> None:
    features, week, mask = (tensor[:12] for tensor in sharp_model.inputs(ruled(20, 3)))
    state = torch.get_rng_state()
    whole, again = (attributions(sharp_model, features, week, mask) for _ in range(2))
    few = attributions(sharp_model, features[7:10], week[7:10])
    assert torch.equal(whole.days, again.days) and torch.equal(whole.profile, again.profile)
    assert torch.allclose(few.days, whole.days[7:10], atol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)


# The reference


def test_reference_weeks_are_average_in_every_day_and_in_their_spread(
    gentle_model: DualLSTMRisk, cohort: Cohort
) -> None:
    z = gentle_model.scaler.scale(reference_weeks(gentle_model))
    assert z.shape == (6, 7, 4)
    assert z.mean(0).abs().max() < 1e-5
    weeks = gentle_model.scaler.scale(torch.from_numpy(cohort.rhythms))
    assert torch.allclose(z.std(1, unbiased=False), weeks.std(1, unbiased=False).mean(0).expand(6, 4), rtol=0.03)


def test_ordinary_irregularity_is_not_blamed(cohort: Cohort, scored_by: Callable[[Score], DualLSTMRisk]) -> None:
    def irregular(features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        return 0.1 + 0.3 * (z[:, :, 0].var(1, unbiased=False) + 1e-6).sqrt()

    model = scored_by(irregular)
    ordinary = reference_weeks(model, 7)[8:9]  # none of those it is compared with
    twice = ordinary + (ordinary - ordinary.mean(1, keepdim=True))
    features = torch.zeros(2, model.encoder.size)
    sums = attributions(model, features, torch.cat([ordinary, twice])).days.sum((1, 2))
    spread = float(model.scaler.scale(ordinary)[0, :, 0].std(unbiased=False))
    assert sums.tolist() == pytest.approx([0, 0.3 * spread], abs=TOLERANCE)


# Drivers


def test_the_day_that_counts_is_named(cohort: Cohort, scored_by: Callable[[Score], DualLSTMRisk]) -> None:
    def thursday(features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        return torch.sigmoid(2 * z[:, THURSDAY, STRESS])

    model = scored_by(thursday)
    few = cohort.select(np.arange(100))
    drivers = batch_drivers(model, few, 2)
    stress = model.scaler.scale(torch.from_numpy(few.rhythms))[:, THURSDAY, STRESS]
    assert {row[0][0] for row in drivers} == {"stress (Thu)"}
    assert [row[0][1] > 0 for row in drivers] == (stress > 0).tolist()
    assert all(row[1][1] == 0 for row in drivers)
    carries = carrying_days(attributions(model, *model.inputs(few)).days)
    assert carries[:, THURSDAY, STRESS].all() and carries.sum() == len(few)


def test_a_trained_model_names_the_day_too() -> None:
    """Only Thursday's stress tells the classes apart, and the trained network's explanation says so."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 7, 4))
    risk = np.digitize(z[:, THURSDAY, STRESS], [-0.4, 0.6])
    people = replace(distressed(1200, 0)[0], rhythms=week_of(z)).with_risk(risk)
    model = trained(people, gentle(300, rate=0.01))
    high = people.select(risk == 2)
    named = [row[0][0] for row in batch_drivers(model, high, 1)]
    assert named.count("stress (Thu)") > 0.9 * len(high)
    days = attribution_summary(model, people, 100)["days"]
    assert max(days["stress"]) == days["stress"][THURSDAY] > 3 * max(days["sleep_duration"])


def test_drivers_share_out_the_whole_change(gentle_model: DualLSTMRisk) -> None:
    people = distressed(40, 6)[0]
    found = attributions(gentle_model, *gentle_model.inputs(people))
    drivers = top_drivers(found, driver_names(gentle_model, people.profiles), 100)
    for i, row in enumerate(drivers):
        gender = people.profiles["gender"][i]
        assert {name for name, _ in row} == {*names(people.signals), "age", "bmi", f"gender={gender}"}
        assert sum(value for _, value in row) == pytest.approx(float((found.score - found.reference)[i]), abs=TOLERANCE)
        sizes = [abs(value) for _, value in row]
        assert sizes == sorted(sizes, reverse=True)


def test_drivers_of_a_batch_are_those_of_each_row(gentle_model: DualLSTMRisk) -> None:
    people = distressed(30, 7)[0]
    people = replace(people, profiles=people.profiles.assign(gender=["unheard of", *people.profiles["gender"][1:]]))
    every = batch_drivers(gentle_model, people, 7)
    assert [len(row) for row in every] == [7] * 30
    assert dict(every[0])["gender=unheard of"] == 0
    assert [row[:2] for row in every] == batch_drivers(gentle_model, people, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain, "BATCH", 5)  # persons are explained in parts, each by their own name
        in_parts = batch_drivers(gentle_model, people, 7)
    assert [[name for name, _ in row] for row in in_parts] == [[name for name, _ in row] for row in every]
    alone = batch_drivers(gentle_model, people.select(np.array([4])), 7)[0]
    assert [name for name, _ in alone] == [name for name, _ in every[4]]


def test_the_fewest_days_that_make_up_half_the_pull() -> None:
    days = torch.tensor(
        [
            [0.0, 0, 0, 0.3, 0.2, 0.1, 0.1],  # half of .7: Thu and Fri
            [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            [-0.5, 0.1, 0, 0, 0, 0, 0],  # what pulls the other way is no carrier
            [0, 0, 0, 0, 0, 0, 0],
        ]
    ).T[None]
    carries = carrying_days(days)[0].T
    assert [row.nonzero()[:, 0].tolist() for row in carries] == [[3, 4], [0, 1, 2, 3], [0], []]


# Over a cohort


def test_summary_is_the_mean_over_persons_and_a_file_can_hold_it(
    cohort: Cohort, scored_by: Callable[[Score], DualLSTMRisk]
) -> None:
    model = scored_by(linear)
    summary = json.loads(json.dumps(attribution_summary(model, cohort, 2000)))
    z = model.scaler.scale(torch.from_numpy(cohort.rhythms))
    assert summary["persons"] == len(cohort)
    assert summary["signals"]["stress"] == pytest.approx(0.02 * z[:, THURSDAY, STRESS].abs().mean().item(), rel=1e-3)
    assert summary["days"]["sleep_duration"] == pytest.approx((0.01 * z[:, :, 0].abs().mean(0)).tolist(), rel=1e-3)
    assert summary["days"]["heart_rate"] == [0] * 7
    assert summary["profile"]["age"] > 0 == summary["profile"]["bmi"]
    assert summary["completeness_error_mean"] <= summary["completeness_error_max"] < 1e-5
    weeks = cohort.select(np.repeat(np.arange(30), 3))
    assert attribution_summary(model, weeks, 500)["persons"] == 30
    assert attribution_summary(model, weeks, 10)["persons"] == 10


def test_the_score_answers_in_the_right_direction(gentle_model: DualLSTMRisk) -> None:
    for name, answer in signal_response(gentle_model, distressed(500, 1)[0]).items():
        assert answer["worse"] > 0.02 > -0.02 > answer["better"], name
        assert answer["ordered"] > 0.95, name
