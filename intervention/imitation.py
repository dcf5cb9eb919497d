"""A head start for the agent: it learns to answer as a planner in the world model would, before it learns for itself.

The planner looks one week ahead with all that the Twin remembers of a course, which is slow and ends at one week;
the agent starts from its answers (``demonstrations``) and improves on them by reinforcement.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from core.gradients import clip
from core.settings import Count, Fraction, Positive
from intervention.policy import DualHeadPolicy

SURE = 3.0  # log-likelihood of an action beyond which nothing is gained


@dataclass(frozen=True)
class ImitationSettings:
    """How much is demonstrated, and how the agent learns from it."""

    courses: Annotated[int, Ge(0)]  # demonstrated courses; 0: the agent begins from nothing
    intensities: tuple[Fraction, ...]  # doses the planner weighs
    explored: Fraction  # share of weeks lived at random
    steps: Count  # optimiser steps
    batch: Count  # patient-weeks a step
    learning_rate: Positive  # Adam's, falling to a twentieth


@dataclass(frozen=True)
class Demonstrations:
    """N patient-weeks: ``observation`` ``[N, D]``, the ``action`` shown ``[N, 2]`` (treatment, raw intensity), and the
    discounted ``value`` ``[N]`` of what followed."""

    observation: Tensor
    action: Tensor
    value: Tensor


def imitate(
    policy: DualHeadPolicy, shown: Demonstrations, settings: ImitationSettings, generator: torch.Generator
) -> None:
    """Fit ``policy`` to the demonstrations in place: the actor by likelihood, with the entropy it is trained with, and the
    critic by least squares.

    Raises:
        NumericalError: a gradient became non-finite.
    """
    optimizer = torch.optim.Adam(policy.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, settings.steps)
    for step in range(settings.steps):
        rows = torch.randint(len(shown.value), (settings.batch,), generator=generator)
        value, log_prob, entropy = policy.evaluate_actions(shown.observation[rows], shown.action[rows])
        # a dose that is always the same would narrow its Beta without end
        loss = F.mse_loss(value[:, 0], shown.value[rows]) / 2 - log_prob.clamp(max=SURE).mean() - entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        clip(policy.parameters(), 1.0, f"policy, imitation step {step}", "policy.imitation.learning_rate")
        optimizer.step()
        schedule.step()
