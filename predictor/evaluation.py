"""The risk model beside its baselines and the Bayes ceiling, overall and by subgroup, on held-out persons."""

from typing import Any

import numpy as np

from core.cohort import RISK_CLASSES, Cohort, require_classes
from core.random import numpy_generator
from predictor.baselines import baseline_probabilities
from predictor.calibration import ece_floor, reliability_curve
from predictor.decision import decision_curve, operating_draws, useful_range
from predictor.dual_lstm import DualLSTMRisk
from predictor.explain import signal_response
from predictor.metrics import HIGH, confusion_matrix, metric_draws, roc_curve, summarise
from predictor.resampling import Bootstrap, ratio, resample_persons, value, with_interval
from predictor.settings import RiskSettings
from predictor.subgroups import subgroup_table

MODEL, PRIOR, BAYES = "model", "prior", "bayes"
# Metrics whose difference from each baseline is reported: those that are no estimate of calibration alone.
COMPARED = ("accuracy", "macro_f1", "f1_high", "recall_high", "auc_high", "brier")


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
        The metrics of :func:`predictor.metrics.risk_metrics` and ``brier_skill`` (share of the Brier score of the
        training persons' class frequencies, ``prior``, that the model saves), their 95 % ``intervals`` by person,
        ``ece_floor`` (the ECE of a perfectly calibrated model on as many persons), ``baselines`` and
        ``bayes_ceiling`` (with ``bayes``), ``differences`` (model less each baseline, paired), ``confusion``, ``roc``,
        ``alarm`` (what the model's own threshold on P(High) amounts to), ``decision_curve``, ``subgroups``,
        ``reliability`` points by class and ``signal_response``. What is undefined is None.

    Raises:
        DataError: the holdout lacks a class.
    """
    require_classes(cohort_holdout, "risk holdout")
    assert cohort_holdout.risk is not None
    labels = cohort_holdout.risk.astype(np.int64)
    alarm = float(model.alarm)
    rng = numpy_generator(seed, "risk", "evaluation")
    bootstrap = resample_persons(cohort_holdout.person, settings.bootstrap, rng)
    probabilities = model.predict_cohort(cohort_holdout)
    baselines = baseline_probabilities(cohort_train, cohort_holdout, model.encoder, model.scaler, seed)
    baselines[PRIOR] = prior_probabilities(cohort_train, len(labels))
    predictors = {MODEL: probabilities, **baselines} | ({} if bayes is None else {BAYES: bayes})
    columns, least = settings.subgroups, settings.subgroup_min_persons
    return {
        **compare(labels, predictors, bootstrap),
        "ece_floor": ece_floor(probabilities, rng),
        "confusion": confusion_matrix(labels, probabilities),
        "roc": roc_curve(labels, probabilities[:, HIGH]),
        "alarm": {
            "target_recall": settings.target_recall,
            "threshold": alarm,
            **summarise(operating_draws(labels, probabilities[:, HIGH] >= alarm, bootstrap)),
        },
        "decision_curve": decisions(labels, predictors),
        "subgroups": subgroup_table(cohort_holdout, probabilities, alarm, columns, least, bootstrap, rng),
        "reliability": {name: reliability_curve(labels, probabilities, k) for k, name in enumerate(RISK_CLASSES)},
        "signal_response": signal_response(model, cohort_holdout),
    }


def prior_probabilities(cohort_train: Cohort, n: int) -> np.ndarray:
    """The class frequencies of the training rows for each of ``n`` rows: what is known before anybody is looked at."""
    assert cohort_train.risk is not None, "label the cohort first"
    return np.tile(np.bincount(cohort_train.risk, minlength=len(RISK_CLASSES)) / len(cohort_train), (n, 1))


def compare(labels: np.ndarray, predictors: dict[str, np.ndarray], bootstrap: Bootstrap) -> dict[str, Any]:
    """The model's metrics with intervals, those of the baselines and the Bayes ceiling, and how far the model is ahead.

    Args:
        predictors: class probabilities ``[N, 3]`` of ``model``, the baselines (``prior`` among them) and perhaps
            ``bayes``.
    """
    draws = {name: metric_draws(labels, p, bootstrap) for name, p in predictors.items()}
    for metrics in draws.values():
        metrics["brier_skill"] = 1 - ratio(metrics["brier"], draws[PRIOR]["brier"])
    own = draws[MODEL]
    values = {name: {metric: value(draw) for metric, draw in metrics.items()} for name, metrics in draws.items()}
    baselines = [name for name in predictors if name not in (MODEL, BAYES)]
    result = {
        **summarise(own),
        "baselines": {name: values[name] for name in baselines},
        "differences": {
            name: {metric: with_interval(own[metric] - draws[name][metric]) for metric in COMPARED}
            for name in baselines
        },
    }
    return result | ({"bayes_ceiling": values[BAYES]} if BAYES in values else {})


def decisions(labels: np.ndarray, predictors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Decision curve of every predictor's P(High), and from where to where the model is worth using."""
    rows = decision_curve(labels, {name: p[:, HIGH] for name, p in predictors.items()})
    first, last = useful_range(rows, MODEL)
    return {"rows": rows, "useful_from": first, "useful_to": last}
