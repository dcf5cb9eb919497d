"""stable-baselines3's DQN, as it comes, on the Discrete form: Control, or one of four treatments at ten intensities.

    python examples/sb3_dqn.py [--steps 100000] [--seed 0]

Prints DQN beside no treatment and chance.
"""

import argparse

import numpy as np
from scoring import compare
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecMonitor

from envs.sb3 import make_vec_env

ENV = "Mano/Trial-Discrete-v0"


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    env = VecMonitor(make_vec_env(ENV, n_envs=64, seed=seed))
    model = DQN(
        "MlpPolicy",
        env,
        learning_rate=5e-4,
        learning_starts=2_000,
        batch_size=256,
        train_freq=1,
        gradient_steps=2,
        target_update_interval=1_000,
        exploration_fraction=0.4,
        gamma=0.98,
        seed=seed,
        device="cpu",
    )
    model.learn(steps)

    def policy(observation: np.ndarray, begins: np.ndarray) -> np.ndarray:
        return model.predict(observation, deterministic=True)[0]

    return compare(ENV, "DQN", policy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="patient-weeks to learn from")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
