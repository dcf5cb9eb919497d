"""What the examples share: a policy treats a clinic of patients once, and is printed beside no treatment and chance."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import envs  # noqa: F401 - registers the Mano/ ids

PATIENTS, SEED = (
    500,
    1_000_000,
)  # whom every policy treats: the same persons with the same luck, far from training seeds
# (observations [B, D], which courses begin now [B]) -> a batch of actions
Policy = Callable[[np.ndarray, np.ndarray], Any]


def no_treatment(env: gym.vector.VectorEnv) -> Policy:
    """Control every week, in whatever form the actions take."""
    n = env.num_envs
    forms = {
        gym.spaces.Dict: {"treatment": np.zeros(n, np.int64), "intensity": np.full((n, 1), 0.1, np.float32)},
        gym.spaces.Box: np.tile(np.array([1, -1, -1, -1, -1, -1], np.float32), (n, 1)),
        gym.spaces.Discrete: np.zeros(n, np.int64),
        gym.spaces.MultiDiscrete: np.zeros((n, 2), np.int64),
    }
    action = forms[type(env.unwrapped.single_action_space)]
    return lambda observation, begins: action


def chance(env: gym.vector.VectorEnv) -> Policy:
    env.action_space.seed(SEED)
    return lambda observation, begins: env.action_space.sample()


def treat(env: gym.vector.VectorEnv, policy: Policy) -> dict[str, float]:
    """One course of every environment: means over patients."""
    observation, _ = env.reset(seed=SEED)
    running, begins = np.ones(env.num_envs, bool), np.ones(env.num_envs, bool)
    totals = dict.fromkeys(("return", "remission", "dose-weeks", "adverse events"), 0.0)
    while running.any():
        observation, reward, terminated, truncated, infos = env.step(policy(observation, begins))
        begins = terminated | truncated
        # A course that has ended is described in final_info: its place already holds the next one.
        last = infos.get("final_info", {})
        dose, adverse = (
            np.where(begins, last.get(name, 0), infos.get(name, np.zeros(env.num_envs)))
            for name in ("intensity", "adverse")
        )
        for name, value in zip(totals, (reward, terminated, dose, adverse), strict=True):
            totals[name] += float(value[running].sum())
        running &= ~begins
    return {name: total / env.num_envs for name, total in totals.items()}


def compare(env_id: str, name: str, policy: Policy) -> dict[str, dict[str, float]]:
    """Print the policy beside no treatment and chance; returns what was printed."""
    env = gym.make_vec(env_id, num_envs=PATIENTS)
    scores = {other: treat(env, make(env)) for other, make in (("no treatment", no_treatment), ("random", chance))}
    scores[name] = treat(env, policy)
    print(f"\n{env_id}, {PATIENTS} patients, means of one course each")
    print(f"{'policy':<16}" + "".join(f"{column:>16}" for column in scores[name]))
    for row, score in scores.items():
        cells = [f"{value:>16.1%}" if column == "remission" else f"{value:>16.2f}" for column, value in score.items()]
        print(f"{row:<16}" + "".join(cells))
    return scores
