"""The registered environments of a run, as Gymnasium and stable-baselines3 meet them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3

import envs  # noqa: F401 - registers the ids
from core.errors import ConfigError, DataError
from core.treatments import MAX_INTENSITY, MIN_INTENSITY
from envs.sb3 import PatientVecEnv
from pipeline.environments import run_world, trial_of
from pipeline.store import RunStore

FORMS = ("", "-Box", "-Discrete", "-MultiDiscrete")


@pytest.mark.filterwarnings("ignore:The action space is not based off a numpy array")  # SB3 on Dict actions
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["Trial", "Twin"])
def test_the_checkers_pass(smoke: RunStore, name: str, form: str) -> None:
    env = gym.make(f"Mano/{name}{form}-v0", run=str(smoke.root)).unwrapped
    check_env(env, skip_render_check=True)
    check_sb3(env)


@pytest.mark.parametrize("form", FORMS)
def test_trial_needs_nothing(form: str) -> None:
    env = gym.make(f"Mano/Trial{form}-v0")
    check_env(env.unwrapped, skip_render_check=True)
    assert gym.make_vec(f"Mano/Trial{form}-v0", num_envs=3).reset(seed=0)[0].shape[0] == 3


@pytest.mark.parametrize("twin", [False, True])
def test_scalar_vector_and_sb3_agree_at_any_batch(smoke: RunStore, twin: bool) -> None:
    """One course of each environment, with the run's own risk model."""
    name, run, largest, weeks = ("Twin" if twin else "Trial"), str(smoke.root), 33, 12
    rng = np.random.default_rng(0)
    treatment, share = rng.integers(0, 5, (weeks, largest)), rng.random((weeks, largest)).astype(np.float32)
    dose = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * torch.from_numpy(share)).numpy()

    def vector(n: int) -> np.ndarray:
        env = gym.make_vec(f"Mano/{name}-v0", num_envs=n, run=run)
        env.reset(seed=5)
        steps = [env.step({"treatment": t[:n], "intensity": u[:n, None]}) for t, u in zip(treatment, dose, strict=True)]
        return np.stack([np.c_[observation, reward] for observation, reward, *_ in steps])

    world = run_world(run, twin)
    sb3 = PatientVecEnv(world.patients, world.dynamics, world.risk_model, world.settings, num_envs=largest, seed=5)
    sb3.reset()
    found = [sb3.step(np.stack([t, u], axis=1).astype(np.float32)) for t, u in zip(treatment, share, strict=True)]
    whole = vector(largest)
    np.testing.assert_allclose(np.stack([np.c_[step[0], step[1]] for step in found]), whole, atol=1e-6)
    np.testing.assert_allclose(vector(7), whole[:, :7], atol=1e-6)
    for place in (0, 20):
        env = gym.make(f"Mano/{name}-v0", run=run)
        env.reset(seed=5 + place)
        for week in range(weeks):
            action = {"treatment": treatment[week, place], "intensity": dose[week, place : place + 1]}
            observation, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                assert float(reward) == pytest.approx(whole[week, place, -1], abs=1e-5)
                break
            np.testing.assert_allclose(observation, whole[week, place, :-1], atol=1e-6)


def test_what_cannot_be_loaded_says_so(tmp_path, smoke: RunStore) -> None:
    with pytest.raises(ConfigError, match="needs a trained run"):
        gym.make("Mano/Twin-v0")
    with pytest.raises(ConfigError, match=r"nowhere' does not exist; make it with"):
        gym.make("Mano/Twin-v0", run=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="patient_id 123456 is unknown"):
        gym.make("Mano/Twin-v0", run=str(smoke.root)).reset(options={"patient_id": 123456})


def test_a_world_without_a_run_is_the_same_every_time() -> None:
    first = trial_of(None).patients
    assert torch.equal(first.week, trial_of(None).patients.week)
