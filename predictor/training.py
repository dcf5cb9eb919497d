"""Training the risk model: split by person, weighted cross-entropy, early stopping, then calibration."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import norm, rankdata
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.optim.swa_utils import get_ema_multi_avg_fn

from core.cohort import RISK_CLASSES, Cohort, require_classes
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import NumericalError
from core.protocols import Tracker
from core.random import numpy_generator, seeded_init, torch_generator
from core.signals import DAYS
from predictor.calibration import fit_temperature
from predictor.decision import threshold_for_recall
from predictor.dual_lstm import DualLSTMRisk, build, week_patterns
from predictor.metrics import auc
from predictor.settings import Recipe, RiskSettings
from predictor.split import split_by_person

FEWEST_DAYS = 2  # of a week that is not over yet, in training
HIGH = RISK_CLASSES.index("High")


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
    if validation is None:
        rows, held_rows = split_by_person(cohort, settings.validation_share, numpy_generator(seed, "risk", "split"))
        fit, held = cohort.select(rows), cohort.select(held_rows)
    else:
        rows, fit, held = np.arange(len(cohort)), cohort, validation
        for part, what in ((cohort, "risk training"), (validation, "risk validation")):
            require_classes(part, what)
    encoder, scaler = ProfileEncoder.fit(fit.profiles, hidden), WeekScaler.fit(fit)
    known = {name: np.asarray(values)[rows] for name, values in (concepts or {}).items()}
    targets = concept_targets(known, len(fit))
    candidates = [flags for flags in (False, True) if not known or flags == _are_flags(known)]
    shape = {name: getattr(settings, name) for name in ("width", "hidden", "layers", "dropout", "steps", "link")}
    best, best_loss, step = None, math.inf, 0
    for flags in candidates:
        count = len(known) or settings.unnamed_concepts
        model = build(encoder, scaler, cohort.signals, seed, **shape, concepts=count, flags=flags)
        fit_data, held_data = _tensors(model, fit), _tensors(model, held)
        standardise_patterns(model, *fit_data[1:3])
        weights = class_weights(fit_data[3], settings.class_weight_power)
        recipe = settings.sharp if flags else settings.graded
        with seeded_init(seed):  # dropout draws from torch's global stream: leave it as it was
            loss, step = descend(model, (*fit_data, targets), held_data, weights, settings, recipe, seed, tracker, step)
        if len(candidates) > 1:
            tracker.note(f"risk: as {'sharp' if flags else 'graded'} labels, validation loss {loss:.4f}")
        if loss < best_loss:
            best, best_loss = model, loss
    if best is None:
        raise NumericalError(
            f"risk: no candidate reached a finite validation loss in {step} steps; lower risk.graded.rate and risk.sharp.rate"
        )
    calibrate(best, held_data, -weights.log(), settings.target_recall)
    return best


def calibrate(model: DualLSTMRisk, held: tuple[Tensor, ...], bias: Tensor, recall: float) -> None:
    """Temperature and bias for each number of first days known, and the alarm threshold of a whole week.

    Args:
        held: features, weeks, masks and labels of persons the model was not fitted on.
        bias: ``[3]``, where every bias starts.
    """
    features, week, mask, labels = held
    day = torch.arange(DAYS)[:, None]
    with torch.no_grad():
        logits = [model.raw_logits(features, week, mask & (day < known)) for known in range(DAYS + 1)]
    fitted = [fit_temperature(each, labels, bias) for each in logits]
    model.temperature, model.bias = (torch.stack(parts) for parts in zip(*fitted, strict=True))
    with torch.no_grad():
        p_high = model.probabilities(features, week, mask)[:, HIGH].numpy()
    model.alarm = torch.tensor(threshold_for_recall(labels.numpy(), p_high, recall))


def _tensors(model: DualLSTMRisk, cohort: Cohort) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, weeks, masks and labels of a labelled cohort."""
    assert cohort.risk is not None, "label the cohort first"
    return (*model.inputs(cohort), torch.from_numpy(cohort.risk.astype(np.int64)))


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
    fit: tuple[Tensor, ...],
    held: tuple[Tensor, ...],
    weights: Tensor,
    settings: RiskSettings,
    recipe: Recipe,
    seed: int,
    tracker: Tracker,
    first: int,
) -> tuple[float, int]:
    """Minimise the loss of classes and concepts; leave the model with the averaged weights that validated best.

    Args:
        fit: features, weeks, masks, labels and concepts (``[N, 0]`` where there are none to learn).
        held: the first four of other persons.
        first: steps taken before, by other candidates.

    Returns:
        The lowest validation loss, and the steps taken in all.
    """
    generator = torch_generator(seed, "risk", "batches")
    averaged = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe, settings.weight_decay), fused=True)
    best, best_loss, waited, total, step = copy.deepcopy(averaged.state_dict()), math.inf, 0, 0.0, first
    stream = batches(len(fit[3]), recipe.batch_size, generator)
    for age in tracker.track(range(recipe.steps), "risk", recipe.steps):
        rows, step = next(stream), first + age + 1
        loss = batch_loss(model.train(), [tensor[rows] for tensor in fit], weights, settings, recipe, generator)
        if not torch.isfinite(loss):
            raise NumericalError(
                f"risk: loss is {loss.item()} at step {step}; lower risk.graded.rate or risk.sharp.rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * pace(age, recipe.steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
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
    batch: list[Tensor],
    weights: Tensor,
    settings: RiskSettings,
    recipe: Recipe,
    generator: torch.Generator,
) -> Tensor:
    """Weighted cross-entropy of the classes plus the concepts' loss, with parts of the weeks hidden."""
    features, week, mask, labels, targets = batch
    mask = hide_at_random(mask, recipe.missing_share, generator)
    concepts = model.network.concepts(features, model.scaler.scale(week), mask)
    loss = cross_entropy(model.network.classes(concepts), labels, weights)
    if not targets.shape[1]:
        return loss
    distance = binary_cross_entropy_with_logits if model.network.shape["flags"] else mse_loss
    return loss + settings.concept_weight * distance(concepts, targets)


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
def validate(model: DualLSTMRisk, held: tuple[Tensor, ...], weights: Tensor) -> tuple[float, float]:
    """Weighted cross-entropy and AUC of High on held-out persons."""
    features, week, mask, label = held
    logits = model.raw_logits(features, week, mask)
    score = torch.softmax(logits, -1)[:, HIGH].numpy()
    return cross_entropy(logits, label, weights).item(), auc(label.numpy() == HIGH, score)
