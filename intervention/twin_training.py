"""Training the Twin on virtual trials: likelihood of the days, and distillation of what the teacher knows.

Every step reads whole courses with teacher forcing, also of the weeks' levels. The loss is the sum of

    nll       of the seven days given the days before and the level (clipped Gaussian), per day and signal
    level_nll of the level the week really had, per signal
    level     squared error of the expected level, under the action taken and under each alternative
    effect    squared error of the expected level's difference from Control, for the same history
    adverse   cross-entropy of adverse events

All but the first are weighted; level and effect are in between-person sd. The best weights by validation loss are kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import NumericalError
from core.patients import Patients
from core.protocols import Tracker
from core.random import numpy_generator, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from core.signals import DAYS
from core.treatments import CONTROL, TREATMENTS
from intervention.seq2seq import Record, Seq2Seq, TwinShape, action_features, attend, clipped_nll
from intervention.trials import VirtualTrials, split_by_patient
from intervention.twin import Twin


@dataclass(frozen=True)
class TwinSettings:
    """How the Twin is built and trained."""

    shape: TwinShape
    members: Count  # size of the ensemble
    steps: Count  # optimiser steps per member
    batch: Count  # courses per step
    written_weeks: Count  # weeks of each course whose days are scored, drawn anew at every step
    learning_rate: Positive  # highest, of a one-cycle schedule
    weight_decay: NonNegative
    gradient_clip: Positive  # largest gradient norm
    law_weight: NonNegative  # of the level's likelihood
    level_weight: NonNegative  # of the level loss
    effect_weight: NonNegative  # of the effect loss
    adverse_weight: NonNegative  # of the adverse-event loss
    validation_share: Fraction  # share of the persons kept for validation
    validate_every: Count  # steps between validations


@dataclass(frozen=True)
class Courses:
    """Courses as tensors, days in z: ``weeks`` [N, W+1, 7, C] with the baseline week first, the rest as in trials."""

    features: Tensor
    weeks: Tensor
    at_low: Tensor
    at_high: Tensor
    treatment: Tensor
    intensity: Tensor
    adverse: Tensor
    true_level: Tensor
    level: Tensor
    other_intensity: Tensor
    other_level: Tensor
    other_true_level: Tensor
    other_adverse: Tensor

    def batch(self, rows: Tensor) -> "Courses":
        return Courses(**{name: tensor[rows] for name, tensor in vars(self).items()})

    def __len__(self) -> int:
        return len(self.weeks)


def read_courses(trials: VirtualTrials, patients: Patients) -> Courses:
    """Scale and join trials with the persons they drew."""
    rows, scaler = torch.from_numpy(trials.patient), patients.scaler
    device = patients.week.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    observed = tensor(trials.weeks)
    low = torch.tensor([signal.low for signal in patients.signals], device=device)
    high = torch.tensor([signal.high for signal in patients.signals], device=device)
    return Courses(
        features=patients.features[rows],
        weeks=scaler.scale(torch.cat([patients.week[rows].unsqueeze(1), observed], dim=1)),
        at_low=observed <= low,
        at_high=observed >= high,
        treatment=tensor(trials.treatment),
        intensity=tensor(trials.intensity),
        adverse=tensor(trials.adverse),
        true_level=scaler.scale(tensor(trials.true_level)),
        level=scaler.scale(tensor(trials.level)),
        other_intensity=tensor(trials.alternative_intensity),
        other_level=scaler.scale(tensor(trials.alternative_level)),
        other_true_level=scaler.scale(tensor(trials.alternative_true_level)),
        other_adverse=tensor(trials.alternative_adverse),
    )


def course_losses(net: Seq2Seq, courses: Courses, between: Tensor, written: Tensor) -> dict[str, Tensor]:
    """The losses of a batch of courses; ``between`` ``[C]`` is the between-person sd in z, ``written`` int64 the weeks
    (0..W-1) of which every day is scored."""
    w = courses.treatment.shape[1]
    base = courses.weeks[:, 0].mean(dim=1)
    person, _ = net.read_person(courses.features, courses.weeks[:, 0])
    action = action_features(courses.treatment, courses.intensity)  # (B, W, ACTION)
    # what the encoder has read before week w: the baseline week without treatment, then weeks 1..w-1
    lived = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], dim=1)
    suffered = torch.cat([torch.zeros_like(courses.adverse[:, :1]), courses.adverse[:, :-1]], dim=1)
    last = courses.weeks[:, :-1].mean(dim=2)
    traces, record = _records(net, last - base.unsqueeze(1), lived)
    first = net.first_state(person)
    hidden, memory, _ = net.read_courses(courses.weeks[:, :-1], base, traces, lived, suffered, first)
    persons, bases = (x.unsqueeze(1).expand(-1, w, -1) for x in (person, base))
    history = torch.cat([hidden, persons, record], dim=-1)  # (B, W, H+S+F)
    past = (torch.arange(w * DAYS, device=memory.device) // DAYS) <= torch.arange(w, device=memory.device)[:, None]

    # the action taken and the five weighed, side by side: (B, W, 1+A, .)
    every = torch.cat([action.unsqueeze(2), _other_actions(courses)], dim=2)
    told = history.unsqueeze(2)
    query = net.level_query(told, every)
    context = attend(query.flatten(1, 2), memory, past.repeat_interleave(query.shape[2], dim=0)).unflatten(1, (w, -1))
    levels = net.level(told, bases.unsqueeze(2), last.unsqueeze(2), every, context)
    target = torch.cat([courses.level.unsqueeze(2), courses.other_level], dim=2)
    off = ((levels - target) / between).square().mean(dim=(0, 1, 3))  # (1+A,)
    moved = (levels - levels[:, :, 1 + CONTROL, None])[:, :, 1:], (target - target[:, :, 1 + CONTROL, None])[:, :, 1:]

    events = torch.cat([courses.adverse.unsqueeze(2), courses.other_adverse], dim=2).float()  # (B, W, 1+A)
    logit = net.adverse_logit(told, every)
    # the expected level is fitted free of noise above, so the law may not pull at it
    law = net.level_law(told, every, context, levels.detach(), events - torch.sigmoid(logit.detach()))
    came = torch.cat([courses.true_level.unsqueeze(2), courses.other_true_level], dim=2)
    level_nll = law.nll(came).mean(dim=(0, 1)) / len(between)  # (1+A,)
    return {
        "nll": _days_nll(net, courses, history, action, memory, past, written),
        "level_nll": 0.5 * (level_nll[0] + level_nll[1:].mean()),
        "level": 0.5 * (off[0] + off[1:].mean()),
        "effect": ((moved[0] - moved[1]) / between).square().mean(),
        "adverse": F.binary_cross_entropy_with_logits(logit, events),
    }


def _other_actions(courses: Courses) -> Tensor:
    """Each treatment at the intensity it was weighed at ``[B, W, A, ACTION]``."""
    each = torch.arange(len(TREATMENTS), device=courses.treatment.device)
    return action_features(each.expand(courses.other_intensity.shape), courses.other_intensity)


def _days_nll(
    net: Seq2Seq, courses: Courses, history: Tensor, action: Tensor, memory: Tensor, past: Tensor, written: Tensor
) -> Tensor:
    """Mean negative log-likelihood of the days of the weeks ``written``, given the days before and the week's level."""
    history, action, read = history[:, written], action[:, written], past[written].repeat_interleave(DAYS, dim=0)
    contexts = attend(net.day_queries(history, action).flatten(1, 2), memory, read)
    contexts = contexts.unflatten(1, (len(written), DAYS)).flatten(0, 1)  # (B*V, 7, D)
    start = net.begin_week(*(x.flatten(0, 1) for x in (history, action, courses.adverse[:, written])))
    true = courses.weeks[:, 1 + written].flatten(0, 1)  # (B*V, 7, C)
    previous = torch.cat([courses.weeks[:, written, -1:].flatten(0, 1), true[:, :-1]], dim=1)
    mean, sd = net.write_forced(start, contexts, courses.true_level[:, written].flatten(0, 1), previous)
    bounds = courses.at_low[:, written].flatten(0, 1), courses.at_high[:, written].flatten(0, 1)
    return clipped_nll(net.innovations(true, mean, sd), sd, *bounds).mean()


def _records(net: Seq2Seq, away: Tensor, lived: Tensor) -> tuple[Tensor, Tensor]:
    """Dose traces ``[B, W, T*ACTION]`` and all record features ``[B, W, F]`` after each of the weeks lived under actions
    ``[B, W, ACTION]``, with means ``away`` from the base ``[B, W, C]``."""
    record, traces, features = Record.empty(away[:, 0], len(net.shape.retention)), [], []
    for week in range(lived.shape[1]):
        record = record.after(away[:, week], lived[:, week], net.shape.retention)
        traces.append(record.traces)
        features.append(record.features())
    return torch.stack(traces, dim=1), torch.stack(features, dim=1)


def train_twin(trials: VirtualTrials, patients: Patients, settings: TwinSettings, seed: int, tracker: Tracker) -> Twin:
    """The Twin of these virtual trials; ``patients`` are those the trials drew from. Same arguments, same Twin.

    Raises:
        NumericalError: a loss became non-finite.
    """
    twin = Twin(
        settings.shape,
        settings.members,
        patients.signals,
        patients.scaler,
        patients.features.shape[1],
        trials.treatment.shape[1],
        seed,
    ).to(patients.week.device)
    train, validation = split_by_patient(trials, settings.validation_share, numpy_generator(seed, "twin", "split"))
    courses = read_courses(train, patients), read_courses(validation, patients)
    for m, net in enumerate(twin.networks()):
        _train_member(net, *courses, patients, settings, seed, m, tracker)
    return twin.eval()


def _train_member(
    net: Seq2Seq,
    train: Courses,
    validation: Courses,
    patients: Patients,
    settings: TwinSettings,
    seed: int,
    member: int,
    tracker: Tracker,
) -> None:
    """Fit one member in place and leave it with its best validation weights."""
    scaler, device = patients.scaler, patients.week.device
    between = (torch.tensor(scaler.between) / torch.tensor(scaler.sd)).to(device)
    generator = torch_generator(seed, "twin", "batches", str(member))
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.15
    )
    best, kept = float("inf"), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weeks = train.treatment.shape[1]
    batches = _batches(len(train), settings.batch, settings.steps, generator)
    for step, rows in enumerate(tracker.track(batches, f"Twin {member + 1}/{settings.members}", settings.steps)):
        # Mixed precision pays on CUDA alone.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            written = torch.randperm(weeks, generator=generator)[: settings.written_weeks]
            losses = course_losses(net, train.batch(rows.to(device)), between, written.to(device))
            loss = _total(losses, settings)
        if not torch.isfinite(loss):
            raise NumericalError(f"twin: loss is {loss.item()} at step {step}; lower twin.learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), settings.gradient_clip)
        optimizer.step()
        schedule.step()
        at = member * settings.steps + step
        tracker.scalar("twin/train_loss", loss.item(), at)
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            found = _validate(net, validation, between, settings.batch)
            for name, value in found.items():
                tracker.scalar(f"twin/validation_{name}", value, at)
            tracker.scalar("twin/effect_loss", losses["effect"].item(), at)
            total = _total({name: torch.tensor(value) for name, value in found.items()}, settings).item()
            if total < best:
                best, kept = total, {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(kept)


def _total(losses: dict[str, Tensor], settings: TwinSettings) -> Tensor:
    return (
        losses["nll"]
        + settings.law_weight * losses["level_nll"]
        + settings.level_weight * losses["level"]
        + settings.effect_weight * losses["effect"]
        + settings.adverse_weight * losses["adverse"]
    )


def _batches(n: int, size: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """``steps`` batches of rows, epoch after epoch; a rest smaller than a batch waits for the next epoch."""
    size = min(size, n)
    per_epoch = n // size
    rows: list[Tensor] = []
    while len(rows) < steps:
        order = torch.randperm(n, generator=generator)
        rows += order[: per_epoch * size].split(size)
    return rows[:steps]


@torch.no_grad()
def _validate(net: Seq2Seq, courses: Courses, between: Tensor, size: int) -> dict[str, float]:
    """The losses over all validation courses."""
    sums: dict[str, float] = {}
    all_weeks = torch.arange(courses.treatment.shape[1], device=between.device)
    for rows in torch.arange(len(courses)).split(size):
        for name, value in course_losses(net, courses.batch(rows), between, all_weeks).items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(rows) / len(courses)
    return sums
