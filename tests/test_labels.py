"""Risk labels: bands at their edges, every rule fires on the week it describes, columns are read or refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import TypeAdapter

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import NullTracker
from core.signals import DEFAULT_SIGNALS
from generators.labels import (
    ColumnSettings,
    LabelSettings,
    QuestionnaireSettings,
    RulesSettings,
    fired_rules,
    hidden_columns,
    label,
)
from generators.sources.lifesnaps import LifeSnapsSettings, read_lifesnaps
from generators.sources.reference import ReferenceParameters, sample_reference

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"


class Notes(NullTracker):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def conf(path: str, key: str, into: type) -> object:
    return TypeAdapter(into).validate_python(yaml.safe_load((ROOT / f"conf/{path}.yaml").read_text())[key])


@pytest.fixture(scope="module")
def people() -> Cohort:
    parameters = conf("data/reference", "data", ReferenceParameters)
    assert isinstance(parameters, ReferenceParameters)
    return sample_reference(parameters, 3000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def rules() -> RulesSettings:
    return conf("labels/rules", "labels", RulesSettings)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def bands() -> QuestionnaireSettings:
    return conf("labels/questionnaire", "labels", QuestionnaireSettings)  # type: ignore[return-value]


def cohort_of(profiles: pd.DataFrame, week: np.ndarray | None = None) -> Cohort:
    """These profiles, each with the same calm week unless given."""
    n = len(profiles)
    calm = np.tile(np.array([7.5, 7.0, 60.0, 4.0], np.float32), (n, 7, 1)) if week is None else week
    return Cohort(profiles, calm, np.ones(calm.shape, bool), np.arange(n), DEFAULT_SIGNALS)


@pytest.mark.parametrize(
    ("scores", "risk"),
    [
        ((13, 9, 18), 0),
        ((14, 9, 18), 1),
        ((13, 10, 18), 1),
        ((13, 9, 19), 1),
        ((20, 14, 25), 1),
        ((21, 0, 0), 2),
        ((0, 15, 0), 2),
        ((0, 0, 26), 2),
        ((42, 42, 42), 2),
        ((0, 0, 0), 0),
    ],
)
def test_dass_bands_at_their_edges(bands: QuestionnaireSettings, scores: tuple[int, int, int], risk: int) -> None:
    table = pd.DataFrame([scores], columns=["dass_depression", "dass_anxiety", "dass_stress"])
    assert label(cohort_of(table), bands, NullTracker()).tolist() == [risk]


def test_a_questionnaire_needs_its_columns(bands: QuestionnaireSettings) -> None:
    with pytest.raises(DataError, match=r"'dass_depression' is absent .*labels=rules"):
        label(cohort_of(pd.DataFrame({"age": [30]})), bands, NullTracker())


def test_hidden_columns(bands: QuestionnaireSettings, rules: RulesSettings) -> None:
    assert hidden_columns(bands) == ("dass_depression", "dass_anxiety", "dass_stress")
    anxious = dataclasses.replace(
        bands, moderate_from={"dass_stress": 19}
    )  # a severe band alone is the label's input too
    assert set(hidden_columns(anxious)) == set(hidden_columns(bands))
    assert hidden_columns(rules) == ()
    assert hidden_columns(ColumnSettings("column", "risk")) == ("risk",)


# Rules.

CALM = np.tile(np.array([7.5, 7.0, 60.0, 4.0]), (7, 1))


def _with(signal: int, days: list[float]) -> np.ndarray:
    week = CALM.copy()
    week[:, signal] = days
    return week


@pytest.mark.parametrize(
    ("name", "fires", "rests"),
    [
        ("short_nights", _with(0, [7, 7, 5, 5.5, 5, 7, 7]), _with(0, [7, 5, 5.5, 7, 5, 5, 7])),
        ("irregular_sleep", _with(0, [4, 9, 7, 10, 7, 4, 9]), _with(0, [7, 7.5, 7, 8, 7, 7.5, 8])),
        ("poor_quality", _with(1, [3] * 7), _with(1, [7] * 7)),
        ("high_stress", _with(3, [9] * 7), _with(3, [4] * 7)),
        ("rising_stress", _with(3, [2, 3, 4, 5, 6, 7, 8]), _with(3, [8, 7, 6, 5, 4, 3, 2])),
        ("raised_heart_rate", _with(2, [60, 60, 60, 60, 60, 64, 64]), _with(2, [60, 60, 60, 60, 60, 60, 64])),
    ],
)
def test_every_week_rule_fires_on_its_pattern(
    rules: RulesSettings, people: Cohort, name: str, fires: np.ndarray, rests: np.ndarray
) -> None:
    two = cohort_of(people.profiles.iloc[:2].reset_index(drop=True), np.stack([fires, rests]).astype(np.float32))
    fired, _ = fired_rules(two, rules, NullTracker(), people)[name]
    assert fired.tolist() == [True, False]


def test_every_rule_fires_in_the_reference_population(rules: RulesSettings, people: Cohort) -> None:
    fired = fired_rules(people, rules, NullTracker(), people)
    assert set(fired) == {*rules.week, *rules.profile}
    for name, (rows, _) in fired.items():
        assert 0.01 < rows.mean() < 0.6, name


def test_a_persons_own_level_is_taken_over_all_their_weeks(rules: RulesSettings) -> None:
    table = pd.DataFrame({"age": [30, 30, 30]})
    weeks = np.stack([CALM, CALM, _with(2, [64.0] * 7)]).astype(np.float32)
    same = dataclasses.replace(cohort_of(table, weeks), person=np.zeros(3, np.int64))
    assert fired_rules(same, rules, NullTracker(), same)["raised_heart_rate"][0].tolist() == [False, False, True]


def test_rules_give_every_class_its_share(rules: RulesSettings, people: Cohort) -> None:
    assert (np.bincount(label(people, rules, NullTracker()), minlength=3) / len(people) >= 0.10).all()


def test_relative_cut_offs_come_from_the_cohort_named(rules: RulesSettings, people: Cohort) -> None:
    """Half the people, all of them stressed: against themselves a quarter is, against everybody far more."""
    stress = people.rhythms[:, :, 3].mean(axis=1)
    stressed = people.select(stress > np.median(stress))
    own, _ = fired_rules(stressed, rules, NullTracker(), stressed)["high_stress"]
    against_all, _ = fired_rules(stressed, rules, NullTracker(), people)["high_stress"]
    assert own.mean() == pytest.approx(0.25, abs=0.01)
    assert against_all.mean() == pytest.approx(0.50, abs=0.01)
    assert (label(stressed, rules, NullTracker(), relative_to=people) > label(stressed, rules, NullTracker())).any()


def test_rules_name_what_they_cannot_judge(rules: RulesSettings, people: Cohort) -> None:
    notes = Notes()
    poor = Cohort(
        people.profiles[["age"]], people.rhythms[:, :, :3], people.mask[:, :, :3], people.person, people.signals[:3]
    )
    risk = label(poor, rules, notes)
    assert any("'high_stress' is not applicable, no signal 'stress'" in line for line in notes.lines)
    assert any("'family_history' is not applicable" in line for line in notes.lines)
    assert len(notes.lines) == 5
    assert (np.bincount(risk, minlength=3) > 0).all()
    strange = tuple(dataclasses.replace(signal, name=f"x_{signal.name}") for signal in people.signals)
    with pytest.raises(DataError, match="no rule fits the signals x_sleep_duration"):
        label(dataclasses.replace(people, signals=strange), rules, NullTracker())


def test_rules_judge_lifesnaps(rules: RulesSettings) -> None:
    if not (REAL / "lifesnaps_daily.csv").is_file():
        pytest.skip("../shared/data/lifesnaps_daily.csv is absent")
    chosen = conf("data/lifesnaps", "data", LifeSnapsSettings)
    assert isinstance(chosen, LifeSnapsSettings)
    real = read_lifesnaps(dataclasses.replace(chosen, path=str(REAL)), NullTracker())
    assert (np.bincount(label(real, rules, NullTracker()), minlength=3) / len(real) >= 0.10).all()


# The user's column.


def column(values: list[object]) -> np.ndarray:
    chosen: LabelSettings = ColumnSettings("column", "risk")
    return label(cohort_of(pd.DataFrame({"risk": values})), chosen, NullTracker())


def test_a_column_may_hold_codes_or_names() -> None:
    assert column([0, 1, 2]).tolist() == [0, 1, 2]
    assert column(["low", " High", "MEDIUM"]).tolist() == [0, 2, 1]
    assert column([2.0, 1.0, 0.0]).tolist() == [2, 1, 0]
    mixed = column(["High", "0"])
    assert mixed.tolist() == [2, 0]
    assert mixed.dtype == np.int8


def test_a_wrong_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"holds 'severe' at row 1 .*expected 0/1/2 or Low/Medium/High"):
        column(["Low", "severe"])
    with pytest.raises(DataError, match="holds 3 at row 0"):
        column([3])
    with pytest.raises(DataError, match="'risk' is absent"):
        label(cohort_of(pd.DataFrame({"age": [1]})), ColumnSettings("column", "risk"), NullTracker())
