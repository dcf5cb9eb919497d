"""The same patients under every choice: their luck is shared, the choice is kept, and one course is what the simulation gives."""

import pytest
import torch
from helpers_envs import people, simulation

from core.treatments import CONTROL
from intervention.baselines import Constant
from intervention.what_if import what_if, what_policy

CHOICES = [(CONTROL, 0.0), (2, 0.6), (2, 0.6), (4, 1.0)]
ROWS, WEEKS = torch.tensor([3, 3, 0]), 5


@pytest.fixture(scope="module")
def make():
    patients = people(8)
    return lambda size: simulation(patients, size)


def test_equal_choices_have_equal_courses_and_others_have_not(make) -> None:
    found = what_if(make, ROWS, CHOICES, WEEKS, 7)
    assert found.risk.shape == (4, 3, WEEKS + 1) and found.mean.shape == (4, 3, WEEKS + 1, 4)
    for each in (found.risk, found.mean, found.adverse, found.remitted):
        assert torch.equal(each[1], each[2])
    assert not torch.equal(found.risk[0], found.risk[1]) and not torch.equal(found.risk[1, 0], found.risk[1, 1])
    assert (found.risk[:, :, 0] == found.risk[0, :, 0]).all() and found.risk[0, 0, 0] == found.risk[0, 1, 0]
    assert (found.intensity[0] == 0).all() and (found.treatment[3] == 4).all() and (found.intensity[3] == 1).all()
    assert (found.remitted[:, :, 1:] >= found.remitted[:, :, :-1]).all()


def test_a_course_is_the_simulations_own(make) -> None:
    found = what_if(make, ROWS, CHOICES, WEEKS, 7)
    alone = make(1)
    alone.reseed(torch.tensor([7 + 2]))  # the third course
    alone.reset(rows=ROWS[2:])
    for week in range(WEEKS):
        alone.step(torch.tensor([2]), torch.tensor([0.6]))
        assert alone.risk[0] == found.risk[1, 2, week + 1]
        torch.testing.assert_close(alone.days[0].mean(dim=0), found.mean[1, 2, week + 1])


def test_a_policy_meets_the_same_luck(make) -> None:
    found, chosen = what_if(make, ROWS, CHOICES, WEEKS, 7), what_policy(make, ROWS, Constant(2, 0.6), WEEKS, 7)
    assert torch.equal(chosen.risk[0], found.risk[1]) and torch.equal(chosen.treatment[0], found.treatment[1])
