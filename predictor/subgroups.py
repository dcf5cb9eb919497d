"""Does the model treat groups alike? Error rates and calibration by subgroup, and how far each is from the others."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort
from predictor.calibration import calibration_draws, ece_floor
from predictor.decision import operating_draws
from predictor.metrics import HIGH, summarise
from predictor.resampling import Bootstrap, with_interval

GAPS = ("recall", "false_positive_rate")
COMPARED = (*GAPS, "recall_alarm", "false_positive_rate_alarm", "ece_debiased")


def groups_of(column: pd.Series, edges: tuple[float, ...]) -> np.ndarray:
    """Each row's group: the category, or for a numeric column with ``edges`` its band (``<30``, ``30-45``, ``>=45``)."""
    if not pd.api.types.is_numeric_dtype(column) or not edges:
        return column.astype(str).to_numpy(str)
    cuts = [f"{edge:g}" for edge in edges]
    bands = [f"<{cuts[0]}", *(f"{a}-{b}" for a, b in pairwise(cuts)), f">={cuts[-1]}"]
    return np.array(bands)[np.searchsorted(np.array(edges), column.to_numpy(float), side="right")]


def subgroup_table(
    cohort: Cohort,
    probabilities: np.ndarray,
    alarm: float,
    columns: dict[str, tuple[float, ...]],
    min_n: int,
    bootstrap: Bootstrap,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Per profile column: ``groups`` with their rates, ``gaps`` between them, ``differences`` from everybody else.

    A group has its persons ``n``; ``recall`` and ``false_positive_rate`` of High as the most probable class, and of
    the alarm (``recall_alarm``, ``false_positive_rate_alarm``); ``ece`` beside its ``ece_floor`` and ``ece_debiased``;
    and their 95 % ``intervals`` by person. One with fewer than ``min_n`` persons is named with its size and
    ``small: True`` instead; a rate without a case is None. ``gaps`` are the largest differences between groups
    (equalised odds asks for 0).

    ``differences`` are ``[difference, low, high]`` of a group less all other persons, where both sides have ``min_n``.
    Against the others every group is judged, none is the norm, and the comparison does not change with who happens to
    be many. ECE itself is larger in smaller groups by chance, so it is the debiased error that is compared. Of twenty
    intervals one excludes 0 by chance.

    Args:
        probabilities: ``[N, 3]``.
        alarm: threshold on P(High).
        columns: profile column -> band edges (empty for a categorical column); columns the cohort lacks are left out.
        bootstrap: resamples of the cohort's persons.
        rng: for the floors.
    """
    assert cohort.risk is not None, "label the cohort first"
    labels = cohort.risk.astype(np.int64)

    def rates(rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Draws of the rates of these rows; None for too few persons."""
        few = len(np.unique(cohort.person[rows])) < min_n
        return None if few else rate_draws(labels[rows], probabilities[rows], alarm, bootstrap.select(rows))

    table: dict[str, Any] = {}
    for column, edges in columns.items():
        if column not in cohort.profiles:
            continue
        group = groups_of(cohort.profiles[column], tuple(edges))
        groups: dict[str, Any] = {}
        differences: dict[str, Any] = {}
        for name in map(str, np.unique(group)):
            chosen = group == name
            groups[name] = {"n": len(np.unique(cohort.person[chosen]))}
            own, others = rates(chosen), rates(~chosen)
            if own is None:
                groups[name]["small"] = True
                continue
            groups[name] |= {**summarise(own), "ece_floor": ece_floor(probabilities[chosen], rng)}
            if others is not None:
                differences[name] = {rate: with_interval(own[rate] - others[rate]) for rate in COMPARED}
        gaps = {rate: _gap(groups, rate) for rate in GAPS}
        table[column] = {"groups": groups, "gaps": gaps, "differences": differences}
    return table


def rate_draws(
    labels: np.ndarray, probabilities: np.ndarray, alarm: float, bootstrap: Bootstrap
) -> dict[str, np.ndarray]:
    """The rates of :func:`subgroup_table` in the sample and every resample, ``[1 + R]`` each."""
    chosen = operating_draws(labels, probabilities.argmax(1) == HIGH, bootstrap)
    called = operating_draws(labels, probabilities[:, HIGH] >= alarm, bootstrap)
    return {
        "recall": chosen["recall"],
        "false_positive_rate": 1 - chosen["specificity"],
        "recall_alarm": called["recall"],
        "false_positive_rate_alarm": 1 - called["specificity"],
        **calibration_draws(labels, probabilities, bootstrap),
    }


def _gap(groups: dict[str, Any], rate: str) -> float | None:
    values = [row[rate] for row in groups.values() if row.get(rate) is not None]
    return max(values) - min(values) if len(values) > 1 else None
