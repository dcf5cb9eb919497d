"""What the examples with stable-baselines3 share: an agent as it comes learns in a batch of patients, then treats."""

from collections.abc import Callable

import numpy as np
from scoring import compare
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from envs.sb3 import make_vec_env

ENVS = 64  # patients of a rollout, one batch


def train_and_compare(
    env_id: str, name: str, make: Callable[[VecEnv, int], BaseAlgorithm], steps: int, seed: int
) -> dict[str, dict[str, float]]:
    """``make(env, seed)`` gives the agent; it learns from ``steps`` patient-weeks and is printed beside the others."""
    model = make(VecMonitor(make_vec_env(env_id, n_envs=ENVS, seed=seed)), seed)
    model.learn(steps)
    memory = None  # of a recurrent agent; the others give back what they were given

    def policy(observation: np.ndarray, begins: np.ndarray) -> np.ndarray:
        nonlocal memory
        action, memory = model.predict(observation, memory, begins, deterministic=True)
        return action

    return compare(env_id, name, policy)
