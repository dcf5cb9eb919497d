"""stable-baselines3's DQN, as it comes, on the Discrete form: Control, or one of four treatments at ten intensities.

    python examples/sb3_dqn.py [--steps 100000] [--seed 0]

Prints DQN beside no treatment and chance.
"""

from sb3_training import train_and_compare
from scoring import command_line
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv


def agent(env: VecEnv, seed: int) -> DQN:
    return DQN(
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


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    return train_and_compare("Mano/Trial-Discrete-v0", "DQN", agent, steps, seed)


if __name__ == "__main__":
    command_line(main, __doc__, steps=100_000)
