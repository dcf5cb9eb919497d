"""stable-baselines3's PPO, as it comes, on the Box form.

    python examples/sb3_ppo.py [--steps 100000] [--seed 0]

All patients of a rollout are one batch (``envs.sb3.make_vec_env``). Prints PPO beside no treatment and chance.
"""

import argparse

import numpy as np
from scoring import compare
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from envs.sb3 import make_vec_env

ENV = "Mano/Trial-Box-v0"


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    env = VecMonitor(make_vec_env(ENV, n_envs=64, seed=seed))
    model = PPO("MlpPolicy", env, n_steps=24, batch_size=256, n_epochs=5, ent_coef=0.001, seed=seed, device="cpu")
    model.learn(steps)

    def policy(observation: np.ndarray, begins: np.ndarray) -> np.ndarray:
        return model.predict(observation, deterministic=True)[0]

    return compare(ENV, "PPO", policy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="patient-weeks to learn from")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
