"""Learning curves in the environment's truth: what the agent, as it is now, comes to in Trial while it learns in the Twin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from core.settings import Count, Index
from envs.simulation import Simulation
from intervention.baselines import Action, Memoryless
from intervention.evaluation import run_policy
from intervention.policy import DualHeadPolicy, intensity_of
from intervention.training import latents

RETURN, REMISSION = "eval_true/return", "eval_true/remission"
LUCK = 0  # of every evaluation alike, so that what changes along the curve is the agent
Point = tuple[int, float, float]  # environment steps so far, mean return, share that remits


@dataclass(frozen=True)
class LearningCurveSettings:
    rollouts: Index  # from one evaluation to the next; 0 for no curve
    patients: Count  # treated once each, at most all there are


class LearningCurve(BaseCallback):
    """Evaluates the deterministic agent every so many rollouts, on the same patients with the same luck.

    A point at step S is the agent that S steps have trained, the first untrained, the last the finished one. It is written
    beside the training's own tags. No random number is drawn: training goes as it would without.

    Args:
        make_simulation: a new simulation of ``len(rows)`` by seed.
        rows: int64 ``[B]``, the patients.
        every: rollouts from one point to the next.
        privileged: the agent sees the latent response too.
        before: points of the same training before it was interrupted.

    Attributes:
        points: the curve so far.
    """

    def __init__(
        self,
        make_simulation: Callable[[int], Simulation],
        rows: Tensor,
        every: int,
        privileged: bool = False,
        before: Sequence[Point] = (),
    ) -> None:
        super().__init__()
        self.make_simulation, self.rows, self.every, self.privileged = make_simulation, rows, every, privileged
        self.points: list[Point] = [(int(step), float(earned), float(well)) for step, earned, well in before]

    def _on_training_start(self) -> None:
        for point in self.points:
            self._write(point)

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, PPO)
        if self.model.num_timesteps // (self.model.n_envs * self.model.n_steps) % self.every == 0:
            self._evaluate()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        assert isinstance(self.model.policy, DualHeadPolicy)
        agent = _Present(self.model.policy, self.privileged)
        episodes, people = run_policy("", agent, self.make_simulation(LUCK), self.rows, LUCK), len(self.rows)
        earned, well = (float(episodes[column].sum()) / people for column in ("reward", "remission"))
        self.points.append((self.model.num_timesteps, earned, well))
        self._write(self.points[-1])

    def _write(self, point: Point) -> None:
        # Not through the logger's table: that is handed out with the next rollout, under that rollout's step.
        tags = dict(zip((RETURN, REMISSION), point[1:], strict=True))
        for output in self.logger.output_formats:
            output.write(dict(tags), dict.fromkeys(tags, ()), point[0])


class _Present(Memoryless):
    """The policy in training at its likeliest action."""

    def __init__(self, policy: DualHeadPolicy, privileged: bool) -> None:
        self.policy, self.privileged = policy, privileged

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        if self.privileged:
            observation = torch.cat([observation, latents(simulation.state)], dim=1)
        with torch.no_grad():
            action = self.policy.get_distribution(observation).mode()
        return action[:, 0].long(), intensity_of(action[:, 1])
