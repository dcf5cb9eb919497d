"""Who gets what, how much, with what result: by hand, and as the terminal and the policy card tell it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.treatments import TREATMENTS
from intervention.prescriptions import (
    best_by_remission,
    dose_response,
    dose_saved,
    prescribed,
    thirds,
    undominated,
    who_gets_what,
    with_risk_before,
)
from pipeline.cards.markdown import table
from pipeline.cards.policy import contraindications
from pipeline.prescription_table import lowered_sentence, verdict
from pipeline.prescriptions import grouped
from pipeline.store import RunStore


def course(
    policy: str, patient: int, weeks: list[tuple[int, float]], remission: bool = False, **more: Any
) -> pd.DataFrame:
    """One course with these treatments and intensities; a return of 1 a week."""
    n = len(weeks)
    columns = {
        "policy": policy, "seed": 0, "patient": patient, "week": np.arange(1, n + 1),
        "treatment": [treatment for treatment, _ in weeks], "intensity": [dose for _, dose in weeks],
        "risk": np.linspace(0.6, 0.3, n), "reward": 1.0, "adverse_event": False,
        "remission": [False] * (n - 1) + [remission], "level_gain": 0.0,
    }  # fmt: skip
    return pd.DataFrame(columns | more)


def test_what_is_prescribed_by_hand() -> None:
    weeks = course("p", 0, [(2, 0.4), (2, 0.8), (0, 0.0), (4, 0.6)])
    found = prescribed(weeks)
    assert found["weeks"] == 4
    assert found["intensity"] == pytest.approx(0.6)  # Control has no intensity to count
    assert found["treatments"] == {"control": 0.25, "app": 0, "cbt": 0.5, "exercise": 0, "medication": 0.25}
    assert prescribed(weeks[weeks["treatment"] == 0])["intensity"] is None


def test_the_risk_a_choice_was_made_on_is_that_of_the_week_before() -> None:
    episodes = pd.concat([course("p", 7, [(1, 0.5)] * 4), course("q", 7, [(2, 0.5)] * 2), course("p", 9, [(1, 0.5)])])
    found = with_risk_before(episodes, pd.Series({7: 0.9, 9: 0.45}))
    np.testing.assert_allclose(found["risk_before"], [0.9, 0.6, 0.5, 0.4, 0.9, 0.6, 0.45])
    response = dose_response(found[found["policy"] == "p"])
    assert list(response["week"]) == ["1", "2", "3", "4"]
    assert {band: row["weeks"] for band, row in response["risk"].items()} == {"0.4-0.6": 3, "0.6-0.8": 1, ">=0.8": 1}
    assert sum(row["weeks"] for row in response["risk"].values()) == 5


def test_groups_get_what_they_get() -> None:
    episodes = pd.concat(
        [course("p", person, [(2 if person < 3 else 3, 0.5)] * (2 + person % 2)) for person in range(6)]
        + [course("q", person, [(1, 0.9)]) for person in range(6)]
    )
    groups = pd.Series(["a", "a", "a", "b", "b", "b"])
    found = who_gets_what(episodes, groups, "p", "q", np.random.default_rng(0), 200, 0.95)
    assert found["a"]["treatments"]["cbt"] == 1 and found["b"]["treatments"]["exercise"] == 1
    assert [found[name]["persons"] for name in "ab"] == [3, 3]
    assert found["a"]["gain"] == pytest.approx((1 + 2 + 1) / 3)
    assert found["a"]["gain_ci"][0] <= found["a"]["gain"] <= found["a"]["gain_ci"][1]
    assert found["b"]["dose_weeks"] == pytest.approx(0.5 * (3 + 2 + 3) / 3)
    assert "c" not in who_gets_what(episodes, pd.Series({99: "c"}), "p", "q", np.random.default_rng(0), 10, 0.95)


def test_thirds_are_thirds_whatever_the_ties() -> None:
    assert thirds(pd.Series([0.5] * 9)).value_counts().to_dict() == {"low": 3, "middle": 3, "high": 3}
    values = pd.Series(np.random.default_rng(0).uniform(size=300))
    means = values.groupby(thirds(values), observed=True).mean()
    assert means["low"] < 1 / 3 < means["middle"] < 2 / 3 < means["high"]


def cohort_of(remitting: int, of: int, dose: float, policy: str) -> list[pd.DataFrame]:
    return [course(policy, person, [(2, dose)] * 2, remission=person < remitting) for person in range(of)]


@pytest.mark.parametrize(
    ("mine", "theirs", "certain", "within"),
    [(40, 40, True, True), (100, 20, True, True), (20, 30, False, False), (20, 21, False, True)],
)
def test_non_inferiority_asks_for_the_whole_interval(mine: int, theirs: int, certain: bool, within: bool) -> None:
    """Of 100 patients; the same ones remit, so that equal policies do not differ in any resample."""
    episodes = pd.concat(cohort_of(mine, 100, 0.3, "p") + cohort_of(theirs, 100, 0.5, "q"))
    found = dose_saved(episodes, "p", "q", np.random.default_rng(0), 1000, 0.95)
    assert found["dose_ratio"] == pytest.approx(0.6)
    np.testing.assert_allclose(found["dose_ratio_ci"], [0.6, 0.6])
    assert found["remission_difference"] == pytest.approx((mine - theirs) / 100)
    assert found["non_inferior"] is certain
    assert found["within_margin"] is within
    assert found["adverse_difference"] == 0
    expected = "yes" if certain else "perhaps" if found["within_margin"] else "no"
    assert verdict(found) == expected


def test_no_dose_is_nobodys_ratio() -> None:
    episodes = pd.concat(cohort_of(5, 20, 0.3, "p") + cohort_of(5, 20, 0.0, "q"))
    assert dose_saved(episodes, "p", "q", np.random.default_rng(0), 20, 0.95)["dose_ratio"] is None


def test_the_best_constant_by_remission_spares_dose_where_it_can() -> None:
    names = {"constant_app_0.9": (5, 0.9), "constant_cbt_0.5": (5, 0.5), "constant_cbt_1": (4, 1.0), "none": (9, 0.0)}
    episodes = pd.concat([one for name, (well, dose) in names.items() for one in cohort_of(well, 10, dose, name)])
    assert best_by_remission(episodes) == "constant_cbt_0.5"


def test_groups_are_told_in_their_order() -> None:
    ages, edges = pd.Series([70, 20, 35, 46, 30]), (30.0, 45.0)
    assert list(grouped(ages, edges)) == [">=45", "<30", "30-45", ">=45", "30-45"]
    episodes = pd.concat([course(name, person, [(1, 0.5)]) for name in "pq" for person in range(5)])
    found = who_gets_what(episodes, grouped(ages, edges), "p", "q", np.random.default_rng(0), 10, 0.95)
    assert list(found) == ["<30", "30-45", ">=45"]
    assert list(grouped(pd.Series(["b", "a"]), ())) == ["b", "a"]


def test_only_the_undominated_are_shown() -> None:
    rows = {"a": (0.0, 1.0), "b": (0.1, 3.0), "c": (0.2, 2.0), "d": (0.1, 2.5), "e": (0.3, 4.0), "f": (0.0, 0.5)}
    policies = {name: {"adverse_events": adverse, "return": earned} for name, (adverse, earned) in rows.items()}
    assert undominated(policies) == ["a", "b", "e"]


def test_a_card_names_its_contraindications_and_keeps_its_tables_whole() -> None:
    rules: list[dict[str, Any]] = [{"treatment": "medication", "when": "profile.gender=Female", "above": 0.5},
             {"treatment": "exercise", "when": None, "above": 0}]  # fmt: skip
    said = "\n".join(contraindications(rules))
    assert "Medication: never where `profile.gender=Female` is above 0.5" in said and "Exercise: never\n" in said + "\n"
    assert "None were set" in contraindications([])[0]
    assert table(["a", "b"], [["x|y", "1"]]).splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y | 1 |"]


def test_a_run_leaves_a_card_whose_numbers_are_its_metrics(smoke: RunStore) -> None:
    found, card = smoke.metrics("evaluate"), smoke.read("evaluate", "policy_card.md").decode()
    for words in ("Not medical advice", "Intended use", "Limits", "Contraindications", "Who gets what", found["tree"]):
        assert words in card
    ppo = found["policies"]["ppo"]
    assert f"| {ppo['return']:.2f} ({ppo['return_ci'][0]:.2f} to {ppo['return_ci'][1]:.2f}) |" in card
    assert f"{found['tree_fidelity']:.0%} of held-out weeks" in card
    assert {"gender", "age", "baseline risk"} == set(found["subgroups"])
    for groups in found["subgroups"].values():
        assert sum(row["persons"] for row in groups.values()) == ppo["patients"]
        assert all(sum(row["treatments"].values()) == pytest.approx(1) for row in groups.values())
    weeks = {by: list(rows.values()) for by, rows in found["prescribed"].items()}
    assert set(weeks) == {"week", "risk"}
    assert sum(row["weeks"] for row in weeks["week"]) == sum(row["weeks"] for row in weeks["risk"]) > ppo["patients"]
    assert all(set(row["treatments"]) == set(TREATMENTS) for row in weeks["week"] + weeks["risk"])
    least = found["least_dose"]
    assert set(found["dose_saved"]) == set(least["saved"]) == {"stepped_care", "best_constant_by_remission"}
    assert set(least["curve"]) == {"0.5", "1"} and f"{least['share']:g}" in least["curve"]
    if least["share"] < 1:
        assert least["saved"]["stepped_care"]["dose_ratio"] < found["dose_saved"]["stepped_care"]["dose_ratio"]
    assert f"Least dose: {least['share']:.0%} of each" in card and "stepped care, least dose" in card
    assert f"{100 * least['curve']['1']['remission_gained']:+.1f} points" in card
    assert "best_constant" not in found["safety"]


@pytest.mark.parametrize(("gained", "share", "says"), [(0.01, 0.5, "the smallest tried"), (-0.01, 1.0, "not even so")])
def test_a_least_dose_that_was_not_found_is_not_said_to_be(gained: float, share: float, says: str) -> None:
    sentence = lowered_sentence({"least_dose": {"share": share, "curve": {"1": {"remission_gained": gained}}}})
    assert says in sentence and f"{share:.0%} of each" in sentence
