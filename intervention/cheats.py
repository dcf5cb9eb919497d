"""Planted policies that look for a way to earn without curing; in a sound task none of them pays."""

import torch
from torch import Tensor

from core.treatments import CONTROL
from envs.simulation import Simulation
from intervention.baselines import Action, Memoryless, Policy


class StopAndGo(Memoryless):
    """Treats until the patient is nearly well, pauses until they are not, and so on for ever.

    ``margin`` is how far above the threshold of remission the risk score counts as nearly well; with 0 the pause comes
    after the first well week, which puts remission off for as long as it can be.
    """

    def __init__(self, treatment: int, intensity: float, margin: float) -> None:
        self.treatment, self.intensity, self.margin = treatment, intensity, margin

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        ill = simulation.risk >= simulation.settings.remission_threshold + self.margin
        return torch.where(ill, self.treatment, CONTROL), torch.full((len(ill),), self.intensity)


class Late(Memoryless):
    """Another policy, begun after ``weeks`` weeks of waiting."""

    def __init__(self, policy: Policy, weeks: int) -> None:
        self.policy, self.weeks = policy, weeks

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.policy.reset(simulation, rows)

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        b = len(observation)
        if bool((simulation.week < self.weeks).all()):
            return torch.full((b,), CONTROL), torch.zeros(b)
        return self.policy.act(simulation, observation, keys)
