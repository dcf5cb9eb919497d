"""Virtual trials and the Twin: data, network, training and scores."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from core.artifact import Artifact
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ArtifactError, DataError
from core.patients import Patients
from core.protocols import NullTracker, Outcome, State
from core.random import numpy_generator, stream_keys, stream_normal, stream_uniform
from core.signals import DAYS, DEFAULT_SIGNALS
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.trial import Trial, TrialSettings
from intervention.seq2seq import ACTION, FastCell, LevelLaw, Record, TwinShape, action_features, clipped_nll
from intervention.trials import TrialsSettings, VirtualTrials, assign_arms, simulate_trials, split_by_patient
from intervention.twin import Twin, TwinDynamics
from intervention.twin_quality import (
    TwinQualitySettings,
    _rank,
    constant,
    correlation,
    crps,
    effect_quality,
    forecast_quality,
    person_effects,
    rollout,
)
from intervention.twin_training import TwinSettings, course_losses, read_courses, train_twin

CONF = Path(__file__).parent.parent / "conf"
SHAPE = TwinShape(encoder=12, decoder=8, memory=6, person=5, retention=(0.5, 0.9), head=10, modes=2, min_sd=0.05)
SCALER = WeekScaler((7.0, 6.0, 65.0, 5.0), (1.4, 1.8, 8.0, 1.9), (0.8, 1.0, 7.0, 1.1))
EFFECTS = torch.tensor(
    [[0.0, 0, 0, 0], [0.3, 0, 0, -0.5], [0, 1.0, 0, -1.0], [0.2, 0.5, -4.0, 0], [0, -0.5, 3.0, -0.8]]
)


def load(name: str, key: str, kind: type) -> object:
    return TypeAdapter(kind).validate_python(yaml.safe_load((CONF / name).read_text())[key])


def design(**changes: float) -> TrialsSettings:
    return replace(load("trials.yaml", "trials", TrialsSettings), **changes)


def settings(**changes: object) -> TwinSettings:
    return replace(load("twin.yaml", "twin", TwinSettings), **{"shape": SHAPE, **changes})


def make_patients(n: int = 40) -> Patients:
    rng = np.random.default_rng(3)
    columns = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    encoder = ProfileEncoder.fit(columns)
    week = SCALER.unscale(torch.from_numpy(rng.normal(size=(n, DAYS, 4))).float())
    return Patients(
        np.arange(n), columns, torch.from_numpy(encoder.encode(columns)), week, DEFAULT_SIGNALS, encoder, SCALER
    )


class Linear:
    """A teacher whose level is the person's own plus intensity times a known effect; days are white noise around it."""

    def __init__(self, patients: Patients) -> None:
        self.base = patients.week.mean(dim=1)

    def start(self, rows: Tensor, keys: Tensor) -> State:
        return {"rows": rows}

    def expected_level(self, state: State, treatment: Tensor, intensity: Tensor) -> Tensor:
        return self.base[state["rows"]] + intensity[:, None] * EFFECTS[treatment]

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        level = self.expected_level(state, treatment, intensity)
        week = level[:, None] + 0.5 * stream_normal(keys, DAYS * 4).view(-1, DAYS, 4).float()
        return state, Outcome(week, torch.zeros(len(level), dtype=torch.bool), level, level[:, 0] * 0)


@pytest.fixture(scope="module")
def patients() -> Patients:
    return make_patients()


@pytest.fixture(scope="module")
def trials(patients: Patients) -> VirtualTrials:
    return simulate_trials(Linear, patients, design(courses=300, weeks=4, batch=128), 0, NullTracker())


def untrained(members: int = 1, weeks: int = 12) -> Twin:
    """Random weights everywhere, also in the layers that start at zero."""
    twin = Twin(SHAPE, members, DEFAULT_SIGNALS, SCALER, 2, weeks, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return twin.eval()


# --- virtual trials ---------------------------------------------------------------------------------------------------


def test_arms_hold_what_the_design_asks_for() -> None:
    treatment, intensity = assign_arms(design(courses=2000), np.random.default_rng(0))
    assert treatment.shape == intensity.shape == (2000, 12)
    assert set(np.unique(treatment)) == set(range(len(TREATMENTS)))
    assert (intensity[treatment == CONTROL] == 0).all()
    active = intensity[treatment != CONTROL]
    assert active.min() >= MIN_INTENSITY and active.max() <= MAX_INTENSITY
    changes = (treatment[:, 1:] != treatment[:, :-1]).mean()
    assert 0.1 < changes < 0.5  # held for weeks, yet not for ever


def test_stepped_arms_climb_in_order() -> None:
    treatment, intensity = assign_arms(
        design(courses=200, constant_share=0.0, stepped_share=1.0), np.random.default_rng(0)
    )
    assert (np.diff(treatment, axis=1) >= 0).all() and (treatment[:, -1] >= 2).all()
    assert (intensity[treatment == CONTROL] == 0).all()


def test_constant_arms_never_change() -> None:
    treatment, intensity = assign_arms(
        design(courses=200, constant_share=1.0, stepped_share=0.0), np.random.default_rng(0)
    )
    assert (treatment == treatment[:, :1]).all() and (intensity == intensity[:, :1]).all()


def test_trials_record_the_teacher_and_do_not_depend_on_the_batch(patients: Patients, trials: VirtualTrials) -> None:
    again = simulate_trials(Linear, patients, design(courses=300, weeks=4, batch=77), 0, NullTracker())
    for name, array in trials.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name]), name
    base = patients.week.mean(dim=1).numpy()[trials.patient]
    expected = base[:, None] + trials.intensity[..., None] * EFFECTS.numpy()[trials.treatment]
    assert np.allclose(trials.level, expected, atol=1e-4)
    others = base[:, None, None] + trials.alternative_intensity[..., None] * EFFECTS.numpy()
    assert np.allclose(trials.alternative_level, others, atol=1e-4)
    assert trials.weeks.shape == (300, 4, DAYS, 4) and trials.weeks.dtype == np.float32
    other_seed = simulate_trials(Linear, patients, design(courses=300, weeks=4, batch=128), 1, NullTracker())
    assert not np.array_equal(trials.weeks, other_seed.weeks)


def test_split_is_by_patient_and_arrays_round_trip(trials: VirtualTrials) -> None:
    train, validation = split_by_patient(trials, 0.25, numpy_generator(0, "split"))
    assert not set(train.patient) & set(validation.patient)
    assert len(train) + len(validation) == len(trials)
    assert len(np.unique(validation.patient)) == 10
    copy = VirtualTrials.from_arrays(trials.to_arrays())
    assert all(
        np.array_equal(a, b) for a, b in zip(copy.to_arrays().values(), trials.to_arrays().values(), strict=True)
    )


def test_one_person_cannot_be_split(trials: VirtualTrials) -> None:
    two = trials.select(np.isin(trials.patient, np.unique(trials.patient)[:2]))
    for share in (0.0, 0.25, 1.0):
        assert all(len(part) for part in split_by_patient(two, share, numpy_generator(0, "split")))
    with pytest.raises(DataError, match="2 or more"):
        split_by_patient(two.select(two.patient == two.patient[0]), 0.25, numpy_generator(0, "split"))


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


def test_level_law_keeps_its_mean_and_its_likelihood_sums_to_one() -> None:
    net = untrained().networks()[0]
    generator = torch.Generator().manual_seed(0)
    history = torch.randn(1, 12 + 5 + 2 * ACTION + 4 * 5, generator=generator)
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
    drawn = many.sample(torch.rand(200_000, generator=generator), torch.randn(200_000, 4, generator=generator))
    assert torch.allclose(drawn.mean(dim=0), expected[0], atol=0.02)
    # importance sampling: E_wide[p / wide] = 1
    wide = torch.distributions.Normal(drawn.mean(dim=0), 2 * drawn.std(dim=0))
    points = drawn.mean(dim=0) + 2 * drawn.std(dim=0) * torch.randn(200_000, 4, generator=generator)
    density = -many.nll(points) - 2 * math.log(2 * math.pi)
    assert torch.exp(density - wide.log_prob(points).sum(dim=1)).mean().item() == pytest.approx(1.0, abs=0.03)


def test_fast_cell_equals_torch_lstm() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lstm, days, state = torch.nn.LSTM(5, 7, batch_first=True), torch.randn(3, 4, 5), torch.randn(2, 3, 7)
    expected = lstm(days, (state[:1], state[1:]))[0]
    cell, found = FastCell(lstm, 2), (state[0], state[1])
    for day in range(4):
        found = cell.step(cell.still(days[:, day, :2]), [days[:, day, 2:]], found)
        assert torch.allclose(found[0], expected[:, day], atol=1e-6)


def test_record_finds_the_slope_of_the_response() -> None:
    """A person who moves by 2 per unit of one treatment's dose shows that slope there and none elsewhere."""
    record, slope = Record.empty(torch.zeros(1, 4), 1), torch.tensor([2.0, 0.0, 0.0, -1.0])
    action = action_features(torch.tensor([3]), torch.tensor([0.5]))
    for _ in range(400):
        dose = 0.9 * record.traces[0, 4 + 2] + 0.1 * 0.5  # what the trace will be
        record = record.after((dose * slope).unsqueeze(0), action, (0.9,))
    assert record.traces[0, 2].item() == pytest.approx(1.0, abs=1e-3)
    found = record.features()[0, ACTION : ACTION + 16].view(4, 4)
    assert found[2].tolist() == pytest.approx(slope.tolist(), abs=0.02)
    assert found[[0, 1, 3]].abs().max() == 0


def test_action_features_ignore_the_intensity_of_control() -> None:
    features = action_features(torch.tensor([0, 3]), torch.tensor([0.9, 0.4]))
    assert features[0].abs().sum() == 0
    assert features[1].tolist() == pytest.approx([0, 0, 1, 0, 0, 0, 0.4, 0])


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
    probability = dynamics.adverse_probability(state, *action)
    assert probability.shape == (4000,)
    adverse = dynamics.step(state, *action, stream_keys(0, torch.arange(4000)))[1].adverse
    assert adverse.float().mean().item() == pytest.approx(probability[0].item(), abs=0.03)
    gentle = dynamics.adverse_probability(state, action[0], torch.full((4000,), 0.1))
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
        level.append(dynamics.expected_level(state, *action))
        doses = torch.from_numpy(trials.alternative_intensity[:, week])
        others.append(
            torch.stack([dynamics.expected_level(state, torch.full((n,), a), doses[:, a]) for a in range(5)], dim=1)
        )
        state = dynamics.observe(state, *action, torch.from_numpy(trials.weeks[:, week]), adverse[:, week])
    claimed = replace(
        trials,
        level=torch.stack(level, dim=1).numpy(),
        alternative_level=torch.stack(others, dim=1).numpy(),
        adverse=adverse.numpy(),
    )
    losses = course_losses(twin.networks()[0], read_courses(claimed, patients), torch.ones(4))
    assert losses["level"].item() < 1e-9 and losses["effect"].item() < 1e-9
    swapped = replace(claimed, adverse=~adverse.numpy())
    assert course_losses(twin.networks()[0], read_courses(swapped, patients), torch.ones(4))["level"].item() > 1e-6


def test_sampling_and_teacher_forcing_are_one_model(patients: Patients) -> None:
    """Reading back a sampled week, the forced pass recovers the very noise it was sampled with."""
    twin = untrained()
    dynamics, net, rows = TwinDynamics(twin, patients), twin.networks()[0], torch.arange(20)
    state, _ = live(dynamics, rows, 3)
    treatment, intensity, keys = torch.full((20,), 3), torch.full((20,), 0.7), stream_keys(9, rows)
    _, outcome = dynamics.step(state, treatment, intensity, keys)
    action, week = action_features(treatment, intensity), SCALER.scale(outcome.week)
    view = dynamics._look_ahead(state, action)[0]
    uniform = stream_uniform(stream_keys(keys, 1), 3)[:, 1:].float()
    normal = stream_normal(keys, DAYS * 4 + 4).float()
    previous = torch.cat([state["yesterday"].unsqueeze(1), week[:, :-1]], dim=1)
    with torch.no_grad():
        surprise = outcome.adverse.float() - torch.sigmoid(view.adverse_logit)
        level = dynamics._draw_level([view], action, surprise, uniform, normal[:, -4:])
        begin = net.begin_week(view.history, action, outcome.adverse)
        mean, sd = net.write_forced(begin, view.contexts[:, 1:], level, previous)
        found = net.innovations(week, mean, sd)
    inside = ((week > net.low + 1e-5) & (week < net.high - 1e-5)).all(dim=-1)
    expected = normal[:, : DAYS * 4].view(-1, DAYS, 4)
    assert inside.float().mean() > 0.5
    assert torch.allclose(found[inside], expected[inside], atol=1e-3)


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


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_twice_gives_the_same_twin(patients: Patients, trials: VirtualTrials) -> None:
    before = torch.random.get_rng_state()
    chosen = settings(steps=6, batch=32, members=2, validate_every=3)
    first, second = (train_twin(trials, patients, chosen, 4, NullTracker()).to_artifact() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.meta == second.meta
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert not torch.equal(first.tensors["members.0.carry"], first.tensors["members.1.carry"])
    other = train_twin(trials, patients, chosen, 5, NullTracker()).to_artifact()
    assert not torch.equal(first.tensors["members.0.carry"], other.tensors["members.0.carry"])


def test_learns_a_planted_effect() -> None:
    """Each treatment moves the signals as the teacher has it; and persons keep their own level."""
    patients = make_patients(200)
    trials = simulate_trials(Linear, patients, design(courses=1500, weeks=3, batch=1500), 0, NullTracker())
    chosen = settings(steps=250, batch=128, validate_every=125)
    dynamics = TwinDynamics(train_twin(trials, patients, chosen, 0, NullTracker()), patients)
    rows = torch.arange(200)
    keys = stream_keys(1, rows)
    between = torch.tensor(SCALER.between)
    for treatment in range(len(TREATMENTS)):
        on = rollout(dynamics, rows, constant(treatment, 0.8, 200, 2), keys)[-1]
        off = rollout(dynamics, rows, constant(CONTROL, 0.8, 200, 2), keys)[-1]
        shift = (on.week - off.week).mean(dim=(0, 1))
        assert ((shift - 0.8 * EFFECTS[treatment]).abs() / between).max() < 0.12, treatment
        assert ((on.level - off.level).mean(dim=0) - 0.8 * EFFECTS[treatment]).abs().div(between).max() < 0.12
        base = patients.week.mean(dim=1) + 0.8 * EFFECTS[treatment]
        assert torch.corrcoef(torch.stack([on.level[:, 1], base[:, 1]]))[0, 1] > 0.9
    residual = (on.week - on.level[:, None]).std(dim=(0, 1))
    assert torch.allclose(residual, torch.full((4,), 0.5), rtol=0.4)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_crps_of_a_gaussian_is_the_closed_form() -> None:
    samples = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)  # of N(0, 1) at 0
    assert crps(samples, torch.zeros(1)).item() == pytest.approx(expected, abs=0.01)
    assert crps(samples + 1, torch.zeros(1)).item() > expected + 0.2


class Overheard(Trial):
    """Trial, noting the keys of all it is asked to draw."""

    def __init__(self, patients: Patients, heard: set[int]) -> None:
        super().__init__(patients, load("trial.yaml", "trial", TrialSettings), 0)
        self.heard = heard

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        self.heard |= set(keys.tolist())
        return super().step(state, treatment, intensity, keys)


def test_no_score_meets_the_noise_of_the_training_courses_or_of_another(patients: Patients) -> None:
    plan, seed = design(courses=30, weeks=6, batch=30), 5
    small = TwinQualitySettings(courses=30, samples=2, persons=60, futures=2)
    dynamics = TwinDynamics(untrained(), patients)
    training, forecast, effects, persons = heard = [set() for _ in range(4)]
    simulate_trials(lambda people: Overheard(people, training), patients, plan, seed, NullTracker())
    forecast_quality(dynamics, Overheard(patients, forecast), patients, plan, small, seed)
    effect_quality(dynamics, Overheard(patients, effects), patients, small, seed)
    person_effects(dynamics, Overheard(patients, persons), patients, small, seed)
    assert len(training) == 30 * 6
    assert len(forecast) == 30 * 6 + 30 * 2 * 2  # the truth, and two samples in weeks 2 and 5
    assert effects and persons
    assert len(set.union(*heard)) == sum(map(len, heard))


def test_correlation_needs_variation() -> None:
    varied = torch.tensor([0.1, 0.2, 0.4])
    assert correlation(varied, -varied) == pytest.approx(-1)
    assert correlation(torch.full((3,), 0.1), varied) is None
    assert correlation(varied, torch.full((3,), 0.1)) is None


def test_rank_is_uniform_for_a_right_forecast_and_not_for_a_narrow_one() -> None:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    samples, truth = torch.randn(9, 4000, generator=generator), torch.randn(4000, generator=generator)
    right, narrow = _rank(samples, truth, rng), _rank(0.5 * samples, truth, rng)

    def share(rank: Tensor) -> float:
        return ((rank > 0.25) & (rank < 0.75)).float().mean().item()

    assert share(right) == pytest.approx(0.5, abs=0.03)
    assert share(narrow) < 0.4
    assert share(_rank(torch.zeros(9, 4000), torch.zeros(4000), rng)) == pytest.approx(0.5, abs=0.03)  # all ties
