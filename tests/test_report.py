"""The report: titles follow the numbers, nobody real is shown, what is absent is left out, and a browser shows every section."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_browser import look
from helpers_profiles import Recorder
from scipy.stats import binomtest

from core.cohort import Cohort
from core.signals import DEFAULT_SIGNALS
from pipeline.config import load_config
from pipeline.quality_table import quality_rows
from pipeline.report.charts import Figure, plain
from pipeline.report.cohort import FEWEST, cohort_figures, fan, profiles, shown_share
from pipeline.report.journey import CHOICES, Journey, journey
from pipeline.report.page import embed, render
from pipeline.report.policy import learning, policies, policy_figures, spoken, trade
from pipeline.report.quality import privacy, told_apart, way
from pipeline.report.risk import risk_charts, roc, wilson
from pipeline.report.twin import coverage, remission
from pipeline.report.worlds import Judges, judges
from pipeline.runner import Context
from pipeline.stages.report import drawings, summarised, words
from pipeline.store import RunStore

SECTIONS = ["card", "cohort", "risk", "twin", "policy", "journey"]
LIMIT = 8 * 2**20  # bytes


@pytest.fixture(scope="module")
def metrics(smoke: RunStore) -> dict:
    return {stage: smoke.metrics(stage) for stage in
            ("source", "trials", "profiles", "rhythms", "cohort", "risk", "twin", "policy", "evaluate")}  # fmt: skip


@pytest.fixture
def planted(metrics: dict) -> dict:
    return copy.deepcopy(metrics)


def context_of(smoke: RunStore, tmp_path: Path, *overrides: str) -> Context:
    return Context(load_config(["preset=smoke", *overrides]), smoke, tmp_path, Recorder(), "")


# What a title says.


def test_the_policies_title_follows_the_returns(planted: dict) -> None:
    evaluate = planted["evaluate"]
    table = evaluate["policies"]
    table["ppo"] |= {"return": 9.0, "return_ci": [8.5, 9.5], "adverse_events": 0.0}
    for name in table:
        if name != "ppo":
            table[name] |= {"return": 1.0, "adverse_events": 0.5}
    table["stepped_care"]["return"] = 3.21
    evaluate["constants"] = {name: row | {"return": 1.0} for name, row in evaluate["constants"].items()}
    title = policies(evaluate).title
    assert title == "The agent returns 9.00, above the best rival (stepped care: 3.21)"
    assert "no other policy earns as much" in trade(evaluate).title
    table["random"] |= {"return": 9.2, "adverse_events": 0.0}
    assert (
        policies(evaluate).title == "The agent returns 9.00, below the best rival (random: 9.20), within its interval"
    )
    assert "1 other earns as much with as few" in trade(evaluate).title


def test_returns_under_another_reward_are_said_to_be(planted: dict) -> None:
    planted["policy"] |= {"caution": 3.0, "returns": {"0": [1.0, 2.0]}}
    assert "counts an adverse event 3 times" in learning(planted["policy"], planted["evaluate"]).beside
    assert "adverse event" not in learning(planted["policy"] | {"caution": 1.0}, planted["evaluate"]).beside


def test_titles_of_the_twin_follow_its_metrics(planted: dict) -> None:
    twin = planted["twin"] | {"coverage_50": 0.43, "coverage_90": 0.91, "crps_ratio": 1.25}
    assert "to 7.0 points" in coverage(twin).title and "1.250" in coverage(twin).title
    twin |= {"remission_gap": {"none": 0.1, "cbt_0.6": -7.5, "random": 2.1}, "remission_gap_luck": 1.0}
    assert remission(twin).title.startswith("Remission in the Twin is off by 7.5 points at most (cbt 0.6); 2 of 3")


def test_titles_of_the_cohort_follow_its_metrics(planted: dict) -> None:
    cohort = planted["cohort"]
    assert "None of" in privacy(cohort).title or "attacks tell" in privacy(cohort).title
    cohort |= {"density_auc": 0.91}
    cohort["ci"]["density_auc"] = [0.88, 0.94]
    cohort["ceiling"]["density_auc"] = 0.5
    quiet = {f"{name}_auc": [0.45, 0.55] for name in ("membership", "shadow")}
    cohort["ci"] |= quiet
    found = privacy(cohort)
    assert found.title.startswith("1 of 3 attacks tell") and found.charts[0]["data"][0]["value"] == 0.91
    cohort |= {"whole_c2st_auc": 0.987}
    rows = quality_rows(planted["profiles"], planted["rhythms"], cohort)
    assert "whole persons from real ones with an AUC of 0.987" in told_apart(rows).title


def test_the_way_from_baseline_to_ceiling(metrics: dict) -> None:
    row = quality_rows(metrics["profiles"], metrics["rhythms"], metrics["cohort"])[1]
    assert way(replace(row, value=0.9, ceiling=0.95, baseline=0.75)) == pytest.approx(0.75)
    assert way(replace(row, value=0.9, ceiling=0.95, baseline=0.945)) is None


def test_the_roc_title_and_its_interval(planted: dict) -> None:
    risk = planted["risk"] | {"auc_high": 0.777}
    risk["intervals"]["auc_high"] = [0.75, 0.8]
    assert ".777 (.750 to .800)" in roc(risk).title


@pytest.mark.parametrize(("found", "n"), [(0, 12), (7, 12), (12, 12), (50, 400)])
def test_the_interval_of_a_share_is_wilsons(found: int, n: int) -> None:
    expected = binomtest(found, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(np.array(found / n), n), expected, atol=2e-4)


def test_bands_are_spoken() -> None:
    assert [spoken(each) for each in ("<0.2", "0.2-0.4", ">=0.8")] == ["below 0.2", "0.2-0.4", "0.8 or more"]


# Nobody real.


def people(n: int, **columns: object) -> Cohort:
    rng = np.random.default_rng(n)
    weeks = rng.normal(6, 1, (n, 7, 4)).astype(np.float32)
    table = pd.DataFrame({"age": rng.integers(20, 60, n).astype(float), "site": "A", **columns})
    return Cohort(table, weeks, np.ones(weeks.shape, bool), np.arange(n), DEFAULT_SIGNALS)


def test_cells_of_a_few_real_persons_are_not_drawn(metrics: dict) -> None:
    real = people(300)
    real.profiles.loc[: FEWEST - 2, "site"] = "a village of four"
    real.profiles.loc[FEWEST : 2 * FEWEST, "site"] = "a larger one"
    real.profiles.loc[0, "age"] = 113.0
    drawn = json.dumps(plain([each for each in profiles(real, people(400), metrics["cohort"]).charts]))
    assert "a larger one" in drawn and "a village" not in drawn and "113" not in drawn
    assert np.isnan(shown_share(np.array([FEWEST - 1, FEWEST]))).tolist() == [True, False]


def test_a_band_with_a_few_persons_beyond_it_is_not_drawn() -> None:
    days = np.arange(7.0) + np.zeros((200, 1))
    assert [len(fan(days[:n])) for n in (200, 10 * FEWEST, 10 * FEWEST - 1, 4 * FEWEST - 1)] == [2, 2, 1, 0]


@pytest.fixture(scope="module")
def of_real_persons(smoke: RunStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Judges, Journey]:
    """As if the source of the run were a table of real persons."""
    context = context_of(smoke, tmp_path_factory.mktemp("real"), "data=lifesnaps")
    worlds = judges(context.config, smoke)
    return context, worlds, journey(context.config, smoke, worlds)


def test_of_real_persons_no_journey_is_shown(smoke: RunStore, of_real_persons: tuple[Context, Judges, Journey]) -> None:
    shown = of_real_persons[2]
    assert shown.who.startswith("Synthetic") and shown.figure.beside.startswith("Synthetic")
    assert "Held-out person" in (smoke.folder("report") / "report.html").read_text()  # of the reference population
    arms = shown.data["arms"]
    assert len(arms) == len(CHOICES) + 1
    assert set(arms["agent"]["given"]["shares"]) == {name for name, _ in shown.data["treatments"]}
    low, middle, high = (np.array(arms["cbt_0.5"]["risk"][i]) for i in (0, 2, 4))
    assert (low <= middle).all() and (middle <= high).all() and len(middle) == 13


# A page, whatever is there.


def page_of(made: tuple[Context, Judges, Journey], metrics: dict) -> tuple[str, dict[str, Figure]]:
    context, worlds, shown = made
    drawn = drawings(context, metrics, worlds) | {"what_if": shown.figure}
    return render(drawn, **words(context.store, metrics, summarised(context, metrics), shown)), drawn


def test_what_was_not_measured_is_left_out(of_real_persons: tuple[Context, Judges, Journey], planted: dict) -> None:
    """No privileged agent, no Bayes ceiling, no curves, no group large enough, no attack, no High risk in the cohort."""
    evaluate, risk, cohort = planted["evaluate"], planted["risk"], planted["cohort"]
    for key in ("normalised_score", "normalised_score_ci", "exploitation_gap"):
        evaluate.pop(key, None)
    evaluate["policies"].pop("privileged")
    for key in ("bayes_ceiling", "roc", "alarm", "early_warning"):
        risk.pop(key)
    risk["subgroups"] = {}
    cohort |= {"shadow_auc": None, "tstr_auc": None, "trts_auc": None, "tstr_ratio": None, "attribute_gain": None}
    planted["policy"] |= {"learning_curves": {}, "returns": {"0": []}}
    planted["twin"]["person_effects"] = {}
    planted["source"]["observed_share"] = 0
    page, drawn = page_of(of_real_persons, planted)
    assert not {"roc", "early", "subgroups", "learning", "individuals", "off_policy"} & set(drawn)
    assert "No day was observed" in page and 'id="off-policy"' not in page
    assert re.findall(r'<section id="([a-z-]+)">', page) == SECTIONS
    assert not re.search(r"\bNone\b(?! of \d)|\bnan\b", re.sub(r"<script.*?</script>", "", page, flags=re.S))


def test_every_figure_says_what_was_found_and_beside_what(smoke: RunStore, metrics: dict) -> None:
    page = (smoke.folder("report") / "report.html").read_text()
    titles = smoke.metrics("report")["figures"]
    assert len(titles) >= 25 and all(re.search(r"\d|None|No ", title) for title in titles.values())
    assert page.count("<figure") == len(titles) + 1 == len(re.findall(r"<figcaption>.+?</figcaption>\n<p>.{20,}", page))
    for name in ("cohort", "risk", "twin", "policy"):
        assert f'<section id="{name}">' in page
    for stage in metrics:
        assert smoke.digest(stage)[:16] in page
    rows = quality_rows(metrics["profiles"], metrics["rhythms"], metrics["cohort"])
    cohort = cohort_figures(smoke.cohort("source", "holdout_"), smoke.cohort("cohort"), metrics["cohort"], rows)
    assert set(titles) >= {
        *cohort,
        *risk_charts(metrics["risk"]),
        *policy_figures(metrics["evaluate"], metrics["policy"]),
    }


def test_text_in_the_data_cannot_end_its_script() -> None:
    assert embed({"name": "</script><b>"}) == '{"name":"\\u003c/script>\\u003cb>"}'
    assert plain({"a": np.array([1.23456, np.nan]), "b": (np.float32(2), "x")}) == {"a": [1.235, None], "b": [2.0, "x"]}


def test_a_browser_shows_every_section_at_every_width(smoke: RunStore, tmp_path: Path) -> None:
    file = smoke.folder("report") / "report.html"
    assert file.stat().st_size < LIMIT
    page = file.read_text()
    found = look(page, (390, 1280), tmp_path)
    assert [each["inner"] for each in found] == [390, 1280]
    for each in found:
        assert each["faults"] == [] and each["empty"] == []
        assert each["scroll"] <= each["inner"]
        assert list(each["shown"]) == SECTIONS and min(each["shown"].values()) > 200
        assert each["drawn"] == page.count("data-chart=")
        assert each["after"].startswith("Medication at 100 %") and each["before"] != each["after"]
