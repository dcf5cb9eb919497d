"""Do profiles and weeks belong together as they do in held-out people?

Two tables joined by row number have perfect margins and fail here: that is the baseline every number stands beside.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from core.cohort import Cohort
from core.encoding import ProfileEncoder, divisor, varies
from generators.quality.c2st import boosted_trees, out_of_fold
from generators.quality.intervals import auc
from generators.quality.records import record, week_summary


def dependence(synthetic: Cohort, train: Cohort, holdout: Cohort, rng: np.random.Generator) -> dict[str, Any]:
    """Score cohorts of one week a person, equally many, against ``holdout``.

    Returns:
        ``profile_rhythm_correlation_error`` (of profile features with week means), ``profile_variability_correlation_error``
        (with within-week sd), both 0 at best, and ``whole_c2st_auc`` (can a classifier tell whole persons, profile and
        week together, from real ones; 0.5 at best); the same under ``ceiling`` (training persons) and ``baseline``
        (training persons whose weeks were dealt out anew), and the interval of the last under ``ci``.
    """
    torn = replace(train, rhythms=train.rhythms[(order := rng.permutation(len(train)))], mask=train.mask[order])
    found = [_scores(cohort, holdout, rng) for cohort in (synthetic, train, torn)]
    values, ceiling, baseline = ({**errors, "whole_c2st_auc": whole[0]} for errors, whole in found)
    return {**values, "ceiling": ceiling, "baseline": baseline, "ci": {"whole_c2st_auc": found[0][1][1]}}


def _scores(candidate: Cohort, real: Cohort, rng: np.random.Generator) -> tuple[dict[str, float], tuple[Any, Any]]:
    errors = {
        "profile_rhythm_correlation_error": correlation_error(candidate, real),
        "profile_variability_correlation_error": correlation_error(candidate, real, statistic=1),
    }
    return errors, whole_c2st(candidate, real, rng)


def correlation_error(a: Cohort, b: Cohort, statistic: int = 0) -> float:
    """Mean absolute difference of the correlations of who people are with how their weeks run, ``a`` against ``b``.

    Over the profile features that vary in ``b``, the reference. A generator that draws weeks without looking at the
    profile is caught here, where every margin is right. ``statistic``: see :func:`profile_rhythm_correlations`.
    """
    encoder = ProfileEncoder.fit(b.profiles)
    correlations = [profile_rhythm_correlations(cohort, encoder, statistic) for cohort in (a, b)]
    features = encoder.encode(b.profiles).astype(float)
    varied = varies(features.std(axis=0), features.mean(axis=0))
    return float(np.abs(correlations[0] - correlations[1])[varied].mean()) if varied.any() else 0.0


def profile_rhythm_correlations(cohort: Cohort, encoder: ProfileEncoder, statistic: int = 0) -> np.ndarray:
    """Pearson correlations ``[P, C]`` of encoded profile features with week means (``statistic`` 0) or within-week sd
    (1); 0 where either does not vary."""
    c = len(cohort.signals)
    features, weeks = encoder.encode(cohort.profiles).astype(float), week_summary(cohort)
    x, y = (_standardised(table) for table in (features, weeks[:, statistic * c : (statistic + 1) * c]))
    return x.T @ y / len(x)


def _standardised(table: np.ndarray) -> np.ndarray:
    mean = table.mean(axis=0)
    return (table - mean) / divisor(table.std(axis=0), mean)


def whole_c2st(
    candidate: Cohort, real: Cohort, rng: np.random.Generator
) -> tuple[float | None, tuple[float, float] | None]:
    """AUC of a classifier for "this person is synthetic", profile and week seen together, with its interval.

    It sees the profile and the mean and sd of each signal: where the dependence lies. Cohorts of one week a person;
    None where a side has fewer than 8.
    """
    encoder, seen = ProfileEncoder.fit(real.profiles), 2 * len(real.signals)
    size = encoder.size + seen
    found = out_of_fold(record(real, encoder)[:, :size], record(candidate, encoder)[:, :size], rng, boosted_trees)
    return (None, None) if found is None else auc(*found, np.arange(len(found[0])), rng)
