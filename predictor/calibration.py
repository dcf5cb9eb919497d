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
from predictor.resampling import Bootstrap, ratio, sample_alone

BINS = 15
PRIOR_STRENGTH = 1.0  # pseudo-observations that hold temperature at 1 and bias at its start


def fit_temperature(logits: Tensor, labels: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Temperature (scalar) and bias ``[3]`` that minimise cross-entropy of ``logits / T + bias`` on held-out persons.

    Args:
        logits: ``[N, 3]``.
        labels: int64 ``[N]``.
        bias: where the bias starts: ``-log w`` undoes training with class weights ``w`` exactly, in expectation.

    Raises:
        NumericalError: the fit diverged.
    """
    logits = logits.detach().double()
    start = bias.double()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature, shift], max_iter=100, line_search_fn="strong_wolfe")

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


def calibration_draws(
    labels: np.ndarray, probabilities: np.ndarray, bootstrap: Bootstrap, bins: int = BINS
) -> dict[str, np.ndarray]:
    """:func:`ece` and :func:`ece_debiased` in the sample and every resample, ``[1 + R]`` each.

    A resample is noisier than the sample, and ECE grows with noise: its resamples are moved so that their mean is the
    sample's value. The squared debiased error leaves out pairs of one person, copies included, so that its resamples
    are centred; but they take the sample's own noise for a gap and scatter too far, up to sqrt(3) times for calibrated
    probabilities. They are drawn together by the ratio of the standard deviations that theory gives.
    """
    each, rows = _by_person_and_bin(labels, probabilities, bootstrap, bins)
    weights, squares = bootstrap.weights, bootstrap.weights**2
    gap, noise = weights @ each, squares @ each**2  # (1 + R, bins): gap squared holds the noise once, in expectation
    size, pairs = weights @ rows, (weights @ rows) ** 2 - squares @ rows**2
    n = size.sum(1)  # the rows, once for every class
    plain = ratio(np.abs(gap).sum(1), n)
    share = np.divide(size, pairs, out=np.zeros_like(size), where=pairs > 1e-6)
    squared = ratio((share * (gap**2 - noise)).sum(1), n)
    if len(plain) > 1:
        plain[1:] = np.maximum(plain[1:] - np.nanmean(plain[1:]) + plain[0], 0)
        by_noise, by_gap, by_both = (
            (share[0] ** 2 * noise[0] * part).sum()
            for part in (2 * noise[0], 4 * (gap[0] ** 2 - noise[0]), 4 * gap[0] ** 2)
        )
        if by_noise > 0:
            shrink = np.sqrt((by_noise + max(by_gap, 0.0)) / (by_noise + by_both))
            squared[1:] = squared[0] + shrink * (squared[1:] - squared[0])
    return {"ece": plain, "ece_debiased": np.sign(squared) * np.sqrt(np.abs(squared))}


def _by_person_and_bin(
    labels: np.ndarray, probabilities: np.ndarray, bootstrap: Bootstrap, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """What each person adds to the excess of labels over probability, and to the rows, of every bin in use: ``[P, used]``.

    The classes' bins stand one class after another.
    """
    persons, k = bootstrap.weights.shape[1], probabilities.shape[1]
    cell = np.concatenate([_bins(probabilities[:, i], bins) + i * bins for i in range(k)])
    excess = ((labels[:, None] == np.arange(k)) - probabilities.astype(float)).T.ravel()
    where = np.tile(bootstrap.person, k) * (k * bins) + cell
    each, rows = (
        np.bincount(where, weight, persons * k * bins).reshape(persons, -1) for weight in (excess, np.ones(len(where)))
    )
    used = rows.any(0)
    return each[:, used], rows[:, used]


def ece(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Class-wise expected calibration error of ``[N, K]`` probabilities."""
    return float(calibration_draws(labels, probabilities, sample_alone(len(labels)), bins)["ece"][0])


def ece_debiased(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Root-mean-square class-wise calibration error of ``[N, K]`` probabilities, free of what chance adds.

    In each bin the squared mean gap is estimated by the product of gaps of two different persons, whose expectation is
    exact for any number of persons (after Kumar et al. 2019, arXiv 1909.10155); then the mean over bins by size and
    over classes. The root keeps the sign: calibrated probabilities score around 0, by chance on either side of it.

    With planted errors of .034 and .074 it gives .032 and .073 on 2,000 persons, .025 and .072 on 500; ECE less its
    floor, which is right for calibrated probabilities, halves a real error of .029 to .014 on 2,000. Its 95 % interval
    held the truth in 87 to 98 % of samples, least on 500 persons.
    """
    return float(calibration_draws(labels, probabilities, sample_alone(len(labels)), bins)["ece_debiased"][0])


def ece_floor(probabilities: np.ndarray, rng: np.random.Generator, draws: int = 100, bins: int = BINS) -> float:
    """The ECE that perfectly calibrated probabilities would show on this many persons, by chance alone."""
    n, k = probabilities.shape
    cumulative = probabilities.astype(float).cumsum(1)
    uniform = rng.random((draws, n))
    labels = sum((uniform > cumulative[:, i]).astype(np.int8) for i in range(k - 1))  # (draws, N)
    gaps = 0.0
    for i in range(k):
        where = _bins(probabilities[:, i], bins) + bins * np.arange(draws)[:, None]
        excess = (labels == i) - probabilities[:, i].astype(float)
        gaps += np.abs(np.bincount(where.ravel(), excess.ravel(), bins * draws)).sum()
    return float(gaps / (draws * n * k))


def squared_error(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance of each row's probabilities ``[N, K]`` to its one-hot label: ``[N]``."""
    return np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(1)


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Multi-class Brier score: mean over persons of the squared distance to the one-hot label, 0 (best) to 2."""
    return float(squared_error(labels, probabilities).mean())


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
