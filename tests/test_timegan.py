"""Rank-Gauss and moments against closed forms; the TimeGAN and its baseline as generators."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_rhythms import FIFTH, demo_settings, hide_days, made_cohort, tiny_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifact import Artifact
from core.errors import ArtifactError, DataError, NumericalError
from core.protocols import NullTracker
from generators.hierarchical import HierarchicalRhythms, fit_hierarchical
from generators.moments import moment_gap, week_moments
from generators.quality.rhythms import cross_correlations, intraclass_correlations, lag1_correlations
from generators.rank_gauss import RankGauss
from generators.timegan import TimeGAN
from generators.timegan_training import fit_timegan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def gan() -> TimeGAN:
    return fit_timegan(made_cohort(200, 1), tiny_settings(), 0, NullTracker())


# Rank-Gauss


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.sampled_from([1.0, 1.5, 2.0, 7.25, 9.9, 10.0]) | st.floats(1, 10, width=32), min_size=14, max_size=70
    )
)
def test_rank_gauss_inverts_exactly(values: list[float]):
    weeks = np.array(values[: len(values) // 7 * 7], np.float32).reshape(-1, 7, 1)
    margins = RankGauss.fit(weeks, np.ones(weeks.shape, bool))
    scores = margins.to_scores(weeks, rng())
    assert np.isfinite(scores).all()
    assert np.array_equal(margins.to_values(scores), weeks)


def test_scores_are_standard_normal_even_of_a_coarse_rating():
    weeks = rng().integers(1, 6, (2000, 7, 1)).astype(np.float32)
    scores = RankGauss.fit(weeks, np.ones(weeks.shape, bool)).to_scores(weeks, rng(1)).ravel()
    assert abs(scores.mean()) < 0.02 and abs(scores.std() - 1) < 0.02
    assert abs((scores**4).mean() - 3) < 0.15


def test_unobserved_values_leave_no_trace_in_the_margins():
    cohort = made_cohort(100, 2)
    margins = RankGauss.fit(hide_days(cohort, 3).rhythms, hide_days(cohort, 3).mask)
    assert margins.sorted_values[2].min() > 40  # the filled value is 35
    assert margins.to_values(np.full((1, 7, 4), 9.0))[0, 0, 2] == margins.sorted_values[2][-1]  # never beyond the seen


# Moments


def test_moments_are_those_of_the_process_that_made_the_weeks():
    """AR(1) around a person's level: level variance, within-week variance and lag product have closed forms."""
    n, rho, between = 200_000, 0.6, 0.5
    r = rng(4)
    profile = r.normal(size=(n, 1))
    week = np.empty((n, 7, 1))
    week[:, 0] = r.normal(size=(n, 1))
    for t in range(1, 7):
        week[:, t] = rho * week[:, t - 1] + np.sqrt(1 - rho**2) * r.normal(size=(n, 1))
    week += between * profile[:, None]
    found = week_moments(*(torch.from_numpy(a) for a in (week, np.ones_like(week), profile)))
    toeplitz = rho ** np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    centring = np.eye(7) - 1 / 7
    within = centring @ toeplitz @ centring
    lag = np.diag(within, 1).mean() / np.diag(within).mean()
    assert found["level_covariance"].item() == pytest.approx(between**2 + toeplitz.mean(), abs=0.01)
    assert found["lag_correlation"].item() == pytest.approx(lag, abs=0.01)
    assert found["profile_level"].item() == pytest.approx(between, abs=0.01)
    assert found["profile_spread"].item() == pytest.approx(0, abs=0.01)
    assert found["day_sd"].numpy() == pytest.approx(np.sqrt(1 + between**2), abs=0.01)
    middle = found["level_quantiles"][31:33].mean().item()
    assert middle == pytest.approx(0, abs=0.01)


def test_moments_ignore_what_was_not_observed():
    cohort = made_cohort(400, 5)
    week, mask = torch.from_numpy(cohort.rhythms), torch.from_numpy(hide_days(cohort, 6).mask).float()
    profile = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    spoilt = torch.where(mask > 0, week, -999.0)
    a, b = week_moments(week, mask, profile), week_moments(spoilt, mask, profile)
    assert moment_gap(a, b).item() < 1e-4
    assert moment_gap(a, week_moments(spoilt, torch.ones_like(mask), profile)).item() > 10


def test_moments_of_a_signal_nobody_has_stay_finite():
    week = torch.randn(30, 7, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mask = torch.ones(30, 7, 2)
    mask[:, :, 1] = 0
    moments = week_moments(week, mask, torch.zeros(30, 3))
    loss = torch.stack([m.sum() for m in moments.values()]).sum()
    loss.backward()
    assert torch.isfinite(loss) and week.grad is not None and torch.isfinite(week.grad).all()


# TimeGAN


def test_weeks_have_the_shape_unit_and_range_they_should(gan: TimeGAN):
    profiles = made_cohort(500, 7).profiles
    weeks = gan.sample(profiles, rng(1))
    assert weeks.shape == (500, 7, 4) and weeks.dtype == np.float32
    for k, signal in enumerate(gan.signals):
        assert signal.low <= weeks[:, :, k].min() and weeks[:, :, k].max() <= signal.high
    assert np.array_equal(weeks, gan.sample(profiles, rng(1)))
    assert not np.array_equal(weeks, gan.sample(profiles, rng(2)))


def test_training_twice_gives_the_same_and_leaves_global_randomness_alone(gan: TimeGAN):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = fit_timegan(made_cohort(200, 1), tiny_settings(), 0, NullTracker())
    other = fit_timegan(made_cohort(200, 1), replace(tiny_settings(), joint_steps=5), 1, NullTracker())
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002
    profiles = made_cohort(50, 8).profiles
    assert np.array_equal(gan.sample(profiles, rng()), again.sample(profiles, rng()))
    assert not np.array_equal(gan.sample(profiles, rng()), other.sample(profiles, rng()))


def test_artifact_round_trip_is_exact(gan: TimeGAN):
    profiles = made_cohort(50, 9).profiles
    before = torch.get_rng_state()
    copy = TimeGAN.from_artifact(gan.to_artifact())
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(gan.sample(profiles, rng()), copy.sample(profiles, rng()))
    with pytest.raises(ArtifactError, match="'hierarchical', expected 'timegan'"):
        TimeGAN.from_artifact(Artifact({}, {"kind": "hierarchical"}))


def test_a_missing_profile_column_is_named(gan: TimeGAN):
    with pytest.raises(DataError, match="gender"):
        gan.sample(made_cohort(20, 1).profiles.drop(columns="gender"), rng())


def test_five_signals_with_unobserved_days_and_a_batch_larger_than_the_cohort():
    cohort = hide_days(made_cohort(25, 10, FIFTH), 11)
    model = fit_timegan(cohort, replace(tiny_settings(), joint_steps=15), 0, NullTracker())
    weeks = model.sample(cohort.profiles, rng())
    assert weeks.shape == (25, 7, 5) and np.isfinite(weeks).all()
    assert weeks[:, :, 2].min() > 40  # unobserved days were filled with 35 bpm: nothing was learned from them


def test_a_loss_that_is_not_finite_names_phase_and_step():
    wild = replace(tiny_settings(), generator_rate=1e30)
    with pytest.raises(NumericalError, match="joint phase, step"):
        fit_timegan(made_cohort(60, 1), wild, 0, NullTracker())


def test_every_phase_reports_and_shows_progress():
    class Recorder(NullTracker):
        def __init__(self) -> None:
            self.tags: set[str] = set()
            self.bars: list[str] = []

        def scalar(self, tag: str, value: float, step: int) -> None:
            self.tags.add(tag)

        def track(self, items, description, total=None):
            self.bars.append(description)
            yield from items

    quick = replace(tiny_settings(), embedding_steps=2, supervisor_steps=2, joint_steps=2)
    recorder = Recorder()
    fit_timegan(made_cohort(40, 1), quick, 0, recorder)
    assert {tag.split("/")[1] for tag in recorder.tags} == {"embedding", "supervisor", "joint"}
    assert {"timegan/joint/generator_loss", "timegan/joint/discriminator_loss"} <= recorder.tags
    assert recorder.bars == ["TimeGAN embedding", "TimeGAN supervisor", "TimeGAN joint"]


def test_a_short_training_already_learns_rhythm_and_profile():
    """A hundred steps: far from finished, far better than independent days of the right margins."""
    train, holdout = made_cohort(500, 12), made_cohort(1000, 13)
    short = replace(demo_settings(), embedding_steps=100, supervisor_steps=20, joint_steps=120, batch=100)
    model = fit_timegan(train, short, 0, NullTracker())
    weeks = model.sample(train.profiles, rng())
    for statistic in (intraclass_correlations, cross_correlations):
        assert np.abs(statistic(weeks) - statistic(holdout.rhythms)).mean() < 0.1
    calm = train.profiles.assign(dass_stress=2.0)
    tense = train.profiles.assign(dass_stress=24.0)
    gap = (model.sample(tense, rng()) - model.sample(calm, rng())).mean((0, 1))
    assert gap[3] > 0.5 and gap[1] < -0.4  # the weeks were made so: 2.2 sd of distress apart, both ways


# Hierarchical baseline


def test_the_baseline_recovers_the_process_it_assumes():
    model = fit_hierarchical(made_cohort(3000, 14))
    assert model.rho[:2] == pytest.approx([0.0, 0.1], abs=0.05) and model.rho[3] == pytest.approx(0.3, abs=0.05)
    share = np.diag(model.residual) / (np.diag(model.residual) + np.diag(model.person))
    assert share[1] > 0.5 > share[2]  # quality varies by day, heart rate by person
    holdout = made_cohort(2000, 15)
    weeks = model.sample(holdout.profiles, rng())
    for statistic in (lag1_correlations, intraclass_correlations, cross_correlations):
        assert np.abs(statistic(weeks) - statistic(holdout.rhythms)).mean() < 0.04


def test_the_baseline_round_trips_and_bears_unobserved_days():
    cohort = hide_days(made_cohort(60, 16, FIFTH), 17)
    model = fit_hierarchical(cohort)
    weeks = model.sample(cohort.profiles, rng())
    assert weeks.shape == (60, 7, 5) and weeks[:, :, 2].min() > 40
    copy = HierarchicalRhythms.from_artifact(model.to_artifact())
    assert np.array_equal(weeks, copy.sample(cohort.profiles, rng()))
    with pytest.raises(ArtifactError, match="expected 'hierarchical'"):
        HierarchicalRhythms.from_artifact(Artifact({}, {"kind": "timegan"}))
