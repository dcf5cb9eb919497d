"""The least dose: what is lowered, how the curve is found, and where it is enough."""

import pytest
import torch
from helpers_envs import people, world_of
from test_evaluation import simulation

from core.patients import Patients
from core.protocols import NullTracker
from core.treatments import MIN_INTENSITY
from envs.simulation import Simulation
from intervention.baselines import Constant
from intervention.dose_finding import Lowered, dose_curve, least_share
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

    curve, reference = dose_curve(Constant(2, 0.8), Constant(0, 0.0), [0.5], make, rows, [3, 4], NullTracker())
    assert list(curve) == [0.5, 1.0]
    plain = {"0.5": Constant(2, 0.4), "1.0": Constant(2, 0.8), "none": Constant(0, 0.0)}
    means = courses(run_policies(plain, make, rows, [3, 4], NullTracker())).groupby(level="policy").mean()
    for name, found in {"0.5": curve[0.5], "1.0": curve[1.0], "none": reference}.items():
        for key, value in found.items():
            assert value == pytest.approx(means.loc[name, key]), (name, key)
    assert curve[0.5]["dose_weeks"] < curve[1.0]["dose_weeks"] and reference["dose_weeks"] == 0


@pytest.mark.parametrize(
    ("remission", "enough"),
    [
        ({0.4: 0.1, 0.6: 0.3, 0.8: 0.31, 1.0: 0.32}, 0.6),
        ({0.4: 0.3, 0.6: 0.2, 0.8: 0.31, 1.0: 0.32}, 0.8),  # a lucky low dose does not count below one that fails
        ({0.4: 0.1, 1.0: 0.2}, 1.0),
        ({0.4: 0.25, 1.0: 0.25}, 0.4),
    ],
)
def test_the_least_share_is_the_end_of_an_unbroken_run(remission: dict[float, float], enough: float) -> None:
    curve = {share: {"remission": value} for share, value in remission.items()}
    assert least_share(curve, 0.25) == enough
