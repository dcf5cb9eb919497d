"""Profiles: three generators behind one protocol, quantiles, raking, calibration, fusion."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_profiles import QUICK, SETTINGS, Recorder, people, through_json
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artifact import Artifact
from core.errors import ArtifactError, DataError, NumericalError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS
from generators import averaging, ctgan, tvae
from generators.calibration import CalibratedProfiles, calibrate
from generators.copula import CopulaProfiles, fit_copula, noise_share, truncated_normal
from generators.ctgan import CTGANProfiles, fit_ctgan, kernel_distance
from generators.fusion import fuse
from generators.profiles import fit_profiles
from generators.quantiles import GaussianRanks, Rounding, decimals_of, quantile_knots, spread_ties
from generators.raking import effective_share, rake, systematic, weigh
from generators.tvae import TVAEProfiles, fit_tvae

FITS = {"ctgan": fit_ctgan, "tvae": fit_tvae, "copula": fit_copula}
CLASSES = {"ctgan": CTGANProfiles, "tvae": TVAEProfiles, "copula": CopulaProfiles}
KINDS = tuple(FITS)


@pytest.fixture(scope="module")
def fitted():
    """Every kind, on the same table."""
    table, trackers = people(600), {kind: Recorder() for kind in KINDS}
    return table, {kind: FITS[kind](table, getattr(QUICK, kind), 0, trackers[kind]) for kind in KINDS}, trackers


@pytest.fixture(scope="module")
def calibrated(fitted) -> CalibratedProfiles:
    table, generators, _ = fitted
    return calibrate(generators["ctgan"], table, QUICK.calibration, np.random.default_rng(0), NullTracker())


# The generators


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_columns_dtypes_and_range_of_the_training_table(kind, fitted):
    table, generators, _ = fitted
    sample = generators[kind].sample(500, np.random.default_rng(0))
    assert sample.dtypes.equals(table.dtypes)
    assert (sample["country"] == "X").all()
    for column in ("age", "bmi", "children", "dass"):
        assert table[column].min() <= sample[column].min() <= sample[column].max() <= table[column].max()
    assert set(sample["gender"]) == {"Female", "Male"}
    assert decimals_of(sample["bmi"].to_numpy()) <= 1


@pytest.mark.parametrize(("kind", "tags"), [("ctgan", ("generator_loss", "discriminator_loss")), ("tvae", ("loss",))])
def test_losses_are_reported_up_to_the_step_budget(kind, tags, fitted):
    _, _, trackers = fitted
    for tag in tags:
        steps = [step for step, _ in trackers[kind].scalars[f"{kind}/{tag}"]]
        assert steps == sorted(steps) and steps[-1] == 60 and len(steps) >= 6


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_repeatable_silent_and_leaves_global_state_alone(kind, fitted, capfd):
    table, generators, _ = fitted
    np_state, torch_state, threads = np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()  # noqa: NPY002
    again = FITS[kind](table, getattr(QUICK, kind), 0, NullTracker())
    less = QUICK.copula if kind == "copula" else replace(getattr(QUICK, kind), steps=6)
    other = FITS[kind](table, less, 1, NullTracker())
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state) and torch.get_num_threads() == threads
    draw = [g.sample(50, np.random.default_rng(1)) for g in (generators[kind], again, other)]
    pd.testing.assert_frame_equal(draw[0], draw[1])
    assert not draw[0].equals(draw[2])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_generators_survive_their_artifact_exactly(kind, fitted):
    _, generators, _ = fitted
    before = torch.get_rng_state()
    artifact = generators[kind].to_artifact()
    loaded = CLASSES[kind].from_artifact(through_json(artifact))
    assert torch.equal(torch.get_rng_state(), before) and artifact.meta["kind"] == kind
    pd.testing.assert_frame_equal(*[g.sample(300, np.random.default_rng(2)) for g in (generators[kind], loaded)])


@pytest.mark.parametrize("kind", KINDS)
def test_learns_a_dependence_that_shuffled_columns_lack(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=800)
    table = pd.DataFrame({"x": x, "y": x + 0.3 * rng.normal(size=800), "side": np.where(x > 0, "a", "b")})
    some = replace(
        SETTINGS, ctgan=replace(SETTINGS.ctgan, steps=150), tvae=replace(SETTINGS.tvae, steps=300), copula=QUICK.copula
    )
    sample = FITS[kind](table, getattr(some, kind), 0, NullTracker()).sample(2000, rng)
    assert np.corrcoef(sample["x"], sample["y"])[0, 1] > 0.5  # shuffled: 0 +- 0.02; real 0.96
    assert ((sample["x"] > 0) == (sample["side"] == "a")).mean() > 0.75  # shuffled: 0.5 +- 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [["age", "bmi"], ["gender", "insomnia"], ["age", "gender", "country"]])
def test_tiny_tables_work(kind: str, columns: list[str]):
    table = people(16)[columns]
    quick = replace(QUICK, ctgan=replace(QUICK.ctgan, steps=4), tvae=replace(QUICK.tvae, steps=4), generator=kind)
    sample = fit_profiles(table, quick, 0, NullTracker()).sample(30, np.random.default_rng(0))
    assert sample.shape == (30, len(columns)) and sample.dtypes.equals(table.dtypes)


@pytest.mark.parametrize("kind", [*KINDS, "auto"])
def test_twenty_five_persons_and_a_level_seen_once_work(kind: str):
    table = people(25)
    table.loc[7, "gender"] = "Other"
    generator = fit_profiles(table, replace(QUICK, generator=kind), 0, NullTracker())
    sample = generator.sample(400, np.random.default_rng(0))
    assert sample.dtypes.equals(table.dtypes) and set(sample["gender"]) <= set(table["gender"])
    copies = sample.merge(table.drop_duplicates(), how="inner")
    assert len(copies) < 0.02 * len(sample)  # nobody is given away whole


def test_repeated_rows_of_few_persons_work():
    person = np.repeat(np.arange(23), 6)
    table = people(23).loc[person].reset_index(drop=True)
    for kind in ("ctgan", "auto"):
        generator = fit_profiles(table, replace(QUICK, generator=kind), 0, NullTracker(), person)
        assert generator.sample(40, np.random.default_rng(0)).dtypes.equals(table.dtypes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_in_which_nothing_varies(kind: str):
    table = people(30)[["country"]]
    if kind == "copula":  # no network: every person is alike, and so is every synthetic one
        assert (fit_copula(table, QUICK.copula, 0, NullTracker()).sample(5, np.random.default_rng(0)) == "X").all(None)
        return
    with pytest.raises(DataError, match="all 1 columns are constant"):
        FITS[kind](table, getattr(QUICK, kind), 0, NullTracker())


@pytest.mark.parametrize("pac", [1, 3, 7])
def test_a_batch_that_pac_does_not_divide_is_lowered(pac: int):
    table = people(60)
    sample = fit_ctgan(table, replace(QUICK.ctgan, steps=3, batch_size=50, pac=pac), 0, NullTracker())
    assert len(sample.sample(10, np.random.default_rng(0))) == 10


def test_kernel_distance_is_least_between_equal_distributions_and_unbiased():
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(400, 3, generator=generator) for _ in range(3)]

    def squared_mmd(fake: torch.Tensor, real: torch.Tensor) -> float:
        """With the constant that the loss leaves out: ``E k(y, y') = kernel(y) - kernel-to-itself`` terms."""
        n = len(real)
        pairs = torch.cdist(real, real)[~torch.eye(n, dtype=torch.bool)] ** 2
        constant = sum(torch.exp(-pairs / width).mean() for width in (2.0, 6.0, 18.0))
        return float(kernel_distance(fake, real) + constant)

    assert abs(squared_mmd(draw[0], draw[1])) < 0.01  # unbiased: near 0, not above it by 1/n
    assert 0.03 < squared_mmd(draw[2] + 0.5, draw[1]) < squared_mmd(draw[2] + 2.0, draw[1])


@pytest.mark.parametrize(("kind", "module"), [("ctgan", ctgan), ("tvae", tvae)])
def test_training_that_blows_up_is_stopped_by_step(kind, module, monkeypatch):
    """A loss that is not finite: refused in the first half, kept as it stood in the second."""
    honest = averaging.finite

    def broken_at(step: int):
        def finite(name, losses, at, *rest):
            return honest(
                name, {key: float("nan") if at >= step else value for key, value in losses.items()}, at, *rest
            )

        return finite

    table, tracker = people(100), Recorder()
    monkeypatch.setattr(module, "finite", broken_at(10))
    with pytest.raises(NumericalError, match=r"loss is nan at step 10 of 60; lower profiles\."):
        FITS[kind](table, getattr(QUICK, kind), 0, NullTracker())
    monkeypatch.setattr(module, "finite", broken_at(40))
    kept = FITS[kind](table, getattr(QUICK, kind), 0, tracker)
    assert len(tracker.notes) == 1 and "at step 40 of 60; training stopped there" in tracker.notes[0]
    assert len(kept.sample(20, np.random.default_rng(0))) == 20


def test_nothing_is_kept_before_there_is_something_to_keep(monkeypatch):
    """One step of one: more than half of training, and nothing good yet."""
    monkeypatch.setattr(ctgan, "kernel_distance", lambda fake, real: fake.sum() * float("nan"))
    with pytest.raises(NumericalError, match="loss is nan at step 1 of 1"):
        fit_ctgan(people(100), replace(QUICK.ctgan, steps=1), 0, NullTracker())


@pytest.mark.parametrize("table", [people(30)[["country"]], people(30)[["country", "bmi"]]])
def test_columns_without_classes_need_no_raking(table: pd.DataFrame):
    settings = replace(QUICK, generator="copula")
    drawn = fit_profiles(table, settings, 0, NullTracker()).sample(50, np.random.default_rng(0))
    assert list(drawn) == list(table) and set(drawn["country"]) == {"X"}


def test_an_artifact_of_another_version_is_named(calibrated):
    whole = calibrated.to_artifact()
    for partial in (Artifact({}, whole.meta), Artifact(whole.tensors, {"generator": whole.meta["generator"]})):
        with pytest.raises(ArtifactError, match=r"another version, or incomplete .*stage=profiles force=true"):
            CalibratedProfiles.from_artifact(partial)


def test_a_learning_rate_that_explodes_is_refused_by_name():
    wild = replace(QUICK.ctgan, generator_lr=1e30)
    with pytest.raises(NumericalError, match=r"CTGAN's .* loss is .* of 60; lower profiles.ctgan.generator_lr"):
        fit_ctgan(people(200), wild, 0, NullTracker())


# The copula


def test_the_copula_recovers_a_known_correlation_through_cut_columns():
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0, 0], [[1, 0.6, -0.5], [0.6, 1, 0.0], [-0.5, 0.0, 1]], 4000)
    table = pd.DataFrame(
        {"x": z[:, 0], "rating": np.digitize(z[:, 1], [-1, 0, 1]), "yes": np.where(z[:, 2] > 0.8, "y", "n")}
    )
    copula = fit_copula(table, replace(QUICK.copula, sweeps=80), 0, NullTracker())
    sd = np.sqrt(np.diag(copula.covariance))
    got = copula.covariance / np.outer(sd, sd)
    assert got[np.triu_indices(3, 1)] == pytest.approx([0.6, -0.5, 0.0], abs=0.05)
    assert copula.mean[2] / sd[2] == pytest.approx(-0.8, abs=0.08)


def test_the_copula_of_few_persons_is_shrunk_and_positive_definite():
    table = people(16)[["age", "bmi", "dass", "gender", "insomnia"]].assign(twin=lambda t: t["bmi"])
    copula = fit_copula(table, SETTINGS.copula, 0, NullTracker())
    assert np.linalg.eigvalsh(copula.covariance).min() > 0
    off = copula.covariance[1, -1] / np.sqrt(copula.covariance[1, 1] * copula.covariance[-1, -1])
    assert 0.4 < off < 0.9  # bmi and its copy: 1 in the table, kept short of it by ten persons of independence


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.01, 5))
@settings(max_examples=50, deadline=None)
def test_truncated_normals_stay_inside(mean: float, low: float, width: float):
    draws = truncated_normal(
        np.full(50, mean), 1.0, np.full(50, low), np.full(50, low + width), np.random.default_rng(0)
    )
    assert (draws >= low - 1e-9).all() and (draws <= low + width + 1e-9).all()


def test_truncated_normal_has_the_half_normal_mean():
    draws = truncated_normal(np.zeros(40_000), 1.0, np.zeros(40_000), np.full(40_000, np.inf), np.random.default_rng(0))
    assert draws.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.01)


# The choice


def test_correlations_of_few_persons_are_mostly_noise_and_of_many_are_not():
    rng = np.random.default_rng(0)
    apart, together = np.eye(10), np.full((10, 10), 0.6) + 0.4 * np.eye(10)

    def share(covariance: np.ndarray, n: int) -> float:
        z = rng.multivariate_normal(np.zeros(10), covariance, n)
        return noise_share(np.cov(z, rowvar=False), n)

    assert np.mean([share(apart, 20) for _ in range(50)]) > 0.8
    assert share(together, 2000) < 0.01
    assert noise_share(np.eye(1), 5) == 0.0


def test_a_persons_weeks_count_once():
    table = people(40)
    person = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 6, 40))
    settings = replace(SETTINGS, generator="copula")
    once = fit_profiles(table, settings, 0, NullTracker(), np.arange(40))
    weeks = fit_profiles(table.iloc[person].reset_index(drop=True), settings, 0, NullTracker(), person)
    a, b = (model.sample(200, np.random.default_rng(1)) for model in (once, weeks))
    pd.testing.assert_frame_equal(a, b)


def test_the_copula_imports_no_network_library():
    code = """
import sys
import numpy as np
from core.protocols import NullTracker
from dataclasses import replace
from generators.calibration import CalibratedProfiles
from generators.profiles import fit_profiles
from helpers_profiles import QUICK, people
fitted = fit_profiles(people(60), replace(QUICK, generator="copula"), 0, NullTracker())
CalibratedProfiles.from_artifact(fitted.to_artifact()).sample(20, np.random.default_rng(0))
assert "ctgan" not in sys.modules and "rdt" not in sys.modules
import generators.ctgan
assert "ctgan" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_auto_takes_the_best_scored_and_says_why():
    tracker = Recorder()
    two = replace(QUICK.choice, candidates=("tvae", "copula"))
    generator = fit_profiles(people(300), replace(QUICK, generator="auto", choice=two), 0, tracker)
    scores = generator.choice["scores"]
    assert set(scores) == {"tvae", "copula"} and generator.choice["generator"] == max(
        scores, key=lambda k: scores[k]["score"]
    )
    chosen = generator.choice["generator"]
    assert [note for note in tracker.notes if f"took {chosen}, the highest score on 90 rows" in note]
    assert isinstance(generator.generator, CLASSES[chosen])
    assert scores["copula"]["score"] > 1.5 and all(0 < each["effective_share"] <= 1 for each in scores.values())


def test_auto_does_not_let_a_handful_of_persons_decide():
    tracker = Recorder()
    generator = fit_profiles(people(60), replace(QUICK, generator="auto"), 0, tracker)
    assert generator.choice["generator"] == "copula" and "60 persons are too few" in tracker.notes[0]


def test_large_tables_are_subsampled_and_it_is_said():
    tracker = Recorder()
    fit_profiles(people(500), replace(QUICK, generator="copula", max_rows=200), 0, tracker)
    assert tracker.notes == ["profiles: learned from 200 random rows of 500 (profiles.max_rows)"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_its_calibrated_artifact_exactly(kind, fitted):
    table, generators, _ = fitted
    made = calibrate(generators[kind], table, QUICK.calibration, np.random.default_rng(0), NullTracker())
    loaded = CalibratedProfiles.from_artifact(through_json(made.to_artifact()))
    draws = [g.sample(200, np.random.default_rng(3)) for g in (made, made, loaded)]
    pd.testing.assert_frame_equal(draws[0], draws[1])
    pd.testing.assert_frame_equal(draws[0], draws[2])
    assert loaded.effective_share == made.effective_share and 0 < loaded.effective_share <= 1


def test_an_artifact_of_no_known_kind_is_refused(calibrated):
    artifact = calibrated.to_artifact()
    artifact.meta["generator"]["kind"] = "oracle"
    with pytest.raises(ArtifactError, match="kind 'oracle', expected one of ctgan, tvae, copula"):
        CalibratedProfiles.from_artifact(artifact)


# Quantiles


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=200).filter(lambda v: len(set(v)) > 1))
@settings(max_examples=30, deadline=None)
def test_gaussian_ranks_invert_within_their_rounding(values: list[int]):
    column = np.array(values)
    ranks = GaussianRanks.fit(column, np.random.default_rng(0))
    back = ranks.inverse(ranks.forward(column, np.random.default_rng(1)))
    assert back.dtype == np.int64 and np.abs(back - column).max() <= 1
    assert GaussianRanks.from_meta(json.loads(json.dumps(ranks.to_meta()))) == ranks


def test_decimals_and_rounding():
    assert decimals_of(np.array([1.0, 2.0])) == 0
    assert decimals_of(np.array([1.25, 2.5])) == 2
    rounding = Rounding.of(np.array([1, 5]))
    assert rounding.apply(np.array([0.2, 3.6, 9.0])).tolist() == [1, 4, 5]
    spread = spread_ties(np.zeros(1000), 1, np.random.default_rng(0))
    assert spread.min() >= -0.05 and spread.max() <= 0.05
    assert quantile_knots(np.arange(11.0))[[0, 500, 1000]].tolist() == [0.0, 5.0, 10.0]


# Raking


def test_raking_reproduces_given_margins():
    """Two binary columns, uniform pool: the raked table is the independent one with these margins."""
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    weights, _ = rake([a, b], [np.array([0.7, 0.3]), np.array([0.4, 0.6])], 50, 1e-12)
    assert weights == pytest.approx([0.28, 0.42, 0.12, 0.18])


def test_raking_keeps_the_odds_ratio_of_the_pool():
    cells = np.repeat([0, 1, 2, 3], [40, 10, 10, 40])
    weights, _ = rake([cells // 2, cells % 2], [np.array([0.8, 0.2]), np.array([0.3, 0.7])], 500, 1e-12)
    table = np.bincount(cells, weights).reshape(2, 2)
    assert table.sum(1) == pytest.approx([0.8, 0.2]) and table.sum(0) == pytest.approx([0.3, 0.7])
    assert table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]) == pytest.approx(16)


def test_raking_leaves_out_cells_without_rows():
    weights, _ = rake([np.array([0, 0, 1])], [np.array([0.5, 0.25, 0.25])], 10, 1e-9)
    assert weights == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_effective_share_closed_form():
    assert effective_share(np.ones(7)) == pytest.approx(1)
    assert effective_share(np.array([1.0, 0, 0, 0])) == pytest.approx(0.25)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_systematic_draws_each_row_within_one_of_its_expectation(weights: list[float], n: int, seed: int):
    w = np.array(weights)
    drawn = np.bincount(systematic(w, n, np.random.default_rng(seed)), minlength=len(w))
    assert drawn.sum() == n
    assert (np.abs(drawn - n * w / w.sum()) < 1 + 1e-6).all()


# Calibration


def test_calibration_brings_the_margins_to_the_training_table(fitted):
    table, generators, _ = fitted
    rng = np.random.default_rng(5)
    few = replace(QUICK.calibration, pseudo_count=50.0)
    calibrated = calibrate(generators["ctgan"], table, few, np.random.default_rng(0), NullTracker())
    raw, better = generators["ctgan"].sample(3000, rng), calibrated.sample(3000, rng)
    assert better.dtypes.equals(table.dtypes)

    def off(sample: pd.DataFrame, columns: list[str]) -> float:
        shares = [t.groupby(columns).size() / len(t) for t in (sample, table)]
        return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)

    assert off(better, ["gender"]) < 0.03 and off(better, ["insomnia"]) < 0.03  # three standard errors
    assert off(better, ["insomnia", "children"]) < 0.6 * off(raw, ["insomnia", "children"])
    for column in ("age", "bmi", "dass"):
        quantiles = [np.quantile(t[column], np.linspace(0.1, 0.9, 9)) for t in (better, table)]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 0.25 * table[column].std()


def test_pair_targets_lie_between_the_training_table_and_the_generator(fitted):
    """No pseudo count: the training table itself. Many: the generator's own pairs, at the training margins."""
    table, generators, _ = fitted

    def target(pseudo_count: float) -> tuple[np.ndarray, CalibratedProfiles]:
        settings_ = replace(QUICK.calibration, pseudo_count=pseudo_count)
        made = calibrate(generators["ctgan"], table, settings_, np.random.default_rng(0), NullTracker())
        return next(m.shares for m in made.margins if set(m.names) == {"insomnia", "gender"}), made

    (exact, strict), (half, _), (own, loose) = target(0.0), target(len(table)), target(1e9)
    shares = table.groupby(["gender", "insomnia"]).size().to_numpy() / len(table)
    assert np.sort(exact) == pytest.approx(np.sort(shares))
    assert half == pytest.approx((exact + own) / 2)
    assert own.sum() == pytest.approx(1) and np.abs(own - exact).max() > 0.005
    assert loose.effective_share > strict.effective_share


def test_kept_factors_weigh_a_fresh_pool(fitted):
    """The factors of one pool give another pool of the same generator its targets, up to its own sampling noise."""
    generators = fitted[1]
    codes = [
        np.unique(generators["tvae"].sample(20_000, np.random.default_rng(i))["gender"], return_inverse=True)[1]
        for i in (0, 1)
    ]
    goal = np.array([0.2, 0.8])
    _, factors = rake([codes[0]], [goal], 5, 1e-9)
    assert np.bincount(codes[1], weigh([codes[1]], factors)) == pytest.approx(goal, abs=0.02)


def test_more_persons_than_one_pool_come_from_fresh_pools(calibrated):
    """21,000 persons: three pools, never one of 210,000 rows, and hardly anybody twice."""
    asked = []

    class Watched:
        def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
            asked.append(n)
            return calibrated.generator.sample(n, rng)

    watched = CalibratedProfiles(
        Watched(), calibrated.maps, calibrated.classes, calibrated.margins, calibrated.settings, 1.0
    )
    sample = watched.sample(21_000, np.random.default_rng(0))
    pool = calibrated.settings.pool
    assert asked == [10_000 * pool, 10_000 * pool, 1_000 * pool]
    assert len(sample) == 21_000 and sample.index.equals(pd.RangeIndex(21_000))


def test_a_generator_too_far_off_is_refused(fitted):
    table, generators, _ = fitted
    strict = replace(QUICK.calibration, min_effective_share=0.999)
    with pytest.raises(DataError, match=r"effective share of 0\.\d+ .* expected at least 0.999"):
        calibrate(generators["ctgan"], table, strict, np.random.default_rng(0), NullTracker())


# Fusion


class Flat:
    """A week that repeats the profile's age."""

    def __init__(self, signals: int):
        self.signals = signals

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(profiles["age"].to_numpy(float)[:, None, None], (len(profiles), 7, self.signals))


def test_fusion_gives_each_person_the_week_of_their_own_profile(fitted):
    generator = fitted[1]["copula"]
    cohort = fuse(generator, Flat(4), 25, DEFAULT_SIGNALS, np.random.default_rng(0))
    assert (cohort.rhythms[:, 3, 2] == cohort.profiles["age"]).all() and cohort.rhythms.dtype == np.float32
    assert cohort.person.tolist() == list(range(25)) and cohort.mask.all() and cohort.risk is None


def test_fusion_refuses_weeks_of_other_signals(fitted):
    generator = fitted[1]["copula"]
    with pytest.raises(DataError, match=r"shape \(25, 7, 3\), expected \(25, 7, 4\)"):
        fuse(generator, Flat(3), 25, DEFAULT_SIGNALS, np.random.default_rng(0))
