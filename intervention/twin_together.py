"""The Twin's members asked at once: one call instead of one for each, which is what few persons cost.

As in ``twin_sampling``, numbers first and persons last; members come before both.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from core.signals import DAYS
from intervention.twin_sampling import FastMember, Lived, Outlook, cell_


class Together:
    """What is asked of all members alike, asked at once: their weights one behind the other ``[M, ...]``."""

    def __init__(self, members: list[FastMember]) -> None:
        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(member, name) for member in members])

        self.head = members[0].head
        self.history, self.history_bias = stacked("history"), stacked("history_bias")
        self.level_ask, self.level_ask_bias = stacked("level_ask"), stacked("level_ask_bias").unsqueeze(1)
        self.expect, self.expect_bias = stacked("expect"), stacked("expect_bias")
        self.level_context, self.level_out = stacked("level_context"), stacked("level_out")
        self.middle, self.adverse_out = (
            tuple(map(torch.stack, zip(*(getattr(member, name) for member in members), strict=True)))
            for name in ("middle", "adverse_out")
        )
        self.read_weight, self.read_bias = stacked("read_weight"), stacked("read_bias")
        self.remember, self.remember_bias = stacked("remember"), stacked("remember_bias").unsqueeze(1)

    def known(self, hidden: list[Tensor], person: list[Tensor], record: list[Tensor], around: list[Tensor]) -> Tensor:
        """Every member's ``Past.known`` ``[M, K, B]``, of the encoders' states, the persons' codes and the record's features;
        ``around`` is the rest."""
        told = torch.stack([torch.cat([h, p, *record]) for h, p in zip(hidden, person, strict=True)])
        history = F.silu(torch.baddbmm(self.history_bias, self.history, told), inplace=True)
        return torch.cat([history, torch.cat(around).expand(len(told), -1, -1)], dim=1)

    def look_ahead(self, known: Tensor, memory: Tensor, mask: Tensor | None) -> list[Outlook]:
        """Of ``known`` ``[M, K, B]``, the days remembered ``[M, B, T, D]`` and their ``Past.mask``."""
        h, b = self.head, known.shape[2]
        asked = torch.baddbmm(self.level_ask_bias, known.mT, self.level_ask).unsqueeze(2)  # (M, B, 1, D)
        days = memory.flatten(0, 1)
        scores = torch.bmm(asked.flatten(0, 1), days.mT).unflatten(0, (-1, b))
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        context = torch.bmm(weights.flatten(0, 1), days).view(-1, b, days.shape[2])
        found = torch.baddbmm(self.expect_bias, self.expect, known)
        hidden = F.silu(torch.baddbmm(found[:, :h], self.level_context, context.mT), inplace=True)
        hidden = F.silu(torch.baddbmm(self.middle[0], self.middle[1], hidden), inplace=True)
        level = torch.baddbmm(found[:, 2 * h :], self.level_out, hidden)
        logit = torch.baddbmm(self.adverse_out[0], self.adverse_out[1], F.silu(found[:, h : 2 * h]))[:, 0]
        return [Outlook(*each) for each in zip(context.unbind(), level.unbind(), logit.unbind(), strict=True)]

    def read(self, lived: Lived, hidden: list[Tensor], cell: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each member's encoder's hidden and cell state ``[H, B]`` after a week, and its memory of the days ``[B, 7, D]``."""
        told = torch.stack([torch.cat([lived.told, each]) for each in hidden])
        gates = torch.baddbmm(self.read_bias, self.read_weight, told)
        twice, half = 2.0 * torch.stack(cell), torch.empty_like(gates[:, : len(hidden[0])])
        cell_(gates, gates.unflatten(1, (4, -1)).unbind(1), twice, half)
        told = torch.cat([half, lived.away.expand(len(half), -1, -1)], dim=1)
        days = torch.baddbmm(self.remember_bias, told.mT, self.remember).sigmoid_()
        days = days.mul_(2.0).sub_(1.0).unflatten(2, (DAYS, -1))
        return zip((2.0 * half).unbind(), twice.mul_(0.5).unbind(), days.unbind(), strict=True)
