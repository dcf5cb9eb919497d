"""Risk from a week's first days: the model, the specialist, and what is knowable by then."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers_predictor import distressed, gentle
from sklearn.metrics import log_loss

from core.cohort import DASS_COLUMNS, Cohort
from core.errors import ConfigError
from core.protocols import NullTracker
from generators.labels import QuestionnaireSettings, label
from generators.sources.bayes import bayes_posterior
from generators.sources.reference import (
    ReferenceParameters,
    class_bounds,
    days_around,
    distress_covariance,
    distress_mean,
    level_mean,
    sample_irregularity,
    sample_reference,
)
from pipeline.config import load_config
from predictor.baselines import weekly_summaries
from predictor.dual_lstm import DualLSTMRisk
from predictor.early_warning import early_warning, filled_days, first_days, specialist
from predictor.training import train_risk

HIDDEN = ("dass_stress",)


@pytest.fixture(scope="module")
def train() -> Cohort:
    return distressed(1500, 0)[0]


@pytest.fixture(scope="module")
def holdout() -> Cohort:
    return distressed(2000, 1)[0]


@pytest.fixture(scope="module")
def model(train: Cohort) -> DualLSTMRisk:
    return train_risk(train, gentle(200, missing_share=0.5), HIDDEN, 3, NullTracker())


def test_first_days_hide_the_later_ones_and_only_those(holdout: Cohort) -> None:
    holed = replace(holdout, mask=np.random.default_rng(0).random(holdout.mask.shape) > 0.2)
    early = first_days(holed, 3)
    assert (early.mask[:, :3] == holed.mask[:, :3]).all() and not early.mask[:, 3:].any()
    assert first_days(holed, 7).mask.tolist() == holed.mask.tolist()


def test_filled_days_hold_the_mean_so_far(holdout: Cohort) -> None:
    rhythms, mask = holdout.rhythms[:2].copy(), np.ones((2, 7, 4), bool)
    rhythms[0, :, 3] = [1, 9, 5, 8, 8, 8, 8]
    mask[0, 1, 3], mask[1, :3, 0] = False, False
    filled = filled_days(replace(holdout.select(np.arange(2)), rhythms=rhythms, mask=mask), 3)
    assert filled.rhythms[0, :, 3].tolist() == [1, 9, 5, 3, 3, 3, 3]  # the mean of 1 and 5
    assert filled.mask[0, :, 3].tolist() == [True, False, True, True, True, True, True]
    assert not filled.mask[1, :, 0].any()  # no day to take a mean of
    assert (filled.rhythms[:, :3] == rhythms[:, :3]).all()


def test_the_specialist_knows_nothing_of_later_days(model: DualLSTMRisk, train: Cohort, holdout: Cohort) -> None:
    rng = np.random.default_rng(0)

    def disturbed(cohort: Cohort) -> Cohort:
        rhythms = cohort.rhythms.copy()
        rhythms[:, 3:] = rng.permutation(rhythms[:, 3:])
        return replace(cohort, rhythms=rhythms)

    rest = model.encoder, model.scaler, 0
    plain = specialist(train, holdout, 3, *rest)
    assert np.array_equal(plain, specialist(disturbed(train), disturbed(holdout), 3, *rest))
    assert not np.array_equal(plain, specialist(disturbed(train), holdout, 4, *rest))
    assert weekly_summaries(first_days(holdout, 1), model.scaler).shape == (2000, 32)


def test_more_days_tell_more_and_knowing_what_is_missing_helps(
    model: DualLSTMRisk, train: Cohort, holdout: Cohort
) -> None:
    assert holdout.risk is not None
    table = early_warning(model, train, holdout, (1, 3, 5, 7), {7: np.eye(3)[holdout.risk]}, 0)
    assert json.loads(json.dumps(table)) == table
    for who in ("masked", "specialist"):
        assert [table[d][who]["auc_high"] for d in "1357"] == sorted(table[d][who]["auc_high"] for d in "1357")
        briers = [table[d][who]["brier"] for d in "1357"]
        assert briers == sorted(briers, reverse=True)
        assert briers[0] > briers[-1] + 0.03
    for d in "35":
        assert table[d]["masked"]["brier"] < table[d]["filled"]["brier"]
    for what in ("score_change", "class_change", "alarm_change"):
        changes = [table[d][what] for d in "1357"]
        assert changes == sorted(changes, reverse=True) and changes[0] > 0.02
    assert table["7"]["bayes"]["brier"] == 0 and "bayes" not in table["3"]


def test_all_days_are_the_ordinary_score(model: DualLSTMRisk, train: Cohort, holdout: Cohort) -> None:
    row = early_warning(model, train, holdout, (7,), {}, 0)["7"]
    assert row["masked"] == row["filled"]
    assert row["score_change"] == row["class_change"] == row["alarm_change"] == 0
    whole = model.predict_cohort(holdout)
    assert row["masked"]["recall_alarm"] == (whole[holdout.risk == 2, 2] >= float(model.alarm)).mean()


@pytest.mark.parametrize("days", [0, 8])
def test_days_that_no_week_has_are_refused(model: DualLSTMRisk, train: Cohort, holdout: Cohort, days: int) -> None:
    with pytest.raises(ConfigError, match=rf"risk.observed_days: {days}, expected numbers of days from 1 to 7"):
        early_warning(model, train, holdout, (3, days), {}, 0)


# What is knowable from the first days


@pytest.fixture(scope="module")
def source() -> tuple[ReferenceParameters, QuestionnaireSettings]:
    config = load_config()
    assert isinstance(config.data, ReferenceParameters) and isinstance(config.labels, QuestionnaireSettings)
    return config.data, config.labels


def posterior(source: tuple[ReferenceParameters, QuestionnaireSettings], people: Cohort, days: int) -> np.ndarray:
    visible = people.profiles.drop(columns=list(DASS_COLUMNS))
    return bayes_posterior(*source, visible, people.rhythms, np.random.default_rng(0), days)


def test_posterior_of_first_days_is_calibrated_and_looks_at_no_later_one(
    source: tuple[ReferenceParameters, QuestionnaireSettings],
) -> None:
    people = sample_reference(source[0], 12_000, np.random.default_rng(2))
    risk = label(people, source[1], NullTracker())
    losses = []
    for days in (1, 3, 7):
        p = posterior(source, people, days)
        for k in range(3):
            which = np.minimum((p[:, k] * 15).astype(int), 14)
            excess = np.bincount(which, (risk == k) - p[:, k], 15)
            assert np.abs(excess).sum() / len(people) < 0.018, (days, k)
        losses.append(log_loss(risk, p))
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[1] + 0.01 > losses[2] + 0.02
    few = people.select(np.arange(50))
    later = replace(few, rhythms=np.where(np.arange(7)[:, None] < 3, few.rhythms, np.float32(9)))
    assert np.array_equal(posterior(source, few, 3), posterior(source, later, 3))


def day_density(
    p: ReferenceParameters, profile: pd.DataFrame, g: np.ndarray, log_r: np.ndarray, days: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Density of one person's ``days`` ``[D, 4]`` under each drawn latent ``[M, 3]`` and irregularity ``[M]``, up to a factor."""
    count = len(days)
    scale = np.tile(np.exp(log_r[:, None] * np.array(p.irregularity_exponent)), count)  # (M, 4 D)
    level = np.tile(np.diag(np.square(p.level_sd)), (count, count))
    chol = np.linalg.cholesky(noise * scale[:, :, None] * scale[:, None] + level)
    expected = level_mean(p, profile) + g @ np.array(p.level_distress)  # (M, 4)
    rest = days - expected[:, None] - (0 - 2 / 7) * np.array(p.weekend)  # Monday to Wednesday
    white = np.linalg.solve(chol, rest.reshape(len(g), -1, 1))[:, :, 0]
    log_density = -0.5 * np.square(white).sum(1) - np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(1)
    return np.exp(log_density - log_density.max())


def test_posterior_of_three_days_agrees_with_weighted_draws(
    source: tuple[ReferenceParameters, QuestionnaireSettings],
) -> None:
    """Brute force: draw latents and irregularity a priori, weigh each by the density of the three days it gives."""
    p, labels = source
    people, draws = sample_reference(p, 4, np.random.default_rng(11)), 40_000
    rng = np.random.default_rng(3)
    drawn = days_around(p, np.tile(p.level_mean, (200_000, 1)), np.zeros(200_000), 3, rng)
    noise = np.cov(drawn.reshape(len(drawn), -1).T)  # of three days at r = 1, as the sampler makes them
    expected = posterior(source, people, 3)
    severe, moderate = (
        class_bounds(p, [cut[c] for c in DASS_COLUMNS]) for cut in (labels.severe_from, labels.moderate_from)
    )
    for i in range(len(people)):
        one = people.profiles.iloc[[i]]
        g = distress_mean(p, one) + rng.standard_normal((draws, 3)) @ np.linalg.cholesky(distress_covariance(p)).T
        log_r = sample_irregularity(p, g, rng)
        weight = day_density(p, one, g, log_r, people.rhythms[i, :3].astype(float), noise)
        high, low = (g >= severe).any(1), (g < np.minimum(moderate, severe)).all(1)
        shares = [weight[low].sum(), weight[~low & ~high].sum(), weight[high].sum()]
        assert np.square(weight.sum()) / np.square(weight).sum() > 1000  # enough draws count
        assert expected[i] == pytest.approx(np.array(shares) / weight.sum(), abs=0.04), i
