"""The risk model shown: fair words beside the best baseline, every figure drawable whatever is absent, the report's section."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from conftest import run_here
from helpers_risk import made_risk, measured, softmax
from markupsafe import escape
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.figures import png
from pipeline.report.risk import risk_charts
from pipeline.risk_figures import risk_figures, subgroup_figure
from pipeline.risk_table import (
    alarm_line,
    early_line,
    known,
    percent,
    risk_report,
    risk_rows,
    sentences,
    short,
    verdict,
)
from pipeline.stages.report import DETAILS
from pipeline.store import RunStore

ALL = {"reliability", "roc", "confusion", "decision", "subgroups", "early", "attribution"}
OPTIONAL = ("bayes_ceiling", "differences", "confusion", "alarm", "decision_curve", "subgroups", "roc", "early_warning",
            "attribution", "ece_debiased", "intervals")  # fmt: skip


@pytest.fixture(scope="module")
def risk() -> dict:
    return made_risk()


def printed(risk: dict) -> str:
    screen = io.StringIO()
    Console(file=screen, width=100, highlight=False).print(risk_report(risk))
    return screen.getvalue()


@pytest.mark.parametrize(
    ("difference", "more", "word"),
    [
        ([0.02, 0.01, 0.03], True, "ahead"),
        ([0.02, -0.01, 0.05], True, "level"),
        ([-0.02, -0.03, -0.01], True, "behind"),
        ([-0.02, -0.03, -0.01], False, "ahead"),  # a smaller error
        ([0.02, 0.01, 0.03], False, "behind"),
        (None, True, ""),
    ],
)
def test_a_word_needs_a_paired_interval_beyond_doubt(difference: list[float] | None, more: bool, word: str) -> None:
    assert verdict(difference, more) == word


def test_rows_hold_the_model_its_best_rival_and_the_way_to_the_ceiling(risk: dict) -> None:
    rows = {row.key: row for row in risk_rows(risk)}
    auc, brier = rows["auc_high"], rows["brier"]
    assert auc.value == risk["auc_high"] and auc.interval == tuple(risk["intervals"]["auc_high"])
    assert auc.baseline == "logistic" and auc.difference == tuple(risk["differences"]["logistic"]["auc_high"])
    assert auc.way == pytest.approx((risk["auc_high"] - 0.5) / (risk["bayes_ceiling"]["auc_high"] - 0.5))
    prior, best = risk["baselines"]["prior"]["brier"], risk["bayes_ceiling"]["brier"]
    assert brier.way == pytest.approx((prior - risk["brier"]) / (prior - best))
    # the classes' shares are calibrated by construction: no rival there, and no way either
    assert rows["ece"].baseline == "logistic" and rows["ece"].way is None


def test_the_best_baseline_is_chosen_for_each_metric(risk: dict) -> None:
    rival = dict(risk["baselines"]["logistic"], brier=0.1, auc_high=0.6)
    both = dict(risk, baselines={**risk["baselines"], "gradient_boosting": rival})
    names = {row.key: row.baseline for row in risk_rows(both)}
    assert names["brier"] == "gradient_boosting" and names["auc_high"] == "logistic"


def test_a_model_below_the_best_baseline_is_called_so() -> None:
    worse = made_risk(n=1500, blur=1.5, rival_blur=0.1)
    assert {row.verdict for row in risk_rows(worse) if row.key in ("auc_high", "brier")} == {"behind"}
    line = next(line for line in sentences(worse) if line.startswith("below the best baseline"))
    assert "AUC of High -." in line and "against logistic" in line
    assert "below the best baseline" not in " ".join(sentences(made_risk(n=1500, blur=0.1, rival_blur=1.5)))


def test_the_table_fits_a_hundred_columns_and_is_plain(risk: dict) -> None:
    text = printed(risk)
    assert max(map(len, text.splitlines())) <= 100 and "\x1b" not in text and "…" not in text
    for words in ("AUC of High", "logistic", "ceiling", "alarm at P(High) >=", "Who is taken for whom", "level"):
        assert words in text
    assert re.search(r"too few to say: Non-binary \(\d+\)", text)


def test_without_a_ceiling_no_column_speaks_of_one(risk: dict) -> None:
    user = {key: value for key, value in risk.items() if key != "bayes_ceiling"}
    assert "ceiling" not in printed(user) and "ceiling" in printed(risk)


@pytest.mark.parametrize("absent", OPTIONAL)
@pytest.mark.filterwarnings("error")
def test_what_was_not_measured_is_left_out(risk: dict, absent: str) -> None:
    less = {key: value for key, value in risk.items() if key != absent}
    assert "AUC of High" in printed(less)
    gone = {"roc": "roc", "confusion": "confusion", "decision_curve": "decision", "subgroups": "subgroups",
            "early_warning": "early", "attribution": "attribution"}  # fmt: skip
    assert set(risk_figures(less)) == ALL - {gone.get(absent)}


def test_the_alarm_says_whom_it_finds_and_what_it_costs() -> None:
    alarm = {"threshold": 0.31, "target_recall": 0.8, "recall": 0.79, "flagged": 0.34, "ppv": None,
             "intervals": {"recall": [0.75, 0.84]}}  # fmt: skip
    line = alarm_line(alarm)
    assert line == "alarm at P(High) >= 0.31: finds 79 % (75 to 84) of High (aim 80 %), flags 34 % of all, PPV n/a"


def test_early_warning_is_read_in_days() -> None:
    early = {
        "5": {"masked": {"auc_high": 0.86}},
        "3": {"masked": {"auc_high": 0.8, "recall_alarm": 0.7}},
        "10": {"masked": {}},
    }
    assert early_line(early).endswith("3 days .800 (70 %), 5 days .860, 10 days n/a")


def test_groups_unlike_the_others_are_named(risk: dict) -> None:
    table = {"groups": {"a": {"n": 300, "recall": 0.5, "false_positive_rate": 0.1},
                        "b": {"n": 300, "recall": 0.8, "false_positive_rate": 0.1}, "c": {"n": 7, "small": True}},
             "gaps": {"recall": 0.3}, "differences": {"a": {"recall": [-0.3, -0.4, -0.2], "false_positive_rate": None},
                                                      "b": {"recall": [0.3, -0.1, 0.7]}}}  # fmt: skip
    lines = sentences(risk | {"subgroups": {"site": table}})
    assert "by site: recall 50 % (a) to 80 % (b), false alarms 10 % (a)" in lines
    assert "unlike all others: a: recall -.300 (-.400 to -.200)" in lines
    assert "too few to say: c (7)" in lines
    title = subgroup_figure(risk | {"subgroups": {"site": table}}).get_suptitle()
    assert "by site: by 30 points" in title and "c (7)" in title


@pytest.mark.filterwarnings("error")
def test_every_figure_is_drawn_and_says_what_it_found(risk: dict) -> None:
    figures = risk_figures(risk)
    assert set(figures) == ALL
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())
    assert short(risk["ece"]) in figures["reliability"].get_suptitle()
    assert short(risk["auc_high"]) in figures["roc"].axes[0].get_title(loc="left")
    low, high = (risk["decision_curve"][key] for key in ("useful_from", "useful_to"))
    assert f"{low:.2f} to {high:.2f}" in figures["decision"].axes[0].get_title(loc="left")


@pytest.mark.filterwarnings("error")
def test_figures_of_a_model_that_never_says_medium_and_of_one_group() -> None:
    """A useless model of few persons: a class nobody is called, no group large enough, no threshold worth acting on."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % 3)
    noise = softmax(rng.normal(size=(60, 3)) * np.array([1.0, 0.0, 1.0]) + np.array([1.0, -9.0, 0.5]))
    prior = np.full((60, 3), 1 / 3)
    found = measured(labels, {"model": noise, "logistic": prior, "prior": prior}, rng)
    assert found["confusion"]["precision"][1] is None
    found["decision_curve"] |= {"useful_from": None, "useful_to": None}
    figures = risk_figures(found)
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures.values())
    assert "At no threshold" in figures["decision"].axes[0].get_title(loc="left")
    text = printed(found)
    assert "worth acting on" not in text and "n/a" in text and "ceiling" not in text
    groups = {"gender": {"groups": {"F": {"n": 60, "recall": 0.5, "ece": 0.1}}, "gaps": {"recall": None}}}
    assert png(subgroup_figure(found | {"subgroups": groups})).startswith(b"\x89PNG")
    nobody = {"gender": {"groups": {"F": {"n": 9, "small": True}}, "gaps": {}}}
    assert "subgroups" not in risk_figures(found | {"subgroups": nobody})


def test_numbers_as_a_person_writes_them() -> None:
    assert [short(x) for x in (0.8934, -0.0123, 0.0, 1.0, 0.9999, None, float("nan"))] == [
        ".893", "-.012", ".000", "1.000", "1.000", "n/a", "n/a",
    ]  # fmt: skip
    assert short(0.012, signed=True) == "+.012" and percent(0.804) == "80 %" and percent(None) == "n/a"
    assert known("x") is None and known(float("inf")) is None


def test_a_row_can_be_shown_without_anything_beside_it(risk: dict) -> None:
    row = risk_rows({"accuracy": 0.7, "baselines": {}})[0]
    assert dataclasses.astuple(row) == ("accuracy", "accuracy", 0.7, None, None, None, None, None, None, "")


# In a run.


def test_asking_for_the_risk_stage_shows_the_table_and_a_whole_run_does_not(smoke: RunStore, smoke_output: str) -> None:
    alone = run_here("preset=smoke", f"runs_dir={smoke.root.parent}", "stage=risk")
    metrics = smoke.metrics("risk")
    assert "skipped" in alone and f"{short(metrics['auc_high'])} (" in alone and "Who is taken for whom" in alone
    assert "\x1b" not in alone and max(map(len, alone.splitlines()[1:])) <= 120
    assert "Who is taken for whom" not in smoke_output and "alarm finds" in smoke_output


def test_the_summary_holds_the_headlines_and_the_page_the_rest(smoke: RunStore) -> None:
    summary = json.loads((smoke.root / "summary.json").read_text())["risk"]
    metrics = smoke.metrics("risk")
    assert {"confusion", "alarm", "differences", "subgroups", "baselines"} <= set(summary)
    assert not set(summary) & {"roc", "decision_curve", "reliability", "attribution", "early_warning"}
    assert {"roc", "decision_curve", "reliability"} <= set(metrics) & set(DETAILS)
    page = (smoke.folder("report") / "report.html").read_text()
    section = page[page.index("<h2>Risk model</h2>") : page.index("<h2>Twin against Trial</h2>")]
    for line in (
        "AUC of High",
        "class shares",
        "alarm at P(High)",
        "Bayes ceiling",
        "too few persons to say",
        "days known, from Monday on",
    ):
        assert line in section
    drawn = risk_charts(metrics)
    assert section.count("<figure") == len(drawn) and all(str(escape(each.title)) in section for each in drawn.values())
    assert "None" not in section


def test_tensorboard_has_the_risk_figures(smoke: RunStore) -> None:
    events = EventAccumulator(str(smoke.folder("risk")))
    events.Reload()
    assert {f"risk/{name}" for name in risk_figures(smoke.metrics("risk"))} <= set(events.Tags()["images"])
