"""What a planner would do in every week of many courses.

Some weeks are lived at random, so that the planner is also asked about courses that are not of its own making (as
Ross, Gordon & Bagnell 2011, arXiv 1011.0686, ask it about the learner's).
"""

import torch
from torch import Tensor

from core.random import stream_keys, stream_uniform
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.simulation import Simulation
from intervention.baselines import Policy
from intervention.imitation import Demonstrations
from intervention.policy import raw_intensity
from intervention.streams import DEMONSTRATIONS


def demonstrate(
    planner: Policy, simulation: Simulation, rows: Tensor, explored: float, gamma: float, seed: int
) -> Demonstrations:
    """What ``planner`` would do in every week of one course per row."""
    *shown, alive = demonstrated_courses(planner, simulation, rows, explored, gamma, seed)
    return Demonstrations(*(part[alive] for part in shown))


def demonstrated_courses(
    planner: Policy, simulation: Simulation, rows: Tensor, explored: float, gamma: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same course by course: ``observation`` ``[W, B, D]``, ``action`` ``[W, B, 2]``, ``value`` ``[W, B]``, and bool
    ``[W, B]``, whether the course was still going."""
    observation, weeks = simulation.reset(rows=rows), []
    planner.reset(simulation, rows)
    going = torch.ones(len(rows), dtype=torch.bool)
    for week in range(simulation.settings.horizon):
        keys = stream_keys(seed, DEMONSTRATIONS, torch.arange(len(rows)), week)
        treatment, intensity = planner.act(simulation, observation, keys)
        lived = _explore(treatment, intensity, stream_uniform(keys, 3), explored)
        step = simulation.step(*lived)
        planner.observe(simulation, lived, step)
        shown = torch.stack([treatment.float(), raw_intensity(intensity)], dim=1)
        weeks.append((observation.clone(), shown, step.reward, going))
        observation, going = step.observation, going & ~step.terminated
    observations, actions, rewards, alive = (torch.stack(part) for part in zip(*weeks, strict=True))
    values, value = torch.zeros_like(rewards), torch.zeros(len(rows))
    for week in reversed(range(len(weeks))):
        values[week] = value = torch.where(alive[week], rewards[week] + gamma * value, 0.0)
    return observations, actions, values, alive


def _explore(treatment: Tensor, intensity: Tensor, uniform: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The action lived: at random where the first of ``uniform`` ``[B, 3]`` is below ``share``."""
    at_random = uniform[:, 0] < share
    other = (uniform[:, 1] * len(TREATMENTS)).long()
    dose = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * uniform[:, 2]).to(intensity.dtype)
    dose = torch.where(other == CONTROL, 0.0, dose)
    return torch.where(at_random, other, treatment), torch.where(at_random, dose, intensity)
