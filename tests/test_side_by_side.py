"""Trainings side by side: the same results in the same order, whatever the number of processes."""

import os

import pytest
import torch

from core.errors import NumericalError
from core.protocols import Tracker
from intervention.side_by_side import KeptTracker, side_by_side


def train(seed: int, steps: int, tracker: Tracker) -> tuple[torch.Tensor, int, int]:
    """A training in small: what it found, the process it ran in, the threads it had."""
    if steps < 0:
        raise NumericalError(f"steps is {steps}")
    generator = torch.Generator().manual_seed(seed)
    for step in tracker.track(range(steps), "steps"):
        tracker.scalar("loss", float(seed), step)
    tracker.note(f"seed {seed} done")
    return torch.randn(steps, generator=generator), os.getpid(), torch.get_num_threads()


def test_the_number_of_processes_changes_neither_results_nor_what_the_tracker_hears() -> None:
    jobs, threads = [(1, 3), (2, 2), (3, 1)], torch.get_num_threads()
    alone, apart = KeptTracker(), KeptTracker()
    one = list(side_by_side(train, jobs, "trainings", alone, processes=1))
    two = list(side_by_side(train, jobs, "trainings", apart, processes=2))
    assert all(torch.equal(a, b) for (a, *_), (b, *_) in zip(one, two, strict=True))
    assert [len(found) for found, *_ in two] == [3, 2, 1]
    assert alone.scalars == apart.scalars and alone.notes == apart.notes == [f"seed {n} done" for n in (1, 2, 3)]
    assert {pid for _, pid, _ in one} == {os.getpid()} and os.getpid() not in {pid for _, pid, _ in two}
    assert {n for *_, n in one + two} == {1} and torch.get_num_threads() == threads


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_that_fails_stops_all_with_its_own_error(processes: int) -> None:
    with pytest.raises(NumericalError, match="steps is -1"):
        list(side_by_side(train, [(1, 2), (2, -1)], "trainings", KeptTracker(), processes))
