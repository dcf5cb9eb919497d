"""The published layout of the observation: one flat float32 vector, every number in [-10, 10]."""

from dataclasses import dataclass

import torch

from core.encoding import ProfileEncoder
from core.signals import DAYS, WEEKDAYS, Signals, names
from core.treatments import TREATMENTS

BOUND = 10.0
ACTIVE = TREATMENTS[1:]


@dataclass(frozen=True)
class ObservationLayout:
    """``names[i]`` says what number i is; ``slices[part]`` where a part lies. Parts, in order:

    - ``week``: this week's 7 x C days, standardised (day by day, signals within a day);
    - ``baseline``: the same of the week before treatment;
    - ``profile``: the encoded profile;
    - ``probabilities``: Low, Medium, High now; ``risk``: the risk score now;
    - ``weeks_on``: weeks on each active treatment so far / horizon; ``mean_intensity``: mean intensity while on it;
      ``risk_change``: sum of the falls in risk score in its weeks (positive is better);
    - ``exposure``: a leaky mean of the doses of each active treatment; ``change_per_exposure``: of each treatment and signal,
      how far the weeks lay from the baseline week per unit of it (``envs.responses``): what the person has shown so far;
    - ``last_treatment``: one-hot of last week's treatment (all 0 before the first); ``last_intensity`` (0 for Control);
    - ``time``: weeks elapsed / horizon; ``well_weeks``: weeks running below the threshold / weeks that make a remission;
    - ``adverse``: 1 if an adverse event happened last week; ``adverse_budget``, only where there is one: the share left of it.
    """

    names: tuple[str, ...]
    slices: dict[str, slice]

    @property
    def size(self) -> int:
        return len(self.names)


def observation_layout(signals: Signals, encoder: ProfileEncoder, adverse_budget: bool = False) -> ObservationLayout:
    """``adverse_budget``: whether adverse events are budgeted, and therefore counted."""
    days = [f"{day}.{signal}" for day in WEEKDAYS for signal in names(signals)]
    assert len(days) == DAYS * len(signals)
    parts: dict[str, list[str]] = {
        "week": [f"week.{day}" for day in days],
        "baseline": [f"baseline.{day}" for day in days],
        "profile": [f"profile.{name}" for name in encoder.feature_names],
        "probabilities": ["probability.low", "probability.medium", "probability.high"],
        "risk": ["risk"],
        "weeks_on": [f"weeks_on.{name}" for name in ACTIVE],
        "mean_intensity": [f"mean_intensity.{name}" for name in ACTIVE],
        "risk_change": [f"risk_change.{name}" for name in ACTIVE],
        "exposure": [f"exposure.{name}" for name in ACTIVE],
        "change_per_exposure": [f"change_per_exposure.{name}.{signal}" for name in ACTIVE for signal in names(signals)],
        "last_treatment": [f"last_treatment.{name}" for name in TREATMENTS],
        "last_intensity": ["last_intensity"],
        "time": ["time"],
        "well_weeks": ["well_weeks"],
        "adverse": ["adverse"],
    }
    if adverse_budget:
        parts["adverse_budget"] = ["adverse_budget"]
    slices, start = {}, 0
    for part, members in parts.items():
        slices[part] = slice(start, start + len(members))
        start += len(members)
    return ObservationLayout(tuple(name for members in parts.values() for name in members), slices)


def bounded(values: torch.Tensor) -> torch.Tensor:
    return values.clamp(-BOUND, BOUND)
