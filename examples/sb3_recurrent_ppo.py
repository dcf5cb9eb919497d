"""sb3-contrib's recurrent PPO, as it comes, on the MultiDiscrete form: it remembers the course by an LSTM.

    pip install -e ".[rl]"
    python examples/sb3_recurrent_ppo.py [--steps 40000] [--seed 0]

Prints recurrent PPO beside no treatment and chance.
"""

import argparse

import numpy as np
from sb3_contrib import RecurrentPPO
from scoring import compare
from stable_baselines3.common.vec_env import VecMonitor

from envs.sb3 import make_vec_env

ENV = "Mano/Trial-MultiDiscrete-v0"


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    env = VecMonitor(make_vec_env(ENV, n_envs=64, seed=seed))
    model = RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=24,
        batch_size=512,
        n_epochs=4,
        learning_rate=1e-3,
        ent_coef=0.01,
        policy_kwargs={"lstm_hidden_size": 64},
        seed=seed,
        device="cpu",
    )
    model.learn(steps)
    memory = None

    def policy(observation: np.ndarray, begins: np.ndarray) -> np.ndarray:
        nonlocal memory
        action, memory = model.predict(observation, memory, begins, deterministic=True)
        return action

    return compare(ENV, "recurrent PPO", policy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000, help="patient-weeks to learn from")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
