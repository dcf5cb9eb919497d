"""Training the Twin: repeatable, and what a teacher of known effects teaches is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_twin import EFFECTS, SCALER, SHAPE, Curved, design, make_patients, settings, small_trials

from core.errors import NumericalError
from core.patients import Patients
from core.protocols import NullTracker
from core.random import stream_keys
from core.treatments import CONTROL, TREATMENTS
from intervention.courses import read_courses
from intervention.rollouts import constant, rollout
from intervention.trials import VirtualTrials, simulate_trials
from intervention.twin import TwinDynamics
from intervention.twin_losses import course_losses
from intervention.twin_training import refit_level, start_carry, train_twin

BETWEEN = torch.tensor(SCALER.between)


@pytest.fixture(scope="module")
def patients() -> Patients:
    return make_patients()


@pytest.fixture(scope="module")
def trials(patients: Patients) -> VirtualTrials:
    return small_trials(patients)


def test_training_twice_or_in_two_processes_gives_the_same_twin(patients: Patients, trials: VirtualTrials) -> None:
    before = torch.random.get_rng_state()
    chosen = settings(steps=6, batch=32, members=2, validate_every=3, written_weeks=2)
    first, second = (train_twin(trials, patients, chosen, 4, NullTracker()).to_artifact() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.meta == second.meta
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert not torch.equal(first.tensors["members.0.carry"], first.tensors["members.1.carry"])
    apart = train_twin(trials, patients, chosen, 4, NullTracker(), processes=2).to_artifact()
    assert all(torch.equal(first.tensors[name], apart.tensors[name]) for name in first.tensors)
    other = train_twin(trials, patients, chosen, 5, NullTracker()).to_artifact()
    assert not torch.equal(first.tensors["members.0.carry"], other.tensors["members.0.carry"])


def test_a_loss_that_is_no_number_stops_training_in_any_process(patients: Patients, trials: VirtualTrials) -> None:
    spoilt = replace(trials, level=np.full_like(trials.level, np.nan))
    chosen = settings(steps=2, batch=32, members=2, validate_every=2)
    for processes in (1, 2):
        with pytest.raises(NumericalError, match=r"twin: loss is nan at step 0; lower twin\.learning_rate"):
            train_twin(spoilt, patients, chosen, 0, NullTracker(), processes)


def test_the_days_of_a_course_are_scored_in_parts_that_add_up(patients: Patients, trials: VirtualTrials) -> None:
    """The weeks written change the days' likelihood alone, whose mean over the parts is that of the whole."""
    net = train_twin(trials, patients, settings(steps=2, batch=32, validate_every=2), 0, NullTracker()).networks()[0]
    courses, between = read_courses(trials, patients, SHAPE.retention), torch.ones(4)
    with torch.no_grad():
        whole, *parts = (
            course_losses(net, courses, between, torch.tensor(weeks), torch.arange(5))
            for weeks in ([0, 1, 2, 3], [0, 2], [3, 1])
        )
    assert parts[0]["nll"] != parts[1]["nll"]
    assert (parts[0]["nll"] + parts[1]["nll"]).item() / 2 == pytest.approx(whole["nll"].item(), abs=1e-5)
    for name in set(whole) - {"nll"}:
        assert torch.equal(whole[name], parts[0][name]), name


def test_training_begins_at_the_carry_over_of_the_days(patients: Patients, trials: VirtualTrials) -> None:
    """Days that are autoregressive around their week's level, each signal in its own way."""
    courses, phi = read_courses(trials, patients, SHAPE.retention), torch.tensor([0.0, 0.2, 0.85, -0.3])
    noise = torch.randn(courses.weeks[:, 1:].shape, generator=torch.Generator().manual_seed(2))
    for day in range(1, 7):
        noise[:, :, day] = phi * noise[:, :, day - 1] + (1 - phi.square()).sqrt() * noise[:, :, day]
    weeks = torch.cat([courses.weeks[:, :1], courses.true_level.unsqueeze(2) + noise], dim=1)
    net = train_twin(trials, patients, settings(steps=1, batch=4, validate_every=1), 0, NullTracker()).networks()[0]
    start_carry(net, replace(courses, weeks=weeks))
    assert torch.allclose(net.carry, phi, atol=0.05)


def test_the_refit_is_the_least_squares_solution(patients: Patients, trials: VirtualTrials) -> None:
    """No change of the last layers makes the level's loss smaller: small steps either way make it larger."""
    net = train_twin(trials, patients, settings(steps=4, batch=32, validate_every=4), 0, NullTracker()).networks()[0]
    courses, between = read_courses(trials, patients, SHAPE.retention), torch.ones(4)

    def loss() -> float:
        return course_losses(net, courses, between, torch.tensor([0]), torch.arange(len(TREATMENTS)))["level"].item()

    for layer in (net.level_out, net.level_linear):
        with torch.no_grad():
            layer.weight.add_(0.3)
    worse = loss()
    refit_level(net, courses, 64)
    best = loss()
    assert best < worse
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (net.level_out.weight, net.level_linear.weight, net.level_linear.bias):
            step = 0.02 * torch.randn(parameter.shape, generator=generator)
            for sign in (1, -1):
                parameter.add_(sign * step)
                assert loss() > best
                parameter.sub_(sign * step)


@pytest.fixture(scope="module")
def taught() -> TwinDynamics:
    """A Twin of the teacher whose treatment 2 is best in the middle of its doses."""
    patients = make_patients(200)
    trials = simulate_trials(Curved, patients, design(courses=2000, weeks=2, batch=2000), 0, NullTracker())
    shape = replace(SHAPE, head=64)
    chosen = settings(shape=shape, steps=200, batch=64, learning_rate=0.03, validate_every=100, written_weeks=2)
    return TwinDynamics(train_twin(trials, patients, chosen, 0, NullTracker()), patients)


def test_learns_a_planted_effect(taught: TwinDynamics) -> None:
    """Each treatment moves the signals as the teacher has it; and persons keep their own level."""
    rows = torch.arange(200)
    keys = stream_keys(1, rows)
    own = SCALER.unscale(taught.base)
    for treatment in range(len(TREATMENTS)):
        on = rollout(taught, rows, constant(treatment, 0.8, 200, 2), keys)[-1]
        off = rollout(taught, rows, constant(CONTROL, 0.8, 200, 2), keys)[-1]
        effect = Curved.share(torch.tensor(treatment), torch.tensor(0.8)) * EFFECTS[treatment]
        shift = (on.week - off.week).mean(dim=(0, 1))
        assert ((shift - effect).abs() / BETWEEN).max() < 0.12, treatment
        assert ((on.level - off.level).mean(dim=0) - effect).abs().div(BETWEEN).max() < 0.12, treatment
        assert torch.corrcoef(torch.stack([on.level[:, 1], own[:, 1] + effect[1]]))[0, 1] > 0.9
    residual = (on.week - on.level[:, None]).std(dim=(0, 1))
    assert torch.allclose(residual, torch.full((4,), 0.5), rtol=0.4)


def test_learns_a_dose_curve_that_falls_again(taught: TwinDynamics) -> None:
    """Half a dose of treatment 2 does all, a full one nothing; treatment 3 goes on rising."""
    doses, rows = torch.linspace(0.1, 1.0, 10), torch.arange(200)
    state = taught.start(rows, rows)
    off = taught.foresee(state, [(torch.zeros_like(rows), torch.zeros(200))])[0][0]
    for treatment, signal, inside in ((2, 3, True), (3, 2, False)):
        levels, _ = taught.foresee(state, [(torch.full_like(rows, treatment), torch.full((200,), u)) for u in doses])
        curve = torch.stack([(level - off).mean(dim=0)[signal] for level in levels])
        true = Curved.share(torch.tensor(treatment), doses) * EFFECTS[treatment, signal]
        assert ((curve - true).abs() / BETWEEN[signal]).max() < 0.2
        peak = int(curve.abs().argmax())
        assert 2 <= peak <= 6 if inside else peak == 9
