"""Who gets what, how much of it, with what result: a policy's courses read as a prescriber's record."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from core.treatments import CONTROL, TREATMENTS
from intervention.evaluation import courses

RISK_EDGES = (0.2, 0.4, 0.6, 0.8)  # of the bands of the risk score; the first is the threshold of remission
MARGIN = 0.01  # of remission, within which a policy is no worse


def with_risk_before(episodes: pd.DataFrame, baseline: pd.Series) -> pd.DataFrame:
    """``episodes`` with ``risk_before``, the score a week's choice was made on; ``baseline`` maps patients to their first."""
    before = episodes.groupby(["policy", "patient", "seed"], sort=False)["risk"].shift()
    return episodes.assign(risk_before=before.fillna(episodes["patient"].map(baseline)))


def prescribed(weeks: pd.DataFrame) -> dict[str, Any]:
    """Of these weeks: how many, the share of each treatment, and the mean intensity of the active ones (None: no such week)."""
    active = weeks["intensity"][weeks["treatment"] != CONTROL]
    share = weeks["treatment"].value_counts(normalize=True)
    return {
        "weeks": len(weeks),
        "intensity": float(active.mean()) if len(active) else None,
        "treatments": {name: float(share.get(number, 0.0)) for number, name in enumerate(TREATMENTS)},
    }


def dose_response(episodes: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """What is prescribed by ``week`` of treatment and by ``risk`` score before the week; ``episodes`` of one policy."""
    risk = bands(episodes["risk_before"], RISK_EDGES)
    return {
        name: {str(key): prescribed(weeks) for key, weeks in episodes.groupby(by, observed=True)}
        for name, by in (("week", episodes["week"]), ("risk", risk))
    }


def bands(values: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Ordered categories ``<a``, ``a-b``, ``>=b``."""
    cuts = [f"{edge:g}" for edge in edges]
    labels = [f"<{cuts[0]}", *(f"{a}-{b}" for a, b in pairwise(cuts)), f">={cuts[-1]}"]
    return pd.cut(values, [-np.inf, *edges, np.inf], right=False, labels=labels)


def thirds(values: pd.Series) -> pd.Series:
    """``low``, ``middle`` and ``high`` by rank, of as equal size as can be."""
    rank = values.rank(method="first", pct=True)
    return pd.cut(rank, [0, 1 / 3, 2 / 3, 1], labels=["low", "middle", "high"])


def who_gets_what(
    episodes: pd.DataFrame,
    groups: pd.Series,
    policy: str,
    reference: str,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """Per group (``groups`` maps the patients to its name): what ``policy`` prescribes there and what comes of it.

    ``gain`` is the return over ``reference`` on the same patients, with its bootstrap interval by patient.
    """
    table, chosen = courses(episodes), episodes[episodes["policy"] == policy]
    mine, theirs = table.loc[policy], table.loc[reference]
    result = {}
    for name, patients in groups.groupby(groups, observed=True):
        index = mine.index.intersection(patients.index)
        if not len(index):
            continue
        one = mine.loc[index]
        gain = (one["return"] - theirs.loc[index, "return"]).to_numpy()
        result[str(name)] = {
            "persons": len(index),
            **{key: float(one[key].mean()) for key in ("return", "remission", "dose_weeks", "adverse_events")},
            "gain": float(gain.mean()),
            "gain_ci": _interval(_resampled(gain, rng, resamples).mean(axis=1), confidence),
            **prescribed(chosen[chosen["patient"].isin(index)]),
        }
    return result


def dose_saved(
    episodes: pd.DataFrame, policy: str, other: str, rng: np.random.Generator, resamples: int, confidence: float
) -> dict[str, Any]:
    """The dose-weeks of ``policy`` over those of ``other``, and whether remission and adverse events are no worse.

    ``non_inferior``: the whole interval of the difference in remission lies above ``-MARGIN``, as trials ask it
    (Piaggio et al. 2012, CONSORT extension for non-inferiority); ``within_margin``: the difference itself does.
    Differences are ``policy`` less ``other``; the ratio is None where the other gives no dose.
    """
    table = courses(episodes)
    both = [
        table.loc[name, ["dose_weeks", "remission", "adverse_events"]].sort_index().to_numpy()
        for name in (policy, other)
    ]
    assert len(both[0]) == len(both[1]), "both must have treated the same patients"
    means = _resampled(np.stack(both, axis=1), rng, resamples).mean(axis=1)  # (R, 2, 3)
    (dose, remission, adverse), (dose_2, remission_2, adverse_2) = (one.mean(axis=0) for one in both)
    interval = _interval(means[:, 0, 1] - means[:, 1, 1], confidence)
    given = bool(dose_2 > 0 and (means[:, 1, 0] > 0).all())
    return {
        "policy": other,
        "dose_ratio": float(dose / dose_2) if given else None,
        "dose_ratio_ci": _interval(means[:, 0, 0] / means[:, 1, 0], confidence) if given else None,
        "remission_difference": float(remission - remission_2),
        "remission_difference_ci": interval,
        "within_margin": bool(remission - remission_2 >= -MARGIN),
        "non_inferior": bool(interval[0] >= -MARGIN),
        "adverse_difference": float(adverse - adverse_2),
        "adverse_difference_ci": _interval(means[:, 0, 2] - means[:, 1, 2], confidence),
    }


def best_by_remission(episodes: pd.DataFrame) -> str:
    """The constant policy with the most remissions; of equals the one with the least dose."""
    means = courses(episodes).groupby(level="policy")[["remission", "dose_weeks"]].mean()
    constants = means[means.index.str.startswith("constant_")]
    return str(constants.sort_values(["remission", "dose_weeks"], ascending=[False, True]).index[0])


def undominated(policies: dict[str, dict[str, Any]]) -> list[str]:
    """The policies that no other beats in return without more adverse events, by adverse events."""
    ordered = sorted(policies, key=lambda name: (policies[name]["adverse_events"], -policies[name]["return"]))
    front: list[str] = []
    for name in ordered:
        if not front or policies[name]["return"] > policies[front[-1]]["return"]:
            front.append(name)
    return front


def _resampled(values: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """``[R, N, ...]``: the patients (first axis) drawn anew."""
    return values[rng.integers(len(values), size=(resamples, len(values)))]


def _interval(draws: np.ndarray, confidence: float) -> list[float]:
    tail = (1 - confidence) / 2
    return [float(value) for value in np.quantile(draws, [tail, 1 - tail])]
