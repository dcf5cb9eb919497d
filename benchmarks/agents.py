"""Agents as others ship them beside the dual head: learnt in a run's Twin, judged in Trial on its held-out patients.

    python benchmarks/agents.py [--run runs/demo] [--steps 442368] [--seed 0]

stable-baselines3's PPO on the Box form, its DQN on the Discrete form and sb3-contrib's recurrent PPO (`pip install -e ".[rl]"`) on
the MultiDiscrete form, all as they come but for the sizes that fit many patients at a time; `ppo` is the run's own dual head. The
table is that of the run's evaluate stage: same patients, same luck. 147,456 steps of each take a minute and a half on one thread.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder, whose names are no packages

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from envs.sb3 import make_vec_env
from envs.simulation import Simulation
from envs.spaces import decode
from intervention.baselines import Action, Memoryless, Policy
from intervention.training import FiniteHorizon, isolated_random_state
from pipeline.command import one_line_errors
from pipeline.console import console
from pipeline.environments import open_run
from pipeline.judge import judge, table_of


class Unmodified(Memoryless):
    """An agent of stable-baselines3 at its likeliest action, in the form it learnt; a recurrent one remembers the course."""

    def __init__(self, model: BaseAlgorithm, form: str) -> None:
        self.model, self.form = model, form

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.memory, self.begins = None, np.ones(len(rows), dtype=bool)

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        seen = observation.numpy(force=True)
        action, self.memory = self.model.predict(seen, self.memory, self.begins, deterministic=True)
        self.begins = np.zeros_like(self.begins)
        treatment, intensity = decode(self.form, np.asarray(action), len(observation))
        return torch.from_numpy(treatment), torch.from_numpy(intensity)


def box_ppo(run: str, steps: int, seed: int) -> PPO:
    env = FiniteHorizon(make_vec_env("Mano/Twin-Box-v0", n_envs=1024, seed=seed, run=run))
    model = PPO("MlpPolicy", env, n_steps=12, batch_size=2048, n_epochs=4, learning_rate=1e-3, seed=seed, device="cpu")
    return model.learn(steps)


def discrete_dqn(run: str, steps: int, seed: int) -> DQN:
    env = FiniteHorizon(make_vec_env("Mano/Twin-Discrete-v0", n_envs=256, seed=seed, run=run))
    model = DQN(
        "MlpPolicy", env, learning_rate=5e-4, buffer_size=200_000, learning_starts=4_096, batch_size=512, train_freq=1,
        gradient_steps=8, target_update_interval=2_048, exploration_fraction=0.4, seed=seed, device="cpu",
    )  # fmt: skip
    return model.learn(steps)


def recurrent_ppo(run: str, steps: int, seed: int) -> RecurrentPPO:
    env = FiniteHorizon(make_vec_env("Mano/Twin-MultiDiscrete-v0", n_envs=1024, seed=seed, run=run))
    model = RecurrentPPO(
        "MlpLstmPolicy", env, n_steps=12, batch_size=2048, n_epochs=4, learning_rate=1e-3,
        policy_kwargs={"lstm_hidden_size": 64}, seed=seed, device="cpu",
    )  # fmt: skip
    return model.learn(steps)


LEARN = {
    "sb3 ppo box": (box_ppo, "Box"),
    "sb3 dqn": (discrete_dqn, "Discrete"),
    "recurrent ppo": (recurrent_ppo, "MultiDiscrete"),
}


def main(run: str, steps: int, seed: int) -> None:
    torch.set_num_threads(1)
    store, screen, learned = open_run(run), console(), dict[str, Policy]()
    for name, (learn, form) in LEARN.items():
        began = time.perf_counter()
        with isolated_random_state():
            learned[name] = Unmodified(learn(str(store.root), steps, seed), form)
        screen.print(f"{name}: {steps:,} patient-weeks in {time.perf_counter() - began:.0f} s", highlight=False)
    screen.print(table_of(*judge(store, learned)), highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="folder of a run that has been evaluated")
    parser.add_argument("--steps", type=int, default=442_368, help="patient-weeks each learns from")
    parser.add_argument("--seed", type=int, default=0)
    with one_line_errors(()):
        main(**vars(parser.parse_args()))
