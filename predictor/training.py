"""Training the risk model: split by person, weighted cross-entropy, early stopping, then calibration."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import norm, rankdata
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.cohort import RISK_CLASSES, Cohort, require_classes
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import NumericalError
from core.gradients import clip
from core.protocols import Tracker
from core.random import numpy_generator, seeded_init, torch_generator
from core.signals import DAYS
from predictor.calibration import fit_temperature
from predictor.decision import threshold_for_recall
from predictor.dual_lstm import DualLSTMRisk, build, days_observed, week_patterns
from predictor.metrics import HIGH, auc
from predictor.settings import Recipe, RiskSettings
from predictor.split import split_by_person

FEWEST_DAYS = 2  # of a week that is not over yet, in training


class Persons(NamedTuple):
    """What a model reads of N rows, and what it is to learn."""

    features: Tensor  # [N, P]
    week: Tensor  # [N, 7, C], physical units
    mask: Tensor  # bool [N, 7, C]
    labels: Tensor  # int64 [N]
    concepts: Tensor  # [N, K]; [N, 0] where there are none to learn

    def at(self, rows: Tensor) -> "Persons":
        return Persons(*(tensor[rows] for tensor in self))


def hide_at_random(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Hide parts of a ``share`` of the weeks ``[B, 7, C]``: whole days, single values, now and then a signal, and in
    one of three such weeks all that comes after some day, as when a week is not over yet."""
    b, days, c = mask.shape

    def chance(probability: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < probability

    last = torch.randint(FEWEST_DAYS, days, (b, 1, 1), generator=generator)
    still_to_come = (torch.arange(days)[None, :, None] >= last) & chance(1 / 3, b, 1, 1)
    hidden = chance(0.15, b, days, 1) | chance(0.1, b, days, c) | chance(0.1, b, 1, c) | still_to_come
    return mask & ~(hidden & chance(share, b, 1, 1))


def train_risk(
    cohort: Cohort,
    settings: RiskSettings,
    hidden: tuple[str, ...],
    seed: int,
    tracker: Tracker,
    concepts: Mapping[str, np.ndarray] | None = None,
    validation: Cohort | None = None,
) -> DualLSTMRisk:
    """A calibrated risk model of a labelled cohort, with its alarm threshold.

    Labels come in two natures: graded ones (a questionnaire) that a gentle fit serves best, and sharp ones (rules) that
    need thresholds. The concepts tell which; without them both are tried, and the lower validation loss is kept.

    Args:
        hidden: profile columns the model must not see (the label's own inputs).
        concepts: what the label of each row is computed from, by name: scores (float ``[N]``) or flags (bool ``[N]``).
            Targets to learn from, never inputs.
        validation: persons who stop the training, calibrate and set the alarm; without them, a share of the cohort's.

    Raises:
        DataError: a class has too few persons, or is absent from the validation persons.
        NumericalError: the loss became non-finite.
    """
    rows, held = fit_and_validation(cohort, settings.validation_share, seed, validation)
    fit = cohort.select(rows)
    encoder, scaler = ProfileEncoder.fit(fit.profiles, hidden), WeekScaler.fit(fit)
    known = {name: np.asarray(values)[rows] for name, values in (concepts or {}).items()}
    shape = {name: getattr(settings, name) for name in ("width", "hidden", "layers", "dropout", "steps", "link")}
    shape["concepts"] = len(known) or settings.unnamed_concepts
    natures = (_are_flags(known),) if known else (False, True)
    models = [build(encoder, scaler, cohort.signals, seed, **shape, flags=flags) for flags in natures]
    fitted, validating = persons(models[0], fit, concept_targets(known, len(fit))), persons(models[0], held)
    weights = class_weights(fitted.labels, settings.class_weight_power)
    losses, step = [], 0
    for model, flags in zip(models, natures, strict=True):
        standardise_patterns(model, fitted.week, fitted.mask)
        recipe = settings.sharp if flags else settings.graded
        with seeded_init(seed):  # dropout draws from torch's global stream: leave it as it was
            loss, step = descend(model, fitted, validating, weights, settings, recipe, seed, tracker, step)
        losses.append(loss)
        if not known:
            tracker.note(f"risk: as {'sharp' if flags else 'graded'} labels, validation loss {loss:.4f}")
    if not math.isfinite(min(losses)):
        raise NumericalError(
            f"risk: no candidate reached a finite validation loss in {step} steps; lower risk.graded.rate and risk.sharp.rate"
        )
    best = models[int(np.argmin(losses))]
    calibrate(best, validating, -weights.log(), settings.target_recall)
    return best


def fit_and_validation(cohort: Cohort, share: float, seed: int, validation: Cohort | None) -> tuple[np.ndarray, Cohort]:
    """Rows of the cohort to fit on, and the persons to validate on: ``validation``, or a ``share`` of the cohort's.

    Raises:
        DataError: a class has too few persons, or is absent on one side.
    """
    if validation is None:
        rows, held = split_by_person(cohort, share, numpy_generator(seed, "risk", "split"))
        return rows, cohort.select(held)
    require_classes(cohort, "risk training")
    require_classes(validation, "risk validation")
    return np.arange(len(cohort)), validation


def persons(model: DualLSTMRisk, cohort: Cohort, targets: Tensor | None = None) -> Persons:
    """A labelled cohort as the model reads it, with what its concepts are to be, where that is to be learned."""
    assert cohort.risk is not None, "label the cohort first"
    labels = torch.from_numpy(cohort.risk.astype(np.int64))
    return Persons(*model.inputs(cohort), labels, torch.empty(len(cohort), 0) if targets is None else targets)


def calibrate(model: DualLSTMRisk, held: Persons, bias: Tensor, recall: float) -> None:
    """Temperature and bias for each number of observed days, and the alarm threshold of the weeks as they are.

    Each pair is fitted on every person once, with as many of their first days known as come nearest to its number: all
    of a week in which days are missing is a week of fewer days.

    Args:
        held: persons the model was not fitted on.
        bias: ``[3]``, where every bias starts.
    """
    day = torch.arange(DAYS)[:, None]
    known = [held.mask & (day < first) for first in range(DAYS + 1)]
    with torch.no_grad():
        logits = torch.stack([model.raw_logits(held.features, held.week, mask) for mask in known])  # (8, N, 3)
    observed = torch.stack([days_observed(mask) for mask in known])  # (8, N)
    rows = torch.arange(len(held.labels))
    nearest = [(observed - days).abs().argmin(0) for days in range(DAYS + 1)]
    fitted = [fit_temperature(logits[first, rows], held.labels, bias) for first in nearest]
    model.temperature, model.bias = (torch.stack(parts) for parts in zip(*fitted, strict=True))
    with torch.no_grad():
        p_high = model.probabilities(held.features, held.week, held.mask)[:, HIGH].numpy()
    model.alarm = torch.tensor(threshold_for_recall(held.labels.numpy(), p_high, recall))


def _are_flags(concepts: Mapping[str, np.ndarray]) -> bool:
    return all(values.dtype == bool for values in concepts.values())


def concept_targets(concepts: Mapping[str, np.ndarray], rows: int) -> Tensor:
    """``[N, K]``: flags as 0 and 1; scores as normal scores of their ranks, so that skew and units do not matter."""
    flags = _are_flags(concepts)
    columns = [values if flags else norm.ppf((rankdata(values) - 0.5) / rows) for values in concepts.values()]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)) if columns else torch.empty(rows, 0)


def standardise_patterns(model: DualLSTMRisk, week: Tensor, mask: Tensor) -> None:
    """Let each pattern of the week have mean 0 and sd 1 over the fit persons."""
    patterns = week_patterns(model.scaler.scale(week), mask)
    model.network.patterns.centre = patterns.mean(0)
    model.network.patterns.scale = patterns.std(0).clamp(min=1e-3)


def class_weights(labels: Tensor, power: float) -> Tensor:
    """``(inverse frequency) ** power`` per class, with mean 1 over the labels: ``[3]``."""
    counts = torch.bincount(labels, minlength=len(RISK_CLASSES)).float()
    weights = (counts.sum() / counts) ** power
    return weights * counts.sum() / (weights * counts).sum()


def descend(
    model: DualLSTMRisk,
    fit: Persons,
    held: Persons,
    weights: Tensor,
    settings: RiskSettings,
    recipe: Recipe,
    seed: int,
    tracker: Tracker,
    first: int,
) -> tuple[float, int]:
    """Minimise the loss of classes and concepts; leave the model with the averaged weights that validated best.

    Args:
        held: others, who say when to stop.
        first: steps taken before, by other candidates.

    Returns:
        The lowest validation loss, and the steps taken in all.
    """
    generator = torch_generator(seed, "risk", "batches")
    averaged = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe, settings.weight_decay), fused=True)
    best, best_loss, waited, total, step = copy.deepcopy(averaged.state_dict()), math.inf, 0, 0.0, first
    stream = batches(len(fit.labels), recipe.batch_size, generator)
    for age in tracker.track(range(recipe.steps), "risk", recipe.steps):
        rows, step = next(stream), first + age + 1
        loss = batch_loss(model.train(), fit.at(rows), weights, settings, recipe, generator)
        if not torch.isfinite(loss):
            raise NumericalError(
                f"risk: loss is {loss.item()} at step {step}; lower risk.graded.rate or risk.sharp.rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * pace(age, recipe.steps)
        optimizer.zero_grad()
        loss.backward()
        clip(model.parameters(), 1.0, f"risk, step {step}", "risk.graded.rate or risk.sharp.rate")
        optimizer.step()
        follow(averaged, model, min(settings.average, (1 + age) / (10 + age)))  # a short memory while weights move fast
        total += loss.item()
        if (age + 1) % settings.validate_every and age + 1 < recipe.steps:
            continue
        loss_held, auc_held = validate(averaged, held, weights)
        tracker.scalar("risk/train_loss", total / (age % settings.validate_every + 1), step)
        tracker.scalar("risk/validation_loss", loss_held, step)
        tracker.scalar("risk/validation_auc_high", auc_held, step)
        tracker.scalar("risk/learning_rate", optimizer.param_groups[0]["lr"], step)
        total, waited = 0.0, waited + 1
        if loss_held < best_loss:
            best, best_loss, waited = copy.deepcopy(averaged.state_dict()), loss_held, 0
        if waited >= settings.patience:
            break
    model.load_state_dict(best)
    model.eval()
    return best_loss, step


def batch_loss(
    model: DualLSTMRisk,
    batch: Persons,
    weights: Tensor,
    settings: RiskSettings,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """Weighted cross-entropy of the classes plus the concepts' loss, with parts of the weeks hidden."""
    mask = hide_at_random(batch.mask, recipe.missing_share, generator)
    concepts = model.network.concepts(batch.features, model.scaler.scale(batch.week), mask)
    loss = cross_entropy(model.network.classes(concepts), batch.labels, weights)
    if not batch.concepts.shape[1]:
        return loss
    distance = binary_cross_entropy_with_logits if model.network.shape["flags"] else mse_loss
    return loss + settings.concept_weight * distance(concepts, batch.concepts)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of one batch after another, without end; every pass takes each of the ``n`` rows once, in a new order."""
    while True:
        yield from torch.randperm(n, generator=generator).chunk(math.ceil(n / size))


def _parameter_groups(model: DualLSTMRisk, recipe: Recipe, weight_decay: float) -> list[dict[str, Any]]:
    """Branches and head; steps, which share their learning rate with the link where they are trained at all."""
    fast = ("patterns.", "link.") if recipe.steps_rate else ("patterns.",)
    named = list(model.network.named_parameters())
    slow = [weight for name, weight in named if not name.startswith(fast)]
    steps = [weight for name, weight in named if name.startswith(fast)]
    return [
        {"params": slow, "peak": recipe.rate, "weight_decay": weight_decay},
        {"params": steps, "peak": recipe.steps_rate, "weight_decay": 0.0},
    ]


@torch.no_grad()
def follow(averaged: DualLSTMRisk, model: DualLSTMRisk, decay: float) -> None:
    """Move the averaged weights towards the model's by ``1 - decay``."""
    get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(model.parameters()), 0)


def pace(step: int, total: int) -> float:
    """Share of the peak learning rate: a linear warm-up over the first 5 % of the steps, then a cosine to 0."""
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@torch.inference_mode()
def validate(model: DualLSTMRisk, held: Persons, weights: Tensor) -> tuple[float, float]:
    """Weighted cross-entropy and AUC of High on validation persons."""
    logits = model.raw_logits(held.features, held.week, held.mask)
    score = torch.softmax(logits, -1)[:, HIGH].numpy()
    return cross_entropy(logits, held.labels, weights).item(), auc(held.labels.numpy() == HIGH, score)
