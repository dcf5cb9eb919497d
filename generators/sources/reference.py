"""The reference population: a documented generative model of people and their weeks, so that nothing need be downloaded.

A person is drawn in the order cause to effect::

    profile x        age -> occupation, activity -> BMI -> sleep disorder; family history -> prior treatment
    distress g       3 latents (depression, anxiety, stress) = distress_mean + A f(x) + noise,   noise ~ N(0, G)
    DASS-42          round(exp(a_k + b_k g_k) - c_k), right-skewed as the published norms are
    irregularity     log r = rho * mean(g) + noise;   it widens the day-to-day noise of sleep
    level            mu + B f(x) + C g + noise
    day t            level + weekend(t) + sd * r^exponent * e(t),   e = VAR(1) with unit variance

Given x and r all of g and the days are jointly Gaussian, so the same model also says what is knowable of a person's
risk (``generators.sources.bayes``). Every number comes from ``conf/data/reference.yaml``, which names its source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from annotated_types import Len

from core.cohort import DASS_COLUMNS, Cohort
from core.errors import DataError
from core.settings import Fraction, Positive
from core.signals import DAYS, DEFAULT_SIGNALS, WEEKEND

PerSubscale = tuple[float, float, float]  # depression, anxiety, stress
PerSignal = tuple[float, float, float, float]  # sleep duration, sleep quality, heart rate, stress
NUMERIC = {  # profile column -> the feature its effect multiplies
    "age": lambda years: (years - 40) / 10,
    "bmi": lambda kg_m2: (kg_m2 - 26) / 5,
    "physical_activity": lambda minutes: np.log((minutes + 30) / 150),
}
DASS_MAX = 42


@dataclass(frozen=True)
class Population:
    """The model's numbers. An effect's key is a numeric column or ``column=level``."""

    age_range: tuple[int, int]  # youngest and oldest, years
    age_shape: tuple[Positive, Positive]  # Beta shape of age within that range
    gender: dict[str, Fraction]  # shares
    student_age: Positive  # age at which half of those not retired have left education
    retired_age: Positive  # age at which half have retired
    transition_years: Positive  # how sharply those two happen
    occupation: dict[str, Fraction]  # shares among those neither studying nor retired
    activity_log: tuple[float, Positive]  # mean and sd of log(minutes of activity a week)
    activity_age: float  # change of that log per decade of age above 40
    activity_max: Positive  # minutes a week nobody exceeds
    bmi_log: tuple[float, Positive]  # mean and sd of log BMI
    bmi_age: float  # change of log BMI per decade above 40
    bmi_activity: float  # change of log BMI per e-fold of activity
    bmi_range: tuple[Positive, Positive]  # kg/m2
    family_history: Fraction  # share with a first-degree relative treated for a mood or anxiety disorder
    prior_treatment_logit: dict[str, float]  # "intercept" and effects
    insomnia_logit: dict[str, float]  # against no disorder
    apnea_logit: dict[str, float]  # against no disorder
    distress_mean: PerSubscale  # centres the latents
    distress_effects: dict[str, PerSubscale]  # of the profile on the latents
    distress_sd: tuple[Positive, Positive, Positive]  # what the profile leaves unexplained
    distress_correlation: PerSubscale  # of that remainder: depression-anxiety, depression-stress, anxiety-stress
    dass_log: tuple[PerSubscale, PerSubscale, PerSubscale]  # a, b, c of exp(a + b g) - c, by subscale
    irregularity_distress: float  # log r per unit of mean distress
    irregularity_sd: Positive  # sd of log r beyond that
    irregularity_exponent: PerSignal  # the day noise of a signal is multiplied by r to this power
    level_mean: PerSignal  # population means, the signals' units
    level_effects: dict[str, PerSignal]  # of the profile on the level
    level_distress: tuple[PerSignal, PerSignal, PerSignal]  # of each latent on the level
    level_sd: PerSignal  # between-person sd that neither profile nor distress explains
    weekend: PerSignal  # Saturday and Sunday minus the other days
    day_sd: PerSignal  # stationary within-person sd at r = 1
    same_day: Annotated[tuple[PerSignal, ...], Len(4, 4)]  # correlation matrix of the day noise
    carry_over: Annotated[tuple[PerSignal, ...], Len(4, 4)]  # VAR(1): row = tomorrow's signal, column = today's


@dataclass(frozen=True)
class ReferenceParameters(Population):
    """The reference population itself (``data=reference``)."""

    kind: Literal["reference"]


def sample_reference(parameters: ReferenceParameters, n: int, rng: np.random.Generator) -> Cohort:
    """``n`` unlabelled persons with one fully observed week each."""
    profiles, days = sample_days(parameters, n, DAYS, rng)
    return Cohort(
        profiles, days.astype(np.float32), np.ones(days.shape, bool), np.arange(n, dtype=np.int64), DEFAULT_SIGNALS
    )


def sample_days(
    parameters: ReferenceParameters, n: int, days: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Profiles of ``n`` persons and ``days`` consecutive days of each, ``[n, days, 4]`` float64; day 0 is a Monday."""
    p = parameters
    visible = sample_visible(p, n, rng)
    distress = distress_mean(p, visible) + rng.standard_normal((n, 3)) @ np.linalg.cholesky(distress_covariance(p)).T
    log_r = sample_irregularity(p, distress, rng)
    level = level_mean(p, visible) + distress @ np.array(p.level_distress)
    level = level + rng.standard_normal((n, 4)) * np.array(p.level_sd)
    return visible.assign(**_dass(p, distress)), days_around(p, level, log_r, days, rng)


# The model's pieces, shared with the posterior and with the tables that report no days.


def days_around(p: Population, level: np.ndarray, log_r: np.ndarray, days: int, rng: np.random.Generator) -> np.ndarray:
    """``days`` consecutive days of persons with these levels ``[n, 4]`` and irregularity ``[n]``: ``[n, days, 4]``."""
    noise = _day_noise(p, len(level), days, rng) * day_scale(p, log_r)[:, None, :]
    low, high = ([getattr(s, end) for s in DEFAULT_SIGNALS] for end in ("low", "high"))
    return np.clip(level[:, None, :] + weekend_effect(p, days) + noise, low, high)


def sample_irregularity(p: Population, distress: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """log r ``[n]`` of persons with these latents ``[n, 3]``."""
    return p.irregularity_distress * distress.mean(axis=1) + p.irregularity_sd * rng.standard_normal(len(distress))


def distress_mean(p: Population, profiles: pd.DataFrame) -> np.ndarray:
    """Expected latents of these profiles, ``[N, 3]``."""
    return np.array(p.distress_mean) + _effects(p.distress_effects, profiles, 3)


def distress_covariance(p: Population) -> np.ndarray:
    """Covariance of the latents given the profile, ``[3, 3]``."""
    da, ds, as_ = p.distress_correlation
    correlation = np.array([[1, da, ds], [da, 1, as_], [ds, as_, 1]])
    return correlation * np.outer(p.distress_sd, p.distress_sd)


def level_mean(p: Population, profiles: pd.DataFrame) -> np.ndarray:
    """Levels of these profiles at zero distress, ``[N, 4]``."""
    return np.array(p.level_mean) + _effects(p.level_effects, profiles, 4)


def weekend_effect(p: Population, days: int) -> np.ndarray:
    """``[days, 4]``, day 0 a Monday; its mean over a week is zero, so that a level stays a week's mean."""
    weekend = np.isin(np.arange(days) % DAYS, WEEKEND)[:, None]
    return (weekend - len(WEEKEND) / DAYS) * np.array(p.weekend)


def day_scale(p: Population, log_r: np.ndarray) -> np.ndarray:
    """Sd of the day noise at irregularity ``log_r`` ``[...]``: ``[..., 4]``."""
    return np.array(p.day_sd) * np.exp(np.asarray(log_r)[..., None] * np.array(p.irregularity_exponent))


def class_bounds(p: Population, scores: Sequence[float]) -> np.ndarray:
    """Latents ``[3]`` below which the subscale scores stay under ``scores`` (integers), rounding included."""
    a, b, c = np.array(p.dass_log).T
    return (np.log(np.array(scores) - 0.5 + c) - a) / b


def latents_of_scores(p: Population, scores: np.ndarray) -> np.ndarray:
    """Latents ``[N, 3]`` that give just these scores: the scoring's inverse, the censored ends 0 and 42 at face value."""
    a, b, c = np.array(p.dass_log).T
    return (np.log(scores + c) - a) / b


def _day_noise(p: Population, n: int, days: int, rng: np.random.Generator) -> np.ndarray:
    """Stationary VAR(1) of unit variance, ``[n, days, 4]``."""
    stationary, carry = np.array(p.same_day), np.array(p.carry_over)
    innovation = np.linalg.cholesky(stationary - carry @ stationary @ carry.T)
    e = rng.standard_normal((days, n, 4))
    e[0] = e[0] @ np.linalg.cholesky(stationary).T
    for t in range(1, days):
        e[t] = e[t - 1] @ carry.T + e[t] @ innovation.T
    return e.transpose(1, 0, 2)


def _dass(p: Population, distress: np.ndarray) -> dict[str, np.ndarray]:
    a, b, c = np.array(p.dass_log).T
    scores = np.clip(np.rint(np.exp(a + b * distress) - c), 0, DASS_MAX).astype(np.int64)
    return dict(zip(DASS_COLUMNS, scores.T, strict=True))


def _effects(effects: Mapping[str, tuple[float, ...]], profiles: pd.DataFrame, width: int) -> np.ndarray:
    """Sum of effect x feature over all effects, ``[N, width]``."""
    total = np.zeros((len(profiles), width))
    for key, effect in effects.items():
        total += np.outer(_feature(key, profiles), effect)
    return total


def _feature(key: str, profiles: pd.DataFrame) -> np.ndarray:
    """The number that an effect multiplies: a transformed numeric column, or 1 where ``column=level`` holds."""
    column, _, level = key.partition("=")
    if column not in profiles or (not level and column not in NUMERIC):
        expected = ", ".join([*NUMERIC, *(f"{c}=<level>" for c in profiles if c not in NUMERIC)])
        raise DataError(f"data: effect '{key}' names no profile column; expected one of {expected}")
    values = profiles[column].to_numpy()
    return (values == level).astype(float) if level else NUMERIC[column](values.astype(float))


def sample_visible(p: Population, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Profile columns without the DASS subscales."""
    low, high = p.age_range
    age = np.rint(low + (high - low) * rng.beta(*p.age_shape, n)).astype(np.int64)
    table = pd.DataFrame({"age": age, "gender": _choice(p.gender, n, rng), "occupation": _occupation(p, age, rng)})

    decades = NUMERIC["age"](age)
    log_activity = p.activity_log[0] + p.activity_age * decades + p.activity_log[1] * rng.standard_normal(n)
    activity = np.minimum(np.rint(np.exp(log_activity)), p.activity_max).astype(np.int64)
    log_bmi = p.bmi_log[0] + p.bmi_age * decades + p.bmi_activity * NUMERIC["physical_activity"](activity)
    bmi = np.round(np.clip(np.exp(log_bmi + p.bmi_log[1] * rng.standard_normal(n)), *p.bmi_range), 1)
    table = table.assign(bmi=bmi, physical_activity=activity)

    table["family_history"] = np.where(rng.random(n) < p.family_history, "Yes", "No")
    treated = _softmax(np.zeros(n), _logit(p.prior_treatment_logit, table))
    table["prior_treatment"] = np.where(rng.random(n) < treated[:, 1], "Yes", "No")
    disorder = _softmax(np.zeros(n), _logit(p.insomnia_logit, table), _logit(p.apnea_logit, table))
    drawn = (rng.random(n)[:, None] > disorder.cumsum(axis=1)[:, :-1]).sum(axis=1)
    # not "None", which table readers take for a missing value
    table["sleep_disorder"] = np.array(["No disorder", "Insomnia", "Sleep Apnea"], dtype=object)[drawn]
    return table


def _occupation(p: Population, age: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Students are young, the retired old; everybody else holds one of the configured occupations."""

    def passed(at: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(age - at) / p.transition_years))

    u, working = rng.random((2, len(age))), _choice(p.occupation, len(age), rng)
    student = u[1] > passed(p.student_age)
    return np.where(u[0] < passed(p.retired_age), "Retired", np.where(student, "Student", working)).astype(object)


def _choice(shares: dict[str, float], n: int, rng: np.random.Generator) -> np.ndarray:
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares), dtype=object), n, p=weights / weights.sum())


def _logit(effects: dict[str, float], profiles: pd.DataFrame) -> np.ndarray:
    rest = {key: (value,) for key, value in effects.items() if key != "intercept"}
    return effects["intercept"] + _effects(rest, profiles, 1)[:, 0]


def _softmax(*logits: np.ndarray) -> np.ndarray:
    z = np.exp(np.stack(logits, axis=1))
    return z / z.sum(axis=1, keepdims=True)
