"""Why this risk? Attributions per day, signal and profile column, and how the score answers when a signal shifts.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) from a few reference weeks, averaged (expected
gradients, Erion et al. 2021, arXiv 1906.10670). Attributions must add up to the change of the score: that is checked,
not assumed, since a model that learned thresholds has gradients which a fixed grid of steps misses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from core.cohort import Cohort
from core.protocols import risk_score
from core.signals import DAYS, WEEKDAYS, names
from predictor.dual_lstm import BATCH, DualLSTMRisk

PAIRS = 3  # of reference weeks
CHUNK = 512  # points whose gradients are taken at once: what still fits the processor's cache
SEGMENTS = 4  # equal parts of the way from the reference to the person that integration starts with
TOLERANCE = 0.005  # of the score: how far attributions may be from adding up before integration goes on
HALVINGS = 10  # of a segment, at most
WORTH = 16  # a gap below this fraction of the tolerance is not worth halving for
CARRIED = 0.5  # share of a signal's pull that the days named for it carry at least
ORDER = (0, 2, 4, 6, 3, 1, 5)  # of the reference's levels: a wave whose days are nearly unrelated to each other

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Attributions:
    """What each part of ``B`` persons adds to their risk score, beside the average person's.

    Attributes:
        profile: ``[B, K]``, by profile column (``model.encoder.columns``), all levels of a category together.
        days: ``[B, 7, C]``, by day and signal; exactly 0 where a day was not observed.
        score: ``[B]``, the persons' risk score.
        reference: ``[B]``, the mean score of the reference, observed on the same days.
    """

    profile: Tensor
    days: Tensor
    score: Tensor
    reference: Tensor

    @property
    def error(self) -> Tensor:
        """Completeness error ``[B]``: the attributions' sum minus what they should add up to, score - reference."""
        return self.profile.sum(1) + self.days.sum((1, 2)) - (self.score - self.reference)


def reference_weeks(model: DualLSTMRisk, pairs: int = PAIRS) -> Tensor:
    """Weeks of an average person, ``[2 * pairs, 7, C]`` in physical units (up to seven pairs), from no person's data.

    A week without variation is one nobody has, and irregular sleep would be blamed or praised beside it. So each week
    has the average week's sd, in seven levels (normal scores), and each has a mirror image, so that every day is at the
    signal's mean. The profile that goes with them is all zero: numbers at their mean, no category chosen.
    """
    signals = len(model.signals)
    levels = norm.ppf((np.arange(DAYS) + 0.5) / DAYS)
    levels = torch.tensor(levels / levels.std(), dtype=torch.float32)[list(ORDER)]
    week, day, signal = (torch.arange(size) for size in (pairs, DAYS, signals))
    z = levels[(week[:, None, None] + day[:, None] + signal) % DAYS].to(model.temperature.device)
    z = z * model.network.patterns.centre[signals : 2 * signals]  # week_patterns: means, then sds
    return model.scaler.unscale(torch.stack([z, -z], dim=1).flatten(0, 1))


def attributions(
    model: DualLSTMRisk,
    features: Tensor,
    week: Tensor,
    mask: Tensor | None = None,
    pairs: int = PAIRS,
    segments: int = SEGMENTS,
    tolerance: float = TOLERANCE,
) -> Attributions:
    """Integrated gradients of the risk score, averaged over ``pairs`` pairs of :func:`reference_weeks`.

    Args:
        features: encoded profiles ``[B, P]``.
        week: ``[B, 7, C]``, physical units.
        mask: bool ``[B, 7, C]``, what was observed; all of it if None.
        segments, tolerance: as :func:`integrate` takes them.
    """
    observed = torch.ones_like(week, dtype=torch.bool) if mask is None else mask
    batch, width = features.shape
    total = torch.zeros(batch, width + week[0].numel(), device=week.device)
    score, reference = torch.zeros(batch, device=week.device), torch.zeros(batch, device=week.device)
    origins = reference_weeks(model, pairs)
    for origin in origins:
        start = torch.cat([torch.zeros_like(features), origin.expand_as(week).flatten(1)], dim=1)
        end = torch.cat([features, torch.where(observed, week, origin).flatten(1)], dim=1)

        def slope(rows: Tensor, share: Tensor, start: Tensor = start, end: Tensor = end) -> tuple[Tensor, Tensor]:
            point = torch.lerp(start[rows], end[rows], share[:, None]).requires_grad_()
            days = point[:, width:].unflatten(1, week.shape[1:])
            value = risk_score(model.probabilities(point[:, :width], days, observed[rows]))
            with torch.backends.cudnn.flags(enabled=False):  # its LSTM has no backward pass in evaluation mode
                gradient = torch.autograd.grad(value.sum(), point)[0]
            return gradient * (end[rows] - start[rows]), value.detach()

        part, first, last = integrate(slope, batch, segments, tolerance, device=week.device)
        total += part / len(origins)
        reference += first / len(origins)
        score += last / len(origins)
    return Attributions(
        by_column(model, total[:, :width]), total[:, width:].unflatten(1, week.shape[1:]), score, reference
    )


class Nodes(NamedTuple):
    """Points of the way: where (``share`` of it, ``[M]``), the slope's ``parts`` there ``[M, D]``, the ``value`` ``[M]``."""

    share: Tensor
    parts: Tensor
    value: Tensor

    def at(self, rows: Tensor) -> "Nodes":
        return Nodes(*(tensor[rows] for tensor in self))


def integrate(
    slope: Slope,
    batch: int,
    segments: int = SEGMENTS,
    tolerance: float = TOLERANCE,
    halvings: int = HALVINGS,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Integral over 0..1 of the parts of a derivative, for each of ``batch`` rows.

    Simpson's rule on ``segments`` equal segments. While a row's gaps (between the parts of a segment and the change of
    the value across it) sum to more than ``tolerance``, those of its segments with a share in that worth the name are
    halved, ``halvings`` times at most. So the steps go where a row's thresholds are.

    Args:
        slope: rows int64 ``[M]`` and shares ``[M]`` of the way -> parts ``[M, D]`` (they sum to the derivative of the
            value) and value ``[M]``.

    Returns:
        The integral ``[batch, D]``, the value ``[batch]`` at 0, and at 1.
    """

    def nodes(row: Tensor, share: Tensor) -> Nodes:
        pieces = [slope(r, s) for r, s in zip(row.split(CHUNK), share.split(CHUNK), strict=True)]
        return Nodes(share, torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces]))

    row = torch.arange(batch, device=device)
    ends = torch.linspace(0, 1, segments + 1, device=device).repeat_interleave(batch)
    edges, row = nodes(row.repeat(segments + 1), ends), row.repeat(segments)
    left, right = (Nodes(*(t[start : start + len(row)] for t in edges)) for start in (0, batch))
    first, last = edges.value[:batch], edges.value[-batch:]
    total, settled = torch.zeros_like(edges.parts[:batch]), torch.zeros(batch, device=first.device)
    for halving in range(halvings + 1):
        middle = nodes(row, (left.share + right.share) / 2)
        length = right.share - left.share
        part = length[:, None] / 6 * (left.parts + 4 * middle.parts + right.parts)
        gap = (part.sum(1) - (right.value - left.value)).abs()
        unsettled = settled.index_add(0, row, gap)[row] > tolerance
        open_ = unsettled & (gap > tolerance / WORTH) if halving < halvings else torch.zeros_like(unsettled)
        total.index_add_(0, row[~open_], part[~open_])
        settled.index_add_(0, row[~open_], gap[~open_])
        if not open_.any():
            break
        again = open_.nonzero()[:, 0]
        row = row[again].repeat(2)
        left, middle, right = left.at(again), middle.at(again), right.at(again)
        left, right = (
            Nodes(*(torch.cat(both) for both in zip(*pair, strict=True))) for pair in ((left, middle), (middle, right))
        )
    return total, first, last


def by_column(model: DualLSTMRisk, by_feature: Tensor) -> Tensor:
    """Features ``[B, P]`` summed over the levels of their profile column: ``[B, K]``."""
    widths = [len(model.encoder.levels.get(column, (column,))) for column in model.encoder.columns]
    parts = [part.sum(1) for part in by_feature.split(widths, dim=1)] if widths else []
    return torch.stack(parts, dim=1) if parts else by_feature


def carrying_days(days: Tensor) -> Tensor:
    """Which days carry each signal's sum: bool ``[B, 7, C]`` from attributions by day.

    The fewest days that make up half of what pulls the sum in its direction; none where nothing pulls.
    """
    pull = (days * days.sum(1, keepdim=True).sign()).clamp(min=0)
    ordered, order = pull.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    chosen = (before < CARRIED * pull.sum(1, keepdim=True)) & (ordered > 0)
    return torch.zeros_like(chosen).scatter(1, order, chosen)


def driver_names(model: DualLSTMRisk, profiles: pd.DataFrame) -> list[list[str]]:
    """By signal and profile column, its name in each row: ``stress``, ``age``, ``sleep_disorder=Insomnia``."""
    rows = len(profiles)
    levels = model.encoder.levels
    return [[signal] * rows for signal in names(model.signals)] + [
        [f"{column}={value}" for value in profiles[column]] if column in levels else [column] * rows
        for column in model.encoder.columns
    ]


def top_drivers(found: Attributions, named: list[list[str]], n: int) -> list[list[tuple[str, float]]]:
    """The ``n`` largest drivers of each person, as ``(name, what it adds to the score)``, the largest change first.

    A signal counts with all its days, a category with all its levels; ``named`` as :func:`driver_names` gives it.
    """
    every = torch.cat([found.days.sum(1), found.profile], dim=1)
    order = every.abs().argsort(dim=1, descending=True, stable=True)[:, :n]
    values = every.gather(1, order)
    rows = zip(order.tolist(), values.tolist(), strict=True)
    return [[(named[k][i], value) for k, value in zip(*row, strict=True)] for i, row in enumerate(rows)]


def batch_drivers(
    model: DualLSTMRisk, cohort: Cohort, n: int, pairs: int = 1, segments: int = 2, tolerance: float = 2 * TOLERANCE
) -> list[list[tuple[str, float]]]:
    """:func:`top_drivers` of every row of a cohort; a signal also names the day with its largest share: ``stress (Thu)``.

    For many persons at once, so a single pair of reference weeks and fewer steps than :func:`attributions` takes.

    Raises:
        DataError: the cohort's signals are not those the model was trained on, or a profile column is missing.
    """
    result: list[list[tuple[str, float]]] = []
    for features, week, mask in zip(*(tensor.split(BATCH) for tensor in model.inputs(cohort)), strict=True):
        found = attributions(model, features, week, mask, pairs, segments, tolerance)
        named = driver_names(model, cohort.profiles[len(result) : len(result) + len(week)])
        main = (found.days * found.days.sum(1, keepdim=True).sign()).argmax(1)  # (B, C)
        for k, days in enumerate(main.T.tolist()):
            named[k] = [f"{model.signals[k].name} ({WEEKDAYS[day]})" for day in days]
        result += top_drivers(found, named, n)
    return result


def attribution_summary(model: DualLSTMRisk, cohort: Cohort, persons: int) -> dict[str, Any]:
    """Mean absolute attribution over up to ``persons`` persons, taken evenly from the cohort with a week each.

    Returns:
        ``signals`` (a signal's sum over the week), ``days`` (``[7]`` by signal), ``profile`` (by column),
        ``completeness_error_mean`` and ``_max`` (absolute), ``score_reference``, ``persons``.
    """
    one = np.unique(cohort.person, return_index=True)[1]
    rows = one[np.linspace(0, len(one) - 1, min(persons, len(one))).astype(int)]
    found = attributions(model, *model.inputs(cohort.select(rows)))
    day, signal, profile = (t.abs().mean(0).tolist() for t in (found.days, found.days.sum(1), found.profile))
    error = found.error.abs()
    return {
        "signals": dict(zip(names(model.signals), signal, strict=True)),
        "days": {name: [row[k] for row in day] for k, name in enumerate(names(model.signals))},
        "profile": dict(zip(model.encoder.columns, profile, strict=True)),
        "completeness_error_mean": float(error.mean()),
        "completeness_error_max": float(error.max()),
        "score_reference": float(found.reference.mean()),
        "persons": len(rows),
    }


@torch.inference_mode()
def signal_response(model: DualLSTMRisk, cohort: Cohort, shift: float = 1.0) -> dict[str, dict[str, float]]:
    """How the mean risk score moves when one signal of every day moves by ``shift`` between-person sd.

    ``worse`` and ``better`` are mean changes of the score (a sound model: above and below 0), ``ordered`` the share of
    people whose score under the worse week is above the one under the better week.
    """
    features, week, mask = model.inputs(cohort)

    def score(moved: Tensor) -> Tensor:
        parts = zip(features.split(BATCH), moved.split(BATCH), mask.split(BATCH), strict=True)
        return torch.cat([risk_score(model.probabilities(*part)) for part in parts])

    now, response = score(week), {}
    for k, signal in enumerate(model.signals):
        step = torch.zeros(len(model.signals), device=week.device)
        step[k] = -signal.better * shift * model.scaler.between[k]
        low_high = torch.tensor([[s.low for s in model.signals], [s.high for s in model.signals]], device=week.device)
        worse, better = (score((week + sign * step).clamp(*low_high)) for sign in (1, -1))
        response[signal.name] = {
            "worse": float((worse - now).mean()),
            "better": float((better - now).mean()),
            "ordered": float((worse > better).float().mean()),
        }
    return response
