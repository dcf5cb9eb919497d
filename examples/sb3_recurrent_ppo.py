"""sb3-contrib's recurrent PPO, as it comes, on the MultiDiscrete form: it remembers the course by an LSTM.

    pip install -e ".[rl]"
    python examples/sb3_recurrent_ppo.py [--steps 40000] [--seed 0]

Prints recurrent PPO beside no treatment and chance.
"""

from sb3_contrib import RecurrentPPO
from sb3_training import train_and_compare
from scoring import command_line
from stable_baselines3.common.vec_env import VecEnv


def agent(env: VecEnv, seed: int) -> RecurrentPPO:
    return RecurrentPPO(
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


def main(steps: int, seed: int) -> dict[str, dict[str, float]]:
    return train_and_compare("Mano/Trial-MultiDiscrete-v0", "recurrent PPO", agent, steps, seed)


if __name__ == "__main__":
    command_line(main, __doc__, steps=40_000)
