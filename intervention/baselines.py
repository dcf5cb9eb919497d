"""What a learned policy must beat: policies with one face, batched over patients."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Ge, Le
from torch import Tensor

from core.protocols import State, risk_score
from core.random import stream_uniform
from core.settings import Count, Positive
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.rewards import cost_table
from envs.simulation import Simulation, Step
from intervention.policy import DualHeadAgent, Rule, forbidden_treatments
from intervention.training import latents

Dose = Annotated[float, Ge(MIN_INTENSITY), Le(MAX_INTENSITY)]
Action = tuple[Tensor, Tensor]  # treatment int64 [B], intensity float32 [B]


class Policy(Protocol):
    """Treats a batch of patients week by week."""

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        """A new course of each patient in ``rows`` begins."""
        ...

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        """The week's action from the observation ``[B, D]``; ``keys`` int64 ``[B]`` are for its own randomness."""
        ...

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        """What the week brought."""
        ...


class Memoryless:
    """A policy that looks at the present week alone."""

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        pass

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        pass


class Constant(Memoryless):
    """The same treatment at the same intensity, every week; Control is "no treatment"."""

    def __init__(self, treatment: int, intensity: float) -> None:
        self.treatment, self.intensity = treatment, intensity

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        b = len(observation)
        return torch.full((b,), self.treatment), torch.full((b,), self.intensity)


class Random(Memoryless):
    """Every treatment equally often, every dose equally likely."""

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        u = stream_uniform(keys, 2)
        treatment = (u[:, 0] * len(TREATMENTS)).long()
        return treatment, (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * u[:, 1]).float()


@dataclass(frozen=True)
class SteppedCareSettings:
    weeks: Count  # from one review to the next; a step without response since the last one is left
    response: Positive  # fall of the risk score since the last review that counts as response
    intensity: Dose  # dose of every step


class SteppedCare:
    """App, CBT, exercise, medication: the least intensive first, the next where there is no response (NICE CG123).

    A step is kept as long as every review, each ``weeks`` weeks, finds response since the one before; remission ends the
    course.
    """

    def __init__(self, settings: SteppedCareSettings) -> None:
        self.settings = settings

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        self.step = torch.ones(len(rows), dtype=torch.int64)
        self.weeks = torch.zeros(len(rows), dtype=torch.int64)
        self.risk_then = torch.full((len(rows),), torch.nan)

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        risk = observed_risk(simulation, observation)
        self.risk_then = torch.where(self.risk_then.isnan(), risk, self.risk_then)
        due = self.weeks >= self.settings.weeks
        failed = due & (self.risk_then - risk < self.settings.response)
        self.step = (self.step + failed.long()).clamp(max=len(TREATMENTS) - 1)
        self.risk_then = torch.where(due, risk, self.risk_then)
        self.weeks = torch.where(due, 0, self.weeks) + 1
        return self.step, torch.full((len(risk),), self.settings.intensity)

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        pass


class WorldModel(Protocol):
    """Dynamics that can be asked what to expect and told what happened."""

    def start(self, rows: Tensor, keys: Tensor) -> State: ...

    def foresee(self, state: State, actions: Sequence[Action]) -> tuple[Tensor, Tensor]:
        """Expected level ``[K, B, C]`` (physical) and chance of an adverse event ``[K, B]`` of the coming week under each of
        K actions."""
        ...

    def observe(self, state: State, treatment: Tensor, intensity: Tensor, week: Tensor, adverse: Tensor) -> State:
        """The state after a week ``[B, 7, C]`` that really happened."""
        ...


class Greedy:
    """One step ahead in a world model: the action whose expected week has the lowest risk, its cost and the adverse
    events to be expected counted as the environment counts them.

    The expected week is the present one moved to the expected level, so that its regularity counts as it is. What the
    ``rules`` forbid is not weighed.
    """

    def __init__(self, model: WorldModel, intensities: Sequence[float], rules: tuple[Rule, ...] = ()) -> None:
        self.model, self.rules = model, rules
        self.candidates = [(CONTROL, 0.0), *((t, u) for t in range(1, len(TREATMENTS)) for u in intensities)]

    def reset(self, simulation: Simulation, rows: Tensor) -> None:
        patients = simulation.patients
        self.state = self.model.start(rows, torch.zeros_like(rows))
        self.features, self.cost = patients.features[rows], cost_table(simulation.settings)
        self.low = torch.tensor([signal.low for signal in patients.signals])
        self.high = torch.tensor([signal.high for signal in patients.signals])

    @torch.no_grad()
    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        b, treatments = len(observation), torch.tensor([t for t, _ in self.candidates])
        intensities = torch.tensor([u for _, u in self.candidates])
        actions = [(t.expand(b), u.expand(b)) for t, u in zip(treatments, intensities, strict=True)]
        settings, costs = simulation.settings, []
        for treatment, intensity, level, chance in zip(
            treatments, intensities, *self.model.foresee(self.state, actions), strict=True
        ):
            week = simulation.days + (level - simulation.days.mean(dim=1)).unsqueeze(1)
            week = torch.minimum(torch.maximum(week, self.low), self.high)
            risk = risk_score(simulation.risk_model.probabilities(self.features, week))
            harm = settings.adverse_cost * chance
            costs.append(settings.risk_scale * risk + self.cost[treatment] * intensity + harm)
        cost, forbidden = torch.stack(costs), forbidden_treatments(observation, self.rules)  # (K, B), (B, 5)
        if forbidden is not None:
            cost = cost.masked_fill(forbidden[:, treatments].T, torch.inf)
        best = cost.argmin(dim=0)  # (B,)
        return treatments[best], intensities[best]

    def observe(self, simulation: Simulation, action: Action, step: Step) -> None:
        self.state = self.model.observe(self.state, *action, simulation.days, step.info["adverse"])


class Permitted:
    """A policy that knows no contraindications, held to them: Control in the place of what they forbid."""

    def __init__(self, policy: Policy, rules: tuple[Rule, ...]) -> None:
        self.policy, self.rules = policy, rules
        self.reset, self.observe = policy.reset, policy.observe

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        treatment, intensity = self.policy.act(simulation, observation, keys)
        forbidden = forbidden_treatments(observation, self.rules)
        if forbidden is None:
            return treatment, intensity
        return torch.where(forbidden.gather(1, treatment[:, None])[:, 0], CONTROL, treatment), intensity


class Learned(Memoryless):
    """A trained agent at its likeliest action; ``privileged`` agents also see the patient's latent response."""

    def __init__(self, agent: DualHeadAgent, privileged: bool) -> None:
        self.agent, self.privileged = agent, privileged

    def act(self, simulation: Simulation, observation: Tensor, keys: Tensor) -> Action:
        if self.privileged:
            observation = torch.cat([observation, latents(simulation.state)], dim=1)
        return self.agent.act(observation)


def observed_risk(simulation: Simulation, observation: Tensor) -> Tensor:
    """The present risk score ``[B]`` that the observation ``[B, D]`` shows."""
    return observation[:, simulation.layout.slices["risk"]][:, 0]


def standard_policies(
    intensities: Sequence[float], stepped: SteppedCareSettings, rules: tuple[Rule, ...] = ()
) -> dict[str, Policy]:
    """Everything that needs no learning, by name: ``none``, ``random``, ``stepped_care`` and every
    ``constant_<treatment>_<intensity>``; none of them breaks the ``rules``."""
    constants: dict[str, Policy] = {
        f"constant_{name}_{intensity:g}": Constant(treatment, intensity)
        for treatment, name in enumerate(TREATMENTS)
        if treatment != CONTROL
        for intensity in intensities
    }
    policies: dict[str, Policy] = {
        "none": Constant(CONTROL, 0.0),
        "random": Random(),
        "stepped_care": SteppedCare(stepped),
        **constants,
    }
    return {name: Permitted(policy, rules) for name, policy in policies.items()} if rules else policies
