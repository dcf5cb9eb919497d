"""A documented severity index: risk in closed form, for environments without a trained risk model."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.encoding import WeekScaler
from core.signals import Signals, names

# Weight of a signal's ill-being (z-score of the week mean, + is worse) and of irregular sleep. Order of importance as
# in the meta-analyses of insomnia and perceived stress as predictors of depression (Baglioni 2011 J Affect Disord
# 135:10); the sizes are a convention. A signal not named here has weight 0.3.
WEIGHTS = {"stress": 1.0, "sleep_quality": 0.8, "sleep_duration": 0.4, "heart_rate": 0.3}
OTHER_WEIGHT = 0.3
IRREGULARITY_WEIGHT = 0.3
SLOPE = 1.2  # of the ordinal logit, per sd of the index: about what a week tells a trained risk model
MEDIUM, HIGH = 0.1, 1.1  # cut points: about half of a population is Medium or High, one in three to four High


@dataclass(frozen=True)
class SeverityIndex:
    """``RiskModel``: an ordinal logit on the week's signed means and the irregularity of sleep.

    index = sum_k weight_k illbeing_k + weight * irregularity, divided by the norm of the weights;
    P(>= Medium) = sigmoid(slope (index - medium)), P(High) = sigmoid(slope (index - high)). The profile is not used.
    """

    signals: Signals
    scaler: WeekScaler

    def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, 3]`` from ``week`` ``[B, 7, C]``; days not observed in ``mask`` are left out."""
        observed = torch.ones_like(week) if mask is None else mask.to(week.dtype)
        count = observed.sum(dim=1).clamp(min=1.0)
        mean = (week * observed).sum(dim=1) / count  # (B, C)
        centre, between = week.new_tensor(self.scaler.mean), week.new_tensor(self.scaler.between)
        better = week.new_tensor([float(s.better) for s in self.signals])
        weights = week.new_tensor([WEIGHTS.get(name, OTHER_WEIGHT) for name in names(self.signals)])
        index = (-better * (mean - centre) / between) @ weights
        norm = float(weights.square().sum())
        if "sleep_duration" in names(self.signals):
            k = names(self.signals).index("sleep_duration")
            deviation = (week[:, :, k] - mean[:, None, k]) * observed[:, :, k]
            sd = (deviation.square().sum(dim=1) / (count[:, k] - 1).clamp(min=1.0)).sqrt()
            expected = math.sqrt(max(self.scaler.sd[k] ** 2 - self.scaler.between[k] ** 2, 1e-6))
            index = index + IRREGULARITY_WEIGHT * (sd / expected - 1.0).clamp(-2.0, 2.0)
            norm += IRREGULARITY_WEIGHT**2
        index = index / math.sqrt(norm)
        medium, high = torch.sigmoid(SLOPE * (index - MEDIUM)), torch.sigmoid(SLOPE * (index - HIGH))
        return torch.stack([1 - medium, medium - high, high], dim=1)
