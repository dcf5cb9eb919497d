"""Weeks of persons of whom a table reports no days, only a usual level or a questionnaire: the reference dynamics around it.

In the reference population a person's latents g and levels l are one Gaussian, given the profile x::

    g = m(x) + noise,  noise ~ N(0, G)          l = mu(x) + C' g + noise,  noise ~ N(0, D)

    [g]   ( [    m     ]   [  G       G C    ] )
    [l] ~ N( [mu + C' m ] , [C' G   C' G C + D] )

What the table reports (some latents through their scores, some levels) is the condition; what it does not is drawn from
the rest of that Gaussian; x where unknown is a person's drawn from the population. The days then are
``level + weekend + sd r^exponent VAR(1)`` as everywhere in :mod:`generators.sources.reference`. Such weeks carry what the
table says of the level and what the model says of the days: nothing can be learned from them about real days. Their mask
is True, since False means "filled, do not train on it" downstream; that nothing was observed is the source's to say
(``simulates_weeks``), and the stage records it as ``observed_share`` 0.
"""

import numpy as np
import pandas as pd

from core.protocols import Tracker
from core.signals import DAYS
from generators.sources.reference import (
    Population,
    days_around,
    distress_covariance,
    distress_mean,
    level_mean,
    sample_irregularity,
    sample_visible,
)

RHYTHMS = "reference dynamics around the reported level"
_CHUNK = 50_000  # weeks drawn at once, so that memory stays bounded


def simulated_weeks(
    p: Population,
    traits: pd.DataFrame,
    latents: np.ndarray,
    levels: np.ndarray,
    person: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """One simulated week for each entry of ``person``: float32 ``[M, 7, 4]``, the default signals.

    Args:
        traits: N rows; those columns of the reference population that are known, NaN where they are not.
        latents: ``[N, 3]`` depression, anxiety, stress; NaN where unknown.
        levels: ``[N, 4]`` usual level of each default signal in its unit; NaN where unknown.
        person: int64 ``[M]``, the row of each week's person.
    """
    x = sample_visible(p, len(traits), rng)
    x = x.assign(**{str(column): traits[column].where(traits[column].notna(), x[column]) for column in traits})
    both = conditional_draw(*_joint(p, x), np.concatenate([latents, levels], axis=1), rng)
    log_r = sample_irregularity(p, both[:, :3], rng)
    weeks = np.empty((len(person), DAYS, levels.shape[1]), np.float32)
    for start in range(0, len(person), _CHUNK):
        rows = person[start : start + _CHUNK]
        weeks[start : start + _CHUNK] = days_around(p, both[rows, 3:], log_r[rows], DAYS, rng)
    return weeks


def _joint(p: Population, x: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[N, 7]`` and covariance ``[7, 7]`` of latents and levels given the profile."""
    m, g, loading = distress_mean(p, x), distress_covariance(p), np.array(p.level_distress)  # loading: C, (3, 4)
    cross = g @ loading
    covariance = np.block([[g, cross], [cross.T, loading.T @ cross + np.diag(np.square(p.level_sd))]])
    return np.concatenate([m, level_mean(p, x) + m @ loading], axis=1), covariance


def conditional_draw(
    mean: np.ndarray, covariance: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rows of N(``mean`` [N, d], ``covariance`` [d, d]) given the finite entries of ``known`` [N, d], which are kept."""
    drawn, noise = known.copy(), rng.standard_normal(known.shape)
    patterns, which = np.unique(np.isnan(known), axis=0, return_inverse=True)
    for index, u in enumerate(patterns):  # u: what is unknown in these rows
        rows, k = np.flatnonzero(which.reshape(-1) == index), ~u
        if not u.any():
            continue
        gain = np.linalg.solve(covariance[np.ix_(k, k)], covariance[np.ix_(k, u)])  # (known, unknown)
        rest = covariance[np.ix_(u, u)] - covariance[np.ix_(u, k)] @ gain
        expected = mean[np.ix_(rows, u)] + (known[np.ix_(rows, k)] - mean[np.ix_(rows, k)]) @ gain
        drawn[np.ix_(rows, u)] = expected + noise[np.ix_(rows, u)] @ np.linalg.cholesky(rest).T
    return drawn


def same_person(rows: pd.DataFrame, path: str, tracker: Tracker) -> np.ndarray:
    """int64 ``[N]``: rows equal in every column count as weeks of one person, so that a split never parts copies."""
    person = rows.groupby(list(rows), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    distinct = int(person.max()) + 1
    if distinct < len(rows):
        tracker.note(
            f"{path}: {distinct} distinct rows of {len(rows)}; rows equal in every column count as one person and stay on "
            "one side of the split. Real people seldom agree in everything: where copies abound, the table is not of real people"
        )
    return person


def note_simulated(path: str, tracker: Tracker) -> None:
    tracker.note(f"{path}: it reports no days; every week is simulated, {RHYTHMS}, and no day is an observation")
