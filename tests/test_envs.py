"""The environment: one simulation behind every face, its reward, its errors, its spaces."""

import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from helpers_envs import env_settings, people, simulation, trial_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from core.errors import ConfigError, DataError, ManoError, NumericalError
from core.patients import Patients
from core.protocols import risk_score
from core.treatments import MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.patient_env import PatientEnv
from envs.rewards import REWARD_TERMS, eligible
from envs.sb3 import PatientVecEnv
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.spaces import FORMS, action_space, decode
from envs.trial import Trial
from envs.vector_env import PatientVectorEnv

WEEKS = 30  # long enough for several episodes


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(600)


@pytest.fixture(scope="module")
def world(patients):
    index = SeverityIndex(patients.signals, patients.scaler)
    return patients, Trial(patients, trial_settings(), 0), index, env_settings()


def plan(num_envs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Actions ``[WEEKS, num_envs]``, each environment's own whatever the batch: treatments and intensities."""
    treatment, share = plan_shares(num_envs, seed)
    return treatment, (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * torch.from_numpy(share)).numpy()


def plan_shares(num_envs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The same as SB3's face takes them: treatments and u in [0, 1]."""
    per_env = [np.random.default_rng([seed, i]) for i in range(num_envs)]
    treatment = np.stack([g.integers(0, 5, WEEKS) for g in per_env], axis=1)
    return treatment, np.stack([g.random(WEEKS) for g in per_env], axis=1).astype(np.float32)


def run_scalar(world, seed: int, place: int) -> list[tuple]:
    env, (treatment, intensity) = PatientEnv(*world), plan(64)
    env.reset(seed=seed + place)
    path = []
    for week in range(WEEKS):
        action = {"treatment": int(treatment[week, place]), "intensity": intensity[week, place : place + 1]}
        observation, reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
        path.append((observation, reward, terminated, truncated))
    return path


def run_vector(world, seed: int, num_envs: int) -> list[tuple]:
    env, (treatment, intensity) = PatientVectorEnv(*world, num_envs=num_envs), plan(64)
    env.reset(seed=seed)
    return [
        env.step({"treatment": t[:num_envs], "intensity": u[:num_envs, None]})[:4]
        for t, u in zip(treatment, intensity, strict=True)
    ]


def run_sb3(world, seed: int, num_envs: int) -> list[tuple]:
    env, (treatment, share) = PatientVecEnv(*world, num_envs=num_envs, seed=seed), plan_shares(64)
    env.reset()
    return [
        env.step(np.stack([t, u], axis=1)[:num_envs].astype(np.float32)) for t, u in zip(treatment, share, strict=True)
    ]


def test_scalar_vector_and_sb3_faces_give_the_same_trajectories(world):
    vectors = {n: run_vector(world, 7, n) for n in (1, 3, 64)}
    sb3 = run_sb3(world, 7, 64)
    assert sum(int(step[2].sum() + step[3].sum()) for step in vectors[64]) > 128  # episodes did end
    for place in (0, 2):
        for week, (observation, reward, terminated, truncated) in enumerate(run_scalar(world, 7, place)):
            for n, steps in vectors.items():
                if place >= n:
                    continue
                np.testing.assert_allclose(steps[week][0][place], observation, atol=1e-6)
                assert steps[week][1][place] == pytest.approx(reward, abs=2e-6)
                assert (steps[week][2][place], steps[week][3][place]) == (terminated, truncated)
            np.testing.assert_allclose(sb3[week][0][place], observation, atol=1e-6)
            assert sb3[week][2][place] == (terminated or truncated)


def test_part_of_a_batch_equals_the_whole(patients):
    whole, part = simulation(patients, 8, seed=3), simulation(patients, 3, seed=3, first_env=5)
    torch.testing.assert_close(whole.reset()[5:], part.reset(), atol=1e-6, rtol=0)


def test_seeds_differ_and_episodes_differ(world):
    env = PatientEnv(*world)
    first, _ = env.reset(seed=1)
    again, _ = env.reset()
    same, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("form", FORMS)
def test_checkers_pass_on_every_form(world, form):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(PatientEnv(*world, form=form), skip_render_check=True)
        sb3_check_env(PatientEnv(*world, form=form), warn=form == "Box")
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    # The native form's Box is [0.1, 1] because that is what a dose is; nothing else may be remarked on.
    assert all("symmetric and normalized" in message and form == "Dict" for message in said), said


@pytest.mark.parametrize("form", FORMS)
def test_vector_env_steps_on_every_form(world, form):
    env = PatientVectorEnv(*world, num_envs=4, form=form)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        observation, reward, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation) and reward.shape == (4,)


def test_autoreset_in_the_same_step_keeps_the_last_observation(world):
    env = PatientVectorEnv(*world, num_envs=16)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=0)
    action = {"treatment": np.full(16, 2), "intensity": np.full((16, 1), 0.6, np.float32)}
    for _ in range(world[3].horizon):
        observation, _, terminated, truncated, infos = env.step(action)
        done = terminated | truncated
        assert not (terminated & truncated).any()
        if not done.any():
            assert "final_obs" not in infos
            continue
        np.testing.assert_array_equal(infos["_final_obs"], done)
        time = env.simulation.layout.slices["time"].start
        for i in np.flatnonzero(done):
            assert infos["final_obs"][i][time] > 0 and observation[i][time] == 0
            assert infos["final_info"]["remission"][i] == terminated[i]
        assert all(infos["final_obs"][i] is None for i in np.flatnonzero(~done))
        assert not infos["_improvement"][done].any() and infos["_risk"].all()
    assert done.any()


def test_reset_mask_resets_only_those(world):
    env = PatientVectorEnv(*world, num_envs=3)
    env.reset(seed=0)
    action = {"treatment": np.full(3, 1), "intensity": np.full((3, 1), 0.5, np.float32)}
    before = env.step(action)[0]
    mask = np.array([False, True, False])
    after, infos = env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert env.simulation.week.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(infos["_week"], mask)


def test_sb3_reports_the_end_of_an_episode_and_trains(world):
    env = PatientVecEnv(*world, num_envs=8, seed=0)
    env.reset()
    ended = []
    for _ in range(12):
        observation, _, done, infos = env.step(np.tile(np.array([0, 0], np.float32), (8, 1)))
        ended += [(infos[i], observation[i]) for i in np.flatnonzero(done)]
    assert any(info["TimeLimit.truncated"] for info, _ in ended)
    for info, fresh in ended:
        assert info["terminal_observation"].shape == fresh.shape
        assert not np.array_equal(info["terminal_observation"], fresh)
        assert info["remission"] != info["TimeLimit.truncated"] and info["dose_weeks"] == 0
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, n_epochs=1, seed=3).learn(256)
    assert model.ep_info_buffer and env.simulation.seeds[0] == 3


def test_registered_ids_make_every_form():
    import envs  # noqa: F401

    for dynamics in ("Trial", "Twin"):
        for suffix in ("", "-Box", "-Discrete", "-MultiDiscrete"):
            spec = gym.spec(f"Mano/{dynamics}{suffix}-v0")
            assert isinstance(spec.entry_point, str) and isinstance(spec.vector_entry_point, str)


def test_registration_is_light():
    code = "import sys, envs; sys.exit('torch' in sys.modules or 'stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The reward.


def episodes(patients: Patients, treatments: list[int], intensity: float = 0.6, n: int = 300, seed: int = 5):
    """Every step of ``n`` episodes under a plan of 12 weeks."""
    sim = simulation(patients, n, seed)
    sim.reset()
    first, steps = sim.risk.clone(), []
    for treatment in treatments:
        steps.append(sim.step(torch.full((n,), treatment), torch.full((n,), intensity)))
    return first, steps


def test_reward_is_the_sum_of_its_terms_and_improvement_telescopes(patients):
    first, steps = episodes(patients, [1, 2, 3, 4] * 3)
    scale = env_settings().risk_scale
    improvement = sum(step.info["improvement"] for step in steps)
    torch.testing.assert_close(improvement, scale * (first - steps[-1].info["risk"]), atol=1e-4, rtol=0)
    for step in steps:
        torch.testing.assert_close(step.reward, sum(step.info[name] for name in REWARD_TERMS))


def test_controls_intensity_changes_neither_reward_nor_observation(patients):
    quiet, loud = (episodes(patients, [0] * 4, intensity=u)[1] for u in (0.1, 1.0))
    for a, b in zip(quiet, loud, strict=True):
        assert torch.equal(a.observation, b.observation) and torch.equal(a.reward, b.reward)
        assert not b.info["treatment_cost"].any() and not b.info["intensity"].any()


def test_remission_terminates_the_horizon_truncates(patients):
    _, steps = episodes(patients, [2] * 12)
    settings = env_settings()
    risks = torch.stack([step.info["risk"] for step in steps])
    well = risks < settings.remission_threshold
    for week, step in enumerate(steps):
        expected = well[week] & well[week - 1] if week else torch.zeros_like(well[0])
        assert torch.equal(step.terminated, expected)
        assert torch.equal(step.truncated, ~step.terminated & torch.full_like(expected, week == 11))


def test_hovering_below_remission_does_not_beat_cure(patients):
    """A planted cheat: the same treatment, but every second well week it breaks off, so as never to be discharged.

    It is allowed to know the coming risk, which no policy does: of each pair of well weeks it pays back the second.
    """
    sim, settings, n = simulation(patients, 400, seed=2), env_settings(), 400
    sim.reset()
    first, alive, cured = sim.risk.clone(), torch.ones(n, dtype=torch.bool), torch.zeros(n)
    risks, costs, done = [], [], torch.zeros(n, dtype=torch.bool)
    for _ in range(12):
        step = sim.step(torch.full((n,), 2), torch.full((n,), 0.6))
        cured += alive * step.reward
        done |= alive & step.terminated
        alive &= ~step.terminated
        risks.append(step.info["risk"])
        costs.append(step.info["treatment_cost"] + step.info["adverse_cost"])
    # Hovering forgoes the bonus; the best it can end on is the lowest risk of the course.
    lowest = torch.stack(risks).min(dim=0).values
    hover = settings.risk_scale * (first - lowest) + torch.stack(costs).sum(dim=0)
    assert done.sum() > 50
    assert (cured[done] > hover[done]).all()


def test_waiting_does_not_pay(patients):
    """The same course of treatment, begun later with the same luck, earns less; never beginning earns least."""

    def total(plan: list[int]) -> float:
        alive, reward = torch.ones(600), torch.zeros(600)
        for step in episodes(patients, plan, n=600)[1]:
            reward += alive * step.reward
            alive *= 1 - step.terminated.float()
        return float(reward.mean())

    for course in ([2] * 12, [3] * 12, [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3):
        now, late, never = (total([0] * wait + course[: 12 - wait]) for wait in (0, 8, 12))
        assert now > late + 0.1 and late > never


def test_true_level_is_reported(patients):
    _, steps = episodes(patients, [3] * 3)
    level = steps[-1].info["level"]
    assert level.shape == (300, 4)
    assert np.corrcoef(level[:, 2], simulation_days(patients, [3] * 3)[:, 2])[0, 1] > 0.9


def simulation_days(patients: Patients, treatments: list[int]) -> torch.Tensor:
    sim = simulation(patients, 300, 5)
    sim.reset()
    for treatment in treatments:
        sim.step(torch.full((300,), treatment), torch.full((300,), 0.6))
    return sim.days.mean(dim=1)


# The observation.


def test_layout_names_every_number(patients):
    sim = simulation(patients, 4)
    layout, observation = sim.layout, sim.reset()
    assert observation.shape == (4, layout.size) and len(set(layout.names)) == layout.size
    covered = [i for part in layout.slices.values() for i in range(part.start, part.stop)]
    assert covered == list(range(layout.size))
    torch.testing.assert_close(observation[:, layout.slices["week"]], observation[:, layout.slices["baseline"]])
    step = sim.step(torch.tensor([0, 1, 2, 4]), torch.tensor([0.5, 0.5, 1.0, 0.25]))
    seen = {part: step.observation[:, where] for part, where in layout.slices.items()}
    torch.testing.assert_close(seen["risk"][:, 0], step.info["risk"])
    torch.testing.assert_close(risk_score(seen["probabilities"]), step.info["risk"])
    assert seen["last_treatment"].argmax(dim=1).tolist() == [0, 1, 2, 4]
    assert seen["last_intensity"][:, 0].tolist() == [0.0, 0.5, 1.0, 0.25]
    assert seen["mean_intensity"][3].tolist() == [0, 0, 0, 0.25] and not seen["weeks_on"][0].any()
    torch.testing.assert_close(
        seen["risk_change"][2, 1] * env_settings().risk_scale, step.info["improvement"][2], atol=1e-5, rtol=0
    )


def test_pool_holds_the_eligible_and_anybody_can_be_chosen(world):
    patients, _, index, settings = world
    rows = eligible(patients, index, settings.min_risk)
    sim = simulation(patients, 64)
    assert np.array_equal(sim.pool, rows) and 0 < len(rows) < len(patients)
    sim.reset()
    assert (sim.risk >= settings.min_risk).all()
    well = int(np.setdiff1d(np.arange(len(patients)), rows)[0])
    _, info = PatientEnv(*world).reset(seed=0, options={"patient_id": int(patients.ids[well])})
    assert info["patient_id"] == patients.ids[well] and info["risk"] < settings.min_risk


def test_a_chosen_patient_keeps_to_the_seed(world):
    env = PatientVectorEnv(*world, num_envs=3)
    _, infos = env.reset(seed=1, options={"patient_id": [5, 6, 7]})
    assert infos["patient_id"].tolist() == [5, 6, 7]
    _, infos = env.reset(seed=1, options={"patient_id": 9})
    assert infos["patient_id"].tolist() == [9, 9, 9]


# Severity.


def test_severity_is_worse_for_worse_weeks(patients):
    index = SeverityIndex(patients.signals, patients.scaler)
    better = torch.tensor([float(s.better) for s in patients.signals])
    step = better * torch.tensor(patients.scaler.between)
    risks = [risk_score(index.probabilities(patients.features, patients.week - x * step)) for x in (-1.0, 0.0, 1.0)]
    assert (risks[0] < risks[1]).all() and (risks[1] < risks[2]).all()
    torch.testing.assert_close(index.probabilities(patients.features, patients.week).sum(dim=1), torch.ones(600))


def test_severity_ignores_what_was_not_observed(patients):
    index = SeverityIndex(patients.signals, patients.scaler)
    mask = torch.ones_like(patients.week, dtype=torch.bool)
    mask[:, 3] = False
    spoiled = patients.week.clone()
    spoiled[:, 3] = 0.0
    a, b = (index.probabilities(patients.features, week, mask) for week in (patients.week, spoiled))
    torch.testing.assert_close(a, b)


# Actions and errors.


@given(st.integers(0, 40))
@settings(max_examples=41, deadline=None)
def test_discrete_actions_cover_each_treatment_and_level_once(code):
    treatment, intensity = decode("Discrete", np.array([code]), 1)
    assert treatment[0] == (0 if code == 0 else 1 + (code - 1) // 10)
    assert code == 0 or intensity[0] == pytest.approx(0.1 + 0.1 * ((code - 1) % 10), abs=1e-6)


def test_box_actions_reach_every_treatment_and_both_ends():
    for treatment in range(5):
        scores = np.full(6, -0.5, np.float32)
        scores[treatment] = 0.9
        for end, intensity in ((-1.0, 0.1), (1.0, 1.0)):
            scores[5] = end
            chosen, dose = decode("Box", scores[None], 1)
            assert chosen[0] == treatment and dose[0] == pytest.approx(intensity)


GOOD = np.array([0.5], np.float32)
BAD_ACTIONS = [
    ("Dict", {"treatment": 5, "intensity": GOOD}, "treatment"),
    ("Dict", {"treatment": -1, "intensity": GOOD}, "treatment"),
    ("Dict", {"treatment": 1.5, "intensity": GOOD}, "treatment"),
    ("Dict", {"treatment": 1, "intensity": np.array([0.0], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1, "intensity": np.array([1.5], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1, "intensity": np.array([np.nan], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1, "intensity": np.array([0.5, 0.5], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1}, "intensity"),
    ("Dict", np.array([1, 0.5]), "dict"),
    ("Box", np.zeros(5, np.float32), "shape"),
    ("Box", np.full(6, np.nan, np.float32), "finite"),
    ("Box", "much", "numbers"),
    ("Discrete", 41, "0 to 40"),
    ("MultiDiscrete", np.array([1, 10]), "intensity level"),
    ("MultiDiscrete", np.array([1]), "shape"),
]


@pytest.mark.parametrize(("form", "action", "word"), BAD_ACTIONS)
def test_a_bad_action_is_one_clear_line(world, form, action, word):
    env = PatientEnv(*world, form=form)
    env.reset(seed=0)
    with pytest.raises(DataError, match=word) as caught:
        env.step(action)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_other_misuse_is_one_clear_line(world, patients):
    env = PatientEnv(*world)
    with pytest.raises(ResetNeeded):
        env.step({"treatment": 0, "intensity": GOOD})
    for patient in (-1, 10_000, "seventeen"):
        with pytest.raises(DataError, match="patient_id"):
            env.reset(options={"patient_id": patient})
    with pytest.raises(ConfigError, match="Dict, Box"):
        action_space("Tuple")
    with pytest.raises(ConfigError, match="render_mode"):
        PatientEnv(*world, render_mode="human")
    with pytest.raises(ConfigError, match="treatment_cost"):
        Simulation(*world[:3], replace(world[3], treatment_cost={"app": 0.1}), 1, 0)
    with pytest.raises(DataError, match="min_risk"):
        Simulation(*world[:3], replace(world[3], min_risk=1.0), 1, 0)
    with pytest.raises(ManoError, match="cannot be set"):
        PatientVecEnv(*world, num_envs=2, seed=0).set_attr("x", 1)


def test_a_non_finite_risk_is_named(world):
    class Broken(SeverityIndex):
        def probabilities(self, features, week, mask=None):
            found = super().probabilities(features, week, mask)
            return found.where(torch.arange(len(week))[:, None] != 1, torch.nan) if len(week) == 3 else found

    patients, trial, _, config = world
    sim = Simulation(patients, trial, Broken(patients.signals, patients.scaler), config, 3, 0)
    sim.reset()
    with pytest.raises(NumericalError, match="week 1"):
        sim.step(torch.zeros(3, dtype=torch.int64), torch.full((3,), 0.5))


def test_runs_under_inference_mode_and_goes_on_outside(patients):
    sim = simulation(patients, 4)
    with torch.inference_mode():
        sim.reset()
        sim.step(torch.tensor([1, 2, 3, 4]), torch.full((4,), 0.5))
    sim.reset(which=torch.tensor([True, False, False, False]))
    assert sim.week.tolist() == [0, 1, 1, 1]


def test_render(world):
    env = PatientEnv(*world, render_mode="ansi")
    env.reset(seed=0)
    env.step({"treatment": TREATMENTS.index("cbt"), "intensity": GOOD})
    assert "CBT 0.50" in env.render() and env.render().count("week") == 2
    env = PatientEnv(*world, render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.std() > 0
