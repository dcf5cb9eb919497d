"""Safety: intensity that may not leap, adverse events that are counted, treatments that must not be given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers_envs import env_settings, people, world_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

from core.patients import Patients
from core.protocols import NullTracker, State
from core.treatments import CONTROL, MIN_INTENSITY, TREATMENTS
from envs.patient_env import PatientEnv
from envs.rewards import REWARD_TERMS, EnvSettings
from envs.sb3 import PatientVecEnv
from envs.simulation import Simulation
from intervention.baselines import Action, Constant, Greedy, Learned, Policy, SteppedCareSettings, standard_policies
from intervention.evaluation import run_policy
from intervention.policy import Contraindication, Rule, forbidden_treatments, resolve
from intervention.training import PolicySettings, train_policy
from pipeline.config import load_config

B, WEEKS = 64, 8


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(200)


def make(patients: Patients, envs: int = B, seed: int = 3, **settings: Any) -> Simulation:
    world = world_of(patients)
    return Simulation(*world[:3], replace(world[3], **settings), envs, seed)


def actions(seed: int, weeks: int = WEEKS) -> list[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    return [
        (torch.from_numpy(rng.integers(0, 5, B)), torch.from_numpy(rng.uniform(0.1, 1, B).astype(np.float32)))
        for _ in range(weeks)
    ]


@given(limit=st.sampled_from([0.05, 0.1, 0.25, 0.6, 1.0]), seed=st.integers(0, 2**31))
@hypothesis_settings(max_examples=6, deadline=None)
def test_intensity_never_leaps_and_is_given_where_it_does_not(patients: Patients, limit: float, seed: int) -> None:
    sim = make(patients, max_intensity_change=limit)
    sim.reset()
    last = torch.zeros(B)
    for treatment, wanted in actions(seed):
        step = sim.step(treatment, wanted)
        dose, active = step.info["intensity"], treatment != CONTROL
        assert torch.equal(step.info["treatment"], treatment)
        assert not dose[~active].any()  # stopping is always possible
        assert (dose[active] >= MIN_INTENSITY - 1e-6).all()
        leap = (dose - last).abs() > limit + 1e-6
        assert not (leap & active & (dose > MIN_INTENSITY + 1e-6)).any()
        near = active & ((wanted - last).abs() <= limit)
        torch.testing.assert_close(dose[near], wanted[near])
        shown = step.observation[:, sim.layout.slices["last_intensity"]][:, 0]
        assert torch.equal(shown, dose)  # the policy sees what it starts from
        cost = torch.tensor([0.0, *(sim.settings.treatment_cost[name] for name in TREATMENTS[1:])])
        torch.testing.assert_close(step.info["treatment_cost"], -cost[treatment] * dose)  # and pays for what is given
        last = dose


def test_a_new_course_starts_from_no_intensity(patients: Patients) -> None:
    sim = make(patients, max_intensity_change=0.2)
    sim.reset()
    for _ in range(4):
        sim.step(torch.full((B,), 2), torch.ones(B))
    sim.reset(which=torch.arange(B) < 10)
    dose = sim.step(torch.full((B,), 2), torch.ones(B)).info["intensity"]
    torch.testing.assert_close(dose[:10], torch.full((10,), 0.2))
    torch.testing.assert_close(dose[10:], torch.ones(B - 10))


def test_after_the_budget_of_adverse_events_nothing_more_is_given(patients: Patients) -> None:
    budget = 2
    sim = make(patients, envs=200, adverse_budget=budget)
    rows = torch.arange(200)
    shown = sim.reset(rows=rows)[:, sim.layout.slices["adverse_budget"]][:, 0]
    assert (shown == 1).all()
    events, stopped = torch.zeros(200), 0
    for _ in range(12):
        spent = events >= budget
        step = sim.step(torch.full((200,), 4), torch.ones(200))
        assert (step.info["treatment"][spent] == CONTROL).all() and not step.info["intensity"][spent].any()
        assert (step.info["treatment"][~spent] == 4).all() and (step.info["intensity"][~spent] == 1).all()
        assert not step.info["treatment_cost"][spent].any()
        torch.testing.assert_close(step.reward, sum(step.info[name] for name in REWARD_TERMS))
        events, stopped = events + step.info["adverse"], stopped + int(spent.sum())
        left = step.observation[:, sim.layout.slices["adverse_budget"]][:, 0]
        torch.testing.assert_close(left, (1 - events / budget).clamp(min=0), atol=1e-6, rtol=0)
    assert stopped > 20  # it happened
    again = sim.reset(which=torch.arange(200) < 50)[:, sim.layout.slices["adverse_budget"]][:, 0]
    assert (again[:50] == 1).all() and torch.equal(again[50:], left[50:])


def test_evaluation_tells_what_was_given(patients: Patients) -> None:
    rows = torch.arange(B)
    episodes = run_policy("p", Constant(4, 1.0), make(patients, max_intensity_change=0.3, adverse_budget=1), rows, 0)
    first = episodes[episodes["week"] == 1]
    assert np.allclose(first["intensity"], 0.3)
    before = episodes.groupby("patient")["adverse_event"].cumsum() - episodes["adverse_event"].astype(int)
    assert (episodes["treatment"].to_numpy() == np.where(before >= 1, CONTROL, 4)).all()
    assert episodes.groupby("patient")["adverse_event"].sum().max() == 1  # Control does no harm


def test_switched_off_and_far_away_are_the_same_course(patients: Patients) -> None:
    """Limits that are never reached change no number; without a budget the observation has no place for it."""
    off, wide = make(patients), make(patients, max_intensity_change=1.0, adverse_budget=100)
    assert wide.layout.names[: off.layout.size] == off.layout.names
    assert wide.layout.names[off.layout.size :] == ("adverse_budget",)
    off.reset()
    wide.reset()
    for treatment, intensity in actions(0):
        one, two = (sim.step(treatment, intensity) for sim in (off, wide))
        assert torch.equal(one.observation, two.observation[:, : off.layout.size])
        assert torch.equal(one.reward, two.reward)


def test_every_face_takes_the_safety_options(patients: Patients) -> None:
    world = world_of(patients)
    settings = replace(world[3], max_intensity_change=0.2, adverse_budget=1)
    check_env(PatientEnv(*world[:3], settings), skip_render_check=True)
    env = PatientVecEnv(*world[:3], settings, 16, 0)
    env.reset()
    for _ in range(13):
        _, _, _, infos = env.step(np.tile([4.0, 1.0], (16, 1)).astype(np.float32))
        assert all(info.get("adverse_events", 0) <= 1 for info in infos)
    picture = PatientEnv(*world[:3], settings, render_mode="ansi")
    picture.reset(seed=0)
    picture.step({"treatment": 2, "intensity": np.array([1.0], np.float32)})
    assert "20" in str(picture.render()) and "100" not in str(picture.render())


@pytest.mark.parametrize("wrong", [{"max_intensity_change": 0}, {"max_intensity_change": -0.1}, {"adverse_budget": 0}])
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater than"):
        TypeAdapter(EnvSettings).validate_python(vars(env_settings()) | wrong)


# Contraindications.


class Believer:
    """A world model that believes in every treatment, the more of it and the higher its number the better."""

    def start(self, rows: Tensor, keys: Tensor) -> State:
        return {"rows": rows}

    def foresee(self, state: State, actions: Sequence[Action]) -> tuple[Tensor, Tensor]:
        level = torch.tensor([7.0, 6.0, 65.0, 9.0]).repeat(len(actions), len(state["rows"]), 1)
        for row, (treatment, intensity) in zip(level, actions, strict=True):
            row[:, 3] -= treatment * intensity
        return level, torch.zeros(len(actions), len(state["rows"]))

    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        return state


bans = st.lists(st.builds(Rule, st.integers(1, 4), st.integers(-1, 60), st.floats(-2, 2)), min_size=1, max_size=5).map(
    tuple
)


@given(rules=bans, seed=st.integers(0, 2**31))
@hypothesis_settings(max_examples=8, deadline=None)
def test_no_baseline_gives_what_is_contraindicated(patients: Patients, rules: tuple[Rule, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sim, rows = make(patients), torch.arange(B)
    sim.reset(rows=rows)
    observation = torch.from_numpy(rng.uniform(-3, 3, (B, sim.layout.size)).astype(np.float32))
    forbidden = forbidden_treatments(observation, rules)
    assert forbidden is not None
    care = SteppedCareSettings(weeks=1, response=0.1, intensity=0.6)
    policies: dict[str, Policy] = standard_policies([0.2, 0.9], care, rules) | {
        "greedy": Greedy(Believer(), [0.2, 0.9], rules)
    }
    free: dict[str, Policy] = standard_policies([0.2, 0.9], care) | {"greedy": Greedy(Believer(), [0.2, 0.9])}
    for name, policy in policies.items():
        policy.reset(sim, rows)
        free[name].reset(sim, rows)
        for week in range(3):
            keys = torch.arange(B) + 1000 * week
            treatment, _ = policy.act(sim, observation, keys)
            unbound, _ = free[name].act(sim, observation, keys)
            assert not forbidden.gather(1, treatment[:, None]).any()
            allowed = ~forbidden.gather(1, unbound[:, None])[:, 0]
            assert torch.equal(treatment[allowed], unbound[allowed])  # and nothing else changes


def test_the_greedy_baseline_takes_the_next_best(patients: Patients) -> None:
    sim, rows = make(patients), torch.arange(B)
    observation = sim.reset(rows=rows)
    chosen = []
    for rules in ((), (Rule(4, -1, 0.0),), (Rule(4, -1, 0.0), Rule(3, -1, 0.0))):
        policy = Greedy(Believer(), [0.9], rules)
        policy.reset(sim, rows)
        chosen.append(int(policy.act(sim, observation, torch.zeros(B))[0].mode().values))
    assert chosen == [4, 3, 2]


class Watched(PatientVecEnv):
    """Keeps what was shown and what was then done."""

    shown: list[Any]
    done: list[Any]

    def reset(self) -> Any:
        self.shown, self.done = [super().reset()], []
        return self.shown[0]

    def step_async(self, actions: Any) -> None:
        self.done.append(actions.copy())
        super().step_async(actions)

    def step_wait(self) -> Any:
        result = super().step_wait()
        self.shown.append(result[0])
        return result


def test_medication_refused_for_a_profile_is_refused_in_training_and_after(patients: Patients) -> None:
    """As the configuration writes it."""
    line = "policy.contraindications=[{treatment: medication, when: 'profile.sleep_disorder=Insomnia', above: 0.5}]"
    configured = load_config([line]).policy
    given = configured.contraindications
    assert given == (Contraindication("medication", "profile.sleep_disorder=Insomnia", 0.5),)
    settings: PolicySettings = replace(
        configured, steps=1024, environments=64, rollout_weeks=4, batch_size=128, hidden=(8,),
         leg_rollouts=8,
    )  # fmt: skip
    world = world_of(patients)
    env = Watched(*world[:3], replace(world[3], min_risk=0.2), 64, 0)
    names = env.simulation.layout.names
    agent = train_policy(env, settings, 0, NullTracker(), names).agent
    column = names.index("profile.sleep_disorder=Insomnia")
    refused = np.concatenate(env.shown[:-1])[:, column] > 0.5
    treatment = np.concatenate(env.done)[:, 0]
    assert refused.sum() > 50 and not (treatment[refused] == 4).any()
    assert (treatment[~refused] == 4).any()
    rules = resolve(given, names)
    assert agent.rules == rules
    rows = torch.arange(B)
    insomnia = patients.profiles["sleep_disorder"].eq("Insomnia").to_numpy()
    policies: dict[str, Policy] = {"ppo": Learned(agent, False), "greedy": Greedy(Believer(), [0.9], rules)}
    policies |= standard_policies([0.9], SteppedCareSettings(weeks=1, response=0.5, intensity=0.6), rules)
    seen = set()
    for name, policy in policies.items():
        episodes = run_policy(name, policy, make(patients), rows, 0)
        medicated = episodes[episodes["treatment"] == 4]["patient"].to_numpy()
        assert not insomnia[medicated].any(), name
        seen |= set(medicated)
    assert seen
