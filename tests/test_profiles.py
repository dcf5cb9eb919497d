"""Profiles: CTGAN behind the protocol, calibration, fusion."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from core.artifact import Artifact
from core.errors import DataError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS
from generators.calibration import (
    CalibratedProfiles,
    CalibrationSettings,
    calibrate,
    effective_share,
    rake,
    systematic,
)
from generators.ctgan import CTGANProfiles, CTGANSettings, fit_ctgan
from generators.fusion import fuse
from generators.quantiles import GaussianRanks, Rounding, decimals_of, quantile_knots, spread_ties

CONF = yaml.safe_load((Path(__file__).parents[1] / "conf" / "profiles.yaml").read_text())["profiles"]
CTGAN_SETTINGS = TypeAdapter(CTGANSettings).validate_python(CONF["ctgan"])
CALIBRATION = TypeAdapter(CalibrationSettings).validate_python(CONF["calibration"])
QUICK = replace(CTGAN_SETTINGS, steps=60, batch_size=100, generator_dim=(32,), discriminator_dim=(32,))


def people(n: int, seed: int = 0) -> pd.DataFrame:
    """Mixed columns that depend on each other; one is constant, one has few numbers."""
    rng = np.random.default_rng(seed)
    distress = rng.normal(size=n)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "gender": rng.choice(["Female", "Male"], n),
            "bmi": np.round(25 + distress + 3 * rng.normal(size=n), 1),
            "children": rng.integers(0, 4, n),
            "insomnia": np.where(distress + rng.normal(size=n) > 0.5, "Yes", "No"),
            "dass": np.clip(np.round(np.exp(2 + 0.6 * distress)), 0, 42).astype(int),
            "country": "X",
        }
    )


class Recorder(NullTracker):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((step, value))


@pytest.fixture(scope="module")
def fitted() -> tuple[pd.DataFrame, CTGANProfiles, Recorder]:
    table, tracker = people(600), Recorder()
    return table, fit_ctgan(table, QUICK, 0, tracker), tracker


@pytest.fixture(scope="module")
def calibrated(fitted: tuple[pd.DataFrame, CTGANProfiles, Recorder]) -> CalibratedProfiles:
    table, generator, _ = fitted
    loose = replace(CALIBRATION, min_effective_share=0.0)
    return calibrate(generator, table, loose, np.random.default_rng(0), NullTracker())


def through_json(artifact: Artifact) -> Artifact:
    return Artifact(artifact.tensors, json.loads(json.dumps(artifact.meta)))


# CTGAN


def test_samples_have_the_columns_dtypes_and_range_of_the_training_table(fitted):
    table, generator, _ = fitted
    sample = generator.sample(500, np.random.default_rng(0))
    assert sample.dtypes.equals(table.dtypes)
    assert (sample["country"] == "X").all()
    for column in ("age", "bmi", "children", "dass"):
        assert table[column].min() <= sample[column].min() <= sample[column].max() <= table[column].max()
    assert set(sample["gender"]) == {"Female", "Male"}
    assert decimals_of(sample["bmi"].to_numpy()) <= 1


def test_losses_are_reported_up_to_the_step_budget(fitted):
    _, _, tracker = fitted
    for tag in ("ctgan/generator_loss", "ctgan/discriminator_loss"):
        steps = [step for step, _ in tracker.scalars[tag]]
        assert steps == sorted(steps) and steps[-1] >= QUICK.steps
        assert len(steps) == QUICK.steps // 6  # six steps an epoch: 600 rows, batches of 100


def test_training_is_repeatable_silent_and_leaves_global_state_alone(fitted, capfd):
    table, generator, _ = fitted
    np_state, torch_state, threads = np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()  # noqa: NPY002
    again = fit_ctgan(table, QUICK, 0, NullTracker())
    other = fit_ctgan(table, replace(QUICK, steps=6), 1, NullTracker())
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state) and torch.get_num_threads() == threads
    draw = [g.sample(50, np.random.default_rng(1)) for g in (generator, again, other)]
    pd.testing.assert_frame_equal(draw[0], draw[1])
    assert not draw[0].equals(draw[2])
    assert capfd.readouterr() == ("", "")


def test_ctgan_survives_its_artifact_exactly(fitted):
    _, generator, _ = fitted
    before = torch.get_rng_state()
    loaded = CTGANProfiles.from_artifact(through_json(generator.to_artifact()))
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(*[g.sample(300, np.random.default_rng(2)) for g in (generator, loaded)])


def test_learns_a_dependence_that_shuffled_columns_lack():
    rng = np.random.default_rng(0)
    x = rng.normal(size=800)
    table = pd.DataFrame({"x": x, "y": x + 0.3 * rng.normal(size=800), "side": np.where(x > 0, "a", "b")})
    sample = fit_ctgan(table, replace(CTGAN_SETTINGS, steps=300), 0, NullTracker()).sample(2000, rng)
    assert np.corrcoef(sample["x"], sample["y"])[0, 1] > 0.3  # shuffled: 0 +- 0.02
    assert ((sample["x"] > 0) == (sample["side"] == "a")).mean() > 0.65  # shuffled: 0.5 +- 0.01


@pytest.mark.parametrize("rows", [16, 40])
@pytest.mark.parametrize("columns", [["age", "bmi"], ["gender", "insomnia"], ["age", "gender", "country"]])
def test_tiny_tables_work(rows: int, columns: list[str]):
    table = people(rows)[columns]
    sample = fit_ctgan(table, replace(QUICK, steps=4), 0, NullTracker()).sample(30, np.random.default_rng(0))
    assert sample.shape == (30, len(columns)) and sample.dtypes.equals(table.dtypes)


def test_repeated_rows_of_few_persons_work():
    table = people(23).loc[np.repeat(np.arange(23), 6)].reset_index(drop=True)
    generator = fit_ctgan(table, replace(QUICK, steps=100), 0, NullTracker())
    settings = replace(CALIBRATION, min_effective_share=0.0, min_pool=1000)
    sample = calibrate(generator, table, settings, np.random.default_rng(0), NullTracker())
    assert sample.sample(40, np.random.default_rng(0)).dtypes.equals(table.dtypes)


def test_tables_that_cannot_be_learned_are_refused_by_name():
    with pytest.raises(DataError, match="all 1 columns are constant"):
        fit_ctgan(people(30)[["country"]], QUICK, 0, NullTracker())
    names = people(200).assign(name=[f"person {i}" for i in range(200)])
    with pytest.raises(DataError, match="column 'name' has 200 distinct texts in 200 rows, expected at most"):
        fit_ctgan(names, QUICK, 0, NullTracker())


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
    weights = rake([a, b], [np.array([0.7, 0.3]), np.array([0.4, 0.6])], 50, 1e-12)
    assert weights == pytest.approx([0.28, 0.42, 0.12, 0.18])


def test_raking_keeps_the_odds_ratio_of_the_pool():
    cells = np.repeat([0, 1, 2, 3], [40, 10, 10, 40])
    weights = rake([cells // 2, cells % 2], [np.array([0.8, 0.2]), np.array([0.3, 0.7])], 500, 1e-12)
    table = np.bincount(cells, weights).reshape(2, 2)
    assert table.sum(1) == pytest.approx([0.8, 0.2]) and table.sum(0) == pytest.approx([0.3, 0.7])
    assert table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]) == pytest.approx(16)


def test_raking_leaves_out_cells_without_rows():
    weights = rake([np.array([0, 0, 1])], [np.array([0.5, 0.25, 0.25])], 10, 1e-9)
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


def test_calibration_brings_the_margins_to_the_training_table(fitted, calibrated):
    table, generator, _ = fitted
    rng = np.random.default_rng(5)
    raw, better = generator.sample(3000, rng), calibrated.sample(3000, rng)
    assert better.dtypes.equals(table.dtypes)

    def off(sample: pd.DataFrame, columns: list[str]) -> float:
        shares = [t.groupby(columns).size() / len(t) for t in (sample, table)]
        return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)

    assert off(better, ["gender"]) < 0.03 and off(better, ["insomnia"]) < 0.03  # three standard errors
    assert off(better, ["insomnia", "children"]) < 0.5 * off(raw, ["insomnia", "children"])
    for column in ("age", "bmi", "dass"):
        quantiles = [np.quantile(t[column], np.linspace(0.1, 0.9, 9)) for t in (better, table)]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 0.25 * table[column].std()
    truth = table["dass"].corr(table["bmi"])
    assert abs(better["dass"].corr(better["bmi"]) - truth) < abs(raw["dass"].corr(raw["bmi"]) - truth) + 0.05


def test_calibration_is_repeatable_and_survives_its_artifact_exactly(calibrated):
    loaded = CalibratedProfiles.from_artifact(through_json(calibrated.to_artifact()))
    draws = [g.sample(200, np.random.default_rng(3)) for g in (calibrated, calibrated, loaded)]
    pd.testing.assert_frame_equal(draws[0], draws[1])
    pd.testing.assert_frame_equal(draws[0], draws[2])
    assert loaded.effective_share == calibrated.effective_share and 0 < loaded.effective_share <= 1


def test_a_generator_too_far_off_is_refused(fitted):
    table, generator, _ = fitted
    strict = replace(CALIBRATION, min_effective_share=0.999)
    with pytest.raises(DataError, match=r"effective share of 0\.\d+ .* expected at least 0.999"):
        calibrate(generator, table, strict, np.random.default_rng(0), NullTracker())


# Fusion


class Flat:
    """A week that repeats the profile's age."""

    def __init__(self, signals: int):
        self.signals = signals

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(profiles["age"].to_numpy(float)[:, None, None], (len(profiles), 7, self.signals))


def test_fusion_gives_each_person_the_week_of_their_own_profile(fitted):
    _, generator, _ = fitted
    cohort = fuse(generator, Flat(4), 25, DEFAULT_SIGNALS, np.random.default_rng(0))
    assert (cohort.rhythms[:, 3, 2] == cohort.profiles["age"]).all() and cohort.rhythms.dtype == np.float32
    assert cohort.person.tolist() == list(range(25)) and cohort.mask.all() and cohort.risk is None


def test_fusion_refuses_weeks_of_other_signals(fitted):
    _, generator, _ = fitted
    with pytest.raises(DataError, match=r"shape \(25, 7, 3\), expected \(25, 7, 4\)"):
        fuse(generator, Flat(3), 25, DEFAULT_SIGNALS, np.random.default_rng(0))
