"""What would become of the same patients under every treatment and intensity, with the same luck."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.random import stream_keys
from envs.simulation import Simulation
from intervention.baselines import Action, Policy
from intervention.streams import ACTIONS

Choice = tuple[int, float]  # treatment and intensity, kept to the end
MakeSimulation = Callable[[int], Simulation]  # of so many environments


@dataclass(frozen=True)
class Futures:
    """B courses under each of A choices, W weeks long; week 0 is the one before treatment.

    Attributes:
        risk: ``[A, B, W + 1]``, risk score.
        mean: ``[A, B, W + 1, C]``, weekly means of the signals, physical units.
        treatment: int64 ``[A, B, W]``, what was given.
        intensity: ``[A, B, W]``; 0 for Control.
        remitted: bool ``[A, B, W]``, remission so far.
        adverse: bool ``[A, B, W]``.
    """

    risk: Tensor
    mean: Tensor
    treatment: Tensor
    intensity: Tensor
    remitted: Tensor
    adverse: Tensor


def what_if(make_simulation: MakeSimulation, rows: Tensor, choices: Sequence[Choice], weeks: int, seed: int) -> Futures:
    """Every choice kept for ``weeks`` by the patients ``rows`` (int64 ``[B]``; one of them repeated lives as many courses).

    Course b has the same luck under all choices. Courses go on after remission.
    """
    treatment, intensity = (torch.tensor(column).repeat_interleave(len(rows)) for column in zip(*choices, strict=True))
    return _live(make_simulation, rows, len(choices), weeks, seed, lambda *_: (treatment, intensity))


def what_policy(make_simulation: MakeSimulation, rows: Tensor, policy: Policy, weeks: int, seed: int) -> Futures:
    """The same under one policy without a memory (A = 1), with the luck of ``what_if``."""

    def act(simulation: Simulation, observation: Tensor, week: int) -> Action:
        return policy.act(simulation, observation, stream_keys(seed, ACTIONS, torch.arange(len(rows)), week))

    return _live(make_simulation, rows, 1, weeks, seed, act)


def _live(
    make_simulation: MakeSimulation,
    rows: Tensor,
    arms: int,
    weeks: int,
    seed: int,
    act: Callable[[Simulation, Tensor, int], Action],
) -> Futures:
    simulation = make_simulation(arms * len(rows))
    simulation.reseed((seed + torch.arange(len(rows))).repeat(arms))
    observation = simulation.reset(rows=rows.repeat(arms))
    risk, mean, given = [simulation.risk], [simulation.days.mean(dim=1)], []
    for week in range(weeks):
        step = simulation.step(*act(simulation, observation, week))
        observation = step.observation
        risk.append(simulation.risk)
        mean.append(simulation.days.mean(dim=1))
        given.append([step.info[key] for key in ("treatment", "intensity", "remission", "adverse")])
    treatment, intensity, remission, adverse = (list(each) for each in zip(*given, strict=True))

    def by_arm(weeks: list[Tensor]) -> Tensor:
        return torch.stack(weeks, dim=1).unflatten(0, (arms, len(rows)))

    remitted = by_arm(remission).cummax(dim=2).values
    return Futures(by_arm(risk), by_arm(mean), by_arm(treatment), by_arm(intensity), remitted, by_arm(adverse))
