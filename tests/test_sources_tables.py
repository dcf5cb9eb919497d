"""LifeSnaps and the user's own tables are read as written, or refused in one line."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_sources import REAL, Notes, settings

from core.errors import DataError
from core.protocols import NullTracker
from generators.sources import read_source
from generators.sources.lifesnaps import LifeSnapsSettings, bmi_band
from generators.sources.tables import TableSettings, read_tables

# LifeSnaps.


def test_lifesnaps_gives_four_signal_weeks() -> None:
    if not (REAL / "lifesnaps_daily.csv").is_file():
        pytest.skip("../shared/data/lifesnaps_daily.csv is absent")
    chosen = settings("lifesnaps")
    assert isinstance(chosen, LifeSnapsSettings)
    notes = Notes()
    people = read_source(dataclasses.replace(chosen, path=str(REAL)), 0, np.random.default_rng(0), notes)
    assert 20 <= people.persons <= 30
    assert len(people) > 100
    assert ((~people.mask).sum(axis=1) <= 2).all()
    assert set(people.profiles["bmi"]) <= {"under 19", "19 to under 25", "25 and over", "unknown"}
    assert "stai_state_mean" not in people.profiles
    assert notes.said("'bmi' lacks", "filled with unknown")
    assert not people.profiles[["age", "gender", "bmi"]].isna().any(axis=None)
    raw = pd.read_csv(REAL / "lifesnaps_daily.csv")
    assert np.isin(people.rhythms[:, :, 3][people.mask[:, :, 3]], raw["stress"].astype(np.float32)).all()


def test_lifesnaps_takes_a_fifth_signal() -> None:
    if not (REAL / "lifesnaps_daily.csv").is_file():
        pytest.skip("../shared/data/lifesnaps_daily.csv is absent")
    notes = Notes()
    people = read_source(settings("lifesnaps_hrv", path=str(REAL)), 0, np.random.default_rng(0), notes)
    assert people.rhythms.shape[1:] == (7, 5)
    assert notes.said("'rmssd' is 0 on 30 days", "taken as not measured")
    assert people.rhythms[:, :, 4].min() >= 1


def test_bmi_bands_agree_across_spellings() -> None:
    bounds = (19.0, 25.0)
    assert bmi_band("<19", bounds) == bmi_band("18", bounds) == "under 19"
    assert bmi_band("19.0", bounds) == bmi_band("24.9", bounds) == "19 to under 25"
    assert bmi_band(">=25", bounds) == bmi_band(">=30", bounds) == bmi_band("25", bounds) == "25 and over"
    with pytest.raises(DataError, match="straddles"):
        bmi_band(">=25", (19.0, 30.0))
    with pytest.raises(DataError, match="neither"):
        bmi_band("tall", bounds)


# The user's tables.

PERSONS, DAYS = 24, 14


def write_tables(folder: Path, daily: pd.DataFrame, profiles: pd.DataFrame) -> TableSettings:
    daily.to_csv(folder / "daily.csv", index=False)
    profiles.to_csv(folder / "profiles.csv", index=False)
    chosen = settings("csv")
    assert isinstance(chosen, TableSettings)
    return dataclasses.replace(chosen, daily=str(folder / "daily.csv"), profiles=str(folder / "profiles.csv"))


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    who = [f"p{i:02d}" for i in range(PERSONS)]
    daily = pd.DataFrame(
        {
            "person": np.repeat(who, DAYS),
            "date": np.tile(pd.date_range("2024-01-01", periods=DAYS).strftime("%Y-%m-%d"), PERSONS),
            "sleep_duration": rng.normal(7, 1, PERSONS * DAYS).round(2),
            "sleep_quality": rng.uniform(3, 8, PERSONS * DAYS).round(1),
            "heart_rate": rng.normal(65, 3, PERSONS * DAYS).round(1),
            "stress": rng.uniform(3, 8, PERSONS * DAYS).round(1),
        }
    ).astype({"sleep_duration": object, "heart_rate": object})
    static = {"person": who, "age": rng.integers(20, 60, PERSONS), "job": ["a", "None"] * (PERSONS // 2)}
    return daily, pd.DataFrame(static | {"risk": ["Low", "Medium", "High"] * (PERSONS // 3)})


def test_tables_give_the_values_written(tmp_path: Path) -> None:
    daily, profiles = tables()
    people = read_tables(write_tables(tmp_path, daily, profiles), NullTracker())
    assert len(people) == 2 * PERSONS
    assert people.persons == PERSONS
    expected = daily["sleep_duration"].astype(np.float32).to_numpy().reshape(-1, 7)
    np.testing.assert_array_equal(people.rhythms[:, :, 0], expected)
    assert people.profiles["job"].tolist() == [j for j in profiles["job"] for _ in range(2)]
    assert people.profiles["age"].dtype.kind in "if"


def test_tables_take_any_signals_and_formats(tmp_path: Path) -> None:
    daily, profiles = tables()
    daily["date"] = pd.to_datetime(daily["date"]).dt.strftime("%d.%m.%Y")
    daily["hrv"] = 40.0
    chosen = write_tables(tmp_path, daily, profiles)
    hrv = dataclasses.replace(chosen.signals[0], column="hrv", name="hrv", unit="ms", low=0, high=250)
    chosen = dataclasses.replace(
        chosen, date_format="%d.%m.%Y", signals=(*chosen.signals, hrv), profile_columns=("age",), label="risk"
    )
    people = read_tables(chosen, NullTracker())
    assert people.rhythms.shape == (2 * PERSONS, 7, 5)
    assert list(people.profiles) == ["age", "risk"]


def test_missing_text_is_filled_and_told_and_missing_numbers_wait(tmp_path: Path) -> None:
    daily, profiles = tables()
    profiles = profiles.astype({"age": object})
    profiles.loc[0, ["age", "job"]] = None
    notes = Notes()
    people = read_tables(write_tables(tmp_path, daily, profiles), notes)
    assert people.profiles["job"].iloc[0] == "unknown"
    assert np.isnan(people.profiles["age"].iloc[0])  # until the persons are split
    assert notes.said("'job' lacks 1 of 24", "unknown")


def _set(
    table: str, row: int | slice, column: str, value: str | float | None
) -> Callable[[dict[str, pd.DataFrame]], None]:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[table] = frames[table].astype(object)
        frames[table].loc[row, column] = value

    return change


def _minutes(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"]["sleep_duration"] = frames["daily"]["sleep_duration"].astype(float) * 60


def _rename(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"] = frames["daily"].rename(columns={"heart_rate": "heartrate"})


def _few(frames: dict[str, pd.DataFrame]) -> None:
    frames["daily"] = frames["daily"].iloc[: 5 * DAYS]


def _only(table: str, rows: int) -> Callable[[dict[str, pd.DataFrame]], None]:
    def change(frames: dict[str, pd.DataFrame]) -> None:
        frames[table] = frames[table].iloc[:rows]

    return change


def _orphan(frames: dict[str, pd.DataFrame]) -> None:
    frames["profiles"] = frames["profiles"].iloc[1:]


def _twin(frames: dict[str, pd.DataFrame]) -> None:
    frames["profiles"] = pd.concat([frames["profiles"], frames["profiles"].iloc[:1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename, "column 'heart_rate' is missing .*did you mean 'heartrate'"),
        (
            _set("daily", 3, "stress", "high"),
            "column 'stress' holds 'high' at line 5 \\(1 of 336 rows\\), expected a number",
        ),
        (_set("daily", 4, "stress", 11), "holds '11' at line 6 .*expected 1 to 10 1-10"),
        (_minutes, "expected 0 to 14 h; observed .* to .*, median .*in minutes"),
        (_set("daily", 1, "date", "2024-01-01"), "two rows for one day, the second at line 3 .*for 2024-01-01"),
        (_set("daily", 2, "date", "yesterday"), "column 'date' holds 'yesterday' at line 4"),
        (_set("daily", 2, "person", None), "column 'person' is empty at line 4"),
        (_orphan, "1 of 24 persons have days but no profile"),
        (_twin, "a person stands twice, again at line 26"),
        (_few, "5 persons with a usable week, expected at least 20"),
        (_set("profiles", 2, "age", "forty"), "column 'age' holds 'forty' at line 4 \\(1 of 24 rows\\) among numbers"),
        (
            _set("profiles", 2, "age", "inf"),
            "column 'age' holds 'inf' at line 4 \\(1 of 24 rows\\), expected a finite number",
        ),
        (_set("daily", 4, "heart_rate", "inf"), "column 'heart_rate' holds 'inf' at line 6"),
        (
            _set("daily", 4, "heart_rate", "65,5"),
            "holds '65,5' at line 6 .*, expected a number; set \"data.decimal=','\"",
        ),
        (_set("profiles", 2, "person", "NA"), "column 'person' is empty at line 4"),
        (_set("daily", slice(None), "stress", None), "0 persons with a usable week"),
        (_set("profiles", slice(None), "age", None), "column 'age' is empty for everybody used; leave it out"),
        (_only("daily", 0), "daily.csv: no rows below the header"),
        (_only("profiles", 0), "profiles.csv: no rows below the header"),
        (_only("daily", DAYS), "1 persons with a usable week, expected at least 20"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, pd.DataFrame]], None], message: str
) -> None:
    daily, profiles = tables()
    frames = {"daily": daily, "profiles": profiles}
    change(frames)
    chosen = write_tables(tmp_path, frames["daily"], frames["profiles"])
    with pytest.raises(DataError, match=message) as caught:
        read_source(chosen, 0, np.random.default_rng(0), NullTracker())
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    chosen = write_tables(tmp_path, *tables())
    with pytest.raises(DataError, match="no such file"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "dayly.csv")), NullTracker())
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="not a readable table"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "empty.csv")), NullTracker())
    (tmp_path / "wide.csv").write_text("person,date\na,2024-01-01,3\n")
    with pytest.raises(DataError, match="more fields than the header"):
        read_tables(dataclasses.replace(chosen, daily=str(tmp_path / "wide.csv")), NullTracker())
    with pytest.raises(DataError, match=r"column 'risc' is missing .*did you mean 'risk'"):
        read_tables(dataclasses.replace(chosen, label="risc"), NullTracker())
    with pytest.raises(DataError, match="date_format"):
        read_tables(dataclasses.replace(chosen, date_format="%Q"), NullTracker())


def test_a_column_named_twice_and_a_wrong_separator_are_refused(tmp_path: Path) -> None:
    chosen = write_tables(tmp_path, *tables())
    path = tmp_path / "daily.csv"
    text = path.read_text()
    path.write_text(text.replace("person,date,sleep_duration,sleep_quality", "person,date,stress,sleep_quality", 1))
    with pytest.raises(DataError, match="column 'stress' stands twice in the header; rename one"):
        read_tables(chosen, NullTracker())
    path.write_text(text.replace(",", ";"))
    with pytest.raises(DataError, match=r"set .data\.separator=';'"):
        read_tables(chosen, NullTracker())
    with pytest.raises(DataError, match="'person' says who a person is"):
        path.write_text(text)
        read_tables(dataclasses.replace(chosen, profile_columns=("person", "age")), NullTracker())


def test_a_column_listed_twice_is_refused(tmp_path: Path) -> None:
    chosen = write_tables(tmp_path, *tables())
    twice = dataclasses.replace(chosen.signals[1], name=chosen.signals[0].name)
    for change, message in (
        ({"profile_columns": ("age", "job", "age")}, "data.profile_columns: 'age' stands 2 times, expected once"),
        ({"signals": (*chosen.signals, twice)}, "data.signals: 'sleep_duration' stands 2 times, expected once"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read_tables(dataclasses.replace(chosen, **change), NullTracker())  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    daily, profiles = tables()
    chosen = write_tables(tmp_path, daily, profiles)
    expected = read_tables(chosen, NullTracker())
    profiles["income"] = ["1.234,5", "12"] * (PERSONS // 2)
    profiles["job"] = ["a, b.c", "None"] * (PERSONS // 2)
    for name, table in (("daily", daily), ("profiles", profiles)):
        numbers = table.apply(
            lambda c: c.astype(str).str.replace(".", ",") if c.name not in ("job", "income", "date") else c
        )
        numbers.to_csv(tmp_path / f"{name}.csv", index=False, sep=";")
    people = read_tables(dataclasses.replace(chosen, separator=";", decimal=","), NullTracker())
    np.testing.assert_array_equal(people.rhythms, expected.rhythms)
    assert people.profiles["income"].iloc[[0, 2]].tolist() == [1234.5, 12.0]
    assert people.profiles["job"].iloc[0] == "a, b.c"


def test_words_that_may_mean_missing_are_levels_among_text_and_missing_among_numbers(tmp_path: Path) -> None:
    daily, profiles = tables()
    profiles = profiles.astype(object)
    profiles["region"] = ["NA", "EU", "EU", "None"] * (PERSONS // 4)
    profiles.loc[1, ["age", "region"]] = ["NA", None]
    daily = daily.astype(object)
    daily.loc[3, "stress"] = "None"
    notes = Notes()
    people = read_tables(write_tables(tmp_path, daily, profiles), notes)
    assert people.profiles["region"].iloc[::2].tolist()[:4] == ["NA", "unknown", "EU", "None"]
    assert notes.said("'region' holds 'NA' for 6 persons, kept as a level")
    assert np.isnan(people.profiles["age"].iloc[2]) and people.profiles["age"].notna().sum() == 2 * PERSONS - 2
    assert not people.mask[0, 3, 3] and people.mask.mean() > 0.99


def test_few_distinct_profiles_are_told(tmp_path: Path) -> None:
    daily, profiles = tables()
    notes = Notes()
    chosen = dataclasses.replace(write_tables(tmp_path, daily, profiles), profile_columns=("job",))
    read_tables(chosen, notes)
    assert notes.said("only 2 distinct rows of 24")
