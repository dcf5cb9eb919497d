"""The risk network written out for scoring complete weeks: what a simulation asks for at every step.

The same function as ``DualLSTMRisk`` without gradients, dropout or missing days, laid out number by number
(``core.batching``) and with tanh(x) = 2 sigmoid(2x) - 1, so that one sigmoid serves all four gates; the twos are in the
weights. For few persons it is the number of calls that costs, so biases are columns of the weights, and sums over days are
products too, which also take them in the same order in any batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.signals import DAYS

CHUNK = 1024  # persons at a time, so that their gates and steps stay in the processor's cache
RUN = 3  # days in a row that make a pattern
FEW = 128  # persons up to which one sort is faster than the exchanges; both give the same
# Compare and exchange: after these the second lowest, median and second highest of seven stand at 1, 3 and 5.
SORT = ((0, 6), (2, 3), (4, 5), (0, 2), (1, 4), (3, 6), (0, 1), (2, 5), (3, 4), (1, 2), (4, 6), (2, 3), (4, 5), (1, 2), (3, 4), (5, 6))  # fmt: skip


def ordered(z: Tensor) -> list[Tensor]:
    """The days of each signal ``[7, C, B]`` with the second lowest, median and second highest at 1, 3 and 5."""
    if z.shape[2] <= FEW:
        return list(z.sort(dim=0).values.unbind())
    days = list(z.unbind())
    for low, high in SORT:
        days[low], days[high] = torch.minimum(days[low], days[high]), torch.maximum(days[low], days[high])
    return days


class Scorer:
    """Weights of a trained model, packed once; ``model`` is a ``DualLSTMRisk`` whose LSTM has one layer."""

    @torch.no_grad()
    def __init__(self, model: Any) -> None:
        n, scaler = model.network, model.scaler
        inner, outer, *biases = n.week.all_weights[0]
        h, c = outer.shape[1], inner.shape[1] // 3
        double = torch.ones(4, h, 1, device=outer.device)
        double[2] = 2.0
        double = double.flatten(0, 1)
        value, apart, seen = (double * inner).split(c, dim=1)  # what of a day: itself, away from the mean, observed
        bias = seen.sum(dim=1, keepdim=True) + double * sum(biases)[:, None]
        self.day = torch.cat([2 * double * outer, value + apart, -apart, bias], dim=1)  # (4H, H + 2C + 1)
        self.hidden, self.signals = h, c
        self.mean, self.sd = (outer.new_tensor(numbers)[:, None] for numbers in (scaler.mean, scaler.sd))
        self.half, self.least = outer.new_tensor(0.5), outer.new_tensor(1e-6)
        day = torch.arange(DAYS, dtype=outer.dtype, device=outer.device) - DAYS // 2
        self.level = torch.full_like(day, 1 / DAYS)[None]  # (1, 7)
        self.level_trend = torch.cat([self.level, (day / day.square().sum())[None]])  # (2, 7)

        steps = n.patterns
        weight = steps.concepts.weight
        stairs, straight, profile = weight.split([steps.place.numel(), len(steps.place), weight.shape[1] - steps.place.numel() - len(steps.place)], dim=1)  # fmt: skip
        centre, scale = steps.centre[:, None], steps.scale[:, None]
        self.steep = (2 * steps.steepness / scale)[..., None]  # (7C, S, 1)
        self.place = (-2 * steps.steepness * (steps.place + centre / scale))[..., None]
        self.stairs, self.straight = 2 * stairs, straight / scale.T

        width = n.profile[0].out_features
        person, last, days = n.head[0].weight.split([width, h, h], dim=1)
        self.fuse = torch.cat([person, 2 * last, 2 * days / DAYS], dim=1)
        self.fuse_bias, self.head, self.flags = n.head[0].bias[:, None], n.head[3].weight, n.shape["flags"]
        self.width, self.profile = width, torch.cat([n.profile[0].weight, profile])
        rest = steps.concepts.bias - stairs.sum(dim=1) - straight @ (centre / scale)[:, 0] + n.head[3].bias
        self.profile_bias = torch.cat([n.profile[0].bias, rest])[:, None]
        temperature, shift = model.temperature[DAYS], model.bias[DAYS]
        self.link, self.link_bias = n.link[0].weight, n.link[0].bias[:, None]
        self.classes = n.link[2].weight / temperature
        self.classes_bias = (n.link[2].bias / temperature + shift)[:, None]

    def __call__(self, features: Tensor, week: Tensor) -> Tensor:
        """Calibrated logits ``[3, B]`` of encoded profiles ``[B, P]`` and complete weeks ``[7, C, B]`` in physical units."""
        if len(features) <= CHUNK:
            return self._logits(features.T, week)
        parts = zip(features.split(CHUNK), week.split(CHUNK, dim=2), strict=True)
        return torch.cat([self._logits(person.T, week) for person, week in parts], dim=1)

    def _logits(self, features: Tensor, week: Tensor) -> Tensor:
        z = torch.sub(week, self.mean, out=torch.empty(week.shape, device=week.device)).div_(self.sd)
        level, trend = (self.level_trend @ z.flatten(1)).view(2, self.signals, -1)
        last, total = self._read(z, level)
        person = torch.addmm(self.profile_bias, self.profile, features)
        profile, concepts = F.silu(person[: self.width]), person[self.width :]
        fused = F.silu(torch.addmm(self.fuse_bias, self.fuse, torch.cat([profile, last, total])))
        x = self._patterns(z, level, trend)
        stairs = torch.addcmul(self.place, self.steep, x[:, None]).sigmoid_().flatten(0, 1)  # (7C * S, B)
        concepts = concepts.addmm_(self.head, fused).addmm_(self.stairs, stairs).addmm_(self.straight, x)
        hidden = F.silu(torch.addmm(self.link_bias, self.link, concepts.sigmoid_() if self.flags else concepts))
        return torch.addmm(self.classes_bias, self.classes, hidden)

    def _read(self, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM over the days: half its last state and half the sum of its states, ``[H, B]`` each."""
        h, c, people = self.hidden, self.signals, z.shape[2]
        inputs = z.new_ones(self.day.shape[1], people)  # half of yesterday's state, today, the week's mean, 1
        half, cell, total = inputs[:h].zero_(), z.new_zeros(h, people), z.new_zeros(h, people)
        today = inputs[h : h + c]
        inputs[h + c : h + 2 * c] = level
        gates = z.new_empty(4 * h, people)
        i, f, g, o = gates.view(4, h, people).unbind()
        for day in z.unbind():
            today.copy_(day)
            torch.mm(self.day, inputs, out=gates).sigmoid_()
            cell.mul_(f).addcmul_(i, g.sub_(self.half), value=4.0)  # twice the cell
            torch.sigmoid(cell, out=half).sub_(self.half).mul_(o)
            total.add_(half)
        return half, total

    def _patterns(self, z: Tensor, level: Tensor, trend: Tensor) -> Tensor:
        """``dual_lstm.week_patterns`` of a complete scaled week ``[7, C, B]``: ``[7C, B]``."""
        away = (z - level).square_()
        spread = torch.addmm(self.least, self.level, away.flatten(1)).sqrt_().view_as(level)
        _, low, _, median, _, high, _ = ordered(z)
        first, second, third = z[:-2], z[1:-1], z[2:]
        below = torch.maximum(torch.maximum(first, second), third).amin(0)
        above = torch.minimum(torch.minimum(first, second), third).amax(0)
        return torch.cat([level, spread, trend, high - median, low - median, below, above])
