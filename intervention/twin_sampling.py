"""A trained member written out for sampling: the functions of ``Seq2Seq`` without gradients, weights packed once.

All that reads the history is one matrix product a question, of all members where all are asked (``twin_together``);
tanh(x) = 2 sigmoid(2x) - 1, so that one sigmoid serves all four gates, and the twos are in the weights. Tensors are
turned, numbers first and persons last ``[K, B]``, so that every loop runs along the persons; what attention reads has
the persons first. Sums over days are products, as a reduction would take them in an order that depends on the batch.
"""

import math
from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.batching import TILE, over_days, whole_tiles
from core.protocols import State
from core.signals import DAYS
from intervention.record import ACTION
from intervention.seq2seq import Seq2Seq

CHUNK = 2048  # persons at a time: enough to be worth a call, and not more memory than that takes
HALF = torch.tensor(0.5)  # as a number it would be made a tensor anew in every call


class Past(NamedTuple):
    """What a member is asked about: the history, the base, the latest week's distance from it and the action, one below
    the other ``[K+2C+ACTION, B]``; the days remembered ``[B, T, D]``, and what is added to their scores ``[B, 1, T]`` (None where all were lived)."""

    known: Tensor
    memory: Tensor
    mask: Tensor | None

    def select(self, rows: Tensor | None) -> "Past":
        """Of the persons ``rows``; of all if None."""
        if rows is None:
            return self
        mask = None if self.mask is None else self.mask[rows]
        return Past(self.known.index_select(1, rows), self.memory.index_select(0, rows), mask)


class Outlook(NamedTuple):
    """What a member expects of the coming week: the days the level attended to ``[B, D]``, the level in z ``[C, B]`` and
    the log-odds of an adverse event ``[B]``."""

    context: Tensor
    level: Tensor
    adverse_logit: Tensor

    def select(self, rows: Tensor | None) -> "Outlook":
        """Of the persons ``rows``; of all if None."""
        if rows is None:
            return self
        return Outlook(self.context[rows], self.level.index_select(1, rows), self.adverse_logit[rows])


class Lived(NamedTuple):
    """A week as all members read it: what the encoder is told ``[I, B]`` and the days' distance from the base
    ``[7C, B]``."""

    told: Tensor
    away: Tensor


def read_days(week: Tensor, mean: Tensor, base: Tensor, traces: Tensor, action: Tensor, adverse: Tensor) -> Lived:
    """A week in z ``[7, C, B]`` of mean ``[C, B]``, as ``Seq2Seq.lived`` tells it."""
    sd = over_days((week - mean).square_(), 1 / (DAYS - 1)).sqrt_()
    away = week - base
    told = torch.cat([base, mean - base, sd, away[-1], traces, action, adverse.to(base.dtype).unsqueeze(0)])
    return Lived(told, away.flatten(0, 1))


def weights_of(queries: Tensor, past: Past) -> Tensor:
    """How much the queries ``[B, Q, D]``, scaled, attend to each day: ``[B, Q, T]``, summing to 1."""
    scores = torch.bmm(queries, past.memory.mT)
    if past.mask is not None:
        scores += past.mask
    return torch.softmax(scores, dim=-1)


def cell_(gates: Tensor, parts: tuple[Tensor, ...], twice: Tensor, half: Tensor) -> None:
    """One step of an LSTM, in place: from the gates before their sigmoid ``[4H, B]`` (candidate doubled) and their four
    parts (:func:`parts_of`), twice the cell and half the hidden state ``[H, B]`` become those after it; ``gates`` is used up."""
    gates.sigmoid_()
    i, f, g, o = parts
    twice.mul_(f).addcmul_(i, g.sub_(HALF), value=4.0)
    torch.sigmoid(twice, out=half).sub_(HALF).mul_(o)


def parts_of(gates: Tensor) -> tuple[Tensor, ...]:
    """Input, forget, candidate and output gate, each ``[H, B]``."""
    return gates.view(4, -1, gates.shape[1]).unbind()


def gate_weights(lstm: nn.LSTM) -> tuple[Tensor, Tensor, Tensor]:
    """A one-layer LSTM's weights for :func:`cell_`: of the inputs ``[4H, I]``, of the hidden state ``[4H, H]``, and the
    bias ``[4H, 1]``."""
    inner, outer, *biases = lstm.all_weights[0]
    double = torch.ones(4, lstm.hidden_size, 1, device=outer.device)
    double[2] = 2.0
    double = double.flatten(0, 1)
    return double * inner, double * outer, double * (biases[0] + biases[1])[:, None]


class FastMember:
    """``net`` packed; train it first, for later changes of its weights are not seen."""

    @torch.no_grad()
    def __init__(self, net: Seq2Seq) -> None:
        shape, c, d = net.shape, len(net.low), net.shape.memory
        self.signals, self.head, self.min_sd = c, shape.head, torch.tensor(shape.min_sd)
        self.low, self.high, self.level_law = net.low[:, None], net.high[:, None], net.law_of

        def asks(history: Tensor, around: Tensor | None, action: Tensor | None) -> Tensor:
            """Weights over ``Past.known``; zeros for what a layer does not read."""
            rows = len(history)
            around = history.new_zeros(rows, 2 * c) if around is None else around
            action = history.new_zeros(rows, ACTION) if action is None else action
            return torch.cat([history, around, action], dim=1)

        code, scale = shape.history, 1 / math.sqrt(d)  # of the scores
        self.history, self.history_bias = net.known.weight, net.known.bias[:, None]
        self.level_ask = scale * asks(net.level_ask.weight, None, None).T
        self.level_ask_bias = scale * net.level_ask.bias
        self.days_ask = scale * asks(net.days_ask.weight, None, net.days_ask_action.weight).T
        self.days_ask_bias, self.days_ask_weekday = scale * net.days_ask.bias, scale * net.days_ask_weekday

        level_history, level_context, level_around = net.level_history.weight.split([code, d, 2 * c], dim=1)
        law_history, law_context = net.law_history.weight.split([code, d], dim=1)
        self.level_context, self.law_context = level_context.contiguous(), law_context.contiguous()
        straight = net.level_linear.weight + torch.eye(c, 2 * c, device=net.low.device)
        self.expect = torch.cat(
            [
                asks(level_history, level_around, net.level_action.weight),
                asks(net.adverse_history.weight, None, net.adverse_action.weight),
                asks(net.level_linear.weight.new_zeros(c, code), straight, None),
            ]
        )
        self.expect_bias = torch.cat(
            [net.level_history.bias, net.adverse_history.bias, net.level_linear.bias + net.level_out.bias]
        )[:, None]
        self.middle, self.level_out, self.adverse_out = (
            _packed(net.level_middle),
            net.level_out.weight,
            _packed(net.adverse_out),
        )

        begin_history, begin_action, begin_adverse = net.begin.weight.split([code, ACTION, 1], dim=1)
        self.write_known = torch.cat(
            [asks(law_history, None, net.law_action.weight), 2 * asks(begin_history, None, begin_action)]
        )
        self.write_bias = torch.cat([net.law_history.bias, 2 * net.begin.bias])[:, None]
        self.begin_adverse, self.law_out = 2 * begin_adverse, _packed(net.law_out)

        inner, outer, bias = gate_weights(net.decoder)
        before, context, weekday = inner.split([c, d, DAYS], dim=1)
        same = torch.cat([context, before, 2 * outer], dim=1)
        self.days = [torch.cat([same, bias + weekday[:, d : d + 1]], dim=1) for d in range(DAYS)]  # (4H, D + C + H + 1)
        carried = torch.cat([net.carry.diag(), torch.zeros_like(net.mix)])
        raised = net.day_out.bias[:, None] + torch.tensor([0.0, 0.5]).repeat_interleave(c)[:, None].to(bias)
        self.moments = torch.cat([carried, 2 * net.day_out.weight, raised], dim=1)  # (2C, C + H + 1)
        self.same_day, self.anchor = net.same_day(), net.anchor[:, None]

        inner, outer, self.read_bias = gate_weights(net.encoder)
        self.read_weight = torch.cat([inner, outer], dim=1)
        per_day = torch.zeros(DAYS, d, DAYS, c, device=net.low.device)
        per_day[range(DAYS), :, range(DAYS)] = net.remember_day.weight
        # Twice, for tanh; the hidden state comes halved.
        self.remember = torch.cat(
            [4 * net.remember.weight.repeat(DAYS, 1), 2 * per_day.flatten(2).flatten(0, 1)], dim=1
        ).T.contiguous()  # (H + 7C, 7D)
        self.remember_bias = 2 * (net.remember.bias + net.remember_weekday).flatten()

    def level_queries(self, known: Tensor) -> Tensor:
        """``[B, 1, D]``, scaled."""
        return torch.addmm(self.level_ask_bias, known.T, self.level_ask).unsqueeze(1)

    def day_queries(self, known: Tensor) -> Tensor:
        """``[B, 7, D]``, scaled."""
        return torch.addmm(self.days_ask_bias, known.T, self.days_ask).unsqueeze(1) + self.days_ask_weekday

    def write(
        self, past: Past, outlook: Outlook, adverse: Tensor, surprise: Tensor, yesterday: Tensor, draws: "Draws"
    ) -> Tensor:
        """A week in z ``[7, C, B]`` after ``yesterday`` ``[C, B]``; ``adverse`` and ``surprise`` ``[B]`` as
        ``Seq2Seq.level_law`` has them."""
        h = self.head
        asked = torch.addmm(self.write_bias, self.write_known, past.known)
        hidden = F.silu(asked[:h].addmm_(self.law_context, outlook.context.T), inplace=True)
        law = self.level_law(_layer(self.law_out, hidden).T, outlook.level.T, surprise)
        level = law.sample(draws.mode, draws.level).T  # (C, B)

        half, cell = asked[h:].addcmul_(self.begin_adverse, adverse).sigmoid_().sub_(HALF).chunk(2)
        contexts = torch.bmm(weights_of(self.day_queries(past.known), past), past.memory)  # (B, 7, D)
        sunday = yesterday - torch.lerp(level, outlook.level, self.anchor)
        return self._days(contexts.permute(1, 2, 0), sunday, half, cell.mul_(4.0), level, draws)

    def _days(
        self, contexts: Tensor, before: Tensor, half: Tensor, twice: Tensor, level: Tensor, draws: "Draws"
    ) -> Tensor:
        """The decoder: a week in z ``[7, C, B]`` of the days attended to ``[7, D, B]``, the day before from the level and
        half the hidden state."""
        c, low, high = self.signals, self.low - level, self.high - level
        noise = self.same_day @ draws.days  # (7, C, B)
        week, moments = torch.empty_like(noise), level.new_empty(2 * c, level.shape[1])
        mean, raw = moments.chunk(2)
        inputs = torch.cat([contexts[0], before, half, torch.ones_like(level[:1])])
        context, own = inputs.split([contexts.shape[1], len(self.moments[0])])
        before, half = own[:c], own[c:-1]
        gates = level.new_empty(len(self.days[0]), level.shape[1])
        parts = parts_of(gates)
        for weights, attended, shock, day in zip(
            self.days, contexts.unbind(), noise.unbind(), week.unbind(), strict=True
        ):
            context.copy_(attended)
            cell_(torch.mm(weights, inputs, out=gates), parts, twice, half)
            torch.mm(self.moments, own, out=moments)
            sd = F.softplus(raw).add_(self.min_sd)
            torch.clamp(mean.addcmul_(sd, shock), low, high, out=before)
            torch.add(before, level, out=day)
        return week


class Draws(NamedTuple):
    """A week's random numbers: a uniform ``[B]`` and normals ``[B, 1+C]`` for the level, normals ``[7, C, B]`` for the days."""

    mode: Tensor
    level: Tensor
    days: Tensor

    def select(self, rows: Tensor | None) -> "Draws":
        """Of the persons ``rows``; of all if None."""
        if rows is None:
            return self
        return Draws(self.mode[rows], self.level[rows], self.days.index_select(2, rows))


def _packed(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return linear.bias[:, None], linear.weight


def _layer(packed: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    return torch.addmm(*packed, x)


# --- batches ----------------------------------------------------------------------------------------------------------


def average(parts: list[Tensor]) -> Tensor:
    """In an order that does not depend on the batch, as a reduction's may."""
    return parts[0] if len(parts) == 1 else reduce(torch.add, parts) / len(parts)


def tiled(state: State, *others: Tensor) -> tuple[Any, ...]:
    return {name: whole_tiles(value) for name, value in state.items()}, *map(whole_tiles, others)


def chunks(state: State, *others: Tensor) -> Iterator[tuple[Any, ...]]:
    """Whole tiles, ``CHUNK`` persons at a time."""
    given, rest = state, list(others)
    if len(others[0]) % TILE:
        given, *rest = tiled(state, *others)
    persons = len(rest[0])
    if persons <= CHUNK:
        yield given, *rest
        return
    for first in range(0, persons, CHUNK):
        part = slice(first, first + CHUNK)
        yield {name: value[part] for name, value in given.items()}, *(value[part] for value in rest)


def joined(parts: list[Tensor]) -> Tensor:
    """Chunks one after the other, laid out in memory as they are."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].is_contiguous():
        return torch.cat(parts)
    return torch.cat([part.movedim(0, -1) for part in parts], dim=-1).movedim(-1, 0)
