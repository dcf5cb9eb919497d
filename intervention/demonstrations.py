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
    value, values = torch.zeros(len(rows)), []
    for _, _, reward, alive in reversed(weeks):
        value = torch.where(alive, reward + gamma * value, 0.0)
        values.append(value)
    alive = torch.cat([each[3] for each in weeks])
    parts = torch.cat([each[0] for each in weeks]), torch.cat([each[1] for each in weeks]), torch.cat(values[::-1])
    return Demonstrations(*(part[alive] for part in parts))


def _explore(treatment: Tensor, intensity: Tensor, uniform: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The action lived: at random where the first of ``uniform`` ``[B, 3]`` is below ``share``."""
    at_random = uniform[:, 0] < share
    other = (uniform[:, 1] * len(TREATMENTS)).long()
    dose = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * uniform[:, 2]).to(intensity.dtype)
    dose = torch.where(other == CONTROL, 0.0, dose)
    return torch.where(at_random, other, treatment), torch.where(at_random, dose, intensity)
