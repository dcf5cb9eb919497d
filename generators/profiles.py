"""Profiles from a table of persons: one of three generators, or the best of them, then calibration.

``ctgan`` and ``tvae`` train networks; ``copula`` fits latent normals in a second or two and imports no network library.
``auto`` lets them compete on persons kept apart::

    score = column shapes + all pair trends - 2 max(C2ST AUC - 1/2, 0)      (1 + 1 - 0 is perfect)

that is, what a table's margins, its pairs and everything else give away, the last doubled because it sees all three.
The winner is fitted again on everybody. Below ``choice.min_persons`` there is no contest: on a handful of validation rows
the scores are noise (the C2ST of 60 rows has a standard error of .05), and a network of thousands of weights can repeat
25 persons, while the copula has one number for each pair of latents, and shrinks it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from core.encoding import ProfileEncoder
from core.errors import DataError, NumericalError
from core.protocols import Tracker
from core.random import numpy_generator
from core.settings import Count, Fraction
from generators.calibration import CalibratedProfiles, CalibrationSettings, calibrate
from generators.copula import CopulaSettings, fit_copula
from generators.network_settings import CTGANSettings, TVAESettings
from generators.profile_table import check_profiles
from generators.quality.c2st import c2st_auc
from generators.quality.profiles import profile_scores

Kind = Literal["ctgan", "tvae", "copula"]


@dataclass(frozen=True)
class ChoiceSettings:
    """How ``generator: auto`` chooses."""

    candidates: tuple[Kind, ...]  # what competes
    validation: Fraction  # share of persons that score the candidates
    steps: Count  # network steps of a candidate, at most; the winner is trained in full
    min_persons: Count  # below this the copula is taken without a contest


@dataclass(frozen=True)
class ProfileSettings:
    """How profiles are learned."""

    generator: Literal["ctgan", "tvae", "copula", "auto"]
    max_rows: Count  # rows learned from: a larger table is subsampled, which bounds memory and time
    max_levels: Count  # refuse a text column with more distinct values than this
    ctgan: CTGANSettings
    tvae: TVAESettings
    copula: CopulaSettings
    calibration: CalibrationSettings
    choice: ChoiceSettings


def fit_profiles(
    profiles: pd.DataFrame, settings: ProfileSettings, seed: int, tracker: Tracker, person: np.ndarray | None = None
) -> CalibratedProfiles:
    """Learn to draw profiles.

    Args:
        profiles: a row per week or person, nothing missing.
        person: int64 ``[N]``, which rows are one person's: the first of them counts. Without it every row is one.

    Returns:
        The calibrated generator; its ``choice`` names the kind and, after ``auto``, every candidate's scores.

    Raises:
        DataError: the table holds what cannot be learned (named), or the generator is too far from it.
        NumericalError: training stopped being finite.
    """
    check_profiles(profiles, settings.max_levels)
    rng = numpy_generator(seed, "profiles", "rows")
    profiles = learned_rows(profiles, person, settings.max_rows, rng, tracker)
    if settings.generator == "auto":
        kind, choice = _choose(profiles, settings, seed, rng, tracker)
    else:
        kind, choice = settings.generator, {"generator": settings.generator}
    return _fit(kind, profiles, settings, seed, tracker, choice)


def learned_rows(
    profiles: pd.DataFrame, person: np.ndarray | None, max_rows: int, rng: np.random.Generator, tracker: Tracker
) -> pd.DataFrame:
    """One row for each person, since who has many weeks is one person all the same; of too many a random part, and said."""
    if person is not None:
        profiles = profiles.iloc[np.unique(person, return_index=True)[1]].reset_index(drop=True)
    if len(profiles) <= max_rows:
        return profiles
    tracker.note(f"profiles: learned from {max_rows} random rows of {len(profiles)} (profiles.max_rows)")
    return profiles.iloc[rng.permutation(len(profiles))[:max_rows]].reset_index(drop=True)


def _fit(
    kind: Kind, profiles: pd.DataFrame, settings: ProfileSettings, seed: int, tracker: Tracker, choice: dict[str, Any]
) -> CalibratedProfiles:
    plain = _fitter(kind)(profiles, getattr(settings, kind), seed, tracker)
    rng = numpy_generator(seed, "profiles", "calibration")
    calibrated = calibrate(plain, profiles, settings.calibration, rng, tracker)
    calibrated.choice = choice
    return calibrated


def _fitter(kind: Kind) -> Callable[..., Any]:
    """The function that fits this kind. The networks' library (CTGAN's licence is not ours) is imported on use alone."""
    if kind == "ctgan":
        from generators.ctgan import fit_ctgan

        return fit_ctgan
    if kind == "tvae":
        from generators.tvae import fit_tvae

        return fit_tvae
    return fit_copula


def _choose(
    profiles: pd.DataFrame,
    settings: ProfileSettings,
    seed: int,
    rng: np.random.Generator,
    tracker: Tracker,
) -> tuple[Kind, dict[str, Any]]:
    """The kind whose profiles are most like those of persons it was not fitted on, with everyone's scores."""
    persons = len(profiles)
    if persons < settings.choice.min_persons:
        why = f"{persons} persons are too few to compare on (profiles.choice.min_persons={settings.choice.min_persons})"
        tracker.note(f"profiles: took the copula, since {why}")
        return "copula", {"generator": "copula", "why": why}
    held = int(np.clip(round(settings.choice.validation * persons), 1, persons - 1))
    apart = rng.permutation(persons) < held
    fit, validation = (profiles[rows].reset_index(drop=True) for rows in (~apart, apart))
    quick = replace(
        settings,
        ctgan=replace(settings.ctgan, steps=min(settings.ctgan.steps, settings.choice.steps)),
        tvae=replace(settings.tvae, steps=min(settings.tvae.steps, settings.choice.steps)),
    )
    scores: dict[Kind, dict[str, float]] = {}
    for kind in settings.choice.candidates:
        try:
            generator = _fit(kind, fit, quick, seed, tracker, {})
        except (DataError, NumericalError) as error:
            tracker.note(f"profiles: {kind} is out of the choice: {error}")
            continue
        scores[kind] = _score(generator, fit, validation, seed)
    if not scores:
        raise DataError("profiles: every candidate of profiles.choice failed (see the notes); choose one generator")
    best = max(scores, key=lambda kind: scores[kind]["score"])
    said = ", ".join(f"{kind} {each['score']:.3f} (C2ST {each['c2st_auc']:.3f})" for kind, each in scores.items())
    tracker.note(f"profiles: took {best}, the highest score on {len(validation)} rows kept apart: {said}")
    return best, {"generator": best, "scores": scores}


def _score(generator: CalibratedProfiles, fit: pd.DataFrame, validation: pd.DataFrame, seed: int) -> dict[str, float]:
    rng = numpy_generator(seed, "profiles", "choice")
    sample, encoder = generator.sample(len(validation), rng), ProfileEncoder.fit(validation)
    quality = profile_scores(sample, fit, validation, rng)[0]
    shapes, pairs = quality["column_shapes"], quality["all_pair_trends"]
    auc = c2st_auc(encoder.encode(validation), encoder.encode(sample), rng)
    # a score that is not defined (no pair that varies, too few rows for a forest) tells no candidate from another
    shapes, pairs, auc = (1.0 if shapes is None else shapes), (1.0 if pairs is None else pairs), (auc or 0.5)
    return {
        "score": shapes + pairs - 2 * max(auc - 0.5, 0.0),
        "column_shapes": shapes,
        "all_pair_trends": pairs,
        "c2st_auc": auc,
        "effective_share": generator.effective_share,
    }
