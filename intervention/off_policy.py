"""What a policy is worth, from courses that another policy chose: importance sampling, a fitted model, and both together.

The estimators are those of Precup et al. 2000 (IS, WIS, per decision), Le et al. 2019 (arXiv 1903.08738, fitted Q
evaluation), Jiang & Li 2016 (arXiv 1511.03722, doubly robust) and Thomas & Brunskill 2016 (arXiv 1604.00923, weighted
doubly robust). Returns are not discounted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from core.settings import Count, Fraction
from core.signals import DAYS
from core.treatments import CONTROL, TREATMENTS
from envs.observation import ObservationLayout
from intervention.policy import DualHeadDistribution
from intervention.stochastic import Logged

IS, WIS, PDIS, WPDIS, DM, DR, WDR = (
    "is",
    "wis",
    "pdis",
    "weighted_pdis",
    "fqe",
    "doubly_robust",
    "weighted_doubly_robust",
)
RIDGE = 10.0  # penalty of a weight, in courses
TINY = 1e-6  # the same of a column that does not vary, which may stand beside the intercept


@dataclass(frozen=True)
class OffPolicySettings:
    """How off-policy estimates are held against the truth; values in ``conf/off_policy.yaml``."""

    enabled: bool  # about a minute of the stage evaluate
    patients: Count  # synthetic patients treated, at most all there are
    logged_courses: Count  # of each patient, under usual care: all that the estimators see
    true_courses: Count  # of each patient under each target policy in Trial: their mean is the truth
    twin_courses: Count  # the same in the Twin: its own estimate
    step: Fraction  # share of weeks in which the logged care takes stepped care's choice
    stay: Fraction  # share of weeks in which it goes on with the last treatment; the rest is chance
    resamples: Count  # bootstrap resamples of the patients


@dataclass(frozen=True)
class Evidence:
    """What N logged courses of T weeks say about one policy; float64 ``[N, T]``, 0 behind a course's end.

    Attributes:
        log_ratio: log of the density of the choice under the policy over that under which it was made.
        reward: what the week paid.
        q: a model's value of the choice made, from this week on.
        v: the model's value of the policy's own choice, from this week on.
    """

    log_ratio: Tensor
    reward: Tensor
    q: Tensor
    v: Tensor

    @property
    def weights(self) -> Tensor:
        """``[N, T]``: the ratios of all choices up to and with each week, multiplied; an ended course keeps its last."""
        return self.log_ratio.cumsum(dim=1).exp()


def estimates(evidence: Evidence, counts: Tensor) -> dict[str, Tensor]:
    """Every estimator's value ``[R]`` where course i counts ``counts[r, i]`` times (float64 ``[R, N]``).

    Ones give the estimate; multinomial draws a bootstrap; a law over all possible courses the expectation of those
    estimators that are plain means. A weighted estimator is NaN where no course that counts has any weight.
    """
    rho, reward, q, v = evidence.weights, evidence.reward, evidence.q, evidence.v
    courses = counts.sum(dim=1)
    before = torch.cat([torch.ones_like(rho[:, :1]), rho[:, :-1]], dim=1)  # the choice not counted yet
    total = reward.sum(dim=1)

    def mean(of_course: Tensor) -> Tensor:
        return counts @ of_course / courses

    def normalised(weight: Tensor, values: Tensor) -> Tensor:
        """Week by week, weights that sum to one; then the weeks' sum."""
        return ((counts @ (weight * values)) / (counts @ weight)).sum(dim=1)

    return {
        IS: mean(rho[:, -1] * total),
        WIS: (counts @ (rho[:, -1] * total)) / (counts @ rho[:, -1]),
        PDIS: mean((rho * reward).sum(dim=1)),
        WPDIS: normalised(rho, reward),
        DM: mean(v[:, 0]),
        DR: mean((rho * (reward - q) + before * v).sum(dim=1)),
        WDR: normalised(rho, reward - q) + normalised(before, v),
    }


def effective_sizes(evidence: Evidence) -> dict[str, float]:
    """Of how many courses of equal weight each estimator has the worth (Kish): (sum w)^2 / sum w^2.

    Of whole courses for IS and WIS; per decision the mean over weeks; the fitted model weighs nothing.
    """
    weekly = evidence.weights
    weekly = weekly / weekly.amax(dim=0).clamp(min=torch.finfo(weekly.dtype).tiny)  # squares stay finite
    kish = weekly.sum(dim=0) ** 2 / (weekly**2).sum(dim=0).clamp(min=torch.finfo(weekly.dtype).tiny)
    whole, decision = float(kish[-1]), float(kish.mean())
    sizes = dict.fromkeys((PDIS, WPDIS, DR, WDR), decision) | {IS: whole, WIS: whole}
    return sizes | {DM: float(len(weekly))}


def bootstrap_counts(rows: Tensor, rng: np.random.Generator, resamples: int) -> Tensor:
    """float64 ``[R, N]``: how often each course counts where patients (``rows`` int64 ``[N]``) are drawn anew."""
    patients, index = np.unique(rows.numpy(), return_inverse=True)
    drawn = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=resamples)
    return torch.from_numpy(drawn[:, index].astype(np.float64))


# --- fitted Q evaluation: linear in what was seen, and in (treatment, dose, dose squared) x what may moderate its effect


def fitted_values(
    log: Logged,
    targets: Sequence[Sequence[DualHeadDistribution]],
    features: Tensor,
    moderators: Tensor,
    folds: int = 2,
) -> list[tuple[Tensor, Tensor]]:
    """The values q and v ``[N, T]`` of every target policy, by ridge regression from the last week to the first.

    A patient is valued by the fit to the other folds' patients, so that an estimator which adds what was really paid does
    not meet its own noise; with ``folds`` 1 by the fit to all.

    Args:
        targets: per policy its distributions, week by week.
        features: float64 ``[N, T, F]``, what the value may depend on; moderators: ``[N, T, M]``, what a treatment's
            effect may depend on. Both begin with a column of ones.
    """
    fold = torch.unique(log.rows, return_inverse=True)[1] % folds
    own = [[expected_action(week) for week in policy] for policy in targets]
    q, v = (torch.zeros(len(targets), *log.reward.shape, dtype=torch.float64) for _ in range(2))
    for held in range(folds):
        fitted = _fit_backward(log, own, features, moderators, (fold != held) | (folds == 1))
        for kept, made in zip((q, v), fitted, strict=True):
            kept[:, fold == held] = made[:, fold == held]
    return list(zip(q, v, strict=True))


def _fit_backward(
    log: Logged, own: Sequence[Sequence[Tensor]], features: Tensor, moderators: Tensor, learned_from: Tensor
) -> tuple[Tensor, Tensor]:
    """q and v ``[P, N, T]`` of all courses by the fit to those in ``learned_from`` (bool ``[N]``).

    The regressions of all policies share their left side, so twenty cost little more than one; the mean over a policy's
    own choices (``own``, per policy and week ``[N, A]``) needs no sampling, as the moments of a Beta are known.
    """
    (n, weeks), policies = log.reward.shape, len(own)
    q = torch.zeros(policies, n, weeks, dtype=torch.float64)
    v = torch.zeros(policies, n, weeks + 1, dtype=torch.float64)  # nothing is earned after the last week
    for week in reversed(range(weeks)):
        alive = log.running[:, week]
        known, asked = alive & learned_from, torch.nonzero(alive)[:, 0]
        if not known.any():
            continue  # nobody tells of this week: it counts as worth nothing
        seen, effect = features[:, week], moderators[:, week]
        taken, paid = taken_action(log.treatment[:, week], log.u[:, week]), log.reward[:, week] + v[:, :, week + 1]
        x = torch.cat([seen[known], _products(taken[known], effect[known])], dim=1)
        plain, moderated = ridge(x, paid[:, known].T).split([seen.shape[1], x.shape[1] - seen.shape[1]])
        level = (seen[asked] @ plain).T  # (P, n)
        gain = torch.einsum("nm,amp->pna", effect[asked], moderated.unflatten(0, (taken.shape[1], -1)))
        q[:, asked, week] = level + (gain * taken[asked]).sum(dim=2)
        v[:, asked, week] = level + (gain * torch.stack([policy[week][asked] for policy in own])).sum(dim=2)
    return q, v[:, :, :-1]


def _products(action: Tensor, effect: Tensor) -> Tensor:
    """``[N, A * M]``: every number of the action times every moderator."""
    return (action[:, :, None] * effect[:, None, :]).flatten(1)


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """Weights ``[D, P]`` from ``x`` ``[N, D]`` to ``y`` ``[N, P]``, penalised as those of columns of sd 1; a constant
    column, the intercept, is not."""
    penalty = RIDGE * x.var(dim=0, correction=0) + TINY
    return torch.linalg.solve(x.T @ x + penalty.diag(), x.T @ y)


def taken_action(treatment: Tensor, u: Tensor) -> Tensor:
    """``[B, 12]``: of each active treatment whether it was given, its dose, its dose squared; 0 where it was not."""
    given = torch.stack([treatment == t for t in range(len(TREATMENTS)) if t != CONTROL], dim=1).double()
    return torch.cat([given, given * u[:, None], given * u[:, None] ** 2], dim=1)


def expected_action(distribution: DualHeadDistribution) -> Tensor:
    """``[B, 12]``: the mean of ``taken_action`` over the distribution, exact."""
    p = distribution.log_p[:, 1:].double().exp()
    alpha, beta = distribution.alpha.double(), distribution.beta.double()
    first = alpha / (alpha + beta)
    return torch.cat([p, p * first, p * first * (alpha + 1) / (alpha + beta + 1)], dim=1)


def value_features(observations: Tensor, layout: ObservationLayout) -> tuple[Tensor, Tensor]:
    """What a week's value, and what a treatment's effect, is regressed on: float64 ``[N, T, F]`` and ``[N, T, M]``.

    Days enter by their means. The risk's square is there as remission pays at a threshold; how the weeks changed with each
    treatment so far, as values that do not know it are too low wherever a policy chooses by it.
    """
    part = {name: observations[..., where].double() for name, where in layout.slices.items()}
    ones, risk = torch.ones_like(part["risk"]), part["risk"]
    means = [part[name].unflatten(-1, (DAYS, -1)).mean(dim=-2) for name in ("week", "baseline")]
    before = "risk_change exposure change_per_exposure weeks_on last_treatment last_intensity well_weeks"
    past = [part[name] for name in before.split()]
    moderators = torch.cat([ones, risk, *past, part["profile"]], dim=-1)
    other = [part[name] for name in ("probabilities", "mean_intensity", "adverse")]
    return torch.cat([moderators, risk**2, *means, *other], dim=-1), moderators


# --- how good the estimators are


def score_estimators(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """By estimator, over policies (rows of ``estimator, truth, estimate, low, high, effective_sample_size``):

    ``error``, the mean absolute error as a share of the mean absolute truth; ``bias``, the mean signed one likewise;
    ``rank_correlation`` (Spearman) with the truth; ``coverage``, the share of intervals that hold the truth; and the
    median ``effective_sample_size``. None where an estimate does not exist or, for the rank, does not vary.
    """
    return {str(name): _score(one) for name, one in table.groupby("estimator", sort=False)}


def _score(one: pd.DataFrame) -> dict[str, float | None]:
    size = float(one["effective_sample_size"].median())
    if not np.isfinite(one["estimate"]).all():
        unknown = dict.fromkeys(("error", "bias", "rank_correlation", "coverage"))
        return {**unknown, "effective_sample_size": size}
    off, scale = one["estimate"] - one["truth"], float(one["truth"].abs().mean())
    varies = one["estimate"].nunique() > 1 and one["truth"].nunique() > 1
    return {
        "error": float(off.abs().mean()) / scale,
        "bias": float(off.mean()) / scale,
        "rank_correlation": float(spearmanr(one["estimate"], one["truth"]).statistic) if varies else None,
        "coverage": float(one["truth"].between(one["low"], one["high"]).mean()),
        "effective_sample_size": size,
    }
