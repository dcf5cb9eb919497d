"""The benchmarks: their baselines are sound, their numbers are the report's, their bars are read rightly."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ctgan import CTGAN, TVAE

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are scripts, not installed

from helpers_envs import people
from helpers_rhythms import made_cohort

from benchmarks import environments, risk_scores
from benchmarks import generators as benchmark
from benchmarks import risk as risk_benchmark
from benchmarks.candidates import Population
from benchmarks.histories import RESPONSES, Reader, Shown, agreement, imitated
from benchmarks.lifesnaps import resampled, with_intervals
from benchmarks.plain_profiles import fit_plain, shuffled
from benchmarks.plain_timegan import PlainSettings, PlainTimeGAN, fit_plain_timegan
from benchmarks.scores import METRICS, OURS, Metric
from core.cohort import Cohort
from core.protocols import NullTracker
from core.random import seeded_init
from envs.observation import ObservationLayout, observation_layout
from generators.sources import read_source

TINY = PlainSettings(hidden=6, embedding_steps=5, supervisor_steps=3, joint_steps=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def global_states() -> tuple[bytes, bytes]:
    return np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002 - what is watched


def test_plain_timegan_draws_within_the_training_range_and_the_same_twice() -> None:
    cohort, before = made_cohort(150, 0), global_states()
    trained = [fit_plain_timegan(cohort.rhythms, TINY, 0, NullTracker()) for _ in range(2)]
    weeks = [model.sample(cohort.profiles, np.random.default_rng(1)) for model in trained]
    assert global_states() == before
    assert weeks[0].shape == cohort.rhythms.shape and weeks[0].dtype == np.float32
    assert np.array_equal(weeks[0], weeks[1])
    low, high = cohort.rhythms.min((0, 1)), cohort.rhythms.max((0, 1))
    assert (weeks[0] >= low - 1e-4).all() and (weeks[0] <= high + 1e-4).all()


def test_plain_timegan_learns_levels_but_no_profile() -> None:
    cohort = made_cohort(300, 0)
    untrained = PlainSettings(embedding_steps=0, supervisor_steps=0, joint_steps=0)
    settings = PlainSettings(embedding_steps=100, supervisor_steps=20, joint_steps=40)

    def gap(model: PlainTimeGAN) -> float:
        weeks = model.sample(cohort.profiles, np.random.default_rng(1))
        return float(np.abs((weeks.mean((0, 1)) - cohort.rhythms.mean((0, 1))) / cohort.rhythms.std((0, 1))).mean())

    trained = fit_plain_timegan(cohort.rhythms, settings, 0, NullTracker())
    assert gap(trained) < 0.5 * gap(fit_plain_timegan(cohort.rhythms, untrained, 0, NullTracker()))
    turned = cohort.profiles.iloc[::-1]
    draws = [trained.sample(profiles, np.random.default_rng(2)) for profiles in (cohort.profiles, turned)]
    assert np.array_equal(*draws)


@pytest.mark.parametrize("kind", [CTGAN, TVAE])
def test_plain_profiles_repeat_and_leave_the_global_generators_alone(kind: type) -> None:
    profiles, before = made_cohort(120, 0).profiles, global_states()
    drawn = [fit_plain(kind, profiles, 0, epochs=1).sample(50, np.random.default_rng(1)) for _ in range(2)]
    assert global_states() == before
    pd.testing.assert_frame_equal(*drawn)
    assert list(drawn[0]) == list(profiles) and set(drawn[0]["gender"]) <= set(profiles["gender"])


def test_shuffled_columns_keep_margins_only() -> None:
    profiles = pd.DataFrame({"a": np.arange(500), "b": np.arange(500) * 2})
    table = shuffled(profiles, np.random.default_rng(0)).table
    assert sorted(table["b"]) == list(profiles["b"]) and abs(np.corrcoef(table["a"], table["b"])[0, 1]) < 0.2


def test_bars() -> None:
    seeds = {"0": {"x": 0.97, "g": -0.01, "g_low": -0.03, "g_high": 0.02}, "1": {"x": 0.95, "g": 0.01, "g_low": 0.0}}
    assert Metric("x", "", at_least=0.96).met(seeds) and not Metric("x", "", at_least=0.961).met(seeds)
    assert Metric("x", "", at_most=0.96).met(seeds) and not Metric("x", "", at_most=0.959).met(seeds)
    assert Metric("x", "").met(seeds) is None and Metric("y", "", at_least=0.5).met(seeds) is None
    assert Metric("g", "", covers_zero=True).met(seeds) is None  # one of its intervals lacks an end
    assert Metric("g", "", covers_zero=True).met({"0": seeds["0"]}) is True
    assert Metric("g", "", covers_zero=True).met({"0": {"g": 0.1, "g_low": 0.02, "g_high": 0.2}}) is False
    assert Metric("x", "").cell(seeds) == ".960±.014" and Metric("y", "").cell(seeds) == "-"


def test_the_interval_of_independent_seeds_is_pooled() -> None:
    """Four seeds that each hold 0 tell together what none tells alone; splits of the same persons do not."""
    seeds = {str(k): {"g": 0.02, "g_low": -0.01, "g_high": 0.05} for k in range(4)}
    pooled = Metric("g", "", covers_zero=True)
    assert pooled.interval(seeds) == pytest.approx((0.005, 0.035)) and pooled.met(seeds) is False
    assert pooled.interval({"0": seeds["0"]}) == pytest.approx((-0.01, 0.05)) and pooled.met({"0": seeds["0"]})
    assert pooled.cell(seeds) == ".020±.000 [.005, .035]"
    assert Metric("g", "").interval(seeds) == pytest.approx((-0.01, 0.05))


def test_options_that_do_not_go_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, message in (
        (["--data", "lifesnaps", "--path", ".", "--persons", "100"], "--persons is for the reference population"),
        (["--data", "lifesnaps"], "belong together"),
    ):
        with pytest.raises(SystemExit):
            benchmark.parsed(wrong)
        assert message in capsys.readouterr().err


def test_persons_are_resampled_with_all_their_weeks() -> None:
    person = np.repeat(np.arange(10), [1, 2, 3, 4, 1, 2, 3, 4, 5, 6])
    rows = resampled(person, np.random.default_rng(0))
    drawn, weeks = np.unique(person[rows], return_counts=True)
    assert len(drawn) < 10 and (weeks % np.bincount(person)[drawn] == 0).all()


def test_intervals_hold_their_value() -> None:
    draws = [{"x": value} for value in np.linspace(0.5, 0.7, 101)]
    scores = with_intervals({"x": 0.8}, draws)
    assert scores["x_low"] == pytest.approx(0.705) and scores["x_high"] == pytest.approx(0.895)


@pytest.mark.slow
def test_the_projects_own_rows_are_measured_kept_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    benchmark.main(["--quick", "--seeds", "1", "--persons", "100", "--rows", OURS, "--out", str(out)])
    printed, results = capsys.readouterr().out, json.loads(out.read_text())["results"]
    for part in benchmark.PARTS:
        scores = results[part][OURS]["0"]
        assert {metric.key for metric in METRICS[part]} <= set(scores)
        assert all(value is None or np.isfinite(value) for value in scores.values())
        assert all(metric.label in printed for metric in METRICS[part])
        assert f"{part}, {OURS}: " in printed and "bars met" in printed

    benchmark.main(
        ["--quick", "--seeds", "1", "--persons", "100", "--only", "rhythms", "--rows", "hier", "--out", str(out)]
    )
    assert set(json.loads(out.read_text())["results"]["rhythms"]) == {OURS, "hierarchical"}
    with pytest.raises(SystemExit, match="was measured with"):
        benchmark.main(["--quick", "--persons", "101", "--out", str(out)])


@pytest.mark.slow
def test_the_script_prints_every_row() -> None:
    done = subprocess.run(
        [sys.executable, str(benchmark.__file__), "--quick", "--seeds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for part, (rows, _) in benchmark.PARTS.items():
        assert all(f"{part:<10} {name}" in done.stdout for name in rows)


def test_shares_of_the_ceiling_and_leads() -> None:
    def scores(value: float) -> dict[str, float]:
        return dict.fromkeys((*risk_scores.OF_CEILING, *risk_scores.LEADS), value)

    best, other = 0.8, 0.5
    rows = {OURS: scores(0.78), risk_scores.REAL: scores(0.79), risk_scores.CEILING: scores(0.9)}
    rows |= {name: scores(best if name == "tree" else other) for name in risk_scores.BASELINES.values()}
    found = risk_scores.compared(rows)
    assert found[OURS]["auc_high_share"] == pytest.approx(0.78 / 0.9) and found["tree"]["brier_share"] == best / 0.9
    assert found[OURS]["accuracy_lead"] == pytest.approx(-0.02)
    assert found[OURS]["auc_high_over_real"] == pytest.approx(-0.01)
    assert "accuracy_lead" not in found["tree"] and rows[OURS] == scores(0.78)
    rows[risk_scores.CEILING]["brier"] = 0.0  # rules: who knows them knows all
    assert "brier_share" not in risk_scores.compared(rows)[OURS]


@pytest.mark.slow
def test_risk_is_measured_for_both_labels_of_one_synthetic_cohort(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fresh people of the population in place of synthetic ones, whose generators take longer to train."""
    drawn: list[Population] = []

    def people(p: Population) -> Cohort:
        drawn.append(p)
        return read_source(p.config.data, p.config.cohort.persons, p.rng("people"), NullTracker())

    monkeypatch.setattr(risk_benchmark, "synthetic_persons", people)
    out = tmp_path / "risk.json"
    risk_benchmark.main(["--quick", "--seeds", "1", "--first-seed", "1", "--json", str(out)])
    printed, results = capsys.readouterr().out, json.loads(out.read_text())["results"]
    assert [p.seed for p in drawn] == [1]
    for mode in risk_scores.MODES:
        names = (OURS, "logistic", risk_scores.PRIOR, risk_scores.CEILING)
        own, logistic, prior, ceiling = (results[mode][name]["1"] for name in names)
        assert {metric.key for metric in risk_scores.metrics(mode)} <= set(own)
        assert all(value is None or np.isfinite(value) for value in own.values())
        assert prior["auc_high"] == 0.5 < logistic["auc_high"] < ceiling["auc_high"] + 0.02
        assert f"{mode}, {OURS}: " in printed and f"{mode}, first days" in printed
        assert results["speed"][f"{OURS}, {mode}"]["1"]["one_thread"] > 0
    assert (
        results["rules"][risk_scores.CEILING]["1"]["accuracy"]
        == 1
        > results["questionnaire"]["ceiling"]["1"]["accuracy"]
    )
    assert results["rules, first days"].keys() == {OURS, risk_scores.SPECIALIST}  # no one knows the days to come


@pytest.mark.slow
def test_the_risk_script_trains_its_generators_and_prints() -> None:
    done = subprocess.run(
        [sys.executable, str(risk_benchmark.__file__), "--quick", "--seeds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "generators" in done.stdout and f"rules, {OURS}: " in done.stdout


# Environments.


def test_environments_benchmark_measures_every_face_and_names_a_missing_run(capsys: pytest.CaptureFixture[str]) -> None:
    environments.main(["--quick", "--seconds", "0.02"])
    said = capsys.readouterr().out
    for face in ("batched core", "gym.make", "gym.make_vec", "SB3 VecEnv, ours", "SB3 DummyVecEnv", "threads: 1"):
        assert face in said
    with pytest.raises(SystemExit):
        environments.main(["--quick", "--run", "no/such/run"])
    said = capsys.readouterr().out
    assert "error: run='no/such/run' does not exist" in said and "steps/s" not in said


# The networks that read a course so far.


@pytest.fixture(scope="module")
def layout() -> ObservationLayout:
    patients = people(40)
    return observation_layout(patients.signals, patients.encoder)


@pytest.mark.parametrize("kind", ["latest week", "recurrent", "attention"])
def test_a_reader_knows_no_week_to_come_and_nothing_it_is_not_shown(kind: str, layout: ObservationLayout) -> None:
    reader = Reader(kind, layout, 12, without=RESPONSES).eval()
    seen = torch.randn(6, 5, layout.size, generator=torch.Generator().manual_seed(0))
    other = seen.clone()
    other[4:] += 1.0
    assert torch.equal(reader(seen)[:4], reader(other)[:4])
    assert not torch.equal(reader(seen)[4:], reader(other)[4:])
    earlier = seen.clone()
    earlier[0] += 1.0
    assert torch.equal(reader(seen)[5], reader(earlier)[5]) == (kind == "latest week")
    hidden = seen.clone()
    for part in RESPONSES:
        hidden[..., layout.slices[part]] += 1.0
    assert torch.equal(reader(seen), reader(hidden))


@pytest.mark.parametrize(("kind", "learns"), [("latest week", False), ("recurrent", True), ("attention", True)])
def test_only_who_reads_the_course_learns_what_last_week_told(
    kind: str, learns: bool, layout: ObservationLayout
) -> None:
    """The planner's treatment turns on the risk of the week before, which no part of the latest observation tells."""
    draw = torch.Generator().manual_seed(1)
    seen, alive = torch.zeros(4, 400, layout.size), torch.ones(4, 400, dtype=torch.bool)
    seen[..., layout.slices["risk"]] = torch.randn(4, 400, 1, generator=draw)
    before = torch.cat([torch.zeros(1, 400), seen[:-1, :, layout.slices["risk"].start]])
    shown = Shown(seen, torch.stack([1.0 + (before > 0), torch.full_like(before, 0.5)], dim=-1), alive)
    with seeded_init(0):
        reader = Reader(kind, layout, 12)
    imitated(reader, shown, steps=150, courses_a_step=64, rate=1e-2, seed=0)
    assert (agreement(reader, shown) > 0.9) == learns
