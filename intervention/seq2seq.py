"""The Twin's network: an attention Seq2Seq that reads a course of treatment and writes the coming week.

An encoder LSTM takes one step a week (its mean, spread and last day, and how it was lived), and each day leaves a memory
vector. For an action three questions are answered from that history: the expected level of the coming week, the
chance of an adverse event, and the seven days, which a decoder LSTM writes one after the other, attending over all
remembered days:

    expected = base + linear(base, last week) + mlp(history, attended days, action)
    level    ~ mixture of Gaussians around expected, each with a factor common to all signals: what is not known of the
               person yet, and the week's chance
    day d    = level + correction_d + phi * (day d-1 - level) + sd_d * L eps_d,   clipped to the signal's range
    phi, L   = day-to-day carry-over and same-day correlation of the signals; on Monday the level in the bracket is a mean of
               the week's and of the expected one, as what is new about a week does not change how Sunday was

The level is drawn once a week, because a person's unknown response moves all days of a week together; without it the
sampled persons are too much alike, and what the encoder infers from its own samples drifts to the average.
Doses enter as polynomials of the intensity (``record``). The queries of all seven days are asked at once.
Days are in the scaler's z-scores throughout. Attention after Bahdanau et al. 2015 (arXiv 1409.0473), scaled dot
product after Vaswani et al. 2017 (arXiv 1706.03762).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.settings import Count, Fraction, Positive
from core.signals import DAYS
from intervention.record import ACTION, ACTIVE


@dataclass(frozen=True)
class TwinShape:
    """How large the network is."""

    encoder: Count  # width of the encoder LSTM
    decoder: Count  # width of the decoder LSTM
    memory: Count  # width of what is remembered of a day
    person: Count  # width of the profile and baseline week's code
    retention: tuple[tuple[Fraction, Fraction], ...]  # of the traces of past doses (``record.Retention``)
    history: Count  # width of the code of a course so far
    head: Count  # hidden width of the heads
    modes: Count  # Gaussians in the level's mixture
    min_sd: Positive  # smallest sd of a day and of a level, in z


LSTMState = tuple[Tensor, Tensor]  # hidden and cell, each (B, H)


def attend(query: Tensor, memory: Tensor, valid: Tensor) -> Tensor:
    """Scaled dot-product attention: queries ``[B, Q, D]`` over memory ``[B, T, D]`` where ``valid`` (bool, broadcasts
    to ``[B, Q, T]``); returns ``[B, Q, D]``."""
    scores = query @ memory.transpose(-1, -2) / math.sqrt(memory.shape[-1])  # (B, Q, T)
    return torch.softmax(scores.masked_fill(~valid, -math.inf), dim=-1) @ memory


class LevelLaw(NamedTuple):
    """A mixture over a week's level: weights ``[..., K]``; means, own sds and loadings ``[..., K, C]``. Within a mode the
    signals move on their own and, by the loadings, together (as when a person turns out to respond)."""

    weight: Tensor
    mean: Tensor
    sd: Tensor
    loading: Tensor

    def nll(self, level: Tensor) -> Tensor:
        """Negative log-likelihood of ``level`` ``[..., C]``, without the constant C log(2 pi)/2: ``[...]``."""
        z, w = (level.unsqueeze(-2) - self.mean) / self.sd, self.loading / self.sd
        # the covariance diag(sd^2) + loading loading' inverted by Sherman and Morrison (1950)
        common = 1 + w.square().sum(dim=-1)
        distance = z.square().sum(dim=-1) - (z * w).sum(dim=-1).square() / common
        joint = torch.log(self.weight) - 0.5 * (distance + torch.log(common)) - torch.log(self.sd).sum(dim=-1)
        return -torch.logsumexp(joint, dim=-1)

    def sample(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """``[B, C]`` from one uniform ``[B]`` and 1 + C normals ``[B, 1+C]`` a row, the first one common to all signals."""
        mode = (uniform.unsqueeze(-1) > self.weight.cumsum(dim=-1)).sum(dim=-1).clamp(max=self.weight.shape[-1] - 1)
        row = mode.view(-1, 1, 1).expand(-1, 1, self.mean.shape[-1])
        mean, sd, loading = (each.gather(1, row)[:, 0] for each in (self.mean, self.sd, self.loading))
        return mean + sd * normal[:, 1:] + loading * normal[:, :1]


class Seq2Seq(nn.Module):
    """One world model. ``signals`` C, ``features`` P, and the signals' bounds ``low``, ``high`` in z, each ``[C]``."""

    low: Tensor
    high: Tensor

    def __init__(self, signals: int, features: int, low: Tensor, high: Tensor, shape: TwinShape) -> None:
        super().__init__()
        self.shape = shape
        h, d, s, c = shape.encoder, shape.memory, shape.person, signals
        past = len(shape.retention) * ACTION  # width of the dose traces
        known = h + s + past + (c + 1) * ACTIVE  # width of a history
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        code = shape.history
        self.person = nn.Linear(features + 2 * c, s)
        self.first = nn.Linear(s, 2 * h)
        self.encoder = nn.LSTM(4 * c + past + ACTION + 1, h, batch_first=True)
        self.remember = nn.Linear(h, d)
        self.remember_day = nn.Linear(c, d, bias=False)
        self.remember_weekday = nn.Parameter(torch.zeros(DAYS, d))
        self.known = nn.Linear(known, code)
        self.level_ask = nn.Linear(code, d)
        self.days_ask = nn.Linear(code, d)
        self.days_ask_action = nn.Linear(ACTION, d, bias=False)
        self.days_ask_weekday = nn.Parameter(0.1 * torch.randn(DAYS, d))
        self.level_linear = nn.Linear(2 * c, c)
        self.level_history = nn.Linear(code + d + 2 * c, shape.head)
        self.level_action = nn.Linear(ACTION, shape.head, bias=False)
        self.level_middle = nn.Linear(shape.head, shape.head)
        self.level_out = nn.Linear(shape.head, c)
        self.law_history = nn.Linear(code + d, shape.head)
        self.law_action = nn.Linear(ACTION, shape.head, bias=False)
        self.law_out = nn.Linear(shape.head, shape.modes * (1 + 3 * c) + c)
        self.adverse_history = nn.Linear(code, shape.head)
        self.adverse_action = nn.Linear(ACTION, shape.head, bias=False)
        self.adverse_out = nn.Linear(shape.head, 1)
        self.begin = nn.Linear(code + ACTION + 1, 2 * shape.decoder)
        self.decoder = nn.LSTM(c + d + DAYS, shape.decoder, batch_first=True)
        self.day_out = nn.Linear(shape.decoder, 2 * c)
        self.carry = nn.Parameter(torch.zeros(c))  # phi
        self.anchor = nn.Parameter(
            torch.full((c,), 0.5)
        )  # weight of the expected level in what Sunday is measured from
        self.mix = nn.Parameter(torch.zeros(c, c))  # strictly lower part: same-day regression on the signals before
        for layer in (self.level_linear, self.level_out, self.day_out):  # not law_out: equal modes would stay equal
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weight matrices of all layers but the last ones, whose outputs are the answers."""
        last = self.level_linear, self.level_out, self.law_out, self.adverse_out, self.day_out
        layers = [m for m in self.modules() if isinstance(m, nn.Linear | nn.LSTM) and m not in last]
        return [weight for layer in layers for weight in layer.parameters() if weight.ndim == 2]

    # --- reading -------------------------------------------------------------------------------------------------

    def read_person(self, features: Tensor, week: Tensor) -> tuple[Tensor, Tensor]:
        """Code ``[B, S]`` and base level ``[B, C]`` of persons with features ``[B, P]`` and baseline week in z."""
        base = week.mean(dim=1)
        code = torch.tanh(self.person(torch.cat([features, base, week.std(dim=1)], dim=-1)))
        return code, base

    def first_state(self, person: Tensor) -> LSTMState:
        """The encoder's hidden and cell state before the baseline week, each ``[B, H]``."""
        hidden, cell = torch.tanh(self.first(person)).chunk(2, dim=-1)
        return hidden, cell

    def read_courses(
        self, weeks: Tensor, base: Tensor, traces: Tensor, action: Tensor, adverse: Tensor, state: LSTMState
    ) -> tuple[Tensor, Tensor, LSTMState]:
        """Encode W weeks in z ``[B, W, 7, C]`` lived under ``action`` ``[B, W, ACTION]`` with ``adverse`` ``[B, W]``; ``traces``
        ``[B, W, T*ACTION]`` are those after each week.

        Returns the hidden state after each week ``[B, W, H]``, the memory of every day ``[B, W*7, D]`` and the state after
        the last week.
        """
        bases = base.unsqueeze(1).expand(-1, weeks.shape[1], -1)
        lived = self.lived(weeks, bases, traces, action, adverse)
        out, (hidden, cell) = self.encoder(lived, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
        return out, self.memories(out, weeks, bases).flatten(1, 2), (hidden[0], cell[0])

    def lived(self, weeks: Tensor, base: Tensor, traces: Tensor, action: Tensor, adverse: Tensor) -> Tensor:
        """What the encoder reads of weeks ``[..., 7, C]``: ``[..., 4C + T*ACTION + ACTION + 1]``."""
        away = weeks - base.unsqueeze(-2)
        shape = [base, away.mean(dim=-2), away.std(dim=-2), away[..., -1, :]]
        return torch.cat([*shape, traces, action, adverse.to(base.dtype).unsqueeze(-1)], dim=-1)

    def memories(self, hidden: Tensor, weeks: Tensor, base: Tensor) -> Tensor:
        """One vector a day ``[..., 7, D]``, of the days ``[..., 7, C]`` and the encoder's state ``[..., H]`` after them."""
        days = self.remember_day(weeks - base.unsqueeze(-2)) + self.remember_weekday
        return torch.tanh(self.remember(hidden).unsqueeze(-2) + days)

    # --- answering -----------------------------------------------------------------------------------------------
    # ``history`` is what :meth:`history` makes of the past; leading dimensions broadcast.

    def history(self, hidden: Tensor, person: Tensor, record: Tensor) -> Tensor:
        """All that is known of a course so far ``[..., K]``: the encoder's state, the person's code, the record's features."""
        return F.silu(self.known(torch.cat([hidden, person, record], dim=-1)))

    def level_query(self, history: Tensor) -> Tensor:
        """What the level asks of the memory ``[..., D]``."""
        out: Tensor = self.level_ask(history)
        return out

    def day_queries(self, history: Tensor, action: Tensor) -> Tensor:
        """What the seven days ask of the memory ``[..., 7, D]``."""
        asked = self.days_ask(history) + self.days_ask_action(action)
        return asked.unsqueeze(-2) + self.days_ask_weekday

    def level(self, history: Tensor, base: Tensor, last: Tensor, action: Tensor, context: Tensor) -> Tensor:
        """Expected level of the coming week in z ``[..., C]``; ``last`` is the latest week's mean."""
        hidden = self.level_hidden(history, base, last, action, context)
        return base + self.level_linear(torch.cat([base, last - base], dim=-1)) + self.level_out(hidden)

    def level_hidden(self, history: Tensor, base: Tensor, last: Tensor, action: Tensor, context: Tensor) -> Tensor:
        """The last hidden layer of :meth:`level` ``[..., head]``."""
        known = self.level_history(torch.cat([history, context, base, last - base], dim=-1))
        return F.silu(self.level_middle(F.silu(known + self.level_action(action))))

    def level_law(
        self, history: Tensor, action: Tensor, context: Tensor, expected: Tensor, surprise: Tensor
    ) -> "LevelLaw":
        """How the week's level may fall around ``expected`` ``[..., C]``, which stays its mean; ``surprise`` ``[...]``
        is the adverse event (0 or 1) minus its chance."""
        hidden = self.law_history(torch.cat([history, context], dim=-1)) + self.law_action(action)
        return self.law_of(self.law_out(F.silu(hidden)), expected, surprise)

    def law_of(self, out: Tensor, expected: Tensor, surprise: Tensor) -> "LevelLaw":
        """As :meth:`level_law`, from the outputs of its last layer ``[..., K*(1+3C)+C]``."""
        k, c = self.shape.modes, expected.shape[-1]
        logits, apart, raw, loading, shift = out.split([k, k * c, k * c, k * c, c], dim=-1)
        weight = torch.softmax(logits, dim=-1)
        apart, raw, loading = (part.unflatten(-1, (k, c)) for part in (apart, raw, loading))
        centre = expected + shift * surprise.unsqueeze(-1) - (weight.unsqueeze(-1) * apart).sum(dim=-2)
        return LevelLaw(weight, centre.unsqueeze(-2) + apart, F.softplus(raw - 1) + self.shape.min_sd, loading)

    def adverse_logit(self, history: Tensor, action: Tensor) -> Tensor:
        """Log-odds of an adverse event ``[...]``."""
        return self.adverse_out(F.silu(self.adverse_history(history) + self.adverse_action(action))).squeeze(-1)

    def begin_week(self, history: Tensor, action: Tensor, adverse: Tensor) -> LSTMState:
        """The decoder's first hidden and cell state."""
        known = torch.cat([history, action, adverse.to(history.dtype).unsqueeze(-1)], dim=-1)
        hidden, cell = torch.tanh(self.begin(known)).chunk(2, dim=-1)
        return hidden, cell

    def day_moments(self, hidden: Tensor, level: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and sd of a day ``[..., C]`` given the decoder's state and the day ``before`` minus the level."""
        correction, raw = self.day_out(hidden).chunk(2, dim=-1)
        return level + correction + self.carry * before, F.softplus(raw + 0.5) + self.shape.min_sd

    def write_forced(
        self, state: LSTMState, contexts: Tensor, level: Tensor, expected: Tensor, previous: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: moments ``[B, 7, C]`` of seven days from ``previous`` ``[B, 7, C]``, the true days before, the week's
        level and the expected one, each ``[B, C]``."""
        sunday = previous[:, :1] - torch.lerp(level, expected, self.anchor).unsqueeze(1)
        before = torch.cat([sunday, previous[:, 1:] - level.unsqueeze(1)], dim=1)
        weekday = torch.eye(DAYS, device=before.device, dtype=before.dtype).expand(len(before), DAYS, DAYS)
        days = torch.cat([before, contexts, weekday], dim=-1)
        out, _ = self.decoder(days, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
        return self.day_moments(out, level.unsqueeze(1), before)

    def innovations(self, days: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
        """Standardised days with the same-day regression on earlier signals taken out ``[..., C]``."""
        white = (days - mean) / sd
        return white - white @ self.mix.tril(-1).T

    def same_day(self) -> Tensor:
        """L ``[C, C]``: unit lower-triangular map from independent to correlated standardised noise."""
        eye = torch.eye(len(self.mix), device=self.mix.device, dtype=self.mix.dtype)
        return torch.linalg.solve_triangular(eye - self.mix.tril(-1), eye, upper=False)


def clipped_nll(innovation: Tensor, sd: Tensor, at_low: Tensor, at_high: Tensor) -> Tensor:
    """Negative log-likelihood per day and signal of a Gaussian clipped to its range (Tobin 1958).

    A day on a bound has the probability of everything beyond it; the constant log(2 pi)/2 is left out elsewhere.
    """
    inside = 0.5 * innovation.square() + torch.log(sd)
    half = 0.5 * math.log(2 * math.pi)
    below = -torch.special.log_ndtr(innovation) - half
    above = -torch.special.log_ndtr(-innovation) - half
    return torch.where(at_low, below, torch.where(at_high, above, inside))
