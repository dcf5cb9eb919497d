"""Weeks of LifeSnaps: how near generated ones come to the persons trained on, and to persons never seen.

A seed is a split by person. Some twenty persons have complete weeks: intervals resample persons with all their weeks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from benchmarks.candidates import REAL, RHYTHMS, Population, fitted
from benchmarks.scores import Scores
from core.cohort import Cohort
from generators.quality.records import Space, by_person
from generators.quality.rhythms import (
    cross_correlations,
    intraclass_correlations,
    lag1_correlations,
    rhythm_quality,
)

RESAMPLES = 100
LOSSES = ("distribution_score", "day_signal_mean", "day_signal_min", "within_week_sd")  # 1 is best


def statistics(fake: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The numbers of ``rhythm_quality`` that train no classifier, on all weeks of both sides."""
    n, m = len(fake), len(real)
    days = overlap(fake.reshape(n, -1), real.reshape(m, -1))
    errors = {
        "cross_correlation_error": cross_correlations,
        "lag1_error": lag1_correlations,
        "icc_error": intraclass_correlations,
    }
    return {
        "distribution_score": float(overlap(fake.mean(1), real.mean(1)).mean()),
        "day_signal_mean": float(days.mean()),
        "day_signal_min": float(days.min()),
        "within_week_sd": float(overlap(fake.std(1, ddof=1), real.std(1, ddof=1)).mean()),
        **{name: float(np.abs(of(fake) - of(real)).mean()) for name, of in errors.items()},
    }


def overlap(fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """1 - Kolmogorov-Smirnov distance of each column."""
    return np.array([1 - ks_2samp(fake[:, k], real[:, k], method="asymp").statistic for k in range(real.shape[1])])


def resampled(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of persons drawn with replacement, each with all weeks."""
    people = np.unique(person)
    return np.concatenate([np.flatnonzero(person == who) for who in rng.choice(people, len(people))])


def with_intervals(value: dict[str, float], draws: list[dict[str, float]]) -> Scores:
    """Values and their 95 % intervals from bootstrap draws.

    The draws are moved to centre on the value: people drawn twice make any two samples look less alike.
    """
    scores: Scores = dict(value)
    for key in value:
        spread = np.quantile([draw[key] for draw in draws], [0.025, 0.5, 0.975])
        scores[f"{key}_low"], scores[f"{key}_high"] = (float(value[key] + end - spread[1]) for end in spread[[0, 2]])
    return scores


def score_trained_on(p: Population, name: str) -> Scores:
    """All weeks of the training persons beside the weeks drawn for their profiles; persons are resampled as pairs."""
    generator, seconds = fitted(RHYTHMS[name], p)
    fake, real = generator.sample(p.train.profiles, p.rng("weeks")), p.train.rhythms.astype(float)
    rng = p.rng("trained on")
    rows = [resampled(p.train.person, rng) for _ in range(RESAMPLES)]
    scores = with_intervals(statistics(fake, real), [statistics(fake[row], real[row]) for row in rows])
    whole = rhythm_quality(fake, real, rng)
    return scores | {
        "gru_discriminative": whole["gru_discriminative"],
        "c2st_auc": whole["c2st_auc"],
        "membership_auc": membership(fake, p),
        "fit_seconds": seconds,
    }


def membership(fake: np.ndarray, p: Population) -> float:
    """AUC of calling those persons training persons of whom some week lies closest to a drawn one, day by day."""
    drawn = Cohort(p.train.profiles, fake, np.ones(fake.shape, bool), p.train.person, p.train.signals)
    space = Space.fit(drawn, "week")
    near = [by_person(space.nearest(drawn, cohort)[0][:, 0], cohort.person) for cohort in (p.train, p.holdout)]
    return float(roc_auc_score(np.repeat([1, 0], list(map(len, near))), -np.concatenate(near)))


def score_held_out(p: Population, name: str) -> Scores:
    """The same weeks beside held-out persons' ones, and how far below the training persons' own weeks they stay."""
    generator, _ = fitted(RHYTHMS[name], p)
    fake, seen, real = generator.sample(p.train.profiles, p.rng("weeks")), p.train.rhythms, p.holdout.rhythms
    rng = p.rng("held out")
    rows = [resampled(p.holdout.person, rng) for _ in range(RESAMPLES)]
    draws = [beside(statistics(fake, real[row]), statistics(seen, real[row])) for row in rows]
    scores = with_intervals(beside(statistics(fake, real), statistics(seen, real)), draws)
    whole = rhythm_quality(fake, real, rng)
    return scores | {"gru_discriminative": whole["gru_discriminative"], "c2st_auc": whole["c2st_auc"]}


def beside(fake: dict[str, float], ceiling: dict[str, float]) -> dict[str, float]:
    return fake | {f"{key}_loss": ceiling[key] - fake[key] for key in LOSSES}


LIFESNAPS: dict[str, tuple[dict[str, Any], Callable[[Population, str], Scores]]] = {
    "trained on": ({name: fit for name, fit in RHYTHMS.items() if name != REAL}, score_trained_on),
    "held out": (RHYTHMS, score_held_out),
}
