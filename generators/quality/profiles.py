"""Are the synthetic profiles distributed like held-out real ones? sdmetrics scores and a two-sample test.

Every number stands beside two others measured the same way on equally many rows: real training rows (the ceiling) and
training rows whose columns were shuffled independently (margins without any dependence).
"""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
from sdmetrics.single_column import BoundaryAdherence, CategoryCoverage, KSComplement, RangeCoverage, TVComplement

from core.cohort import numeric_columns
from core.encoding import ProfileEncoder
from core.errors import DataError
from generators.quality.c2st import c2st_auc

_STRONG_CORRELATION, _STRONG_ASSOCIATION = 0.5, 0.3  # sdmetrics' own report scores pairs from here on (Pearson, Cramér)


def profile_quality(
    synthetic: pd.DataFrame, train: pd.DataFrame, holdout: pd.DataFrame, rng: np.random.Generator
) -> dict[str, Any]:
    """Score synthetic profiles against held-out real ones.

    Returns:
        ``column_shapes``, ``pair_trends`` (pairs strongly associated in the real table, as sdmetrics' report counts
        them; None where there are none) and ``all_pair_trends``, ``coverage``, ``boundary_adherence`` (1 is best) and
        ``c2st_auc`` (0.5 is best), with the same six under ``ceiling`` and ``shuffled``, and ``rows``, the number
        compared on each side.

    Raises:
        DataError: a synthetic value is missing (a table full of gaps would score higher), or a column is.
    """
    found = profile_scores(synthetic, train, holdout, rng, two_sample_test=True)
    return {**found[0], "rows": min(map(len, (synthetic, train, holdout))), "ceiling": found[1], "shuffled": found[2]}


def profile_scores(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    rng: np.random.Generator,
    two_sample_test: bool = False,
) -> list[dict[str, float | None]]:
    """The scores of :func:`profile_quality`: of the synthetic, the training and the shuffled table."""
    for column in holdout:
        if column not in synthetic or column not in train:
            raise DataError(f"profile quality: column '{column}' of the held-out table is missing from the others")
        missing = int(synthetic[column].isna().sum())
        if missing:
            raise DataError(
                f"profile quality: synthetic column '{column}' has {missing} missing values, expected none; "
                "scores would leave them out"
            )
    n = min(len(synthetic), len(train), len(holdout))
    synthetic, train, holdout = (
        t.iloc[rng.permutation(len(t))[:n]].reset_index(drop=True) for t in (synthetic, train, holdout)
    )
    shuffled = pd.DataFrame({column: rng.permutation(train[column].to_numpy()) for column in train})
    scores = []
    for candidate in (synthetic, train, shuffled):
        scores.append(_scores(candidate, holdout))
        if two_sample_test:
            encoder = ProfileEncoder.fit(holdout)
            scores[-1]["c2st_auc"] = c2st_auc(encoder.encode(holdout), encoder.encode(candidate), rng)
    return scores


def _scores(candidate: pd.DataFrame, real: pd.DataFrame) -> dict[str, float | None]:
    numeric = set(numeric_columns(real))
    shapes, coverage, boundaries = [], [], []
    for column in real:
        a, b = real[column], candidate[column]
        shapes.append((KSComplement if column in numeric else TVComplement).compute(a, b))
        coverage.append((RangeCoverage if column in numeric else CategoryCoverage).compute(a, b))
        if column in numeric:
            boundaries.append(BoundaryAdherence.compute(a, b))
    pairs, strong = _pair_trends(candidate, real, numeric)
    return {
        "column_shapes": float(np.mean(shapes)),
        "pair_trends": _mean(strong),
        "all_pair_trends": _mean(pairs),
        "coverage": _mean(coverage),
        "boundary_adherence": _mean(boundaries),
    }


def _mean(scores: Iterable[float]) -> float | None:
    """The mean of the defined scores (a constant column has no correlation, say)."""
    defined = [float(score) for score in scores if np.isfinite(score)]
    return float(np.mean(defined)) if defined else None


def _pair_trends(candidate: pd.DataFrame, real: pd.DataFrame, numeric: set[str]) -> tuple[list[float], list[float]]:
    """sdmetrics' score of every pair of columns that vary, and of those strongly associated in the real table.

    Correlations are compared for two numeric columns, contingency tables else; a numeric column then counts in ten
    classes of equal width over its own table's range, as in sdmetrics' report.
    """
    varied = [c for c in real if real[c].nunique() > 1 and candidate[c].nunique() > 1]
    classes = [
        t.assign(**{c: np.digitize(t[c], np.histogram_bin_edges(t[c])) for c in varied if c in numeric})
        for t in (real, candidate)
    ]
    scores, strong = [], []
    for a, b in itertools.combinations(varied, 2):
        if a in numeric and b in numeric:
            score = CorrelationSimilarity.compute(real[[a, b]], candidate[[a, b]])
            is_strong = abs(np.corrcoef(real[a], real[b])[0, 1]) > _STRONG_CORRELATION
        else:
            score = ContingencySimilarity.compute(classes[0][[a, b]], classes[1][[a, b]])
            table = pd.crosstab(classes[0][a], classes[0][b]).to_numpy()
            is_strong = association(table, method="cramer") > _STRONG_ASSOCIATION
        scores.append(score)
        if is_strong:
            strong.append(score)
    return scores, strong
