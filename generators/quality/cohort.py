"""Does the synthetic cohort hang together, is it useful, and does it keep its training persons' secrets?

- Dependence: do profiles and weeks belong together as they do in held-out people?
- Utility: a classifier trained on synthetic people and tested on real ones (TSTR), beside real on real (TRTR) and real
  on synthetic (TRTS); Esteban, Hyland & Rätsch 2017 (arXiv 1706.02633).
- Privacy: can an attacker who holds the synthetic cohort tell who was in the training set (membership inference), or infer a
  hidden column of training persons better than of persons the generator never saw (attribute inference with a control
  group: Giomi et al. 2023, doi 10.56553/popets-2023-0055)? Distance to the closest record proves nothing either way
  (arXiv 2505.01524) and is not reported; exact copies are.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.cohort import RISK_CLASSES, Cohort, numeric_columns
from core.encoding import ProfileEncoder, divisor, varies
from core.errors import DataError
from generators.quality.persons import one_week_each

HIGH = RISK_CLASSES.index("High")
_BOOTSTRAPS = 1000


def cohort_quality(
    synthetic: Cohort,
    train: Cohort,
    holdout: Cohort,
    hidden: tuple[str, ...],
    sensitive: str | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Score a labelled synthetic cohort against the persons it was learned from and persons it never saw.

    Args:
        synthetic, train, holdout: labelled cohorts; a person may have several weeks.
        hidden: profile columns that the risk model must not see (the label's own inputs).
        sensitive: the profile column the attacker wants to know; None for none (``attribute_gain`` is then None).

    Returns:
        ``persons``, ``risk_counts``, ``profile_rhythm_correlation_error`` and its ``_ceiling``; ``tstr_auc``, ``trtr_auc``,
        ``trts_auc`` (AUC of High; None where a table has no High or nothing else); ``membership_auc`` (0.5: the attacker
        learns nothing); ``attribute_gain`` (how much better the attacker does on training than on held-out persons) with
        ``attribute_gain_ci`` (95 %, bootstrap over persons); ``copy_rate`` (synthetic rows that are a training row).

    Raises:
        DataError: a cohort is not labelled, or ``sensitive`` is no column.
    """
    for name, cohort in (("synthetic", synthetic), ("train", train), ("holdout", holdout)):
        if cohort.risk is None:
            raise DataError(f"cohort quality: the {name} cohort has no risk labels; label it first")
    if sensitive is not None and sensitive not in train.profiles:
        raise DataError(
            f"cohort quality: sensitive column '{sensitive}' is unknown; expected one of {', '.join(map(str, train.profiles))}"
        )
    assert synthetic.risk is not None
    counts = np.bincount(synthetic.risk, minlength=len(RISK_CLASSES))
    n = min(synthetic.persons, train.persons, holdout.persons)
    alike = [one_week_each(cohort, rng, n) for cohort in (synthetic, train, holdout)]
    gain, interval = attribute_gain(synthetic, train, holdout, sensitive, rng) if sensitive else (None, None)
    return {
        "persons": synthetic.persons,
        "risk_counts": dict(zip(RISK_CLASSES, counts.tolist(), strict=True)),
        "profile_rhythm_correlation_error": correlation_error(alike[0], alike[2]),
        "profile_rhythm_correlation_error_ceiling": correlation_error(alike[1], alike[2]),
        "tstr_auc": transfer_auc(synthetic, holdout, hidden),
        "trtr_auc": transfer_auc(train, holdout, hidden),
        "trts_auc": transfer_auc(train, synthetic, hidden),
        "membership_auc": membership_auc(synthetic, train, holdout, rng),
        "attribute_gain": gain,
        "attribute_gain_ci": interval,
        "copy_rate": copy_rate(synthetic, train),
    }


def week_summary(cohort: Cohort) -> np.ndarray:
    """Mean, sd, trend and weekend contrast of each signal over the observed days: float64 ``[N, 4C]``."""
    days = np.where(cohort.mask, cohort.rhythms.astype(float), np.nan)  # (N, 7, C)
    centred = (np.arange(7) - 3.0)[:, None]
    mean = _mean_observed(days)
    deviation = days - mean[:, None]
    parts = (
        mean,
        np.sqrt(_mean_observed(deviation**2)),
        _mean_observed(deviation * centred),
        _mean_observed(deviation[:, 5:]),
    )
    return np.concatenate(parts, axis=1)


def _mean_observed(values: np.ndarray) -> np.ndarray:
    """Mean over days of what is not NaN, 0 where nothing is: ``[N, D, C]`` -> ``[N, C]``."""
    seen = np.isfinite(values)
    return np.where(seen, values, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)


def correlation_error(a: Cohort, b: Cohort) -> float:
    """Mean absolute difference of the correlations of who people are with how their weeks run, ``a`` against ``b``.

    Over the profile features that vary in ``b``, the reference. A generator that draws weeks without looking at the
    profile is caught here and nowhere else.
    """
    encoder = ProfileEncoder.fit(b.profiles)
    gap = np.abs(profile_rhythm_correlations(a, encoder) - profile_rhythm_correlations(b, encoder))
    features = encoder.encode(b.profiles).astype(float)
    varied = varies(features.std(axis=0), features.mean(axis=0))
    return float(gap[varied].mean()) if varied.any() else 0.0


def profile_rhythm_correlations(cohort: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    """Pearson correlations ``[P, C]`` of encoded profile features with week means; 0 where either does not vary."""
    features, means = encoder.encode(cohort.profiles).astype(float), week_summary(cohort)[:, : len(cohort.signals)]
    x, y = (_standardised(table) for table in (features, means))
    return x.T @ y / len(x)


def _standardised(table: np.ndarray) -> np.ndarray:
    mean = table.mean(axis=0)
    return (table - mean) / divisor(table.std(axis=0), mean)


def transfer_auc(fit: Cohort, test: Cohort, hidden: tuple[str, ...]) -> float | None:
    """AUC of High of a logistic regression on visible profile and week summaries, fitted on one cohort and tested on
    another; None where either has only one side."""
    assert fit.risk is not None and test.risk is not None
    truth = [np.equal(risk, HIGH) for risk in (fit.risk, test.risk)]
    if any(side.all() or not side.any() for side in truth):
        return None
    encoder = ProfileEncoder.fit(fit.profiles, hidden)
    x = [_record(cohort, encoder) for cohort in (fit, test)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(x[0], truth[0])
    return float(roc_auc_score(truth[1], model.decision_function(x[1])))


def membership_auc(synthetic: Cohort, train: Cohort, holdout: Cohort, rng: np.random.Generator) -> float:
    """AUC of an attacker who calls those persons members who lie closest to a synthetic record.

    Equally many training and held-out persons; 0.5 = nothing leaks.
    """
    members, others = _equal_persons(train, holdout, rng)
    nearest = _nearest(synthetic, ProfileEncoder.fit(synthetic.profiles))
    distance = np.concatenate([nearest(cohort)[0] for cohort in (members, others)])
    return float(roc_auc_score(np.repeat([1, 0], len(members)), -distance))


def _equal_persons(train: Cohort, holdout: Cohort, rng: np.random.Generator) -> tuple[Cohort, Cohort]:
    n = min(train.persons, holdout.persons)
    return one_week_each(train, rng, n), one_week_each(holdout, rng, n)


def _nearest(synthetic: Cohort, encoder: ProfileEncoder) -> Callable[[Cohort], tuple[np.ndarray, np.ndarray]]:
    """A function from a cohort ``[N]`` to the distance ``[N]`` and row ``[N]`` of each one's nearest synthetic record.

    A record is the encoded profile and the week summary, standardised on the synthetic cohort.
    """
    scaler = StandardScaler().fit(_record(synthetic, encoder))
    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(scaler.transform(_record(synthetic, encoder)))

    def nearest(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
        distance, row = index.kneighbors(scaler.transform(_record(cohort, encoder)))
        return distance[:, 0], row[:, 0]

    return nearest


def _record(cohort: Cohort, encoder: ProfileEncoder) -> np.ndarray:
    return np.hstack([encoder.encode(cohort.profiles), week_summary(cohort)])


def attribute_gain(
    synthetic: Cohort, train: Cohort, holdout: Cohort, sensitive: str, rng: np.random.Generator
) -> tuple[float, list[float]]:
    """What knowing the synthetic cohort tells of a training person's sensitive column beyond what it tells of anyone's.

    The attacker knows everything else about a person and guesses the value of the nearest synthetic record. A guess
    succeeds where it is right (text) or within a quarter of a standard deviation (number). Returns the share of
    successes on training persons minus that on equally many held-out persons, and its bootstrap 95 % interval.
    """
    members, others = _equal_persons(train, holdout, rng)
    encoder = ProfileEncoder.fit(synthetic.profiles, (sensitive,))
    nearest = _nearest(synthetic, encoder)
    known = synthetic.profiles[sensitive].to_numpy()
    numeric = sensitive in numeric_columns(synthetic.profiles)
    hits = []
    for cohort in (members, others):
        guess, truth = known[nearest(cohort)[1]], cohort.profiles[sensitive].to_numpy()
        hits.append(np.abs(guess - truth) <= 0.25 * known.std() if numeric else guess == truth)
    n = len(members)
    draws = [hit[rng.integers(n, size=(_BOOTSTRAPS, n))].mean(axis=1) for hit in hits]
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    return float(hits[0].mean() - hits[1].mean()), [float(low), float(high)]


def copy_rate(synthetic: Cohort, train: Cohort) -> float:
    """Share of synthetic rows that repeat a training row: the whole profile and the week to 1 % of a signal's sd."""
    days = train.rhythms.astype(float)
    step = 0.01 * divisor(days.std(axis=(0, 1)), days.mean(axis=(0, 1)))
    seen = set(_keys(train, step))
    return float(np.mean([key in seen for key in _keys(synthetic, step)]))


def _keys(cohort: Cohort, step: np.ndarray) -> Iterator[tuple[Any, bytes]]:
    weeks = np.round(cohort.rhythms / step).astype(np.int64)
    profiles = cohort.profiles.itertuples(index=False, name=None)
    return zip(profiles, (week.tobytes() for week in weeks), strict=True)
