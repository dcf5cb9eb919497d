"""The Twin: its network in closed form, and its face as dynamics."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_twin import SCALER, SHAPE, make_patients, small_trials, untrained
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from core.artifact import Artifact
from core.errors import ArtifactError
from core.patients import Patients
from core.protocols import Outcome, State
from core.random import stream_keys
from core.signals import DAYS, DEFAULT_SIGNALS
from core.treatments import CONTROL, TREATMENTS
from intervention.courses import read_courses
from intervention.record import ACTION, Record, action_features
from intervention.rollouts import constant, rollout
from intervention.seq2seq import (
    LevelLaw,
    clipped_nll,
)
from intervention.trials import VirtualTrials
from intervention.twin import Twin, TwinDynamics
from intervention.twin_losses import course_losses


@pytest.fixture(scope="module")
def patients() -> Patients:
    return make_patients()


@pytest.fixture(scope="module")
def trials(patients: Patients) -> VirtualTrials:
    return small_trials(patients)


# --- network ----------------------------------------------------------------------------------------------------------


def test_clipped_likelihood_is_a_probability() -> None:
    """Density inside plus the two masses on the bounds is 1, whatever mean and sd."""
    low, high, mean, sd = -1.0, 1.5, 0.3, 0.8
    grid = torch.linspace(low, high, 20001, dtype=torch.float64)
    no, yes = torch.zeros_like(grid, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    scale = torch.full_like(grid, sd)
    constant_term = 0.5 * math.log(2 * math.pi)
    inside = torch.trapezoid(torch.exp(-clipped_nll((grid - mean) / sd, scale, no, no) - constant_term), grid)
    at = torch.tensor([(low - mean) / sd], dtype=torch.float64)
    below = torch.exp(-clipped_nll(at, scale[:1], yes, ~yes) - constant_term)
    above = torch.exp(-clipped_nll(at * 0 + (high - mean) / sd, scale[:1], ~yes, yes) - constant_term)
    assert float(inside + below + above) == pytest.approx(1.0, abs=1e-6)


def test_level_law_keeps_its_mean_whatever_its_modes() -> None:
    net = untrained().networks()[0]
    generator = torch.Generator().manual_seed(0)
    history = torch.randn(1, SHAPE.history, generator=generator)
    action, context = torch.rand(1, ACTION, generator=generator), torch.rand(1, 6, generator=generator)
    expected = torch.tensor([[0.5, -1.0, 0.0, 2.0]])
    with torch.no_grad():
        law = net.level_law(history, action, context, expected, torch.zeros(1))
    assert law.weight.min() > 0.01  # both modes count
    assert torch.allclose((law.weight.unsqueeze(-1) * law.mean).sum(dim=1), expected, atol=1e-5)
    fresh = Twin(SHAPE, 1, DEFAULT_SIGNALS, SCALER, 2, 12, seed=1).networks()[0]
    modes = fresh.level_law(history, action, context, expected, torch.zeros(1)).mean[0]
    assert (modes[0] - modes[1]).abs().min() > 1e-4  # modes that begin alike would learn alike for ever
    many = LevelLaw(*(part.expand(200_000, *part.shape[1:]) for part in law))
    drawn = many.sample(torch.rand(200_000, generator=generator), torch.randn(200_000, 5, generator=generator))
    assert torch.allclose(drawn.mean(dim=0), expected[0], atol=0.02)
    spread = torch.diag_embed(law.sd.square()) + law.loading.unsqueeze(-1) * law.loading.unsqueeze(-2)
    assert law.loading.abs().mean(dim=-1).min() > 0.01
    modes_apart = law.mean - expected
    total = (law.weight[..., None, None] * (spread + modes_apart.unsqueeze(-1) * modes_apart.unsqueeze(-2))).sum(dim=1)
    assert torch.allclose(torch.cov(drawn.T), total[0], atol=0.02)


def test_level_law_is_a_mixture_of_gaussians_with_one_common_factor() -> None:
    """Its likelihood is that of full covariances diag(sd^2) + loading loading', and so are its samples."""
    generator, k, c = torch.Generator().manual_seed(0), 3, 4

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    law = LevelLaw(torch.softmax(draw(6, k), dim=-1), draw(6, k, c), draw(6, k, c).exp(), draw(6, k, c))
    covariance = torch.diag_embed(law.sd.square()) + law.loading.unsqueeze(-1) * law.loading.unsqueeze(-2)
    exact = MixtureSameFamily(Categorical(law.weight), MultivariateNormal(law.mean, covariance))
    level = 2 * draw(6, c)
    assert torch.allclose(law.nll(level), -exact.log_prob(level) - 0.5 * c * math.log(2 * math.pi), atol=1e-9)
    n = 40_000
    one = LevelLaw(*(part[:1, :1].expand(n, *part[:1, :1].shape[1:]) for part in law))
    drawn = one.sample(torch.rand(n, generator=generator), draw(n, 1 + c))
    assert torch.allclose(torch.cov(drawn.T), covariance[0, 0], atol=0.03 * covariance[0, 0].max().item())
    # modes far apart and without width tell which one a sample came from
    far = torch.arange(3.0)[:, None].expand(n, k, c)
    apart = LevelLaw(law.weight[:1].float().expand(n, k), far, 0 * far, 0 * far)
    mode = apart.sample(torch.rand(n, generator=generator), torch.zeros(n, 1 + c))[:, 0]
    share = torch.bincount(mode.long(), minlength=k) / n
    assert torch.allclose(share, law.weight[0].float(), atol=0.01)


def test_record_finds_the_slope_of_the_response() -> None:
    """A person who moves by 2 per unit of one treatment's dose shows that slope there and none elsewhere."""
    record, slope = Record.empty(torch.zeros(1, 4), 1), torch.tensor([2.0, 0.0, 0.0, -1.0])
    action = action_features(torch.tensor([3]), torch.tensor([0.5]), torch.tensor([3]))
    for _ in range(400):
        dose = 0.9 * record.traces[0, 2] + 0.1 * action[0, 2]  # what the trace will be
        record = record.after((dose * slope).unsqueeze(0), action, ((0.9, 0.9),))
    assert record.traces[0, 2].item() == pytest.approx(action[0, 2].item(), abs=1e-3)
    found = record.features()[0, ACTION : ACTION + 16].view(4, 4)
    assert found[2].tolist() == pytest.approx(slope.tolist(), abs=0.02)
    assert found[[0, 1, 3]].abs().max() == 0


def test_a_trace_comes_at_one_pace_and_goes_at_another() -> None:
    record, none = Record.empty(torch.zeros(1, 4), 1), torch.zeros(1, 4)
    action = action_features(torch.tensor([2]), torch.tensor([0.8]), torch.tensor([0]))
    share = []
    for taken in (action, action, 0 * action, 0 * action):
        record = record.after(none, taken, ((0.6, 0.9),))
        share.append((record.traces[0, 1] / action[0, 1]).item())
    assert share == pytest.approx([0.4, 0.64, 0.64 * 0.9, 0.64 * 0.81])


def test_action_features_are_orthonormal_over_the_doses_and_fade_with_them() -> None:
    dose = torch.linspace(0.1, 1.0, 200_001, dtype=torch.float64)
    treatment = torch.full(dose.shape, 3)
    again, begun = (
        action_features(treatment, dose, before).unflatten(-1, (-1, 4)) for before in (treatment, 0 * treatment)
    )
    assert begun[..., [0, 1, 3]].abs().max() == 0  # the other treatments'
    found = again[..., :-1, 2]
    assert torch.equal(found, begun[..., :-1, 2])
    assert again[..., -1, 2].abs().max() == 0 and torch.equal(begun[..., -1, 2], found[..., 0])  # that it begins
    assert torch.allclose(found.T @ found / len(dose), torch.eye(found.shape[1], dtype=torch.float64), atol=1e-3)
    assert torch.allclose(found[:, 0] / found[0, 0], dose / dose[0])  # the first is the dose itself
    vanishing = action_features(torch.tensor([3, 0]), torch.tensor([1e-6, 0.9]), torch.tensor([1, 1]))
    assert vanishing[0].abs().max() < 1e-4 and vanishing[1].abs().max() == 0


# --- dynamics ---------------------------------------------------------------------------------------------------------


def live(dynamics: TwinDynamics, rows: Tensor, weeks: int) -> tuple[State, list[Outcome]]:
    state, outcomes = dynamics.start(rows, rows), []
    for week in range(weeks):
        treatment = (rows + week) % len(TREATMENTS)
        state, outcome = dynamics.step(state, treatment, torch.full((len(rows),), 0.6), stream_keys(3, rows, week))
        outcomes.append(outcome)
    return state, outcomes


@pytest.mark.parametrize("members", [1, 3])
def test_outcomes_have_the_promised_shapes(patients: Patients, members: int) -> None:
    state, outcomes = live(TwinDynamics(untrained(members), patients), torch.arange(6), 3)
    outcome = outcomes[-1]
    assert outcome.week.shape == (6, DAYS, 4) and outcome.week.dtype == torch.float32
    assert outcome.adverse.shape == (6,) and outcome.adverse.dtype == torch.bool
    assert outcome.level.shape == (6, 4) and outcome.spread.shape == (6,)
    assert all(len(tensor) == 6 for tensor in state.values())
    assert (outcome.spread > 0).all() if members > 1 else (outcome.spread == 0).all()
    low, high = (torch.tensor([getattr(s, bound) for s in DEFAULT_SIGNALS]) for bound in ("low", "high"))
    assert (outcome.week >= low - 1e-4).all() and (outcome.week <= high + 1e-4).all()


def test_trajectories_do_not_depend_on_the_batch(patients: Patients) -> None:
    dynamics = TwinDynamics(untrained(2), patients)
    _, many = live(dynamics, torch.arange(40), 12)
    _, one = live(dynamics, torch.arange(17, 18), 12)
    for a, b in zip(many, one, strict=True):
        assert torch.allclose(a.week[17], b.week[0], atol=1e-3)  # 1e-5 of heart rate's scale
        assert torch.allclose(a.level[17], b.level[0], atol=1e-3) and bool(a.adverse[17]) == bool(b.adverse[0])


def test_step_leaves_the_state_it_was_given(patients: Patients) -> None:
    dynamics = TwinDynamics(untrained(), patients)
    state, _ = live(dynamics, torch.arange(5), 2)
    before = {name: tensor.clone() for name, tensor in state.items()}
    first = dynamics.step(state, torch.ones(5, dtype=torch.int64), torch.ones(5), torch.arange(5))[1]
    assert all(torch.equal(before[name], state[name]) for name in state)
    again = dynamics.step(state, torch.ones(5, dtype=torch.int64), torch.ones(5), torch.arange(5))[1]
    assert torch.equal(first.week, again.week)


def test_adverse_events_happen_as_often_as_their_probability_says(patients: Patients) -> None:
    dynamics, rows = TwinDynamics(untrained(2), patients), torch.zeros(4000, dtype=torch.int64)
    state, action = dynamics.start(rows, rows), (torch.full((4000,), 4), torch.full((4000,), 0.8))
    probability = dynamics.foresee(state, [action])[1][0]
    assert probability.shape == (4000,)
    adverse = dynamics.step(state, *action, stream_keys(0, torch.arange(4000)))[1].adverse
    assert adverse.float().mean().item() == pytest.approx(probability[0].item(), abs=0.03)
    gentle = dynamics.foresee(state, [(action[0], torch.full((4000,), 0.1))])[1][0]
    assert not torch.allclose(gentle, probability)


def test_control_has_no_intensity_and_treatment_has(patients: Patients) -> None:
    dynamics, rows = TwinDynamics(untrained(), patients), torch.arange(8)
    for treatment, same in ((CONTROL, True), (2, False)):
        outcomes = [
            rollout(dynamics, rows, constant(treatment, intensity, 8, 3), rows)[-1].week for intensity in (0.1, 1.0)
        ]
        assert torch.equal(*outcomes) == same


def test_persons_at_different_weeks_share_a_batch(patients: Patients) -> None:
    """As after an autoreset: each row attends over its own weeks only, also past the memory's ring."""
    dynamics, rows = TwinDynamics(untrained(weeks=4), patients), torch.arange(3)
    states = [live(dynamics, rows, weeks)[0] for weeks in (1, 6)]
    mixed = {name: torch.cat([states[0][name][:1], states[1][name][1:]]) for name in states[0]}
    action = torch.full((3,), 2), torch.full((3,), 0.5)
    outcome = dynamics.step(mixed, *action, rows)[1]
    alone = [dynamics.step(state, *action, rows)[1] for state in states]
    assert torch.allclose(outcome.week[:1], alone[0].week[:1], atol=1e-4)
    assert torch.allclose(outcome.week[1:], alone[1].week[1:], atol=1e-4)


def test_carrying_the_state_equals_training_on_the_whole_course(patients: Patients, trials: VirtualTrials) -> None:
    """If the teacher had said what the Twin says week by week, the whole-course pass finds nothing to correct; so both
    read the same history, none of the future, and attend alike."""
    twin = untrained(weeks=4)
    dynamics = TwinDynamics(twin, patients)
    rows, n, weeks = torch.from_numpy(trials.patient), len(trials), trials.treatment.shape[1]
    state, level, others = dynamics.start(rows, rows), [], []
    adverse = torch.from_numpy(np.random.default_rng(0).uniform(size=(n, weeks)) < 0.3)
    for week in range(weeks):
        action = torch.from_numpy(trials.treatment[:, week]), torch.from_numpy(trials.intensity[:, week])
        level.append(dynamics.foresee(state, [action])[0][0])
        doses = torch.from_numpy(trials.alternative_intensity[:, week])
        others.append(dynamics.foresee(state, [(torch.full((n,), a), doses[:, a]) for a in range(5)])[0].movedim(0, 1))
        state = dynamics.observe(state, *action, torch.from_numpy(trials.weeks[:, week]), adverse[:, week])
    claimed = replace(
        trials,
        level=torch.stack(level, dim=1).numpy(),
        alternative_level=torch.stack(others, dim=1).numpy(),
        adverse=adverse.numpy(),
    )
    net, between, written, weighed = (
        twin.networks()[0],
        torch.ones(4),
        torch.arange(weeks),
        torch.arange(len(TREATMENTS)),
    )
    losses = course_losses(net, read_courses(claimed, patients, SHAPE.retention), between, written, weighed)
    assert losses["level"].item() < 1e-9 and losses["effect"].item() < 1e-9
    swapped = replace(claimed, adverse=~adverse.numpy())
    assert (
        course_losses(net, read_courses(swapped, patients, SHAPE.retention), between, written, weighed)["level"].item()
        > 1e-6
    )


def test_artifact_round_trip_is_exact_and_checked(patients: Patients) -> None:
    twin = untrained(2)
    artifact = twin.to_artifact()
    copy = Twin.from_artifact(artifact)
    a, b = (live(TwinDynamics(t, patients), torch.arange(5), 3)[1][-1] for t in (twin, copy))
    assert torch.equal(a.week, b.week) and torch.equal(a.level, b.level)
    missing = {name: tensor for name, tensor in artifact.tensors.items() if name != "members.0.carry"}
    with pytest.raises(ArtifactError, match=r"members\.0\.carry"):
        Twin.from_artifact(Artifact(missing, artifact.meta))
    with pytest.raises(ArtifactError, match="profile features"):
        TwinDynamics(twin, replace(patients, features=patients.features[:, :1]))
