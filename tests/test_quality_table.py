"""The quality table shows what was measured, says one fair word about it, and keeps figures drawable whatever is absent."""

import io
import json

import numpy as np
import pytest
from conftest import run_here
from rich.console import Console
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_quality import cohort, rng

from generators.quality.cohort import cohort_quality
from generators.quality.utility import utility
from pipeline.figures import png
from pipeline.quality_figures import profiles_figure, quality_figures, utility_figure
from pipeline.quality_table import ROWS, leaks, noise, quality_rows, quality_table, verdict
from pipeline.store import RunStore


@pytest.mark.parametrize(
    ("group", "kind", "value", "interval", "ceiling", "baseline", "word"),
    [
        ("fidelity", "score", 0.95, None, 0.96, 0.75, "good"),
        ("fidelity", "score", 0.88, None, 0.96, 0.75, "fair"),
        ("fidelity", "score", 0.80, None, 0.96, 0.75, "poor"),
        ("fidelity", "score", 0.98, None, 0.98, 0.98, ""),  # shuffled columns have perfect shapes: it tells nothing
        ("dependence", "error", 0.03, None, 0.02, 0.15, "good"),
        ("dependence", "chance", 0.45, None, 0.49, 0.71, "good"),  # below one half is luck, not merit
        ("utility", "score", 0.9, None, None, None, ""),
        ("privacy", "attack", 0.60, (0.55, 0.65), 0.5, 1.0, "leaks"),
        ("privacy", "attack", 0.52, (0.49, 0.55), 0.5, 1.0, "chance"),
        ("privacy", "attack", 0.54, (0.51, 0.57), 0.52, 1.0, "unclear"),  # as lucky as with other real persons
        ("utility", "score", 0.80, (0.4, 1.0), 0.84, 0.5, "unclear"),  # a handful of persons
        ("privacy", "attack", 0.40, (0.35, 0.45), 0.5, 1.0, "unclear"),  # further off than luck goes, the wrong way
        ("privacy", "gain", 0.01, (-0.03, 0.05), 0.0, 0.4, "chance"),
        ("privacy", "gain", -0.10, (-0.18, -0.02), 0.0, 0.4, "unclear"),
        ("privacy", "gain", 0.10, (0.02, 0.18), 0.0, 0.4, "leaks"),
        ("privacy", "copies", 0.0, None, 0.0, 1.0, "none"),
        ("privacy", "copies", 0.01, None, 0.0, 1.0, "copies"),
        ("privacy", "attack", None, None, None, None, ""),
    ],
)
def test_one_fair_word(group, kind, value, interval, ceiling, baseline, word):
    assert verdict(group, kind, value, interval, ceiling, baseline) == word


@pytest.mark.parametrize("key", ["distribution_score", "lag1_error", "gru_discriminative", "c2st_auc"])
def test_ahead_of_the_hierarchical_model_is_beyond_noise(key: str) -> None:
    beside, sign = {"c2st_auc": 0.7}.get(key, 0.5), 1 if key == "distribution_score" else -1
    for n in (100, 2000):
        floor = noise(key, n)
        for better, word in ((1.1, "ahead"), (0.9, "level"), (-0.9, "level"), (-1.1, "behind")):
            metrics = {key: beside + sign * better * floor, "rows": n}
            metrics |= {side: {key: beside} for side in ("ceiling", "hierarchical_baseline")}
            assert [row.verdict for row in quality_rows(None, metrics, None)] == [word], (n, better)


def test_the_noise_of_scores_is_what_two_equal_generators_show() -> None:
    """Both draw from the very distribution of the real weeks, n against n: 95 of 100 differences are below it."""
    n, random, apart = 400, rng(), {"distribution_score": [], "c2st_auc": []}
    for _ in range(400):
        real, *drawn = random.normal(size=(3, n))
        scores = [1 - ks_2samp(real, each).statistic for each in drawn]
        blind = [roc_auc_score(np.arange(2 * n) < n, random.normal(size=2 * n)) for _ in range(2)]
        for key, pair in (("distribution_score", scores), ("c2st_auc", blind)):
            apart[key].append(abs(pair[0] - pair[1]))
    for key, differences in apart.items():
        assert 0.6 * noise(key, n) < np.quantile(differences, 0.95) < 1.1 * noise(key, n), key


def test_rhythm_numbers_of_few_or_uncounted_persons_bear_no_verdict() -> None:
    metrics = {"lag1_error": 0.01, "ceiling": {"lag1_error": 0.0}, "hierarchical_baseline": {"lag1_error": 0.9}}
    words = [quality_rows(None, metrics | rows, None)[0].verdict for rows in ({}, {"rows": 49}, {"rows": 50})]
    assert words == ["", "", "ahead"]


def test_luck_that_other_real_persons_share_is_no_leak():
    assert leaks((0.51, 0.56), 0.5, 0.50) and not leaks((0.51, 0.56), 0.5, 0.52) and leaks((0.51, 0.56), 0.5, None)


def test_the_cohort_table_holds_every_number_beside_its_references(smoke: RunStore) -> None:
    metrics = [smoke.metrics(stage) for stage in ("profiles", "rhythms", "cohort")]
    rows = {(row.group, row.label): row for row in quality_rows(*metrics)}
    assert {group for group, _ in rows} == {"fidelity", "rhythm", "dependence", "utility", "privacy"}
    assert len(rows) == len(ROWS)  # on this run everything is defined
    shown = rows["privacy", "membership by shadow models, AUC"]
    assert shown.value == metrics[2]["shadow_auc"] and shown.interval == metrics[2]["ci"]["shadow_auc"]
    assert shown.baseline > 0.9 and metrics[2]["shadow_note"] is None and metrics[2]["shadow_generators"] == "quick"
    assert rows["fidelity", "column shapes"].value == metrics[2]["column_shapes"]  # the fused cohort's
    assert rows["rhythm", "lag-1 error"].baseline == metrics[1]["hierarchical_baseline"]["lag1_error"]
    for (group, label), row in rows.items():
        assert row.ceiling is not None or label.startswith("effective share"), (group, label)


@pytest.mark.parametrize(
    ("stage", "present", "absent"),
    [("cohort", "shadow models", "Traceback"), ("profiles", "column shapes", "TSTR"), ("rhythms", "lag-1", "TSTR")],
)
def test_asking_for_a_stage_shows_its_table_though_nothing_ran(smoke: RunStore, stage: str, present: str, absent: str):
    printed = run_here("preset=smoke", f"runs_dir={smoke.root.parent}", f"stage={stage}")
    assert "skipped" in printed and present in printed and absent not in printed
    assert "\x1b" not in printed and max(map(len, printed.splitlines())) <= 120


def test_the_demo_shows_the_table_once(smoke_output: str) -> None:
    assert smoke_output.count("Quality, judged on held-out persons") == 1


def test_the_summary_and_the_page_hold_the_report(smoke: RunStore) -> None:
    summary = json.loads((smoke.root / "summary.json").read_text())["cohort"]
    for side in ("ceiling", "baseline", "ci"):
        assert {"tstr_auc", "shadow_auc", "membership_auc"} <= set(summary[side])
    page = (smoke.folder("report") / "report.html").read_text()
    for text in ("membership by shadow models, AUC", "profile x week mean, correlation error", "near copies"):
        assert text in page


def test_tensorboard_has_the_figures(smoke: RunStore) -> None:
    events = EventAccumulator(str(smoke.folder("cohort")))
    events.Reload()
    wanted = {"profiles", "correlations", "weeks", "within_week_sd", "utility", "privacy"}
    assert {f"cohort/{name}" for name in wanted} <= set(events.Tags()["images"])


@pytest.mark.filterwarnings("error")
def test_a_constant_column_that_is_no_whole_number_is_drawn() -> None:
    people = cohort(0, 30)
    people.profiles["age"] = 0.5
    shapes = {"column_shapes": 1.0, "ceiling": {"column_shapes": 1.0}}
    assert png(profiles_figure(people, people, shapes)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("lacking", "words"),
    [(0, "synthetic persons have no High"), (1, "training persons have no High"), (2, "held-out persons give no AUC")],
)
def test_the_utility_figure_says_who_lacks_high_risk(lacking: int, words: str) -> None:
    people = [cohort(seed, 40) for seed in (0, 1, 2)]
    people[lacking] = people[lacking].with_risk(np.minimum(people[lacking].risk, 1))
    figure = utility_figure(utility(*people, (), rng()))
    assert words in figure.axes[0].get_title(loc="left")


def test_figures_are_drawn_whatever_is_absent() -> None:
    """No High risk, no shadows, one profile column, several weeks a person."""
    people = [cohort(seed, 40, weeks=2) for seed in (0, 1, 2)]
    people = [each.select(np.arange(len(each))).with_risk(np.minimum(each.risk, 1)) for each in people]
    narrow = [
        type(each)(each.profiles[["secret"]], each.rhythms, each.mask, each.person, each.signals, each.risk)
        for each in people
    ]
    found = cohort_quality(*narrow, (), None, None, rng())
    assert found["tstr_auc"] is None and found["shadow_auc"] is None
    for figure in quality_figures(narrow[2], narrow[0], found).values():
        assert png(figure).startswith(b"\x89PNG")
    screen = io.StringIO()
    Console(file=screen, width=120).print(quality_table(quality_rows(None, None, found)))
    assert not {"good", "fair", "poor"} & set(screen.getvalue().split())  # forty persons bear no verdict
    assert "membership by distance" in screen.getvalue() and "n/a" in screen.getvalue()
