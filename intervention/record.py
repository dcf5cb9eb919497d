"""What is known for certain of a course of treatment: the doses taken, and what the weeks showed under them.

An intensity u enters as polynomials without a constant, orthonormal over the intensities allowed: bent as dose curves
are, fading with the dose, and easy to learn from, because none of them repeats another. (With a constant, small doses
are learned to do what larger ones do; with plain powers, which nearly repeat each other, learning is slow.) Beside them stands
whether the treatment begins with that week, as a beginning does less.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS

ACTIVE = len(TREATMENTS) - 1
DOSES = 4  # polynomials: dose curves rise, level off and may fall again
ACTION = (DOSES + 1) * ACTIVE  # width of an action
RIDGE = 0.5  # what counts as little seen of a treatment, in the first polynomial squared
Retention = tuple[tuple[float, float], ...]  # what each trace keeps of itself a week: on the treatment, and off it


def _polynomials() -> Tensor:
    """``[DOSES, DOSES]``: the weights of u, u^2, ... in each; the first is a multiple of u (Gram and Schmidt)."""
    power = np.arange(1, DOSES + 1)
    total = power[:, None] + power + 1  # the integral of u^i u^j has this power
    products = (MAX_INTENSITY**total - MIN_INTENSITY**total) / total / (MAX_INTENSITY - MIN_INTENSITY)
    return torch.from_numpy(np.linalg.inv(np.linalg.cholesky(products))).float()


POLYNOMIALS = _polynomials()


def action_features(treatment: Tensor, intensity: Tensor, before: Tensor) -> Tensor:
    """``[..., ACTION]``: the polynomials of the intensity, each in the place of the active treatment chosen, and the first
    of them again if another treatment was given the week ``before``; all zero for Control, whatever its intensity."""
    active = torch.arange(CONTROL + 1, len(TREATMENTS), device=treatment.device)
    # Neither powers nor a matrix product: the last bit of both may differ with the number of rows.
    powers = intensity.unsqueeze(-1).expand(*intensity.shape, DOSES).cumprod(dim=-1)
    dose = (powers.unsqueeze(-2) * POLYNOMIALS.to(powers.device, powers.dtype)).sum(dim=-1)  # (..., DOSES)
    chosen = (treatment.unsqueeze(-1) == active).to(dose.dtype)
    begun = (treatment != before).to(dose.dtype).unsqueeze(-1) * dose[..., :1] * chosen
    return torch.cat([(dose.unsqueeze(-1) * chosen.unsqueeze(-2)).flatten(-2), begun], dim=-1)


class Record(NamedTuple):
    """``traces`` of actions ``[..., T*ACTION]`` (leaky means, one per retention: what a treatment does comes at another pace
    than it goes), and for each active treatment what the weeks showed under it: ``shown`` ``[..., A, C]``, sum of dose x
    deviation from the base, and ``seen`` ``[..., A]``, sum of dose squared; their ratio is the slope of a regression on
    the dose."""

    traces: Tensor
    shown: Tensor
    seen: Tensor

    @classmethod
    def empty(cls, like: Tensor, retentions: int) -> "Record":
        """Of persons with base levels ``like`` ``[B, C]`` and no treatment yet."""
        b, c, a = *like.shape, ACTIVE
        return cls(like.new_zeros(b, retentions * ACTION), like.new_zeros(b, a, c), like.new_zeros(b, a))

    def after(self, away: Tensor, action: Tensor, retention: Retention) -> "Record":
        """After a week of mean ``away`` from the base ``[B, C]``, lived under ``action`` ``[B, ACTION]``."""
        on, off = torch.tensor(retention, device=action.device, dtype=action.dtype).T.unsqueeze(-1)  # (T, 1) each
        chosen = (action[..., :ACTIVE] > 0).unsqueeze(-2).tile(DOSES + 1)  # (B, 1, ACTION)
        keep = torch.where(chosen, on, off)
        traces = keep * self.traces.unflatten(-1, (len(retention), ACTION)) + (1 - keep) * action.unsqueeze(-2)
        dose = traces[..., :ACTIVE].mean(dim=-2)  # (B, A), over fast and slow traces
        shown = self.shown + dose.unsqueeze(-1) * away.unsqueeze(-2)
        return Record(traces.flatten(-2), shown, self.seen + dose.square())

    def features(self) -> Tensor:
        """``[..., T*ACTION + A*C + A]``: traces, slopes (shrunken to 0 where little was seen), how much was seen."""
        return torch.cat(self.parts(), dim=-1)

    def parts(self) -> list[Tensor]:
        """What :meth:`features` holds, one after the other."""
        slope = self.shown / (self.seen + RIDGE).unsqueeze(-1)
        return [self.traces, slope.flatten(-2), self.seen]
