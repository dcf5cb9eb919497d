"""stable-baselines3's PPO, as it comes, on the Box form.

    python examples/sb3_ppo.py [--steps 100000] [--seed 0]

All patients of a rollout are one batch (``envs.sb3.make_vec_env``). Prints PPO beside no treatment and chance.
"""

from sb3_training import train_and_compare
from scoring import command_line
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv


def agent(env: VecEnv, seed: int) -> PPO:
    return PPO("MlpPolicy", env, n_steps=24, batch_size=256, n_epochs=5, ent_coef=0.001, seed=seed, device="cpu")


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    return train_and_compare("Mano/Trial-Box-v0", "PPO", agent, steps, seed)


if __name__ == "__main__":
    command_line(main, __doc__, steps=100_000)
