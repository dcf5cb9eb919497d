"""Numbers that are none, and cohorts from which little can be learned: training stops at the step, or one line says why."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_predictor import distressed, gentle
from helpers_twin import make_patients, settings, small_trials
from test_policy import NAMES, SMALL, Bandit

from core.artifact import Artifact
from core.cohort import MIN_PERSONS, RISK_CLASSES, require_classes, validate
from core.errors import DataError, NumericalError
from core.gradients import clip
from core.protocols import NullTracker
from intervention.training import train_policy
from intervention.twin_training import train_twin
from predictor.training import train_risk


@pytest.fixture
def poisoned() -> Iterator[Callable[[int], None]]:
    """Spoil the gradient that ``clip`` meets at its n-th call: the loss stays finite, its derivative does not."""
    whole = torch.nn.utils.clip_grad_norm_
    calls = iter(range(10_000))

    def at(step: int) -> None:
        def spoil(parameters, most):  # type: ignore[no-untyped-def]
            held = list(parameters)
            if next(calls) == step:
                held[0].grad.view(-1)[0] = float("inf")
            return whole(held, most)

        torch.nn.utils.clip_grad_norm_ = spoil

    yield at
    torch.nn.utils.clip_grad_norm_ = whole


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_moves_no_weight(bad: float) -> None:
    net = torch.nn.Linear(3, 2)
    before = [weight.clone() for weight in net.parameters()]
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(4, 3)).sum().backward()
    net.weight.grad[0, 0] = bad
    with pytest.raises(NumericalError, match=r"^here: the norm of the gradient is (nan|inf); lower the rate$"):
        clip(net.parameters(), 1.0, "here", "the rate")
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    net.zero_grad()
    (100 * net(torch.ones(4, 3))).sum().backward()
    clip(net.parameters(), 1.0, "here", "the rate")
    norm = torch.cat([weight.grad.flatten() for weight in net.parameters()]).norm()
    assert norm == pytest.approx(1, abs=1e-4)


def test_risk_stops_at_the_step_of_a_bad_gradient(poisoned: Callable[[int], None]) -> None:
    poisoned(4)
    with pytest.raises(NumericalError, match=r"risk, step 5: the norm of the gradient is .*lower risk.graded.rate"):
        train_risk(distressed(200, seed=0)[0], gentle(20), (), 0, NullTracker())


def test_the_twin_stops_at_the_step_of_a_bad_gradient(poisoned: Callable[[int], None]) -> None:
    patients = make_patients()
    poisoned(2)
    with pytest.raises(NumericalError, match=r"twin, step 2: the norm of the gradient is .*lower twin.learning_rate"):
        train_twin(small_trials(patients), patients, settings(steps=4, batch=32, members=1, validate_every=2), 0, NullTracker())  # fmt: skip


def test_the_policy_stops_and_its_checkpoints_are_those_of_before(poisoned: Callable[[int], None]) -> None:
    chosen = replace(SMALL, steps=4096, epochs=2, leg_rollouts=1)
    whole: list[Artifact] = []
    train_policy(Bandit(256), chosen, 0, NullTracker(), NAMES, on_checkpoint=whole.append)
    kept: list[Artifact] = []
    poisoned(9)
    with pytest.raises(NumericalError, match=r"policy: a weight became non-finite by step \d+; lower policy") as caught:
        train_policy(Bandit(256), chosen, 0, NullTracker(), NAMES, on_checkpoint=kept.append)
    rollout = chosen.environments * chosen.rollout_weeks
    stopped = int(str(caught.value).split("step ")[1].split(";")[0])
    assert stopped < chosen.steps and len(kept) == stopped // rollout - 1  # one for every rollout before the bad one
    assert kept
    for standing, expected in zip(kept, whole, strict=False):
        assert all(torch.equal(standing.tensors[name], expected.tensors[name]) for name in expected.tensors)


@pytest.mark.parametrize("only", range(3))
def test_labels_of_one_class_are_one_line(only: int) -> None:
    cohort = distressed(100, seed=0)[0]
    flat = cohort.with_risk(np.full(len(cohort), only))
    for act in (lambda: require_classes(flat, "held-out persons"), lambda: train_risk(flat, gentle(5), (), 0, NullTracker())):  # fmt: skip
        with pytest.raises(DataError, match=f"class '.*{RISK_CLASSES[only]} 100.*bring more persons") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_constant_signals_are_learned_from_and_give_numbers() -> None:
    cohort = distressed(200, seed=0)[0]
    rhythms = cohort.rhythms.copy()
    rhythms[:, :, 2:] = rhythms[:1, :1, 2:]
    flat = replace(cohort, rhythms=rhythms)
    scores = train_risk(flat, gentle(10), (), 0, NullTracker()).predict_cohort(flat)
    assert np.isfinite(scores).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_five_persons_are_too_few_and_said() -> None:
    five = distressed(200, seed=0)[0].select(np.arange(5))
    with pytest.raises(DataError, match=f"5 persons with a usable week, expected at least {MIN_PERSONS}; bring more"):
        validate(five, "data=csv")
    with pytest.raises(DataError) as caught:
        train_risk(five, gentle(5), (), 0, NullTracker())
    assert "\n" not in str(caught.value)
