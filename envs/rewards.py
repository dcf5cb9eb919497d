"""The task and its reward. Risk enters as a difference of potentials, so the terms of an episode telescope."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, DataError
from core.patients import Patients
from core.protocols import RiskModel, risk_score
from core.settings import Count, Fraction, NonNegative, Positive
from core.treatments import TREATMENTS

REWARD_TERMS = ("improvement", "treatment_cost", "adverse_cost", "spread_cost", "remission_bonus")


@dataclass(frozen=True)
class EnvSettings:
    """What an episode is and what it pays; values in ``conf/env.yaml``."""

    horizon: Count  # weeks until truncation
    remission_threshold: Fraction  # a week below this risk score counts as well
    remission_weeks: Count  # well weeks running that make a remission, which terminates
    min_risk: Fraction  # patients are persons whose baseline risk score is at least this
    risk_scale: NonNegative  # reward per unit of risk score
    remission_bonus: NonNegative  # reward of a remission
    treatment_cost: dict[str, NonNegative]  # per week at intensity 1, by treatment
    adverse_cost: NonNegative  # per adverse event
    spread_cost: NonNegative  # per between-person sd of model disagreement
    spread_limit: Positive | None  # a week of more disagreement truncates, as the models no longer know; None: never
    max_intensity_change: Positive | None = None  # from one week's intensity to the next; what exceeds it is limited
    adverse_budget: Count | None = None  # adverse events after which treatment is withdrawn; None: however many


def cost_table(settings: EnvSettings) -> Tensor:
    """``[5]``: cost per week and unit of intensity; Control is free.

    Raises:
        ConfigError: the settings do not name exactly the four active treatments.
    """
    if set(settings.treatment_cost) != set(TREATMENTS[1:]):
        raise ConfigError(
            f"env.treatment_cost has {', '.join(settings.treatment_cost)}; expected exactly {', '.join(TREATMENTS[1:])}"
        )
    return torch.tensor([0.0, *(settings.treatment_cost[name] for name in TREATMENTS[1:])])


def reward_terms(
    before: Tensor,
    after: Tensor,
    cost: Tensor,
    adverse: Tensor,
    spread: Tensor,
    remission: Tensor,
    settings: EnvSettings,
) -> dict[str, Tensor]:
    """The terms (all ``[B]``, costs negative) whose sum is the reward; ``cost`` is that of the dose given."""
    return {
        "improvement": settings.risk_scale * (before - after),
        "treatment_cost": -cost,
        "adverse_cost": -settings.adverse_cost * adverse.to(before.dtype),
        "spread_cost": -settings.spread_cost * spread,
        "remission_bonus": settings.remission_bonus * remission.to(before.dtype),
    }


def eligible(patients: Patients, risk_model: RiskModel, min_risk: float) -> np.ndarray:
    """Rows (int64, ascending) of the persons whose baseline risk score is at least ``min_risk``.

    Raises:
        DataError: nobody is.
    """
    return eligible_rows(baseline_probabilities(patients, risk_model), min_risk)


def baseline_probabilities(patients: Patients, risk_model: RiskModel, chunk: int = 4096) -> Tensor:
    """``[N, 3]``: class probabilities of everybody's baseline week."""
    with torch.no_grad():
        parts = [
            risk_model.probabilities(features, week)
            for features, week in zip(patients.features.split(chunk), patients.week.split(chunk), strict=True)
        ]
    return torch.cat(parts).float()


def eligible_rows(probabilities: Tensor, min_risk: float) -> np.ndarray:
    risk = risk_score(probabilities)
    rows = torch.nonzero(risk >= min_risk)[:, 0].cpu().numpy()
    if not len(rows):
        raise DataError(
            f"no person of {len(risk)} has a baseline risk score of {min_risk:g} or more (highest {float(risk.max()):.2f}); lower env.min_risk"
        )
    return rows
