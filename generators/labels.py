"""Risk labels of a cohort: from a questionnaire, from clinical rules on week and profile, or from the user's table.

Bands, rules and their sources live in ``conf/labels/``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Le

from core.cohort import RISK_CLASSES, Cohort, signal_index
from core.errors import DataError
from core.protocols import Tracker
from core.settings import Fraction, Index, Positive
from core.signals import DAYS, names

LOW, MEDIUM, HIGH = range(3)
MOST_DAYS = 4  # a spread or a trend of a week needs this many observed days
Pattern = Literal["run_below", "run_above", "sd_above", "mean_below_share", "mean_above_share", "rise", "above_own"]


@dataclass(frozen=True)
class QuestionnaireSettings:
    """Severity bands of questionnaire columns (``labels=questionnaire``)."""

    kind: Literal["questionnaire"]
    moderate_from: dict[str, Index]  # profile column -> lowest score of the moderate band; any such score is Medium
    severe_from: dict[str, Index]  # profile column -> lowest score of the severe band; any such score is High

    @property
    def columns(self) -> tuple[str, ...]:
        """Every profile column that has a band."""
        return tuple({**self.moderate_from, **self.severe_from})


@dataclass(frozen=True)
class WeekRule:
    """Points for a pattern in one signal's week."""

    points: Positive
    signal: str
    pattern: Pattern
    threshold: float  # the signal's unit; a share of the cohort for mean_*_share; within-week sd for rise
    days: Annotated[int, Ge(1), Le(DAYS)]  # how many it takes (run_*: consecutive); read by run_* and above_own alone


@dataclass(frozen=True)
class ProfileRule:
    """Points for a profile column's level."""

    points: Positive
    column: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class RulesSettings:
    """Documented clinical rules whose points add up (``labels=rules``).

    The cut-offs are shares of the points that the applicable rules can give, so that a cohort which lacks a signal or a
    profile column is judged on the same footing.
    """

    kind: Literal["rules"]
    medium_at: Fraction  # share of the attainable points from which risk is Medium
    high_at: Fraction  # the same for High
    week: dict[str, WeekRule]
    profile: dict[str, ProfileRule]


@dataclass(frozen=True)
class ColumnSettings:
    """A column of the user's own table (``labels=column``)."""

    kind: Literal["column"]
    column: str  # profile column holding 0/1/2 or Low/Medium/High


LabelSettings = QuestionnaireSettings | RulesSettings | ColumnSettings


def label(
    cohort: Cohort,
    settings: LabelSettings,
    tracker: Tracker,
    relative_to: Cohort | None = None,
) -> np.ndarray:
    """Risk of every row: int8 ``[N]``, 0/1/2.

    ``relative_to`` is the cohort whose distribution sets the relative cut-offs of rules: the training persons, so that
    held-out and synthetic people are judged by the same cut-offs. Without it, ``cohort`` itself.

    Raises:
        DataError: a column the labels need is absent, or holds what is no label.
    """
    if isinstance(settings, QuestionnaireSettings):
        return _questionnaire(cohort.profiles, settings)
    if isinstance(settings, RulesSettings):
        return _rules(cohort, settings, tracker, relative_to or cohort)
    return _column(cohort.profiles, settings)


def hidden_columns(settings: LabelSettings) -> tuple[str, ...]:
    """Profile columns a risk model must not see, because the label is computed from them alone."""
    if isinstance(settings, QuestionnaireSettings):
        return settings.columns
    return (settings.column,) if isinstance(settings, ColumnSettings) else ()


def concepts(
    cohort: Cohort, settings: LabelSettings, tracker: Tracker, relative_to: Cohort | None = None
) -> dict[str, np.ndarray]:
    """What each row's label is computed from, by name: subscale scores (float ``[N]``) or whether a rule fired (bool
    ``[N]``); nothing for a column of the user's. A risk model may learn to predict them, never read them.

    Arguments and errors as :func:`label`.
    """
    if isinstance(settings, QuestionnaireSettings):
        return {column: cohort.profiles[column].to_numpy(float) for column in settings.columns}
    if isinstance(settings, RulesSettings):
        fired = fired_rules(cohort, settings, tracker, relative_to or cohort)
        return {name: np.asarray(rows) for name, (rows, _) in fired.items()}
    return {}


def _questionnaire(profiles: pd.DataFrame, settings: QuestionnaireSettings) -> np.ndarray:
    risk = np.zeros(len(profiles), np.int8)
    for level, bounds in ((MEDIUM, settings.moderate_from), (HIGH, settings.severe_from)):
        for column, lowest in bounds.items():
            if column not in profiles:
                raise DataError(
                    f"labels: profile column '{column}' is absent (found {', '.join(map(str, profiles))}); "
                    "add it to the source or choose labels=rules"
                )
            if not pd.api.types.is_numeric_dtype(profiles[column]):
                raise DataError(f"labels: profile column '{column}' holds text, expected scores; correct the table")
            risk[profiles[column].to_numpy() >= lowest] = level
    return risk


def _column(profiles: pd.DataFrame, settings: ColumnSettings) -> np.ndarray:
    if settings.column not in profiles:
        raise DataError(
            f"labels: profile column '{settings.column}' is absent (found {', '.join(map(str, profiles))}); set labels.column"
        )
    codes = {name.lower(): code for code, name in enumerate(RISK_CLASSES)}
    codes |= {text: code for code in range(3) for text in (str(code), f"{code}.0")}
    values = list(profiles[settings.column])
    risk = np.array([codes.get(str(value).strip().lower(), -1) for value in values], np.int8)
    if (risk < 0).any():
        row = int(np.argmax(risk < 0))
        raise DataError(
            f"labels: column '{settings.column}' holds {values[row]!r} at row {row} ({int((risk < 0).sum())} such rows), "
            f"expected 0/1/2 or {'/'.join(RISK_CLASSES)}; correct the table"
        )
    return risk


def _rules(cohort: Cohort, settings: RulesSettings, tracker: Tracker, base: Cohort) -> np.ndarray:
    if settings.medium_at >= settings.high_at:
        raise DataError(
            f"labels: medium_at is {settings.medium_at:g} and high_at {settings.high_at:g}, so nobody would be Medium; "
            "expected labels.medium_at below labels.high_at"
        )
    fired = fired_rules(cohort, settings, tracker, base).values()
    share = sum(rows * rule.points for rows, rule in fired) / sum(rule.points for _, rule in fired)
    risk = np.where(share >= settings.high_at, HIGH, np.where(share >= settings.medium_at, MEDIUM, LOW))
    return risk.astype(np.int8)


def fired_rules(
    cohort: Cohort, settings: RulesSettings, tracker: Tracker, base: Cohort
) -> dict[str, tuple[np.ndarray, WeekRule | ProfileRule]]:
    """For every applicable rule, in which rows (bool ``[N]``) it fired. What is not applicable is noted.

    Rules read observed days alone. Only a person's own heart rate reads beyond the row's own week: all their days.

    Raises:
        DataError: no rule applies to this cohort, or a share is none.
    """
    fired: dict[str, tuple[np.ndarray, WeekRule | ProfileRule]] = {}
    for name, rule in settings.week.items():
        if rule.pattern.endswith("_share") and not 0 < rule.threshold < 1:
            raise DataError(
                f"labels: rule '{name}' has threshold {rule.threshold:g}, expected a share of the cohort between 0 and 1 "
                f"for pattern {rule.pattern}; correct labels.week.{name}.threshold"
            )
        k = signal_index(cohort, rule.signal)
        if k is None:
            tracker.note(f"labels: rule '{name}' is not applicable, no signal '{rule.signal}'")
            continue
        fired[name] = (_PATTERNS[rule.pattern](cohort, base, k, rule), rule)
    for name, profile_rule in settings.profile.items():
        if profile_rule.column not in cohort.profiles:
            tracker.note(f"labels: rule '{name}' is not applicable, no profile column '{profile_rule.column}'")
            continue
        values = cohort.profiles[profile_rule.column].astype(str)
        fired[name] = (values.isin(profile_rule.levels).to_numpy(), profile_rule)
    if not any(name in fired for name in settings.week):
        raise DataError(
            f"labels: no rule fits the signals {', '.join(names(cohort.signals))}; write rules for them or choose other labels="
        )
    return fired


# Patterns: bool [N] from the week [N, 7] of signal k. Only observed days count: a rule must not fire on a day that was
# filled, because filling invents what rules look for (a value held at a week's edge is a run of equal nights).


def _observed(cohort: Cohort, k: int) -> np.ndarray:
    """The week of signal k, float64 ``[N, 7]``: NaN where a day was not observed, so that no comparison holds there."""
    return np.where(cohort.mask[:, :, k], cohort.rhythms[:, :, k].astype(float), np.nan)


def _mean(week: np.ndarray) -> np.ndarray:
    """Mean of the observed days ``[N]``; NaN where there are none."""
    n = (~np.isnan(week)).sum(axis=1)
    return np.divide(np.nansum(week, axis=1), n, out=np.full(len(week), np.nan), where=n > 0)


def _sd(week: np.ndarray, ddof: int) -> np.ndarray:
    """Sd of the observed days ``[N]``; NaN where fewer than ``MOST_DAYS`` are."""
    n = (~np.isnan(week)).sum(axis=1)
    squares = np.nansum(np.square(week - _mean(week)[:, None]), axis=1)
    enough = n >= MOST_DAYS
    return np.sqrt(np.divide(squares, n - ddof, out=np.full(len(week), np.nan), where=enough))


def _run(flags: np.ndarray, days: int) -> np.ndarray:
    """Whether at least ``days`` consecutive days are flagged."""
    together = np.asarray(np.lib.stride_tricks.sliding_window_view(flags, days, axis=1).all(axis=2))
    return np.asarray(together.any(axis=1))


def _rise(cohort: Cohort, base: Cohort, k: int, rule: WeekRule) -> np.ndarray:
    """The least-squares line through the observed days climbs from Monday to Sunday by at least ``threshold`` typical
    within-week sd. Without most of the week there is no line, and where nobody's signal varies nothing rises."""
    week = _observed(cohort, k)
    seen = ~np.isnan(week)
    n = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    day = np.where(seen, np.arange(DAYS) - (seen * np.arange(DAYS)).sum(axis=1, keepdims=True) / n, 0.0)
    slope = np.nansum(day * week, axis=1) / np.maximum(np.square(day).sum(axis=1), 1.0)
    variance = np.square(_sd(_observed(base, k), ddof=0))
    typical = np.sqrt(np.nanmean(variance)) if np.isfinite(variance).any() else 0.0
    signal = cohort.signals[k]
    if typical <= 1e-6 * (signal.high - signal.low):  # rounding is no variation
        return np.zeros(len(week), bool)
    return (seen.sum(axis=1) >= MOST_DAYS) & (slope * (DAYS - 1) >= rule.threshold * typical)


def _above_own(cohort: Cohort, base: Cohort, k: int, rule: WeekRule) -> np.ndarray:
    """At least ``days`` days lie ``threshold`` above the median of all days observed of that person."""
    week = _observed(cohort, k)
    long = pd.DataFrame(week).assign(person=cohort.person).melt(id_vars="person")
    own = long.groupby("person")["value"].median().loc[cohort.person].to_numpy()
    return ((week - own[:, None]) >= rule.threshold).sum(axis=1) >= rule.days


def _share(base: Cohort, k: int, share: float) -> float:
    return float(np.nanquantile(_mean(_observed(base, k)), share))


_PATTERNS: dict[str, Callable[[Cohort, Cohort, int, WeekRule], np.ndarray]] = {
    "run_below": lambda cohort, base, k, rule: _run(_observed(cohort, k) < rule.threshold, rule.days),
    "run_above": lambda cohort, base, k, rule: _run(_observed(cohort, k) > rule.threshold, rule.days),
    "sd_above": lambda cohort, base, k, rule: _sd(_observed(cohort, k), ddof=1) > rule.threshold,
    "mean_below_share": lambda cohort, base, k, rule: _mean(_observed(cohort, k)) < _share(base, k, rule.threshold),
    "mean_above_share": lambda cohort, base, k, rule: _mean(_observed(cohort, k)) > _share(base, k, rule.threshold),
    "rise": _rise,
    "above_own": _above_own,
}
