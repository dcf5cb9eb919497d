"""What a course has shown of a person's responses: how much of each treatment they had, and how the weeks changed with it.

The exposure to a treatment is a leaky mean of its doses, as benefits come and go with a delay. Each signal's weekly mean,
measured from the baseline week, is regressed on it: one slope per treatment and signal, through 0 and shrunken to 0 (ridge).
"""

import torch
from torch import Tensor

from core.batching import over_days
from core.signals import DAYS
from core.treatments import TREATMENTS
from envs.observation import BOUND

KEPT = 0.7  # of an exposure, from week to week
RIDGE = 0.2  # squared exposure that counts as little


class Responses:
    """Of a batch of persons, written in place into ``parts``, the rows ``[K, B]`` of an observation: ``exposure`` and
    ``change_per_exposure``, from its ``week`` and ``baseline``. They must be 0 where a course begins."""

    def __init__(self, parts: dict[str, Tensor]) -> None:
        self.exposure = parts["exposure"]  # (A, B)
        self.week, self.baseline = (parts[part].unflatten(0, (DAYS, -1)) for part in ("week", "baseline"))
        self.slopes = parts["change_per_exposure"].unflatten(0, (len(TREATMENTS) - 1, -1))  # (A, C, B)
        self.shown = torch.zeros_like(self.slopes)  # sum of exposure x change
        self.seen = torch.full_like(self.exposure, RIDGE)  # sum of squared exposure

    def begin(self, index: Tensor) -> None:
        """New courses begin in the places ``index``."""
        self.shown.index_fill_(2, index, 0.0)
        self.seen.index_fill_(1, index, RIDGE)

    def after(self, doses: Tensor) -> None:
        """After a week of these ``doses`` ``[A, B]``, which ``week`` shows by now."""
        exposure = self.exposure.mul_(KEPT).add_(doses, alpha=1 - KEPT)
        change = over_days(self.week - self.baseline, 1 / DAYS)  # (C, B)
        self.shown.addcmul_(exposure[:, None], change)
        self.seen.addcmul_(exposure, exposure)
        torch.div(self.shown, self.seen[:, None], out=self.slopes).clamp_(-BOUND, BOUND)
