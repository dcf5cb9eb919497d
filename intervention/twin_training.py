"""Training the Twin on virtual trials: likelihood of the days, and distillation of what the teacher knows.

The loss is the weighted sum of those in ``twin_losses``; the best weights by validation loss are kept, and the expected
level's last layers are then refitted in closed form. Members are trained apart, so that each may have a processor core.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NumericalError
from core.gradients import clip
from core.patients import Patients
from core.protocols import Tracker
from core.random import numpy_generator, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from core.treatments import CONTROL, TREATMENTS
from intervention.courses import Courses, read_courses
from intervention.muon import Muon
from intervention.seq2seq import Seq2Seq, TwinShape
from intervention.side_by_side import side_by_side
from intervention.trials import VirtualTrials, split_by_patient
from intervention.twin import Twin
from intervention.twin_losses import course_losses, read, weighed_actions


@dataclass(frozen=True)
class TwinSettings:
    """How the Twin is built and trained."""

    shape: TwinShape
    members: Count  # size of the ensemble
    steps: Count  # optimiser steps per member
    batch: Count  # courses per step
    # drawn anew at every step:
    weighed: Count  # active treatments weighed in each week, beside the action taken and Control
    written_weeks: Count  # weeks of each course whose days are scored
    # highest, of a one-cycle schedule:
    matrix_learning_rate: Positive  # of the hidden layers' matrices, by Muon
    learning_rate: Positive  # of everything else, by AdamW
    weight_decay: NonNegative  # AdamW's
    gradient_clip: Positive  # largest gradient norm
    law_weight: NonNegative  # of the level's likelihood
    level_weight: NonNegative  # of the level loss
    effect_weight: NonNegative  # of the effect loss
    adverse_weight: NonNegative  # of the adverse-event loss
    validation_share: Fraction  # share of the persons kept for validation
    validate_every: Count  # steps between validations
    refit_courses: Count  # courses of the expected level's last refit
    refit_batch: Count  # courses at a time where there are no gradients: validation and the last refit


Weights = dict[str, Tensor]


def train_twin(
    trials: VirtualTrials, patients: Patients, settings: TwinSettings, seed: int, tracker: Tracker, processes: int = 1
) -> Twin:
    """The Twin of these virtual trials; ``patients`` are those the trials drew from.

    Members are trained side by side in ``processes`` of one thread each (on the CPU; elsewhere one after the other). Same
    arguments, same Twin, whatever their number.

    Raises:
        NumericalError: a loss became non-finite.
    """
    twin = _untrained(trials, patients, settings, seed)
    if patients.week.device.type != "cpu":
        processes = 1
    members = [(trials, patients, settings, seed, member) for member in range(settings.members)]
    found = side_by_side(train_member, members, "Twin members", tracker, processes)
    for net, weights in zip(twin.networks(), found, strict=True):
        net.load_state_dict(weights)
    return twin.eval()


def _untrained(trials: VirtualTrials, patients: Patients, settings: TwinSettings, seed: int) -> Twin:
    features, weeks = patients.features.shape[1], trials.treatment.shape[1]
    twin = Twin(settings.shape, settings.members, patients.signals, patients.scaler, features, weeks, seed)
    return twin.to(patients.week.device)


def train_member(
    trials: VirtualTrials, patients: Patients, settings: TwinSettings, seed: int, member: int, tracker: Tracker
) -> Weights:
    """The trained weights of one member."""
    net = _untrained(trials, patients, settings, seed).networks()[member]
    train, validation = split_by_patient(trials, settings.validation_share, numpy_generator(seed, "twin", "split"))
    learned, watched = (read_courses(part, patients, settings.shape.retention) for part in (train, validation))
    _fit(net, learned, watched, patients, settings, seed, member, tracker)
    refit_level(net, learned.batch(torch.arange(min(len(learned), settings.refit_courses))), settings.refit_batch)
    return net.state_dict()


def _fit(
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
    start_carry(net, train)
    device = patients.week.device
    between = (torch.tensor(patients.scaler.between) / torch.tensor(patients.scaler.sd)).to(device)
    generator = torch_generator(seed, "twin", "batches", str(member))
    optimizers, schedules = _optimizers(net, settings)
    best, kept = float("inf"), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    batches = _batches(len(train), settings.batch, settings.steps, generator)
    for step, rows in enumerate(tracker.track(batches, f"Twin {member + 1}/{settings.members}", settings.steps)):
        parts = (part.to(device) for part in _drawn_parts(train.treatment.shape[1], settings, generator))
        # Mixed precision pays on CUDA alone.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            losses = course_losses(net, train.batch(rows.to(device)), between, *parts)
            loss = _total(losses, settings)
        if not torch.isfinite(loss):
            raise NumericalError(f"twin: loss is {loss.item()} at step {step}; lower twin.learning_rate")
        net.zero_grad(set_to_none=True)
        loss.backward()
        clip(net.parameters(), settings.gradient_clip, f"twin, step {step}", "twin.learning_rate")
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        at = member * settings.steps + step
        tracker.scalar("twin/train_loss", loss.item(), at)
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            found = _validate(net, validation, between, settings.refit_batch)
            for name, value in found.items():
                tracker.scalar(f"twin/validation_{name}", value, at)
            total = _total({name: torch.tensor(value) for name, value in found.items()}, settings).item()
            if total < best:
                best, kept = total, {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(kept)


@torch.no_grad()
def start_carry(net: Seq2Seq, courses: Courses) -> None:
    """Begin with the carry-over within weeks that least squares finds, which so few gradient steps would not reach."""
    away = courses.weeks[:, 1:] - courses.true_level.unsqueeze(2)  # (N, W, 7, C)
    before, after = away[:, :, :-1], away[:, :, 1:]
    net.carry.copy_((before * after).sum(dim=(0, 1, 2)) / before.square().sum(dim=(0, 1, 2)))


def _optimizers(
    net: Seq2Seq, settings: TwinSettings
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.OneCycleLR]]:
    """Muon for the matrices of the hidden layers, AdamW for the rest, and a schedule each."""
    matrices = net.hidden_matrices()
    known = {id(matrix) for matrix in matrices}
    rest = [weight for weight in net.parameters() if id(weight) not in known]
    rates = [settings.matrix_learning_rate, settings.learning_rate]
    optimizers = [
        Muon(matrices, rates[0]),
        torch.optim.AdamW(rest, rates[1], weight_decay=settings.weight_decay, fused=True),
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=settings.steps, pct_start=0.15)
        for optimizer, rate in zip(optimizers, rates, strict=True)
    ]
    return optimizers, schedules


def _drawn_parts(weeks: int, settings: TwinSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The weeks whose days, and the treatments whose levels, one step scores."""
    written = torch.randperm(weeks, generator=generator)[: settings.written_weeks]
    active = CONTROL + 1 + torch.randperm(len(TREATMENTS) - 1, generator=generator)[: settings.weighed]
    return written, torch.cat([torch.tensor([CONTROL]), active])


@torch.no_grad()
def refit_level(net: Seq2Seq, courses: Courses, size: int) -> None:
    """Put the last, linear layers of the expected level where the squared error over ``courses`` is least.

    Short training leaves them short of that, and what strong responders do short of the truth; a regression on the last
    hidden layer, the base and the latest week is exact. The action taken counts as much as the five weighed.
    """
    c, treatments = len(net.low), torch.arange(len(TREATMENTS), device=net.low.device)
    moments, cross = torch.zeros(0), torch.zeros(0)
    for rows in torch.arange(len(courses)).split(size):
        part = courses.batch(rows.to(net.low.device))
        course = read(net, part)
        every = torch.cat([course.action.unsqueeze(2), weighed_actions(part, treatments)], dim=2)
        history, context, base, last = (
            x.unsqueeze(2) for x in (course.history, course.context, course.base, course.last)
        )
        hidden = net.level_hidden(history, base, last, every, context)  # (B, W, 1+A, head)
        bases, away = (x.expand(-1, -1, every.shape[2], -1) for x in (base, last - base))
        x = torch.cat([hidden, bases, away, torch.ones_like(bases[..., :1])], dim=-1).double()
        y = (torch.cat([part.level.unsqueeze(2), part.other_level], dim=2) - bases).double()
        weight = x.new_full((every.shape[2], 1), 1 / len(TREATMENTS))
        weight[0] = 1.0
        xw = (x * weight).flatten(0, 2)
        if not len(moments):
            moments, cross = x.new_zeros(x.shape[-1], x.shape[-1]), x.new_zeros(x.shape[-1], c)
        moments += xw.T @ x.flatten(0, 2)
        cross += xw.T @ y.flatten(0, 2)
    ridge = 1e-6 * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    solution = torch.linalg.solve(moments + ridge, cross).float()  # (head + 2C + 1, C)
    head = net.shape.head
    net.level_out.weight.copy_(solution[:head].T)
    net.level_linear.weight.copy_(solution[head:-1].T)
    net.level_linear.bias.copy_(solution[-1])
    net.level_out.bias.zero_()


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
    weeks, treatments = (torch.arange(n, device=between.device) for n in (courses.treatment.shape[1], len(TREATMENTS)))
    for rows in torch.arange(len(courses)).split(size):
        for name, value in course_losses(net, courses.batch(rows), between, weeks, treatments).items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(rows) / len(courses)
    return sums
