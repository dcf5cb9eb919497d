"""What the Twin's training minimises, over whole courses read with teacher forcing, also of the weeks' levels:

    nll       of the seven days given the days before and the level (clipped Gaussian), per day and signal
    level_nll of the level that came, per signal, under the action taken and under each one weighed
    level     squared error of the expected level, likewise
    effect    squared error of the expected level's difference from Control, for the same history
    adverse   cross-entropy of adverse events, likewise

Level and effect are in between-person sd.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.signals import DAYS
from intervention.courses import Courses
from intervention.record import action_features
from intervention.seq2seq import Seq2Seq, attend, clipped_nll


class Reading(NamedTuple):
    """What a network has read of courses before each week: the action then taken ``[B, W, ACTION]``, ``base`` and
    ``last`` week's level ``[B, W, C]``, history ``[B, W, K]``, what the level attended to ``[B, W, D]``, the memory of all
    days ``[B, W*7, D]`` and which of them are past ``[W, W*7]``."""

    action: Tensor
    base: Tensor
    last: Tensor
    history: Tensor
    context: Tensor
    memory: Tensor
    past: Tensor


def read(net: Seq2Seq, courses: Courses) -> Reading:
    """All weeks of all courses at once, each knowing its past alone."""
    w = courses.treatment.shape[1]
    base = courses.weeks[:, 0].mean(dim=1)
    person, _ = net.read_person(courses.features, courses.weeks[:, 0])
    action = action_features(courses.treatment, courses.intensity, courses.before)
    # what the encoder has read before week w: the baseline week without treatment, then weeks 1..w-1
    lived = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], dim=1)
    suffered = torch.cat([torch.zeros_like(courses.adverse[:, :1]), courses.adverse[:, :-1]], dim=1)
    last, first = courses.weeks[:, :-1].mean(dim=2), net.first_state(person)
    hidden, memory, _ = net.read_courses(courses.weeks[:, :-1], base, courses.traces, lived, suffered, first)
    persons, bases = (x.unsqueeze(1).expand(-1, w, -1) for x in (person, base))
    history = net.history(hidden, persons, courses.record)
    week = torch.arange(w, device=memory.device)
    past = week.repeat_interleave(DAYS) <= week[:, None]
    return Reading(action, bases, last, history, attend(net.level_query(history), memory, past), memory, past)


def course_losses(
    net: Seq2Seq, courses: Courses, between: Tensor, written: Tensor, weighed: Tensor
) -> dict[str, Tensor]:
    """The losses of a batch of courses; ``between`` ``[C]`` is the between-person sd in z, ``written`` int64 the weeks
    (0..W-1) of which every day is scored, ``weighed`` int64 the treatments weighed beside the one taken, Control first."""
    course = read(net, courses)
    action, told, context = course.action, course.history.unsqueeze(2), course.context.unsqueeze(2)
    # the action taken and those weighed, side by side: (B, W, 1+V, .)
    every = torch.cat([action.unsqueeze(2), weighed_actions(courses, weighed)], dim=2)
    levels = net.level(told, course.base.unsqueeze(2), course.last.unsqueeze(2), every, context)
    target = torch.cat([courses.level.unsqueeze(2), courses.other_level[:, :, weighed]], dim=2)
    off = ((levels - target) / between).square().mean(dim=(0, 1, 3))  # (1+V,)
    moved = (levels - levels[:, :, 1:2])[:, :, 2:], (target - target[:, :, 1:2])[:, :, 2:]  # against Control

    events = torch.cat([courses.adverse.unsqueeze(2), courses.other_adverse[:, :, weighed]], dim=2).float()
    logit = net.adverse_logit(told, every)
    # the expected level is fitted free of noise above, so the law may not pull at it
    law = net.level_law(told, every, context, levels.detach(), events - torch.sigmoid(logit.detach()))
    came = torch.cat([courses.true_level.unsqueeze(2), courses.other_true_level[:, :, weighed]], dim=2)
    level_nll = law.nll(came).mean(dim=(0, 1)) / len(between)  # (1+V,)
    return {
        "nll": _days_nll(net, courses, course, levels[:, :, 0].detach(), written),
        "level_nll": 0.5 * (level_nll[0] + level_nll[1:].mean()),
        "level": 0.5 * (off[0] + off[1:].mean()),
        "effect": ((moved[0] - moved[1]) / between).square().mean(),
        "adverse": F.binary_cross_entropy_with_logits(logit, events),
    }


def weighed_actions(courses: Courses, weighed: Tensor) -> Tensor:
    """The treatments ``weighed`` at the intensity each was weighed at ``[B, W, V, ACTION]``."""
    intensity = courses.other_intensity[:, :, weighed]
    return action_features(weighed.expand(intensity.shape), intensity, courses.before.unsqueeze(-1))


def _days_nll(net: Seq2Seq, courses: Courses, course: Reading, expected: Tensor, written: Tensor) -> Tensor:
    """Mean negative log-likelihood of the days of the weeks ``written``, given the days before and the week's level;
    ``expected`` ``[B, W, C]`` is the level expected before each week."""
    history, action = course.history[:, written], course.action[:, written]
    memory, read = course.memory, course.past[written].repeat_interleave(DAYS, dim=0)
    contexts = attend(net.day_queries(history, action).flatten(1, 2), memory, read)
    contexts = contexts.unflatten(1, (len(written), DAYS)).flatten(0, 1)  # (B*V, 7, D)
    start = net.begin_week(*(x.flatten(0, 1) for x in (history, action, courses.adverse[:, written])))
    true = courses.weeks[:, 1 + written].flatten(0, 1)  # (B*V, 7, C)
    previous = torch.cat([courses.weeks[:, written, -1:].flatten(0, 1), true[:, :-1]], dim=1)
    level, foreseen = (x[:, written].flatten(0, 1) for x in (courses.true_level, expected))
    mean, sd = net.write_forced(start, contexts, level, foreseen, previous)
    bounds = courses.at_low[:, written].flatten(0, 1), courses.at_high[:, written].flatten(0, 1)
    return clipped_nll(net.innovations(true, mean, sd), sd, *bounds).mean()
