"""What is knowable of a reference person's risk: the posterior of the very model that draws them.

With z = log r on a grid and M the days' mean, everything else is Gaussian::

    g | x, z      ~ N(m(x) + k (z - rho m(x)), G_z)             the latents, once irregularity is known
    y | g, x, z   ~ N(M(x) + H g, S_z)                          the week; H repeats level_distress over the days
    P(class | y, x) = sum_z P(z | y, x) P(g within the class's bounds | y, x, z)

The grid over z has spacing a quarter of its sd; the orthant probabilities use Sobol points, so the answer is exact but
for clipping at the signals' ranges (under 1 % of days).
"""

import numpy as np
import pandas as pd
from scipy.stats import norm, qmc

from core.cohort import DASS_COLUMNS
from core.signals import DAYS
from generators.labels import QuestionnaireSettings
from generators.sources.reference import (
    ReferenceParameters,
    class_bounds,
    day_scale,
    distress_covariance,
    distress_mean,
    level_mean,
    weekend_effect,
)

ORTHANT_POINTS = 256
GRID_POINTS = 33
GRID_WIDTH = 4.0  # sd of log r on either side


def bayes_posterior(
    parameters: ReferenceParameters,
    labels: QuestionnaireSettings,
    profiles: pd.DataFrame,
    rhythms: np.ndarray,
    rng: np.random.Generator,
    days: int = DAYS,
) -> np.ndarray:
    """P(Low), P(Medium), P(High) of each person given the visible profile and a week's first ``days``: ``[N, 3]``.

    ``profiles`` may lack the DASS subscales; they are not looked at. ``rhythms`` is ``[N, 7, 4]``; days after the first
    ``days`` (1 to 7, from Monday) are not looked at.
    """
    p = parameters
    prior = distress_mean(p, profiles)  # (N, 3)
    known = rhythms[:, :days].astype(float)
    week = (known - level_mean(p, profiles)[:, None] - weekend_effect(p, days)).reshape(len(profiles), -1)
    loading = np.tile(np.array(p.level_distress).T, (days, 1))  # (4 days, 3)

    g_cov = distress_covariance(p)
    rho = np.full(3, p.irregularity_distress / 3)
    z_var = rho @ g_cov @ rho + p.irregularity_sd**2
    gain = g_cov @ rho / z_var
    g_cov_z = g_cov - np.outer(gain, gain) * z_var

    z_mean = prior @ rho  # (N,)
    z_sd = np.sqrt(z_var)
    total_sd = np.sqrt(z_mean.var() + z_var)
    grid = z_mean.mean() + total_sd * np.linspace(-GRID_WIDTH, GRID_WIDTH, GRID_POINTS)
    points = norm.ppf(qmc.Sobol(3, rng=rng).random(ORTHANT_POINTS))  # (S, 3)
    bands = labels.moderate_from, labels.severe_from
    moderate, severe = (class_bounds(p, [cut.get(c, np.inf) for c in DASS_COLUMNS]) for cut in bands)
    bounds = [np.minimum(moderate, severe), severe]  # a subscale without a band rules nobody out

    log_weight, below = [], []
    for z in grid:
        expected = prior + (z - z_mean)[:, None] * gain  # E[g | x, z]
        spread = loading @ g_cov_z  # (4 days, 3)
        cov = _week_covariance(p, z, days) + spread @ loading.T
        chol = np.linalg.cholesky(cov)
        white = np.linalg.solve(chol, (week - expected @ loading.T).T)  # (4 days, N)
        half = np.linalg.solve(chol, spread)
        mean = expected + white.T @ half  # E[g | x, z, y]
        g_cov_post = g_cov_z - half.T @ half
        fit = -0.5 * (white**2).sum(axis=0) - np.log(np.diag(chol)).sum()
        log_weight.append(fit - 0.5 * ((z - z_mean) / z_sd) ** 2)
        draws = points @ np.linalg.cholesky(g_cov_post).T
        below.append([_orthant(bound - mean, draws) for bound in bounds])
    weight = np.array(log_weight)  # (Z, N)
    weight = np.exp(weight - weight.max(axis=0))
    low, not_high = np.einsum("zn,zbn->bn", weight / weight.sum(axis=0), np.array(below))
    classes = np.maximum(np.stack([low, not_high - low, 1 - not_high], axis=1), 0)  # rounding may leave -1e-16
    return classes / classes.sum(axis=1, keepdims=True)


def _orthant(room: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """P(draw < room in every coordinate): ``[N]`` from ``[N, 3]`` and ``[S, 3]``."""
    inside = np.ones((len(room), len(draws)), bool)
    for k in range(room.shape[1]):  # one coordinate at a time: several times faster than .all(axis=2)
        inside &= draws[:, k] < room[:, k, None]
    return np.asarray(inside.mean(axis=1))


def _week_covariance(p: ReferenceParameters, z: float, days: int) -> np.ndarray:
    """Covariance of the days x signals given the latents and log r = z: level plus VAR(1) noise."""
    carry, lagged = np.array(p.carry_over), [np.array(p.same_day)]
    for _ in range(days - 1):
        lagged.append(carry @ lagged[-1])  # Cov(e[t + lag], e[t])
    blocks = [[lagged[t - s] if t >= s else lagged[s - t].T for s in range(days)] for t in range(days)]
    scale = np.tile(day_scale(p, np.array(z)), days)
    return np.block(blocks) * np.outer(scale, scale) + np.tile(np.diag(np.array(p.level_sd) ** 2), (days, days))
