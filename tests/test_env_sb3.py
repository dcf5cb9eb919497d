"""stable-baselines3's face: what its algorithms and wrappers ask of a VecEnv."""

import gymnasium as gym
import numpy as np
import pytest
from helpers_envs import people, world_of
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import envs  # noqa: F401 - registers the ids
from envs.sb3 import PatientVecEnv, make_vec_env


@pytest.fixture(scope="module")
def world():
    return world_of(people(600))


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


def test_sb3s_wrappers_take_it(world):
    env = VecNormalize(VecMonitor(PatientVecEnv(*world, 8, seed=0, form="Discrete"), info_keywords=("remission",)))
    env.reset()
    total, ended = np.zeros(8), 0
    for _ in range(14):
        _, _, done, infos = env.step(np.zeros(8, np.int64))
        total += env.get_original_reward()
        for i in np.flatnonzero(done):
            assert infos[i]["episode"]["r"] == pytest.approx(total[i], abs=1e-4)
            assert infos[i]["episode"]["remission"] != infos[i]["TimeLimit.truncated"]
            assert abs(infos[i]["terminal_observation"]).max() <= env.clip_obs
            total[i], ended = 0.0, ended + 1
    assert ended >= 8


def test_a_registered_id_as_sb3s_batch():
    env = make_vec_env("Mano/Trial-Box-v0", n_envs=3, seed=4)
    vector = gym.make_vec("Mano/Trial-Box-v0", num_envs=3)
    np.testing.assert_array_equal(env.reset(), vector.reset(seed=4)[0])
    assert env.action_space == vector.unwrapped.single_action_space
