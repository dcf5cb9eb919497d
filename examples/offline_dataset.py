"""Offline learning from an exported dataset: read it with Minari, clone the policy behind it, judge the clone.

    pip install -e ".[minari]"
    python examples/offline_dataset.py                  # makes a small dataset of stepped care, needs no run
    MINARI_DATASETS_PATH=runs/demo/dataset python examples/offline_dataset.py --dataset mano/trial-policy-v0

Behaviour cloning is the least an offline learner must beat. The clone is judged in the dataset's evaluation environment
on patients and luck that are not in the data, beside random and no treatment. About a minute on one core.
"""

import argparse
import os
import tempfile

import gymnasium as gym
import minari
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from core.random import seeded_init, torch_generator
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from pipeline.command import execute
from pipeline.config import load_config


class Clone(nn.Module):
    """Observations ``[B, D]`` to treatment logits ``[B, 5]`` and one dose in [0.1, 1] for each treatment ``[B, 5]``."""

    def __init__(self, observed: int, width: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observed, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.heads = nn.Linear(width, 2 * len(TREATMENTS))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        logits, dose = self.heads(self.body(observation)).chunk(2, dim=1)
        return logits, MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * dose.sigmoid()

    @torch.no_grad()
    def act(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        logits, dose = self(torch.from_numpy(observation))
        treatment = logits.argmax(dim=1)
        return {"treatment": treatment.numpy(), "intensity": dose.gather(1, treatment[:, None]).numpy()}


def transitions(dataset: minari.MinariDataset) -> tuple[Tensor, Tensor, Tensor]:
    """All weeks of all episodes: observation ``[N, D]``, treatment ``[N]``, intensity ``[N]``."""
    episodes = list(dataset.iterate_episodes())
    # An episode has one observation more than actions: the last one is followed by none.
    observation = np.concatenate([episode.observations[:-1] for episode in episodes])
    treatment = np.concatenate([episode.actions["treatment"] for episode in episodes])
    intensity = np.concatenate([episode.actions["intensity"][:, 0] for episode in episodes])
    return torch.from_numpy(observation), torch.from_numpy(treatment), torch.from_numpy(intensity)


def loss_of(clone: Clone, observation: Tensor, treatment: Tensor, intensity: Tensor) -> Tensor:
    """Cross-entropy of the treatment, squared error of the dose where a treatment was given."""
    logits, dose = clone(observation)
    given = dose.gather(1, treatment[:, None])[:, 0]
    error = torch.where(treatment == CONTROL, 0.0, (given - intensity) ** 2)
    return F.cross_entropy(logits, treatment) + error.mean()


def fit(clone: Clone, data: tuple[Tensor, Tensor, Tensor], steps: int, seed: int, batch: int = 256) -> None:
    optimizer = torch.optim.Adam(clone.parameters(), lr=1e-3)
    generator = torch_generator(seed, "clone")
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (batch,), generator=generator)
        optimizer.zero_grad()
        loss_of(clone, *(each[rows] for each in data)).backward()
        optimizer.step()


def agreement(clone: Clone, data: tuple[Tensor, Tensor, Tensor]) -> float:
    """Share of weeks in which the clone chooses the treatment that was given."""
    observation, treatment, _ = data
    return float((torch.from_numpy(clone.act(observation.numpy())["treatment"]) == treatment).float().mean())


def returns(envs: gym.vector.VectorEnv, policy, seed: int) -> np.ndarray:
    """The return of the first episode of every environment ``[B]``."""
    observation, _ = envs.reset(seed=seed)
    total, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    while running.any():
        observation, reward, terminated, truncated, _ = envs.step(policy(observation))
        total += np.where(running, reward, 0)
        running &= ~(terminated | truncated)
    return total


def compare(dataset: minari.MinariDataset, steps: int, patients: int, seed: int) -> dict[str, float]:
    """Clone the dataset's policy; mean returns by policy, and how well the clone agrees on held-out episodes."""
    held_out = dataset.total_episodes // 5
    training, checking = minari.split_dataset(dataset, [dataset.total_episodes - held_out, held_out], seed=seed)
    with seeded_init(seed):
        clone = Clone(dataset.observation_space.shape[0])
    fit(clone, transitions(training), steps, seed)
    envs = gym.make_vec(dataset.recover_environment(eval_env=True).spec, num_envs=patients)
    envs.action_space.seed(seed)
    nothing = {
        "treatment": np.zeros(patients, np.int64),
        "intensity": np.full((patients, 1), MIN_INTENSITY, np.float32),
    }
    policies = {
        "no treatment": lambda observation: nothing,
        "random": lambda observation: envs.action_space.sample(),
        "clone": clone.act,
    }
    found = {name: float(returns(envs, policy, seed).mean()) for name, policy in policies.items()}
    behaviour = np.mean([episode.rewards.sum() for episode in dataset.iterate_episodes()])
    return found | {"the data": float(behaviour), "agreement": agreement(clone, transitions(checking))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Clone the policy of an offline dataset.")
    parser.add_argument("--dataset", help="a dataset below MINARI_DATASETS_PATH; one is made where none is named")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--patients", type=int, default=500)
    options, screen = parser.parse_args(), Console(highlight=False)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        name = options.dataset
        if name is None:
            what = ("stage=dataset", "dataset.patients=reference", "dataset.policy=stepped_care")
            execute(load_config([*what, f"dataset.folder={folder}", f"runs_dir={folder}", "wide_threads=1"]), screen)
            name = "mano/trial-stepped_care-v0"
            os.environ["MINARI_DATASETS_PATH"] = folder
        dataset = minari.load_dataset(name)
        found = compare(dataset, options.steps, options.patients, seed=0)
        share = found.pop("agreement")
        screen.print(f"clone of {name}: agrees on {share:.1%} of held-out weeks")
        for policy, mean in found.items():
            score = minari.get_normalized_score(dataset, np.array(mean))
            screen.print(f"  {policy:<14} mean return {mean:5.2f}, normalised {score:5.2f}")


if __name__ == "__main__":
    main()
