"""Training the risk model: split by person, weighted cross-entropy, early stopping, then calibration."""

import copy
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Len
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.cohort import RISK_CLASSES, Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import DataError, NumericalError
from core.protocols import Tracker
from core.random import numpy_generator, seeded_init, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from predictor.calibration import fit_temperature
from predictor.dual_lstm import DualLSTMRisk, build, week_patterns
from predictor.metrics import auc

HIGH = RISK_CLASSES.index("High")


@dataclass(frozen=True)
class RiskSettings:
    width: Count  # units of the profile branch and of the head
    hidden: Count  # units of each LSTM layer
    layers: Count  # stacked LSTM layers
    dropout: Fraction  # in both branches and the head
    steps: Count  # smooth steps along each pattern of the week
    indices: Count  # indices they add up to
    epochs: Count  # most passes over the fit persons; the learning rate decays along them
    batch_size: Count  # weeks per step
    learning_rates: Annotated[
        tuple[tuple[Positive, NonNegative], ...], Len(1)
    ]  # candidates: peak of branches and head, peak of the indices
    weight_decay: NonNegative  # decoupled
    average: Fraction  # decay per step of the weights' moving average, which is what is kept
    class_weight_power: (
        Fraction  # class weights = (inverse frequency) ** this; calibration undoes their effect on probabilities
    )
    validation_share: Fraction  # of persons, for early stopping and calibration
    patience: Count  # epochs without a better validation loss before stopping
    missing_share: Fraction  # share of weeks in training from which days or signals are hidden
    bootstrap: Count  # resamples of persons behind the 95 % intervals
    subgroups: dict[str, tuple[float, ...]]  # profile column -> edges of bands (none for a categorical column)
    subgroup_min_persons: Count  # a group with fewer is named and counted, without rates
    target_recall: Fraction  # share of High persons that the alarm threshold is chosen to find, on validation persons
    observed_days: tuple[Count, ...]  # early warning: how many days from Monday on are known


def split_by_person(cohort: Cohort, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows to validate on (about ``share`` of the persons), stratified; no person in both.

    A person with several weeks counts in the rarest class they have.

    Raises:
        DataError: a class has fewer than two persons, or ends up on one side only.
    """
    assert cohort.risk is not None, "label the cohort first"
    persons, index = np.unique(cohort.person, return_inverse=True)
    has = np.zeros((len(persons), len(RISK_CLASSES)), bool)
    has[index, cohort.risk] = True
    counts = has.sum(0)
    found = ", ".join(f"{name} {count}" for name, count in zip(RISK_CLASSES, counts, strict=True))
    if counts.min() < 2:
        name = RISK_CLASSES[int(counts.argmin())]
        raise DataError(
            f"risk: class '{name}' has {counts.min()} persons (found {found}), expected at least 2; "
            "choose other labels= or bring more persons"
        )
    rarest = np.where(has, counts, len(persons) + 1).argmin(1)
    held = np.zeros(len(persons), bool)
    for k in np.unique(rarest):
        members = rng.permutation(np.flatnonzero(rarest == k))
        held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    validation = held[index]
    for side, rows in (("fit", ~validation), ("validation", validation)):
        absent = set(range(len(RISK_CLASSES))) - set(cohort.risk[rows].tolist())
        if absent:
            raise DataError(
                f"risk: no {side} person has class '{RISK_CLASSES[min(absent)]}' after the split (persons: {found}); "
                "bring more persons or raise risk.validation_share"
            )
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def hide_at_random(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Hide parts of a ``share`` of the weeks ``[B, 7, C]``: whole days, single values, and now and then a signal."""
    b, days, c = mask.shape

    def chance(probability: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < probability

    hidden = chance(0.15, b, days, 1) | chance(0.1, b, days, c) | chance(0.1, b, 1, c)
    return mask & ~(hidden & chance(share, b, 1, 1))


def train_risk(
    cohort: Cohort, settings: RiskSettings, hidden: tuple[str, ...], seed: int, tracker: Tracker
) -> DualLSTMRisk:
    """A calibrated risk model of a labelled cohort.

    Labels come in two natures: graded ones (a questionnaire) that a gentle fit serves best, and sharp ones (rules) that
    need thresholds. One candidate is trained for each pair of learning rates, and the one with the lowest validation
    loss is kept.

    Args:
        hidden: profile columns the model must not see (the label's own inputs).

    Raises:
        DataError: a class has too few persons.
        NumericalError: the loss became non-finite.
    """
    fit, held = split_by_person(cohort, settings.validation_share, numpy_generator(seed, "risk", "split"))
    labels = torch.from_numpy(cohort.risk.astype(np.int64))  # type: ignore[union-attr]
    encoder = ProfileEncoder.fit(cohort.profiles.iloc[fit], hidden)
    scaler = WeekScaler.fit(cohort.select(fit))
    shape = {name: getattr(settings, name) for name in ("width", "hidden", "layers", "dropout", "steps", "indices")}
    best, best_loss, step = None, math.inf, 0
    for rates in settings.learning_rates:
        model = build(encoder, scaler, cohort.signals, seed, **shape)
        data = (*model.inputs(cohort), labels)
        fit_data = tuple(tensor[torch.from_numpy(fit)] for tensor in data)
        held_data = tuple(tensor[torch.from_numpy(held)] for tensor in data)
        standardise_patterns(model, *fit_data[1:3])
        weights = class_weights(fit_data[3], settings.class_weight_power)
        with seeded_init(seed):  # dropout draws from torch's global stream: leave it as it was
            loss, step = descend(model, fit_data, held_data, weights, settings, rates, seed, tracker, step)
        tracker.note(f"risk: learning rates {rates[0]:g} and {rates[1]:g} reach validation loss {loss:.4f}")
        if loss < best_loss:
            best, best_loss = model, loss
    if best is None:
        raise NumericalError(
            f"risk: no candidate reached a finite validation loss in {step} steps; lower risk.learning_rates"
        )
    with torch.inference_mode():
        logits = best.raw_logits(*held_data[:3])
    best.temperature, best.bias = fit_temperature(logits.clone(), held_data[3], -weights.log())
    return best


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
    rates: tuple[float, float],
    seed: int,
    tracker: Tracker,
    step: int,
) -> tuple[float, int]:
    """Minimise the weighted cross-entropy and leave the model with the averaged weights of its best epoch.

    Returns:
        The lowest validation loss, and ``step`` advanced by the steps taken.
    """
    generator = torch_generator(seed, "risk", "batches")
    averaged = copy.deepcopy(model).eval()
    index = list(model.network.patterns.parameters())
    others = [weight for name, weight in model.network.named_parameters() if not name.startswith("patterns.")]
    groups = [
        {"params": others, "peak": rates[0], "weight_decay": settings.weight_decay},
        {"params": index, "peak": rates[1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    n, steps = len(fit[3]), math.ceil(len(fit[3]) / settings.batch_size)
    best, best_loss, best_epoch, first = copy.deepcopy(averaged.state_dict()), math.inf, 0, step
    for epoch in tracker.track(range(settings.epochs), "risk", settings.epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(n, generator=generator).chunk(steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * pace(step - first, steps * settings.epochs)
            features, week, mask, label = (tensor[rows] for tensor in fit)
            mask = hide_at_random(mask, settings.missing_share, generator)
            loss = cross_entropy(model.raw_logits(features, week, mask), label, weights)
            if not torch.isfinite(loss):
                raise NumericalError(f"risk: loss is {loss.item()} at step {step}; lower risk.learning_rates")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            age = step - first
            decay = min(settings.average, (1 + age) / (10 + age))  # a short memory while the weights still move fast
            for mean, now in zip(averaged.parameters(), model.parameters(), strict=True):
                mean.data.lerp_(now.data, 1 - decay)
            step, total = step + 1, total + loss.item() * len(rows)
        loss_held, auc_held = validate(averaged, held, weights)
        tracker.scalar("risk/train_loss", total / n, step)
        tracker.scalar("risk/validation_loss", loss_held, step)
        tracker.scalar("risk/validation_auc_high", auc_held, step)
        tracker.scalar("risk/learning_rate", optimizer.param_groups[0]["lr"], step)
        if loss_held < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(averaged.state_dict()), loss_held, epoch
        if epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(best)
    model.eval()
    return best_loss, step


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
