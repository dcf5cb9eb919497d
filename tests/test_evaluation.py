"""Baselines and evaluation: courses are paired by patient, summaries are what they say."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
import torch
import yaml
from torch import Tensor

from core.cohort import Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ConfigError
from core.patients import Patients, from_cohort
from core.protocols import NullTracker, State
from core.random import stream_keys
from core.signals import DEFAULT_SIGNALS
from envs.rewards import EnvSettings
from envs.sb3 import PatientVecEnv
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.trial import Trial, TrialSettings
from intervention.baselines import (
    Action,
    Constant,
    Greedy,
    Learned,
    Random,
    SteppedCare,
    SteppedCareSettings,
    standard_policies,
)
from intervention.evaluation import (
    EPISODE_COLUMNS,
    EvaluateSettings,
    best_constant,
    courses,
    exploitation_gap,
    interquartile_mean,
    level_gain,
    normalised_score,
    observations_under,
    probability_of_improvement,
    run_policies,
    run_policy,
    summarise,
)
from intervention.policy import DualHeadAgent
from intervention.training import PolicySettings, PrivilegedVecEnv, latents, train_policy

CONF = Path(__file__).parents[1] / "conf"
PEOPLE = 60


def load(name: str, kind: type) -> Any:
    return pydantic.TypeAdapter(kind).validate_python(yaml.safe_load((CONF / f"{name}.yaml").read_text())[name])


ENV, TRIAL, EVALUATE = load("env", EnvSettings), load("trial", TrialSettings), load("evaluate", EvaluateSettings)


@pytest.fixture(scope="module")
def patients() -> Patients:
    """People somewhat less well than average, their weeks plain noise about their own mean."""
    rng = np.random.default_rng(0)
    person = rng.normal(size=(PEOPLE, 1, 4)) * [0.5, 0.8, 8, 1.0]
    week = np.array([6.8, 6.0, 66, 5.5]) + person + rng.normal(size=(PEOPLE, 7, 4)) * [1.0, 1.0, 2, 1.2]
    week = week.clip([s.low for s in DEFAULT_SIGNALS], [s.high for s in DEFAULT_SIGNALS]).astype(np.float32)
    profiles = pd.DataFrame({"age": rng.uniform(20, 70, PEOPLE), "family_history": rng.choice(["yes", "no"], PEOPLE)})
    cohort = Cohort(profiles, week, np.ones(week.shape, bool), np.arange(PEOPLE), DEFAULT_SIGNALS)
    return from_cohort(cohort, ProfileEncoder.fit(profiles), WeekScaler.fit(cohort))


def simulation(patients: Patients, envs: int, seed: int = 0) -> Simulation:
    risk = SeverityIndex(patients.signals, patients.scaler)
    return Simulation(patients, Trial(patients, TRIAL, 0), risk, ENV, envs, seed)


def training_env(patients: Patients, envs: int) -> PatientVecEnv:
    risk = SeverityIndex(patients.signals, patients.scaler)
    return PatientVecEnv(patients, Trial(patients, TRIAL, 0), risk, replace(ENV, min_risk=0.2), envs, 0)


def small_settings(**changes: Any) -> PolicySettings:
    small = {"steps": 1024, "environments": 64, "rollout_weeks": 4, "batch_size": 128, "hidden": (16,)}
    return replace(load("policy", PolicySettings), **{**small, **changes})


def episodes_of(returns: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    """Courses of one week with these returns, one per patient."""
    frames = [
        pd.DataFrame(
            {
                "policy": name, "seed": seed, "patient": np.arange(len(values)), "week": 1, "treatment": 1,
                "intensity": 0.5, "risk": 0.3, "reward": values, "adverse_event": False, "remission": False,
                "level_gain": 0.1,
            }
        )
        for name, values in returns.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


# --- courses


def test_policies_meet_the_same_patients_with_the_same_luck(patients: Patients) -> None:
    rows = torch.arange(20)
    same = {"a": Constant(2, 0.5), "b": Constant(2, 0.5), "none": Constant(0, 0.0), "control": Constant(0, 0.7)}
    episodes = run_policies(same, lambda s: simulation(patients, 20, s), rows, [0, 1], NullTracker())
    assert tuple(episodes.columns) == EPISODE_COLUMNS
    by_name = {name: one.drop(columns="policy").reset_index(drop=True) for name, one in episodes.groupby("policy")}
    pd.testing.assert_frame_equal(by_name["a"], by_name["b"])
    pd.testing.assert_frame_equal(by_name["none"], by_name["control"])  # Control has no dose
    assert not by_name["a"].equals(by_name["none"])
    first, second = (one["risk"].to_numpy() for _, one in by_name["none"].groupby("seed"))
    assert not np.array_equal(first[:20], second[:20])  # seeds are different luck


def test_a_course_does_not_depend_on_which_other_policies_run(patients: Patients) -> None:
    rows = torch.arange(10)
    alone = run_policy("random", Random(), simulation(patients, 10), rows, 0)
    many = run_policies(
        {"none": Constant(0, 0.0), "random": Random()}, lambda s: simulation(patients, 10, s), rows, [0], NullTracker()
    )
    pd.testing.assert_frame_equal(alone, many[many["policy"] == "random"].reset_index(drop=True))


def test_a_course_counts_its_weeks_and_ends_at_remission_or_the_horizon(patients: Patients) -> None:
    episodes = run_policy("cbt", Constant(2, 0.6), simulation(patients, PEOPLE), torch.arange(PEOPLE), 0)
    lengths = set()
    for _, course in episodes.groupby("patient"):
        assert course["week"].tolist() == list(range(1, len(course) + 1))
        assert not course["remission"].iloc[:-1].any()
        assert course["remission"].iloc[-1] or len(course) == ENV.horizon
        lengths.add(len(course))
    assert len(lengths) > 1
    met = observations_under(Constant(2, 0.6), simulation(patients, PEOPLE), torch.arange(PEOPLE), 0)
    assert len(met) == len(episodes)


def test_level_gain_is_the_way_from_the_baseline_to_health(patients: Patients) -> None:
    rows = torch.tensor([3, 5])
    base, between = patients.week[rows].mean(dim=1), torch.tensor(patients.scaler.between)
    healthier = base + torch.tensor([s.better for s in patients.signals]) * between * torch.tensor([[0.5], [-1.0]])
    torch.testing.assert_close(level_gain(patients, rows, healthier), torch.tensor([0.5, -1.0]))
    torch.testing.assert_close(level_gain(patients, rows, base), torch.zeros(2))


def test_the_gain_of_the_level_is_the_truth_not_what_the_risk_model_sees(patients: Patients) -> None:
    class Flattered(SeverityIndex):
        """A risk model that any week pleases."""

        def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().probabilities(features, week + torch.tensor([2.0, 2.0, -10.0, -3.0]), mask)

    rows, gains, risks = torch.arange(PEOPLE), [], []
    for judge in (SeverityIndex, Flattered):
        sim = simulation(patients, PEOPLE)
        sim.risk_model = judge(patients.signals, patients.scaler)
        first = run_policy("cbt", Constant(2, 0.6), sim, rows, 0).query("week == 1")
        gains.append(first["level_gain"].to_numpy())
        risks.append(first["risk"].mean())
    np.testing.assert_array_equal(*gains)
    assert risks[1] < risks[0] - 0.1
    treated, untreated = (
        run_policy("p", policy, simulation(patients, PEOPLE), rows, 0)["level_gain"].mean()
        for policy in (Constant(2, 0.6), Constant(0, 0.0))
    )
    assert treated > untreated + 0.05


def test_random_draws_every_treatment_and_dose_by_key() -> None:
    keys = stream_keys(0, torch.arange(20_000))
    treatment, intensity = Random().act(None, torch.zeros(20_000, 1), keys)  # type: ignore[arg-type]
    assert torch.allclose(treatment.bincount() / 20_000, torch.full((5,), 0.2), atol=0.01)
    assert 0.1 <= intensity.min() < 0.101
    assert 0.999 < intensity.max() <= 1
    again, _ = Random().act(None, torch.zeros(20_000, 1), keys)  # type: ignore[arg-type]
    assert torch.equal(treatment, again)


def test_every_constant_is_there() -> None:
    policies = standard_policies(EVALUATE.constant_intensities, EVALUATE.stepped_care)
    assert len(policies) == 3 + 4 * 10
    assert {"none", "random", "stepped_care", "constant_cbt_0.5", "constant_medication_1"} <= set(policies)


class ScriptedSimulation:
    """Only what stepped care reads: a layout that says where the risk is."""

    class layout:
        slices = {"risk": slice(0, 1)}  # noqa: RUF012


def test_stepped_care_moves_on_without_response_and_stays_with_it() -> None:
    policy = SteppedCare(SteppedCareSettings(weeks=2, response=0.1, intensity=0.6))
    policy.reset(ScriptedSimulation(), torch.arange(2))  # type: ignore[arg-type]
    stuck, responding = [0.8] * 9, [0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]
    chosen = []
    for risks in zip(stuck, responding, strict=True):
        observation = torch.tensor(risks)[:, None]
        treatment, intensity = policy.act(ScriptedSimulation(), observation, torch.zeros(2))  # type: ignore[arg-type]
        assert torch.equal(intensity, torch.full((2,), 0.6))
        chosen.append(treatment.tolist())
    assert [t for t, _ in chosen] == [1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert [t for _, t in chosen] == [1, 1, 1, 1, 1, 1, 2, 2, 3]


class StressLowering:
    """A world model that believes one treatment lowers stress in proportion to its dose."""

    def __init__(self, patients: Patients, works: int, harm: float = 0.0) -> None:
        self.patients, self.works, self.harm = patients, works, harm
        self.seen: list[Tensor] = []

    def start(self, rows: Tensor, keys: Tensor) -> State:
        return {"level": self.patients.week[rows].mean(dim=1)}

    def foresee(self, state: State, actions: Sequence[Action]) -> tuple[Tensor, Tensor]:
        level = state["level"].repeat(len(actions), 1, 1)
        for row, (treatment, intensity) in zip(level, actions, strict=True):
            row[:, 3] -= 3.0 * intensity * (treatment == self.works)
        return level, torch.stack([self.harm * (intensity > 0.5) for _, intensity in actions])

    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        self.seen.append(week)
        return {"level": week.mean(dim=1)}


@pytest.mark.parametrize("works", [1, 3])
def test_greedy_takes_what_its_model_believes_in_and_hears_what_happened(patients: Patients, works: int) -> None:
    model = StressLowering(patients, works)
    ill = torch.nonzero(simulation(patients, 1)._baseline[:, 2] > 0.2)[:, 0]
    sim = simulation(patients, len(ill))
    episodes = run_policy("greedy", Greedy(model, (0.1, 0.9)), sim, ill, 0)
    first = episodes[episodes["week"] == 1]
    assert (first["treatment"] == works).all()
    assert np.allclose(first["intensity"], 0.9)
    assert torch.equal(model.seen[-1], sim.days)


def test_greedy_weighs_the_adverse_events_to_be_expected(patients: Patients) -> None:
    rows = torch.arange(20)
    for harm, dose in ((0.0, 0.9), (1.0, 0.1)):
        sim = simulation(patients, 20)
        sim.settings = replace(ENV, adverse_cost=100.0, treatment_cost=dict.fromkeys(ENV.treatment_cost, 0.0))
        episodes = run_policy("greedy", Greedy(StressLowering(patients, 2, harm), (0.1, 0.9)), sim, rows, 0)
        first = episodes[(episodes["week"] == 1) & (episodes["treatment"] == 2)]
        assert len(first) and np.allclose(first["intensity"], dose)


def test_privileged_agents_see_the_latent_response_of_their_own_patient(patients: Patients) -> None:
    env = PrivilegedVecEnv(training_env(patients, 8))
    observation = env.reset()
    ended = 0
    for _ in range(ENV.horizon + 1):
        rows = env.simulation.rows
        before = env.simulation.dynamics.response[rows].log().numpy()  # type: ignore[attr-defined]
        np.testing.assert_allclose(observation[:, -4:], before, rtol=1e-6)
        observation, _, done, infos = env.step(np.tile([2.0, 0.5], (8, 1)).astype(np.float32))
        for row in np.flatnonzero(done):
            ended += 1
            np.testing.assert_allclose(infos[row]["terminal_observation"][-4:], before[row], rtol=1e-6)
    assert ended >= 8
    with pytest.raises(ConfigError, match="use Trial"):
        latents({"rows": torch.arange(3)})


def test_a_trained_agent_treats_and_survives_the_round_trip(patients: Patients) -> None:
    env = training_env(patients, 64)
    names = env.simulation.layout.names
    trained = train_policy(env, small_settings(), 0, NullTracker(), names)
    assert trained.steps == 1024
    assert trained.agent.names == names
    loaded = DualHeadAgent.from_artifact(trained.agent.to_artifact())
    rows = torch.arange(20)
    one, two = (
        run_policy("ppo", Learned(a, False), simulation(patients, 20), rows, 0) for a in (trained.agent, loaded)
    )
    pd.testing.assert_frame_equal(one, two)

    upper = PrivilegedVecEnv(training_env(patients, 64))
    seeing = train_policy(upper, small_settings(), 0, NullTracker(), names + PrivilegedVecEnv.names).agent
    courses_seen = run_policy("privileged", Learned(seeing, True), simulation(patients, 20), rows, 0)
    assert courses_seen["patient"].nunique() == 20


# --- summaries


def test_courses_sum_what_they_should() -> None:
    episodes = pd.DataFrame(
        {
            "policy": "p", "seed": [0, 0, 0, 1, 1], "patient": 7, "week": [1, 2, 3, 1, 2], "treatment": [1, 2, 0, 4, 4],
            "intensity": [0.5, 1.0, 0.0, 0.2, 0.2], "risk": 0.5, "reward": [1.0, 2.0, 3.0, 0.5, -0.5],
            "adverse_event": [True, True, False, False, False], "remission": [False, False, True, False, False],
            "level_gain": [0.1, 0.2, 0.6, 0.3, 0.0],
        }
    )  # fmt: skip
    row = courses(episodes).loc[("p", 7)]
    assert row["return"] == pytest.approx((6 + 0) / 2)
    assert row["remission"] == 0.5
    assert row["weeks_to_remission"] == 2.5
    assert row["dose_weeks"] == pytest.approx((1.5 + 0.4) / 2)
    assert row["adverse_events"] == 1
    assert row["level_gain"] == pytest.approx((0.6 + 0.0) / 2)  # of the last weeks


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, -50])) == 1.5
    assert interquartile_mean(np.array([3.0])) == 3
    np.testing.assert_allclose(interquartile_mean(np.array([[0.0, 1, 2, 3], [9, 4, 6, 0]])), [1.5, 5])


def test_intervals_are_those_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(2, 3, 400)
    summary = summarise(episodes_of({"p": values.tolist()}), np.random.default_rng(1), 2000, 0.95)["p"]
    half = 1.96 * values.std() / 20
    assert summary["return"] == pytest.approx(values.mean())
    np.testing.assert_allclose(summary["return_ci"], [values.mean() - half, values.mean() + half], atol=0.12 * half)
    low, high = summary["return_iqm_ci"]
    assert low < summary["return_iqm"] < high
    assert summary["patients"] == 400
    flat = summarise(episodes_of({"p": [2.0] * 10}), np.random.default_rng(1), 50, 0.95)["p"]
    assert flat["return_ci"] == [2.0, 2.0]


def test_normalised_score_is_zero_at_the_floor_and_one_at_the_ceiling() -> None:
    base = np.random.default_rng(0).normal(size=50)
    episodes = episodes_of({"low": list(base), "high": list(base + 4), "mid": list(base + 1)})
    for policy, expected in (("low", 0.0), ("high", 1.0), ("mid", 0.25)):
        score, (left, right) = normalised_score(episodes, policy, "low", "high", np.random.default_rng(0), 200, 0.95)
        assert score == pytest.approx(expected)
        # Paired resampling: the patients' own differences, which all policies share, leave no width.
        assert left == pytest.approx(expected)
        assert right == pytest.approx(expected)


def test_exploitation_gap_by_hand() -> None:
    """Person by person; agents who treated the same persons shared their luck, and add no evidence."""
    trial, twin = episodes_of({"ppo": [3.0, 5.0, 4.0]}), episodes_of({"ppo": [5.0, 6.0, 7.0]})
    gap, luck = exploitation_gap(twin, trial, 5.0)
    assert gap == pytest.approx(2.0 / 5)
    assert luck == pytest.approx(1.0 / np.sqrt(3) / 5)
    assert exploitation_gap(trial, twin, 5.0) == (gap, luck)
    again = [pd.concat([each, each.assign(policy="ppo_1")]) for each in (twin, trial)]
    assert exploitation_gap(*again, 5.0) == pytest.approx((gap, luck))


def test_scores_without_a_range_are_not_given() -> None:
    flat = episodes_of({"ppo": [3.0, 5.0], "none": [1.0, 2.0], "privileged": [1.0, 2.0]})
    worse = episodes_of({"ppo": [3.0, 5.0], "none": [1.0, 2.0], "privileged": [0.0, 2.0]})
    for episodes in (flat, worse):
        score = normalised_score(episodes, "ppo", "none", "privileged", np.random.default_rng(0), 50, 0.95)
        assert score == (None, None)
    with pytest.raises(AssertionError, match="same persons"):
        exploitation_gap(episodes_of({"ppo": [3.0]}), episodes_of({"ppo": [3.0, 4.0]}), 1.0)
    assert exploitation_gap(flat, flat, 0.0) == exploitation_gap(flat, flat, -1.0) == (None, None)
    some = episodes_of({"ppo": [3.0, 5.0], "none": [1.0, 2.0], "privileged": [9.0, 1.0]})  # a range, in the mean only
    score, interval = normalised_score(some, "ppo", "none", "privileged", np.random.default_rng(0), 50, 0.95)
    assert score == pytest.approx(2.5 / 3.5)
    assert interval is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": 0.0}, {"confidence": 1.0}, {"constant_intensities": []}, {"greedy_intensities": []},
        {"constant_intensities": [0.05]}, {"greedy_intensities": [1.1]},
        {"stepped_care": {"weeks": 3, "response": 0.05, "intensity": 0.0}},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    given = yaml.safe_load((CONF / "evaluate.yaml").read_text())["evaluate"]
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(EvaluateSettings).validate_python(given | wrong)


def test_probability_of_improvement_counts_ties_half() -> None:
    episodes = episodes_of({"a": [1.0, 2, 3, 4], "b": [0.0, 2, 9, 9]})
    share, (low, high), of_mean = probability_of_improvement(episodes, "a", "b", np.random.default_rng(0), 500, 0.95)
    assert share == pytest.approx(1.5 / 4)
    assert low < share < high
    assert 0 < of_mean < 0.5  # the mean is lower, but not in every resample
    steady = episodes_of({"a": [1.1, 2.1, 3.1, 2.0], "b": [1.0, 2.0, 3.0, 9.0]})
    most, _, seldom = probability_of_improvement(steady, "a", "b", np.random.default_rng(0), 500, 0.95)
    assert most == pytest.approx(3 / 4) and seldom < 0.5  # most fare better, the mean is worse


def test_comparisons_refuse_unpaired_patients() -> None:
    episodes = pd.concat([episodes_of({"a": [1.0, 2.0]}), episodes_of({"b": [1.0]})])
    with pytest.raises(AssertionError, match="same patients"):
        probability_of_improvement(episodes, "a", "b", np.random.default_rng(0), 10, 0.95)


def test_best_constant_is_a_constant() -> None:
    episodes = episodes_of({"none": [9.0, 9], "constant_cbt_0.5": [3.0, 1], "constant_app_0.1": [2.0, 1]})
    assert best_constant(episodes) == "constant_cbt_0.5"
