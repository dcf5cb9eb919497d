"""The risk model beside its baselines and the Bayes ceiling, overall and by subgroup, on held-out persons."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from core.cohort import RISK_CLASSES, Cohort, require_classes
from core.random import numpy_generator
from predictor.baselines import baseline_probabilities
from predictor.calibration import ece, ece_floor, reliability_curve
from predictor.dual_lstm import DualLSTMRisk
from predictor.explain import signal_response
from predictor.metrics import HIGH, bootstrap_intervals, risk_metrics
from predictor.training import RiskSettings


def groups_of(column: pd.Series, edges: tuple[float, ...]) -> np.ndarray:
    """Each row's group: the category, or for a numeric column with ``edges`` its band (``<30``, ``30-45``, ``>=45``)."""
    if not pd.api.types.is_numeric_dtype(column) or not edges:
        return column.astype(str).to_numpy(str)
    cuts = [f"{edge:g}" for edge in edges]
    bands = [f"<{cuts[0]}", *(f"{a}-{b}" for a, b in pairwise(cuts)), f">={cuts[-1]}"]
    return np.array(bands)[np.searchsorted(np.array(edges), column.to_numpy(float), side="right")]


def subgroup_table(
    cohort: Cohort, probabilities: np.ndarray, columns: dict[str, tuple[float, ...]], min_n: int
) -> dict[str, Any]:
    """Does the model treat groups alike? Per column and group: persons, recall and false-positive rate of High, ECE.

    A group with fewer than ``min_n`` persons is named with its size and ``small: True`` instead of rates; a rate
    without a case is None. ``gaps`` are the largest differences between groups (equalised odds asks for 0).

    Args:
        columns: profile column -> band edges (empty for a categorical column); columns the cohort lacks are left out.
    """
    assert cohort.risk is not None, "label the cohort first"
    table: dict[str, Any] = {}
    for column, edges in columns.items():
        if column not in cohort.profiles:
            continue
        group = groups_of(cohort.profiles[column], tuple(edges))
        rows: dict[str, Any] = {}
        for name in np.unique(group):
            chosen = group == name
            n = len(np.unique(cohort.person[chosen]))
            rates = {"small": True} if n < min_n else _rates(cohort.risk[chosen], probabilities[chosen])
            rows[str(name)] = {"n": n, **rates}
        table[column] = {"groups": rows, "gaps": {r: _gap(rows, r) for r in ("recall", "false_positive_rate")}}
    return table


def _rates(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    high, flagged = labels == HIGH, probabilities.argmax(1) == HIGH
    return {
        "recall": float(flagged[high].mean()) if high.any() else None,
        "false_positive_rate": float(flagged[~high].mean()) if (~high).any() else None,
        "ece": ece(labels, probabilities),
    }


def _gap(rows: dict[str, Any], rate: str) -> float | None:
    values = [row[rate] for row in rows.values() if row.get(rate) is not None]
    return max(values) - min(values) if len(values) > 1 else None


def evaluate_risk(
    model: DualLSTMRisk,
    cohort_train: Cohort,
    cohort_holdout: Cohort,
    settings: RiskSettings,
    bayes: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Every number the risk stage reports, measured on ``cohort_holdout``.

    Args:
        cohort_train: what the model was trained on; the baselines are fitted on it.
        bayes: class probabilities ``[N, 3]`` of the holdout that a knower of the source would give, where they exist.

    Returns:
        The metrics of :func:`predictor.metrics.risk_metrics`, their 95 % ``intervals``, ``ece_floor`` (the ECE of a
        perfectly calibrated model on as many persons), ``bayes_ceiling`` (with ``bayes``), ``baselines``,
        ``subgroups``, ``reliability`` points by class and ``signal_response``.

    Raises:
        DataError: the holdout lacks a class.
    """
    require_classes(cohort_holdout, "risk holdout")
    assert cohort_holdout.risk is not None
    labels = cohort_holdout.risk.astype(np.int64)
    probabilities = model.predict_cohort(cohort_holdout)
    rng = numpy_generator(seed, "risk", "evaluation")
    baselines = baseline_probabilities(cohort_train, cohort_holdout, model.encoder, model.scaler, seed)
    result: dict[str, Any] = {
        **risk_metrics(labels, probabilities),
        "intervals": bootstrap_intervals(labels, probabilities, cohort_holdout.person, settings.bootstrap, rng),
        "ece_floor": ece_floor(probabilities, rng),
        "baselines": {name: risk_metrics(labels, p) for name, p in baselines.items()},
        "subgroups": subgroup_table(cohort_holdout, probabilities, settings.subgroups, settings.subgroup_min_persons),
        "reliability": {name: reliability_curve(labels, probabilities, k) for k, name in enumerate(RISK_CLASSES)},
        "signal_response": signal_response(model, cohort_holdout),
    }
    if bayes is not None:
        result["bayes_ceiling"] = risk_metrics(labels, bayes)
    return result
