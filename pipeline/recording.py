"""Episodes kept whole, as offline learning needs them: what was seen, done, paid and known, week by week.

The weeks come from the batched simulation. Episode i is the first episode of an environment reset with its own seed, so
``env.reset(seed=...)`` and the recorded actions give the recorded episode again.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Le
from pydantic import StringConstraints
from torch import Tensor

from core.protocols import Tracker
from core.random import numpy_generator, stream_keys, stream_uniform
from core.settings import Count, Fraction
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.simulation import Simulation, Step
from envs.spaces import LEVELS, Form, decode
from intervention.baselines import Action, Memoryless, Policy, Random
from intervention.evaluation import SEED_STRIDE
from intervention.streams import ACTIONS
from intervention.trials import TrialsSettings, assign_arms
from pipeline.parts import World

BATCH = 1024  # episodes simulated side by side
# A namespace (two letters or more) may stand before the name, a version must stand behind it: Minari's own rule.
DatasetName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]{2,}/)*[A-Za-z0-9_-]+-v\d+$")]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class DatasetSettings:
    """An offline dataset: who is treated, how, and where it goes; values in ``conf/dataset.yaml``."""

    policy: Literal["none", "random", "stepped_care", "trials", "policy"]  # who chooses the treatment
    explore: Fraction  # share of weeks in which chance chooses instead
    world: Literal["trial", "twin"]  # where it happens
    patients: Literal["run", "reference"]  # the run's synthetic patients, or the reference population's
    form: Form  # action space
    episodes: Annotated[Count, Le(SEED_STRIDE - 1)]  # seeds further on belong to the run's next seed
    reference_episodes: Count  # episodes behind each reference return, at most all there are
    name: DatasetName | None  # None: mano/WORLD-POLICY-v0
    folder: str | None  # what MINARI_DATASETS_PATH names; None: dataset/ in the run's folder
    licence: str  # of the data


@dataclass(frozen=True)
class Recording:
    """B episodes of up to T weeks; what lies behind an episode's end is not part of it.

    Attributes:
        seed, length: int64 ``[B]``; ``reset(seed=...)`` begins the episode, which has so many weeks.
        observations: float32 ``[B, T + 1, D]``, the first before any treatment.
        actions: ``[B, T, ...]`` of the action form; of ``Dict`` an array for each of its keys.
        rewards, terminations, truncations: ``[B, T]``, float32, bool, bool.
        infos: ``[B, T + 1, ...]`` by name; at the reset, what only a step tells is NaN or False.
    """

    seed: np.ndarray
    length: np.ndarray
    observations: np.ndarray
    actions: np.ndarray | Arrays
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    infos: Arrays

    @property
    def running(self) -> np.ndarray:
        """bool ``[B, T]``: the weeks that belong to the episodes."""
        return np.arange(self.rewards.shape[1]) < self.length[:, None]

    @property
    def returns(self) -> np.ndarray:
        """float64 ``[B]``: the sum of each episode's rewards."""
        return np.where(self.running, self.rewards, 0).sum(axis=1, dtype=np.float64)


class Arms(Memoryless):
    """Courses laid down beforehand: treatment and intensity ``[B, W]``."""

    def __init__(self, treatment: np.ndarray, intensity: np.ndarray) -> None:
        self.treatment, self.intensity = torch.from_numpy(treatment), torch.from_numpy(intensity)

    @classmethod
    def of_trials(cls, settings: TrialsSettings, episodes: int, weeks: int, seed: int) -> "Arms":
        """The arms of virtual trials (intervention.trials) of this many episodes and weeks."""
        rng = numpy_generator(seed, "dataset", "arms")
        return cls(*assign_arms(replace(settings, courses=episodes, weeks=weeks), rng))

    def part(self, episodes: slice) -> "Arms":
        return Arms(self.treatment[episodes].numpy(), self.intensity[episodes].numpy())

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        # All episodes of a batch begin together, and an ended one is stepped on: beyond its last week, as in it.
        week = min(int(simulation.week.max()), self.treatment.shape[1] - 1)
        return self.treatment[:, week], self.intensity[:, week]


class Exploring:
    """Another policy, but in a ``share`` of the weeks the choice of chance."""

    def __init__(self, policy: Policy, share: float) -> None:
        self.policy, self.share, self.random = policy, share, Random()

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.policy.reset(simulation, rows)

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        own = self.policy.act(simulation, observation, keys)
        other = self.random.act(simulation, observation, stream_keys(keys, 1))
        chance = stream_uniform(stream_keys(keys, 2), 1)[:, 0] < self.share
        return torch.where(chance, other[0], own[0]), torch.where(chance, other[1], own[1])

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        self.policy.observe(simulation, action, step)


def parts_of(episodes: int) -> list[slice]:
    """The batches in which this many episodes are simulated."""
    return [slice(start, min(start + BATCH, episodes)) for start in range(0, episodes, BATCH)]


def record(policy: Policy, world: World, form: str, seed: int, part: slice) -> Recording:
    """The episodes ``part`` under ``policy``; the same patients and luck whatever the policy and the batch.

    A dose is rounded to what the action form can say, and given as it is written down.
    """
    count = part.stop - part.start
    # One stride on: the seeds that a learner evaluates with are small numbers, and must not be these episodes.
    first = (seed + 1) * SEED_STRIDE + part.start
    simulation = Simulation(world.patients, world.dynamics, world.risk_model, world.settings, count, first)
    index = torch.arange(part.start, part.stop)
    observation = simulation.reset()
    policy.reset(simulation, simulation.rows)
    observations, infos = [observation], [simulation.info()]
    actions: list[Any] = []
    steps: list[Step] = []
    running = torch.ones(count, dtype=torch.bool)
    length = torch.zeros(count, dtype=torch.int64)
    while running.any():
        chosen = policy.act(simulation, observation, stream_keys(seed, ACTIONS, index, len(steps)))
        actions.append(encode(form, *chosen))
        treatment, intensity = map(torch.from_numpy, decode(form, actions[-1], count))
        step = simulation.step(treatment, intensity)
        policy.observe(simulation, (step.info["treatment"], step.info["intensity"]), step)
        observation, length = step.observation, length + running
        observations.append(observation)
        infos.append(step.info)
        steps.append(step)
        running = running & ~step.terminated & ~step.truncated
    return Recording(
        simulation.seeds.numpy(force=True),
        length.numpy(),
        _stacked(observations),
        {key: np.stack([action[key] for action in actions], axis=1) for key in actions[0]}
        if form == "Dict"
        else np.stack(actions, axis=1),
        _stacked([step.reward for step in steps]),
        _stacked([step.terminated for step in steps]),
        _stacked([step.truncated for step in steps]),
        {name: _stacked([info.get(name, _unknown(infos[1][name])) for info in infos]) for name in infos[1]},
    )


def mean_return(policy: Policy, world: World, seed: int, episodes: int) -> float:
    """Mean return of the first ``episodes`` episodes under ``policy``, actions in the native form."""
    parts = [record(policy, world, "Dict", seed, part).returns for part in parts_of(episodes)]
    return float(np.concatenate(parts).mean())


def best_of(policies: dict[str, Policy], world: World, seed: int, episodes: int, tracker: Tracker) -> dict[str, float]:
    """The mean return of every policy, on the same patients with the same luck."""
    jobs = tracker.track(policies.items(), "reference returns", len(policies))
    return {name: mean_return(policy, world, seed, episodes) for name, policy in jobs}


def encode(form: str, treatment: Tensor, intensity: Tensor) -> Any:
    """A batch of actions of this form, each inside its space; what ``envs.spaces.decode`` reads back.

    Control's intensity, which counts as 0, is written as the smallest there is.
    """
    t = treatment.numpy(force=True).astype(np.int64)
    low, high = np.float32(MIN_INTENSITY), np.float32(MAX_INTENSITY)
    u = np.clip(np.where(t == CONTROL, low, intensity.numpy(force=True).astype(np.float32)), low, high)
    if form == "Dict":
        return {"treatment": t, "intensity": u[:, None]}
    share = np.clip((u - low) / (high - low), 0, 1)
    if form == "Box":
        scores = np.where(np.arange(len(TREATMENTS)) == t[:, None], 1, -1)
        return np.concatenate([scores, 2 * share[:, None] - 1], axis=1).astype(np.float32)
    level = np.rint(share * (len(LEVELS) - 1)).astype(np.int64)
    if form == "Discrete":
        return np.where(t == CONTROL, CONTROL, 1 + (t - 1) * len(LEVELS) + level)
    return np.stack([t, level], axis=1)


def _stacked(values: list[Tensor]) -> np.ndarray:
    """``[B, T, ...]`` of T tensors ``[B, ...]``."""
    return torch.stack(values, dim=1).numpy(force=True)


def _unknown(like: Tensor) -> Tensor:
    """What stands at the reset for something only a step tells."""
    return torch.full_like(like, torch.nan) if like.is_floating_point() else torch.zeros_like(like)
