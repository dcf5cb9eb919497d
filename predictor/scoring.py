"""The risk network written out for scoring complete weeks: what a simulation asks for at every step.

The same function as ``DualLSTM`` without gradients, dropout or missing days, laid out number by number (``core.batching``)
and with tanh(x) = 2 sigmoid(2x) - 1, so that one sigmoid serves all four gates; the twos are in the weights. Sums over
days are written out where a reduction would take them in an order that depends on the batch.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.signals import DAYS

CHUNK = 1024  # persons at a time, so that their gates and steps stay in the processor's cache
RUN = 3  # days in a row that make a pattern
# Compare and exchange: after these the second lowest, median and second highest of seven stand at 1, 3 and 5.
SORT = ((0, 6), (2, 3), (4, 5), (0, 2), (1, 4), (3, 6), (0, 1), (2, 5), (3, 4), (1, 2), (4, 6), (2, 3), (4, 5), (1, 2), (3, 4), (5, 6))  # fmt: skip


def week_patterns(z: Tensor) -> Tensor:
    """``dual_lstm.week_patterns`` of a complete scaled week ``[7, C, B]``: ``[7C, B]``."""
    mean = reduce(torch.add, z.unbind()) / DAYS
    spread = (reduce(torch.add, (z - mean).square().unbind()) / DAYS + 1e-6).sqrt()
    day = [d - DAYS // 2 for d in range(DAYS)]
    trend = reduce(torch.add, [z[d] * (day[d] / sum(x * x for x in day)) for d in range(DAYS) if day[d]])
    ordered = list(z.unbind())
    for low, high in SORT:
        ordered[low], ordered[high] = (
            torch.minimum(ordered[low], ordered[high]),
            torch.maximum(ordered[low], ordered[high]),
        )
    below = torch.maximum(torch.maximum(z[:-2], z[1:-1]), z[2:]).amin(0)
    above = torch.minimum(torch.minimum(z[:-2], z[1:-1]), z[2:]).amax(0)
    return torch.cat([mean, spread, trend, ordered[5] - ordered[3], ordered[1] - ordered[3], below, above])


class Scorer:
    """Weights of a trained network, packed once; ``network`` is a ``DualLSTM`` of one layer."""

    def __init__(self, network: Any) -> None:
        n = network
        inner, outer, *biases = n.week.all_weights[0]
        h, c = outer.shape[1], inner.shape[1] // 3
        double = torch.ones(4, h, 1, device=outer.device)
        double[2] = 2.0
        double = double.flatten(0, 1)
        value, apart, seen = (double * inner).split(c, dim=1)  # what of a day: itself, away from the mean, observed
        self.day = torch.cat([value + apart, 2 * double * outer], dim=1)  # (4H, C + H), for half the hidden state
        self.mean, self.bias = -apart, seen.sum(dim=1, keepdim=True) + double * sum(biases)[:, None]
        self.hidden, self.signals = h, c

        steps = n.patterns
        weight = steps.concepts.weight
        stairs, straight, self.profile_concepts = weight.split([steps.place.numel(), len(steps.place), weight.shape[1] - steps.place.numel() - len(steps.place)], dim=1)  # fmt: skip
        self.steep = (2 * steps.steepness)[..., None]  # (7C, S, 1)
        self.place, self.stairs, self.straight = -self.steep * steps.place[..., None], 2 * stairs, straight
        self.steps_bias = (steps.concepts.bias - stairs.sum(dim=1))[:, None]
        self.centre, self.scale = steps.centre[:, None], steps.scale[:, None]

        width = n.profile[0].out_features
        person, last, days = n.head[0].weight.split([width, h, h], dim=1)
        self.fuse = torch.cat([person, 2 * last, 2 * days / DAYS], dim=1)
        self.fuse_bias, self.flags = n.head[0].bias[:, None], n.shape["flags"]
        self.profile, self.head, self.link = n.profile[0], n.head[3], (n.link[0], n.link[2])

    def __call__(self, features: Tensor, z: Tensor) -> Tensor:
        """Logits ``[3, B]`` of encoded profiles ``[B, P]`` and complete scaled weeks ``[7, C, B]``."""
        parts = zip(features.split(CHUNK), z.split(CHUNK, dim=2), strict=True)
        return torch.cat([self._logits(person.T, week.contiguous()) for person, week in parts], dim=1)

    def _logits(self, features: Tensor, z: Tensor) -> Tensor:
        last, total = self._read(z)
        profile = F.silu(_layer(self.profile, features))
        fused = F.silu(torch.addmm(self.fuse_bias, self.fuse, torch.cat([profile, last, total])))
        concepts = _layer(self.head, fused) + self._steps(features, z)
        hidden = F.silu(_layer(self.link[0], concepts.sigmoid_() if self.flags else concepts))
        return _layer(self.link[1], hidden)

    def _read(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM over the days: half its last state and half the sum of its states, ``[H, B]`` each."""
        c, people = self.signals, z.shape[2]
        still = torch.addmm(self.bias, self.mean, reduce(torch.add, z.unbind()) / DAYS)  # (4H, B), the same every day
        inputs = z.new_zeros(c + self.hidden, people)  # today's signals over half of yesterday's state
        half, cell, total = inputs[c:], z.new_zeros(self.hidden, people), z.new_zeros(self.hidden, people)
        for today in z:
            inputs[:c] = today
            gates = torch.addmm(still, self.day, inputs).sigmoid_()
            i, f, g, o = gates.view(4, self.hidden, people)
            cell.mul_(f).addcmul_(i, g.sub_(0.5), value=4.0)  # twice the cell
            torch.sigmoid(cell, out=half).sub_(0.5).mul_(o)
            total += half
        return half, total

    def _steps(self, features: Tensor, z: Tensor) -> Tensor:
        """``dual_lstm.PatternSteps``, ``[K, B]``."""
        x = (week_patterns(z) - self.centre) / self.scale  # (7C, B)
        stairs = torch.addcmul(self.place, self.steep, x[:, None]).sigmoid_().flatten(0, 1)  # (7C * S, B)
        concepts = torch.addmm(self.steps_bias, self.stairs, stairs)
        return concepts.addmm_(self.straight, x).addmm_(self.profile_concepts, features)


def _layer(linear: Any, x: Tensor) -> Tensor:
    return torch.addmm(linear.bias[:, None], linear.weight, x)
