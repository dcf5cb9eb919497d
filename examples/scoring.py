"""What the examples share: a policy treats a clinic of patients once, and is printed beside no treatment and chance."""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import envs  # noqa: F401 - registers the Mano/ ids

PATIENTS, SEED = 500, 1_000_000  # whom all treat: the same persons with the same luck, far from training seeds
# (observations [B, D], which courses begin now [B]) -> a batch of actions
Policy = Callable[[np.ndarray, np.ndarray], Any]


def no_treatment(env: gym.vector.VectorEnv) -> Policy:
    """Control every week, in whatever form the actions take."""
    n, space = env.num_envs, env.unwrapped.single_action_space
    action: Any
    if isinstance(space, gym.spaces.Dict):
        action = {"treatment": np.zeros(n, np.int64), "intensity": np.full((n, 1), 0.1, np.float32)}
    elif isinstance(space, gym.spaces.Box):  # the highest score's treatment
        action = np.full((n, *space.shape), -1, np.float32)
        action[:, 0] = 1
    else:  # Discrete, MultiDiscrete
        action = np.zeros((n, *space.shape), np.int64)
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


def command_line(main: Callable[[int, int], Any], description: str | None, steps: int) -> None:
    """What every script takes: how many patient-weeks to learn from, and the seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="patient-weeks to learn from")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
