"""What the policy's networks read of an observation: a week as its mean, change and spread, all else as it is.

Days carry much luck and little more than their mean about how a person responds. In Trial an agent that reads the summary came to
no less than one that reads the days (.06 more return, within the luck of a training seed), from fewer numbers.
"""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from core.signals import DAYS

WEEKS = ("week", "baseline")  # the parts of the observation that hold days


class WeekSummary(BaseFeaturesExtractor):
    """Observations ``[B, D]`` to ``[B, D - 14 C + 4 C]``; observations without days stay as they are.

    In the place of the days, per signal: this week's mean, its difference from the baseline week's, this week's standard
    deviation, the baseline week's. ``names`` are those of the D observations.
    """

    days: Tensor  # int64, columns of the week, then of the baseline week
    rest: Tensor  # int64, all other columns

    def __init__(self, observation_space: spaces.Space[Any], names: tuple[str, ...]) -> None:
        columns = [[i for i, name in enumerate(names) if name.startswith(f"{part}.")] for part in WEEKS]
        days = [*columns[0], *columns[1]]
        signals = len(columns[0]) // DAYS
        super().__init__(observation_space, len(names) - len(days) + 4 * signals)
        self.signals = signals
        # Of the class, not of its state: a checkpoint holds what was learned.
        self.register_buffer("days", torch.tensor(days, dtype=torch.int64), persistent=False)
        rest = [i for i in range(len(names)) if i not in set(days)]
        self.register_buffer("rest", torch.tensor(rest, dtype=torch.int64), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        if not self.signals:
            return observation
        days = observation.index_select(1, self.days).view(-1, len(WEEKS), DAYS, self.signals)
        mean = days.mean(dim=2)  # (B, 2, C)
        sd = (days - mean.unsqueeze(2)).square().mean(dim=2).sqrt()  # torch.std_mean takes ten times as long
        change = mean[:, 0] - mean[:, 1]
        rest = observation.index_select(1, self.rest)
        return torch.cat([mean[:, 0], change, sd[:, 0], sd[:, 1], rest], dim=1)
