"""Policies whose every choice has a known density, and courses logged under them: what off-policy evaluation needs.

A deterministic policy shares no dose with any log, as a single dose has no probability: its estimate would rest on no
course at all. So here every policy is a distribution over treatments and a density over doses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.simulation import Simulation
from intervention.baselines import Constant, Policy, SteppedCare, SteppedCareSettings
from intervention.policy import EDGE, DualHeadAgent, DualHeadDistribution, intensity_of

# Of a dose about the one a policy names: Beta(1 + k m, 1 + k (1 - m)), sd about .2 of the range in its middle.
CONCENTRATION = 4.0


class Stochastic(Protocol):
    """Says, week by week, how likely each treatment and dose is."""

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        """A new course of each patient in ``rows`` begins."""
        ...

    def distribution(self, simulation: Simulation, observation: Tensor) -> DualHeadDistribution:
        """Over this week's actions, from the observations ``[B, D]`` of this course so far; once a week."""
        ...


class Softened:
    """Another policy's choice, but in a ``share`` of the weeks any treatment at any dose.

    The dose of its choice is spread about the one it names (``CONCENTRATION``). Only for policies that learn of a course
    by its observations alone. With ``share`` 1 it is the random policy.
    """

    def __init__(self, policy: Policy, share: float) -> None:
        self.policy, self.share = policy, share

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.policy.reset(simulation, rows)

    def distribution(self, simulation: Simulation, observation: Tensor) -> DualHeadDistribution:
        treatment, intensity = self.policy.act(simulation, observation, torch.zeros(len(observation)).long())
        mode = ((intensity.double() - MIN_INTENSITY) / (MAX_INTENSITY - MIN_INTENSITY)).clamp(0, 1)
        chosen = torch.nn.functional.one_hot(treatment, len(TREATMENTS)).double()
        p = (1 - self.share) * chosen + self.share / len(TREATMENTS)
        return doses_about(p, mode[:, None].expand(-1, len(TREATMENTS) - 1), chosen[:, 1:] > 0)


class UsualCare:
    """Stepped care as it may be met in records: often the last treatment goes on, sometimes for no reason another begins.

    In a share ``step`` of the weeks it is stepped care's choice, in a share ``stay`` last week's, else any of the five
    (as in the first week, where ``stay`` is meant). A treatment that goes on does so at about its last dose.
    """

    def __init__(self, settings: SteppedCareSettings, step: float, stay: float) -> None:
        self.care, self.step, self.stay = SteppedCare(settings), step, stay

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.care.reset(simulation, rows)

    def distribution(self, simulation: Simulation, observation: Tensor) -> DualHeadDistribution:
        choice, dose = self.care.act(simulation, observation, torch.zeros(len(observation)).long())
        slices = simulation.layout.slices
        last, given = observation[:, slices["last_treatment"]].double(), observation[:, slices["last_intensity"]]
        chosen = torch.nn.functional.one_hot(choice, len(TREATMENTS)).double()
        p = self.step * chosen + self.stay * last
        p = p + (1 - p.sum(dim=1, keepdim=True)) / len(TREATMENTS)
        intensity = torch.where(last > 0, given.double(), dose[:, None].double())[:, 1:]
        mode = ((intensity - MIN_INTENSITY) / (MAX_INTENSITY - MIN_INTENSITY)).clamp(0, 1)
        return doses_about(p, mode, (last + chosen)[:, 1:] > 0)


class Tempered:
    """A trained agent's own distribution, its logits and doses flattened by ``temperature``, softened by ``share``.

    A treatment that is forbidden to the agent stays so.
    """

    def __init__(self, agent: DualHeadAgent, temperature: float, share: float = 0.0) -> None:
        self.agent, self.temperature, self.share = agent, temperature, share

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        pass

    def distribution(self, simulation: Simulation, observation: Tensor) -> DualHeadDistribution:
        own = self.agent.distribution(observation)
        allowed = own.log_p.exp() > 0
        p = torch.softmax(own.log_p.double().masked_fill(~allowed, -torch.inf) / self.temperature, dim=1)
        made = DualHeadDistribution()
        made.log_p = ((1 - self.share) * p + self.share * allowed / allowed.sum(dim=1, keepdim=True)).log()
        made.alpha, made.beta = (1 + (shape.double() - 1) / self.temperature for shape in (own.alpha, own.beta))
        return made


def doses_about(p: Tensor, mode: Tensor, known: Tensor) -> DualHeadDistribution:
    """Treatments with probabilities ``p`` ``[B, 5]``; where ``known`` (bool ``[B, 4]``) a dose about ``mode`` ``[B, 4]``
    (raw, in [0, 1]), elsewhere any alike."""
    made = DualHeadDistribution()
    made.log_p, k = p.log(), CONCENTRATION * known
    made.alpha, made.beta = 1 + k * mode, 1 + k * (1 - mode)
    return made


def draw(distribution: DualHeadDistribution, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Treatment int64 ``[B]`` and raw dose u float64 ``[B]``; Control has no dose and gets 0."""
    cumulative = distribution.log_p.double().exp().cumsum(dim=1).numpy()
    point = rng.random(len(cumulative)) * cumulative[:, -1]
    treatment = torch.from_numpy((cumulative <= point[:, None]).sum(axis=1))
    column = (treatment - 1).clamp(min=0)[:, None]
    shapes = (shape.double().gather(1, column)[:, 0].numpy() for shape in (distribution.alpha, distribution.beta))
    u = torch.from_numpy(rng.beta(*shapes)).clamp(EDGE, 1 - EDGE)
    return treatment, torch.where(treatment == CONTROL, 0.0, u)


@dataclass(frozen=True)
class Logged:
    """N courses of up to T weeks, and how likely every choice in them was; what lies behind a course's end is 0.

    Attributes:
        rows: int64 ``[N]``, the patients.
        observations: float32 ``[N, T, D]``, what was seen before each choice.
        treatment: int64 ``[N, T]``; u: float64 ``[N, T]``, the raw dose.
        log_prob: float64 ``[N, T]``, the log-density of the choice under the policy that made it.
        reward: float64 ``[N, T]``; running: bool ``[N, T]``, the weeks that belong to the course.
    """

    rows: Tensor
    observations: Tensor
    treatment: Tensor
    u: Tensor
    log_prob: Tensor
    reward: Tensor
    running: Tensor


def log_courses(policy: Stochastic, simulation: Simulation, rows: Tensor, rng: np.random.Generator) -> Logged:
    """One course of each patient in ``rows`` (int64 ``[N]``) under ``policy``; ``simulation`` is new and holds N."""
    observation = simulation.reset(rows=rows)
    policy.reset(simulation, rows)
    running = torch.ones(len(rows), dtype=torch.bool)
    weeks: list[tuple[Tensor, ...]] = []
    while running.any():
        distribution = policy.distribution(simulation, observation)
        treatment, u = draw(distribution, rng)
        log_prob = log_density(distribution, treatment, u)
        step = simulation.step(treatment, intensity_of(u).float())
        week = (observation, treatment, u, log_prob, step.reward.double())
        weeks.append((*(torch.where(running.view(-1, *[1] * (x.ndim - 1)), x, 0) for x in week), running))
        observation, running = step.observation, running & ~step.terminated & ~step.truncated
    return Logged(rows, *(torch.stack(part, dim=1) for part in zip(*weeks, strict=True)))


def log_density(distribution: DualHeadDistribution, treatment: Tensor, u: Tensor) -> Tensor:
    """``[B]``: of the treatment, and of the dose where there is one."""
    return distribution.log_prob(torch.stack([treatment.double(), u], dim=1)).double()


def replay(policy: Stochastic, simulation: Simulation, log: Logged) -> list[DualHeadDistribution]:
    """What ``policy`` would have done in each week of logged courses; ``simulation`` is any of these patients."""
    policy.reset(simulation, log.rows)
    return [policy.distribution(simulation, seen) for seen in log.observations.unbind(dim=1)]


def target_policies(agent: DualHeadAgent, stepped: SteppedCareSettings) -> dict[str, Stochastic]:
    """Twenty policies to be judged by the courses of another, from doing nothing to what was learned."""
    care = {share: Softened(SteppedCare(stepped), share) for share in (0.1, 0.3, 0.6)}
    policies: dict[str, Stochastic] = {"random": Softened(Constant(CONTROL, MIN_INTENSITY), 1.0)}
    policies |= {f"none, softened {share:g}": Softened(Constant(CONTROL, MIN_INTENSITY), share) for share in (0.2, 0.5)}
    policies |= {f"stepped care, softened {share:g}": policy for share, policy in care.items()}
    for name, doses in {
        "app": (0.5,),
        "cbt": (0.3, 0.6, 0.9),
        "exercise": (0.4, 0.7),
        "medication": (0.4, 0.8),
    }.items():
        treatment = TREATMENTS.index(name)
        policies |= {f"{name} {dose:g}, softened 0.3": Softened(Constant(treatment, dose), 0.3) for dose in doses}
    policies |= {f"agent, temperature {t:g}": Tempered(agent, t) for t in (0.5, 1.0, 2.0, 4.0)}
    return policies | {f"agent, softened {share:g}": Tempered(agent, 1.0, share) for share in (0.3, 0.6)}


def log_ratios(log: Logged, distributions: Sequence[DualHeadDistribution]) -> Tensor:
    """float64 ``[N, T]``: log of target over behaviour density of every choice; 0 behind a course's end."""
    own = [log_density(d, t, u) for d, t, u in zip(distributions, log.treatment.T, log.u.T, strict=True)]
    return torch.where(log.running, torch.stack(own, dim=1) - log.log_prob, 0.0)
