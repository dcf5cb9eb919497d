"""The least dose: what is lowered, how the curve is found, and where it is enough."""

import math

import pandas as pd
import pytest
import torch
from helpers_envs import people, world_of
from scipy.stats import ttest_1samp
from test_evaluation import simulation

from core.patients import Patients
from core.protocols import NullTracker
from core.treatments import MIN_INTENSITY
from envs.simulation import Simulation
from intervention.baselines import Constant
from intervention.dose_finding import Lowered, dose_curve, least_share, lower_end
from intervention.evaluation import courses, run_policies


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(60)


@pytest.mark.parametrize(("share", "expected"), [(1.0, 0.8), (0.5, 0.4), (0.05, MIN_INTENSITY)])
def test_every_intensity_is_lowered_and_no_treatment_changed(patients: Patients, share: float, expected: float) -> None:
    sim, rows = simulation(patients, 5), torch.arange(5)
    policy = Lowered(Constant(3, 0.8), share)
    observation = sim.reset(rows=rows)
    policy.reset(sim, rows)
    treatment, intensity = policy.act(sim, observation, rows)
    assert (treatment == 3).all() and torch.allclose(intensity, torch.full((5,), expected))


def test_the_curve_is_what_constants_of_these_doses_do(patients: Patients) -> None:
    world, rows = world_of(patients), torch.arange(len(patients))

    def make(seed: int) -> Simulation:
        return Simulation(*world, len(rows), seed)

    curve, reference = dose_curve(Constant(2, 0.8), Constant(0, 0.0), [0.5], make, rows, [3, 4], 0.95, NullTracker())
    assert list(curve) == [0.5, 1.0]
    plain = {"0.5": Constant(2, 0.4), "1.0": Constant(2, 0.8), "none": Constant(0, 0.0)}
    table = courses(run_policies(plain, make, rows, [3, 4], NullTracker()))
    means = table.groupby(level="policy").mean()
    by_patient = table["remission"].unstack("policy").groupby(level="patient").mean()
    for share, row in curve.items():
        gained = by_patient[str(share)] - by_patient["none"]
        low = ttest_1samp(gained, 0).confidence_interval(0.95).low
        assert row.pop("remission_gained") == pytest.approx(low, abs=0.003)  # normal for Student's t
    for name, found in {"0.5": curve[0.5], "1.0": curve[1.0], "none": reference}.items():
        for key, value in found.items():
            assert value == pytest.approx(means.loc[name, key]), (name, key)
    assert curve[0.5]["dose_weeks"] < curve[1.0]["dose_weeks"] and reference["dose_weeks"] == 0


@pytest.mark.parametrize(
    ("gained", "enough"),
    [
        ({0.4: -0.1, 0.6: 0.02, 0.8: 0.03, 1.0: 0.04}, 0.6),
        ({0.4: 0.1, 0.6: -0.1, 0.8: 0.03, 1.0: 0.04}, 0.8),  # a lucky low dose does not count below one that fails
        ({0.4: -0.2, 1.0: -0.1}, 1.0),
        ({0.4: 0.0, 1.0: 0.0}, 0.4),
    ],
)
def test_the_least_share_is_the_end_of_an_unbroken_run(gained: dict[float, float], enough: float) -> None:
    assert least_share({share: {"remission_gained": value} for share, value in gained.items()}) == enough


def test_what_may_be_luck_is_not_enough() -> None:
    """One patient in four does better, nobody worse: shown by sixty-four, not by eight."""
    few, many = pd.Series([1.0, 1.0, 0, 0, 0, 0, 0, 0]), pd.Series([1.0] * 16 + [0.0] * 48)
    assert lower_end(few, 0.95) < 0 < lower_end(many, 0.95)
    assert lower_end(many, 0.95) == pytest.approx(0.25 - 1.96 * math.sqrt(0.25 * 0.75 / 63), abs=1e-4)
