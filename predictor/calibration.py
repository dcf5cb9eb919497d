"""Are the probabilities true? Temperature and bias, ECE, Brier score, reliability curve.

ECE here is *class-wise* (Kull et al. 2019, arXiv 1910.12656): for each class, persons are put in 15 bins of equal
width by its probability, and the mean gap between probability and frequency is averaged over the classes. The risk
score uses the whole vector, so calibrating only the winning class would not do.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.errors import NumericalError

BINS = 15
PRIOR_STRENGTH = 1.0  # pseudo-observations that hold temperature at 1 and bias at its start


def fit_temperature(logits: Tensor, labels: Tensor, bias: Tensor, fit_bias: bool = True) -> tuple[Tensor, Tensor]:
    """Temperature (scalar) and bias ``[3]`` that minimise cross-entropy of ``logits / T + bias`` on held-out persons.

    Args:
        logits: ``[N, 3]``.
        labels: int64 ``[N]``.
        bias: where the bias starts: ``-log w`` undoes training with class weights ``w`` exactly, in expectation.
        fit_bias: False keeps the bias at its start.

    Raises:
        NumericalError: the fit diverged.
    """
    logits = logits.detach().double()
    start = bias.double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros_like(start, requires_grad=True)
    free = [log_temperature, shift] if fit_bias else [log_temperature]
    optimizer = torch.optim.LBFGS(free, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(logits / log_temperature.exp() + start + shift, labels)
        loss = loss + PRIOR_STRENGTH * (log_temperature.square() + shift.square().sum()) / len(labels)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    temperature, fitted = log_temperature.detach().exp(), (start + shift.detach())
    if not (torch.isfinite(temperature) and torch.isfinite(fitted).all()):
        raise NumericalError(
            f"risk calibration: temperature {temperature.item()}, bias {fitted.tolist()}; check the labels"
        )
    return temperature.float(), (fitted - fitted.mean()).float()


def _bins(probability: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((probability * bins).astype(int), bins - 1)


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Class-wise expected calibration error of ``[N, K]`` probabilities."""
    gaps = []
    for k in range(probabilities.shape[1]):
        which = _bins(probabilities[:, k], bins)
        excess = np.bincount(which, (labels == k) - probabilities[:, k].astype(float), bins)
        gaps.append(np.abs(excess).sum() / len(labels))
    return float(np.mean(gaps))


def ece_floor(probabilities: np.ndarray, rng: np.random.Generator, draws: int = 100) -> float:
    """The ECE that perfectly calibrated probabilities would show on this many persons, by chance alone."""
    cumulative = probabilities.astype(float).cumsum(1)[:, :-1]
    uniform = rng.random((draws, len(probabilities), 1))
    return float(np.mean([ece((u > cumulative).sum(1), probabilities) for u in uniform]))


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Multi-class Brier score: mean over persons of the squared distance to the one-hot label, 0 (best) to 2."""
    return float(np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(1).mean())


def reliability_curve(
    labels: np.ndarray, probabilities: np.ndarray, klass: int, bins: int = BINS
) -> list[dict[str, float]]:
    """Points of one class's reliability plot: mean predicted probability, observed frequency, persons; empty bins left out."""
    which = _bins(probabilities[:, klass], bins)
    return [
        {
            "predicted": float(probabilities[which == b, klass].mean()),
            "observed": float((labels[which == b] == klass).mean()),
            "persons": int((which == b).sum()),
        }
        for b in np.unique(which)
    ]
