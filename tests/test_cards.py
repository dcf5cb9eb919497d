"""The cards: every number from the run's metrics, what was not measured said as that, the warning in each."""

import json
from typing import Any

import pytest

from pipeline.cards.data import data_card
from pipeline.cards.markdown import NO_PRIVACY_GUARANTEE, NOT_MEASURED, WARNING, card, measured, provenance
from pipeline.cards.model import model_card
from pipeline.cards.tripod import DONE, NOT, items, tripod_card
from pipeline.cards.writing import STAGES
from pipeline.store import RunStore

COLUMNS = {"profile": ["age", "mood_score"], "predictors": ["age"], "signals": ["stress (1-10)"]}
CONFIG = {"data": {"kind": "csv"}, "labels": {"kind": "rules"},
          "risk": {"sharp": {"steps": 77}, "class_weight_power": 0.25, "subgroup_min_persons": 13}}  # fmt: skip
MADE: dict[str, Any] = {
    stage: {"seed": 5, "inputs": {"source": "f" * 64}, "versions": {"mano-twin": "0.1.0"}, "config": CONFIG}
    for stage in STAGES
}


def planted() -> dict[str, Any]:
    """Metrics with numbers that no default could be."""
    return {
        "source": {"persons": 1234, "weeks": 2345, "holdout_persons": 321, "holdout_risk_counts": [200, 80, 41]},
        "profiles": {"choice": {"generator": "copula"}, "effective_share": 0.3217},
        "rhythms": {"lag1_error": 0.0437, "ceiling": {"lag1_error": 0.0121}},
        "cohort": {"persons": 7654, "membership_auc": 0.5391, "ci": {"membership_auc": [0.5013, 0.5774]},
                   "attribute_gain": 0.0173, "attribute_gain_ci": [-0.0112, 0.0453]},
        "risk": {"auc_high": 0.8137, "intervals": {"auc_high": [0.7919, 0.8351]}, "baselines": {"logistic": {"auc_high": 0.8029}},
                 "alarm": {"threshold": 0.2713, "target_recall": 0.85},
                 "subgroups": {"gender": {"groups": {"Other": {"n": 7, "small": True}, "Female": {"n": 190, "recall": 0.6177}}}}},
        "twin": {"crps_ratio": 1.0273, "remission_gap": {"random": -2.61}},
    }  # fmt: skip


def cards(metrics: dict[str, Any]) -> dict[str, str]:
    return {
        "data": data_card("try", metrics, MADE, COLUMNS),
        "model": model_card("try", metrics, MADE),
        "tripod": tripod_card("try", metrics, MADE, COLUMNS),
    }


def test_planted_numbers_stand_in_the_cards() -> None:
    found = cards(planted())
    for number in (
        "1,234",
        "2,345",
        "321",
        "7,654",
        "0.044",
        "0.012",
        "0.539 (0.501 to 0.577)",
        "0.017 (-0.011 to 0.045)",
    ):
        assert number in found["data"]
    for number in (
        "copula",
        "0.322",
        "| AUC of High | 0.814 (0.792 to 0.835) | 0.803 |",
        "0.271",
        "0.850",
        "0.618",
        "1.03",
        "random -2.61",
    ):
        assert number in found["model"]
    assert "| gender Other | 7 | too few to say | too few to say | too few to say |" in found["model"]
    for number in (
        "0.814 (0.792 to 0.835)",
        "up to 77 steps",
        "power 0.25",
        "below 13 persons",
        "200 / 80 / 41",
        "1,234",
    ):
        assert number in found["tripod"]


def test_what_was_not_measured_is_said_and_no_number_stands_in_its_place() -> None:
    nothing: dict[str, Any] = {stage: {} for stage in STAGES}
    for name, text in cards(nothing).items():
        assert text.count(NOT_MEASURED) >= 5, name
    rows = [line for line in cards(nothing)["data"].splitlines() if line.startswith("| ") and "measure" not in line]
    assert all(line.split(" | ")[1].strip(" |") in (NOT_MEASURED, "---") for line in rows)
    status = {item: said for item, said, _ in items(nothing, MADE, COLUMNS)}
    assert status["Results: performance with intervals"] == status["Results: performance by group"] == NOT
    assert {item: said for item, said, _ in items(planted(), MADE, COLUMNS)}[
        "Results: performance with intervals"
    ] == DONE


def test_no_card_without_the_warning() -> None:
    for text in (*cards(planted()).values(), card("any", [])):
        assert text.split("\n\n")[1].strip() == WARNING
    assert "ot medical advice" in WARNING
    assert NO_PRIVACY_GUARANTEE in cards(planted())["data"]


def test_a_table_shows_the_interval_and_the_references_by_the_same_path() -> None:
    metrics = {"auc": 0.75, "intervals": {"auc": [0.5, 1.0]}, "ceiling": {"auc": 0.875}}
    assert measured(metrics, [("AUC", "auc"), ("F1", "f1")], "intervals", [("best", "ceiling")]).splitlines()[2:] == [
        "| AUC | 0.750 (0.500 to 1.00) | 0.875 |", f"| F1 | {NOT_MEASURED} | {NOT_MEASURED} |",
    ]  # fmt: skip
    told = provenance({"seed": 5, "inputs": {"/home/me/d.csv": "a" * 64}, "versions": {"numpy": "1"}})
    assert told == f"Seed 5; made from d.csv `{'a' * 12}` (SHA-256); numpy 1."


@pytest.mark.parametrize("name", ["data_card", "model_card", "policy_card", "tripod_ai"])
def test_a_run_leaves_its_cards_beside_the_report(smoke: RunStore, name: str) -> None:
    text = smoke.read("report", f"cards/{name}.md").decode()
    assert text.split("\n\n")[1] == WARNING
    if name == "model_card":
        assert f"{smoke.metrics('risk')['auc_high']:.3f}" in text
    if name == "data_card":
        assert f"{smoke.metrics('cohort')['persons']:,} persons" in text
        assert str(json.loads((smoke.root / "config.json").read_text())["config"]["data"]["kind"]) in text
