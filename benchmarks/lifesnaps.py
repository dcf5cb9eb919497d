"""Weeks of LifeSnaps: how near generated ones come to the persons trained on, and to persons never seen.

A seed is a split by person (and of the training, where everybody is trained on). Some twenty persons have complete weeks: intervals resample persons with all their weeks.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.candidates import PROFILES, REAL, RHYTHMS, Population, fitted
from benchmarks.scores import OURS, Scores
from core.cohort import Cohort
from generators.fusion import fuse
from generators.quality.records import Space, by_person
from generators.quality.rhythms import rhythm_quality, rhythm_statistics

RESAMPLES = 100
DRAWS = 20  # generated weeks beside each real one
PUBLISHED = 3000  # synthetic persons that the attacker holds
LOSSES = ("distribution_score", "day_signal_mean", "day_signal_min", "within_week_sd")  # 1 is best


def resampled(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of persons drawn with replacement, each with all weeks."""
    people = np.unique(person)
    return np.concatenate([np.flatnonzero(person == who) for who in rng.choice(people, len(people))])


def with_intervals(value: dict[str, float | None], draws: list[dict[str, float | None]]) -> Scores:
    """Values and their 95 % intervals from bootstrap draws.

    The draws are moved to centre on the value: people drawn twice make any two samples look less alike. The ends stay
    where the number can be.
    """
    scores: Scores = dict(value)
    for key, centre in value.items():
        drawn = [found for draw in draws if (found := draw[key]) is not None]
        if centre is None or not drawn:
            continue
        spread = np.quantile(drawn, [0.025, 0.5, 0.975])
        least = -1.0 if key.endswith("_loss") else 0.0
        ends = np.clip(centre + spread[[0, 2]] - spread[1], least, 1.0)
        scores[f"{key}_low"], scores[f"{key}_high"] = map(float, ends)
    return scores


def tiled(array: np.ndarray) -> np.ndarray:
    """Every row ``DRAWS`` times, the whole table after the other."""
    return np.tile(array, (DRAWS, *[1] * (array.ndim - 1)))


@cache
def together(p: Population) -> Population:
    """Everybody trained on: the held-out persons too."""
    parts = (p.train, p.holdout)
    everybody = Cohort(
        pd.concat([part.profiles for part in parts], ignore_index=True),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rhythms", "mask", "person")),
        p.train.signals,
    )
    return replace(p, train=everybody)


def score_trained_on(p: Population, name: str) -> Scores:
    """Everybody's observed days beside weeks drawn for their profiles; persons are resampled as pairs."""
    generator, seconds = fitted(RHYTHMS[name], together(p))
    train, rng = together(p).train, p.rng("trained on")
    fake = np.concatenate([generator.sample(train.profiles, p.rng("weeks", str(k))) for k in range(DRAWS)])
    real, seen, person = tiled(train.rhythms), tiled(train.mask), tiled(train.person)
    rows = [resampled(person, rng) for _ in range(RESAMPLES)]
    draws = [rhythm_statistics(fake[row], real[row], seen[row]) for row in rows]
    scores = with_intervals(rhythm_statistics(fake, real, seen), draws)
    whole = rhythm_quality(fake[: len(train)], train.rhythms, rng, train.mask)
    return scores | {
        "gru_discriminative": whole["gru_discriminative"],
        "c2st_auc": whole["c2st_auc"],
        "fit_seconds": seconds,
    }


def membership(p: Population, name: str) -> float:
    """AUC of calling those persons training persons of whom some week lies closest to a synthetic person."""
    profiles, rhythms = fitted(PROFILES[OURS], p)[0], fitted(RHYTHMS[name], p)[0]
    published = fuse(profiles, rhythms, PUBLISHED, p.train.signals, p.rng("published"))
    space = Space.fit(published, "whole")
    near = [by_person(space.nearest(published, cohort)[0][:, 0], cohort.person) for cohort in (p.train, p.holdout)]
    return float(roc_auc_score(np.repeat([1, 0], list(map(len, near))), -np.concatenate(near)))


def score_held_out(p: Population, name: str) -> Scores:
    """Weeks drawn for training profiles beside held-out persons', and how far below the training persons' own they stay.

    Row by row all three lose the days that either real week lacks. No classifier is trained here: with several weeks of
    a person on both sides of a fold it would recognise persons, and one week each are too few to learn from.
    """
    generator, _ = fitted(RHYTHMS[name], p)
    train, rng = p.train, p.rng("held out")
    real, mask, person = tiled(p.holdout.rhythms), tiled(p.holdout.mask), tiled(p.holdout.person)
    chosen = rng.integers(len(train), size=len(real))  # a training week beside each
    own, seen = train.rhythms[chosen], mask & train.mask[chosen]
    fake = own if name == REAL else generator.sample(train.profiles.iloc[chosen], p.rng("weeks"))
    rows = [resampled(person, rng) for _ in range(RESAMPLES)]
    draws = [beside(fake[row], own[row], real[row], seen[row]) for row in rows]
    scores = with_intervals(beside(fake, own, real, seen), draws)
    return scores if name == REAL else scores | {"membership_auc": membership(p, name)}


def beside(fake: np.ndarray, own: np.ndarray, real: np.ndarray, seen: np.ndarray) -> dict[str, float | None]:
    """Scores of ``fake`` against ``real``, and how far below those of training weeks they lie."""
    found, ceiling = rhythm_statistics(fake, real, seen), rhythm_statistics(own, real, seen)
    both = {key: (ceiling[key], found[key]) for key in LOSSES}
    return found | {f"{key}_loss": None if a is None or b is None else a - b for key, (a, b) in both.items()}


LIFESNAPS: dict[str, tuple[dict[str, Any], Callable[[Population, str], Scores]]] = {
    "trained on": ({name: fit for name, fit in RHYTHMS.items() if name != REAL}, score_trained_on),
    "held out": (RHYTHMS, score_held_out),
}
