"""Input tables with a fault: each is refused in one line that names column, rows and remedy, or is read right."""

import dataclasses
import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_command
from helpers_faults import fault
from helpers_sources import Notes, settings
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from core.cohort import Cohort
from core.errors import DataError, ManoError
from generators.sources import read_source
from generators.sources.rows import SHOWN
from generators.sources.tables import TableSettings
from generators.sources.units import converted
from pipeline.config import load_config
from pipeline.scores_file import FORMULA, without_formulas
from pipeline.store import RunStore

PERSONS, DAYS = 22, 7
COLUMNS = {"sleep_duration": (4.0, 10.0), "sleep_quality": (2.0, 9.0), "heart_rate": (50.0, 80.0), "stress": (2.0, 9.0)}
few = effort(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
many = effort(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
Frames = dict[str, pd.DataFrame]


def frames(seed: int = 0, persons: int = PERSONS, days: int = DAYS) -> Frames:
    """A clean daily and profile table, all text, as they stand in the files."""
    rng = np.random.default_rng(seed)
    who = np.array([f"secret-{seed}-{i:04d}" for i in range(persons)])
    daily = {"person": np.repeat(who, days)}
    daily["date"] = np.tile(pd.date_range("2024-01-01", periods=days).strftime("%Y-%m-%d"), persons)
    for column, (low, high) in COLUMNS.items():
        daily[column] = rng.uniform(low, high, persons * days).round(2).astype(str)
    static = {"person": who, "age": rng.integers(20, 60, persons).astype(str)}
    static |= {"job": rng.choice(["office", "shop", "None"], persons)}
    return {"daily": pd.DataFrame(daily).astype(object), "profiles": pd.DataFrame(static).astype(object)}


def read(tables: Frames, text: Callable[[str], bytes] = str.encode, sep: str = ",", notes: Notes | None = None, **fields: object) -> Cohort:  # fmt: skip
    """The tables, written as files whose bytes are ``text`` of their CSV, and read."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.csv" for name in tables}
        for name, path in paths.items():
            path.write_bytes(text(tables[name].to_csv(index=False, sep=sep)))
        chosen = settings("csv")
        assert isinstance(chosen, TableSettings)
        chosen = dataclasses.replace(
            chosen, daily=str(paths["daily"]), profiles=str(paths["profiles"]), separator=sep, **fields
        )
        return read_source(chosen, 0, np.random.default_rng(0), notes or Notes())


def refusal(tables: Frames, *args: object, **fields: object) -> str:
    """The line that refuses them. It repeats no person's id."""
    with fault("input table, refused by cause"):
        with pytest.raises(ManoError) as caught:
            read(tables, *args, **fields)  # type: ignore[arg-type]
        message = str(caught.value)
        assert "\n" not in message and "secret" not in message
    return message


# Cells: whichever rows are bad, all are counted and the first five shown.

CELLS = {
    "text": ("daily", "stress", "high", "expected a number"),
    "decimal comma": ("daily", "heart_rate", "65,5", "set \"data.decimal=','\""),
    "negative": ("daily", "sleep_duration", "-3", "expected 0 to 14 h; observed -3 to"),
    "infinite": ("daily", "heart_rate", "inf", "expected 35 to 130 bpm"),
    "minus infinity": ("daily", "stress", "-inf", "expected 1 to 10"),
    "too large": ("daily", "sleep_duration", "1e300", "expected 0 to 14 h"),
    "a formula": ("daily", "stress", "=1+1", "expected a number"),
    "another date format": ("daily", "date", "31.01.2024", "expected a day such as 2024-01-31 throughout"),
    "a year for a date": ("daily", "date", "2024", "expected a day such as 2024-01-31"),
    "no such day": ("daily", "date", "2024-02-30", "expected a day such as 2024-01-31"),
    "a number with text": ("profiles", "age", "forty", "among numbers"),
    "an infinite profile": ("profiles", "age", "inf", "expected a finite number"),
    "a name among numbers": ("profiles", "age", "Jane Doe", "among numbers"),
    "an e-mail among numbers": ("daily", "stress", "jane@doe.org", "expected a number"),
}


def check_cells(kind: str, chosen: set[int], seed: int) -> None:
    table, column, value, expected = CELLS[kind]
    tables = frames(seed)
    rows = sorted(row % len(tables[table]) for row in chosen)
    tables[table].loc[rows, column] = value
    message = refusal(tables)
    hidden = "secret" in value or "@" in value or value == "Jane Doe"
    cell = "a value not shown here" if hidden else f"'{value}'"
    shown = ", ".join(f"{cell} at line {row + 2}" for row in sorted(set(rows))[:SHOWN])
    more = ", ..." if len(set(rows)) > SHOWN else ""
    assert (
        f"{table}.csv: column '{column}' holds {shown}{more} ({len(set(rows))} of {len(tables[table])} rows)" in message
    )
    assert expected in message
    assert value not in message or not hidden


ROWS = st.sets(st.integers(0, 10_000), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", CELLS)
def test_bad_cells_are_counted_and_the_first_five_shown(kind: str) -> None:
    @few
    @given(chosen=ROWS if CELLS[kind][0] == "daily" else st.sets(st.integers(0, PERSONS - 1), min_size=1, max_size=1))
    def check(chosen: set[int]) -> None:
        check_cells(kind, chosen, 0)

    check()


@pytest.mark.slow
@many
@given(kind=st.sampled_from([k for k in CELLS if CELLS[k][0] == "daily"]), chosen=ROWS, seed=st.integers(0, 1000))
def test_bad_cells_in_many_tables(kind: str, chosen: set[int], seed: int) -> None:
    check_cells(kind, chosen, seed)


@few
@given(rows=ROWS)
def test_two_rows_for_a_day_are_counted(rows: set[int]) -> None:
    tables = frames()
    again = sorted({row % (PERSONS * DAYS) for row in rows})
    tables["daily"] = pd.concat([tables["daily"], tables["daily"].iloc[again]], ignore_index=True)
    message = refusal(tables)
    assert f"({len(again)} of {PERSONS * DAYS + len(again)} rows)" in message
    assert f"the second at line {PERSONS * DAYS + 2}" in message and "merge them" in message


# Columns.


@pytest.mark.parametrize("column", [*COLUMNS, "date", "person"])
@pytest.mark.parametrize("spelt", [str.upper, str.title, lambda c: f" {c}", lambda c: c[:-1], lambda c: c.replace("_", " ") + "s"])  # fmt: skip
def test_a_misspelt_column_is_told_by_the_nearest(column: str, spelt: Callable[[str], str]) -> None:
    tables = frames()
    tables["daily"] = tables["daily"].rename(columns={column: spelt(column)})
    message = refusal(tables)
    assert f"column '{column}' is missing" in message and f"did you mean '{spelt(column)}'?" in message


def test_all_missing_columns_are_named_and_doubled_ones_refused() -> None:
    tables = frames()
    gone = {**tables, "daily": tables["daily"].drop(columns=["stress", "heart_rate"])}
    assert "column 'heart_rate' is missing, and so are 'stress' (found person, date" in refusal(gone)
    twice = {**tables, "daily": tables["daily"].rename(columns={"stress": "heart_rate"})}
    assert "column 'heart_rate' stands twice in the header; rename one" in refusal(twice)


# Files.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda t: t.replace("office", "café").encode("latin-1"), r"not UTF-8 at line \d+ \(byte 0xe9; Latin-1"),
        (lambda t: t.encode("utf-16"), "UTF-16 text, expected UTF-8; save it as 'CSV UTF-8'"),
        (lambda t: t.encode() + b"\x00", "holds a zero byte"),
        (lambda t: b"", "not a readable table"),
        (lambda t: t.splitlines()[0].encode(), "no rows below the header"),
        (lambda t: t.replace(",", ";").encode(), "set \"data.separator=';'\""),
        (lambda t: t.replace(",", "\t").encode(), r"set .data.separator='.t'"),
        (lambda t: t.rstrip().rsplit(",", 1)[0].encode(), r"\(1 in all\) has fewer than the header's \d fields"),
        (lambda t: t.rstrip()[:-30].rsplit(",", 1)[0].encode(), r"\(1 in all\) has fewer than the header's \d fields"),
        (lambda t: t.replace("0005,", "0005,,", 1).encode(), "more fields than the header|Expected .* fields in line"),
        (lambda t: t.replace("secret", '"secret', 1).encode(), "not a readable table|fewer than the header's"),
    ],
    ids=["Latin-1", "UTF-16", "zero byte", "empty", "no rows", "semicolons", "tabs", "short last row", "cut off", "wide rows", "open quote"],
)  # fmt: skip
@pytest.mark.parametrize("table", ["daily", "profiles"])
def test_a_file_that_is_no_such_table_is_refused(table: str, text: Callable[[str], bytes], message: str) -> None:
    tables = frames()
    tables["daily"]["note"] = "office"  # where a letter may stand that is no ASCII
    other = len(tables[{"daily": "profiles", "profiles": "daily"}[table]].columns)

    def one(whole: str) -> bytes:
        return whole.encode() if whole.split("\n")[0].count(",") + 1 == other else text(whole)

    assert re.search(message, refusal(tables, one)), refusal(tables, one)


@few
@given(marks=st.sampled_from(["utf-8-sig", "utf-8"]), end=st.sampled_from(["\n", "\r\n"]), tail=st.booleans(), letter=st.sampled_from("éßå漢"))  # fmt: skip
def test_marks_line_ends_and_letters_change_nothing(marks: str, end: str, tail: bool, letter: str) -> None:
    tables, clean = frames(), read(frames())
    tables["profiles"]["job"] = tables["profiles"]["job"].str.replace("office", f"offi{letter}e")
    people = read(tables, lambda t: (t if tail else t.rstrip("\n")).replace("\n", end).encode(marks))
    np.testing.assert_array_equal(people.rhythms, clean.rhythms)
    assert people.profiles["job"].str.replace(letter, "c").tolist() == clean.profiles["job"].tolist()


# Days.


def check_days(order: int, gaps: set[int], zone: str, seed: int) -> None:
    """Rows in any order, with gaps, times and zones: each week holds what was written for its calendar day."""
    tables = frames(seed, days=14)
    daily = tables["daily"].drop(index=[gap % (PERSONS * 14) for gap in gaps])
    expected = daily.set_index(["person", "date"])["stress"].astype(np.float32)
    written = daily.assign(date=daily["date"] + zone).sample(frac=1, random_state=order)
    people = read({**tables, "daily": written})
    found = people.rhythms[:, :, 3][people.mask[:, :, 3]]
    assert people.persons == PERSONS
    weeks = {tuple(week) for week in np.where(people.mask[:, :, 3], people.rhythms[:, :, 3], -1).tolist()}
    for who in tables["profiles"]["person"]:
        for start in ("2024-01-01", "2024-01-08"):
            days = pd.date_range(start, periods=7).strftime("%Y-%m-%d")
            week = [expected.get((who, day), -1) for day in days]
            assert (tuple(week) in weeks) == (week.count(-1) <= 2)
    assert np.isin(found, expected.to_numpy()).all()


ZONES = st.sampled_from(["", " 23:59:59", "T00:10:00Z", "T23:30:00+02:00", "T23:30:00-11:00"])


@few
@given(order=st.integers(0, 99), gaps=st.sets(st.integers(0, PERSONS * 14 - 1), max_size=40), zone=ZONES)
def test_days_in_any_order_with_gaps_and_zones_are_read_right(order: int, gaps: set[int], zone: str) -> None:
    check_days(order, gaps, zone, 0)


@pytest.mark.slow
@many
@given(order=st.integers(0, 99), gaps=st.sets(st.integers(0, PERSONS * 14 - 1), max_size=40), zone=ZONES, seed=st.integers(0, 1000))  # fmt: skip
def test_days_of_many_tables_are_read_right(order: int, gaps: set[int], zone: str, seed: int) -> None:
    check_days(order, gaps, zone, seed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {**t, "daily": t["daily"].iloc[:DAYS]}, "1 persons with a usable week, expected at least 20"),
        (lambda t: {**t, "daily": t["daily"].iloc[:1]}, "0 persons with a usable week, expected at least 20"),
        (lambda t: {**t, "daily": t["daily"][t["daily"]["date"] == "2024-01-03"]}, "0 persons with a usable week"),
        (lambda t: {**t, "profiles": t["profiles"].iloc[2:]}, "2 of 22 persons have days but no profile; compare column 'person'"),
        (lambda t: {**t, "profiles": pd.concat([t["profiles"], t["profiles"].iloc[:3]])}, r"stands twice, again at line 24, line 25, line 26 \(3 of 25 rows\)"),
        (lambda t: {**t, "profiles": t["profiles"].assign(age=[*["1.5"] * 3, *(f"{i}.7" for i in range(11)), *["old", "new"] * 4])}, None),
        (lambda t: {**t, "profiles": t["profiles"].assign(age="")}, "column 'age' is empty for everybody used"),
    ],
    ids=["one person", "one row", "one day", "no profile", "a person twice", "categories", "an empty column"],
)  # fmt: skip
def test_few_rows_and_odd_profiles(change: Callable[[Frames], Frames], message: str | None) -> None:
    tables = change(frames())
    if message is None:
        assert "old" in set(read(tables).profiles["age"])
    else:
        assert re.search(message, refusal(tables))


def test_many_numbers_mixed_with_text_are_no_categories() -> None:
    tables = frames(persons=60)
    tables["profiles"]["age"] = [f"{20 + i}" if i % 2 else "unsure" for i in range(60)]
    message = refusal(tables)
    assert "column 'age' holds 'unsure' at line 2" in message and "(30 of 60 rows) among numbers" in message


# Units: the whole column is in another one.

UNITS = {
    "minutes": ("sleep_duration", lambda v: v * 60),
    "seconds": ("sleep_duration", lambda v: v * 3600),
    "milliseconds": ("sleep_duration", lambda v: v * 3.6e6),
    "beats per second": ("heart_rate", lambda v: v / 60),
    "0-100": ("stress", lambda v: (v - 1) / 9 * 100),
    "0-1": ("sleep_quality", lambda v: (v - 1) / 9),
}


@pytest.mark.parametrize("unit", UNITS)
def test_another_unit_is_suspected_with_the_evidence_and_the_key_converts(unit: str) -> None:
    column, written = UNITS[unit]

    @few
    @given(seed=st.integers(0, 1000))
    def check(seed: int) -> None:
        tables = frames(seed)
        right = read(tables)
        values = written(tables["daily"][column].astype(float))
        tables["daily"][column] = values.map(repr)
        message = refusal(tables)
        assert (
            f"observed {values.min():g} to {values.max():g}, median {values.median():g}: are they in {unit}?" in message
        )
        assert f'set "data.convert={{{column}: {unit}}}"' in message
        np.testing.assert_allclose(read(tables, convert={column: unit}).rhythms, right.rhythms, atol=1e-4)

    check()


def test_the_key_that_converts_stands_on_the_command_line_as_told() -> None:
    chosen = load_config(["data=csv", "data.convert={stress: 0-100, heart_rate: beats per second}"]).data
    assert isinstance(chosen, TableSettings)
    assert chosen.convert == {"stress": "0-100", "heart_rate": "beats per second"}


def test_slips_are_no_unit_and_a_wrong_conversion_is_refused() -> None:
    tables = frames()
    tables["daily"].loc[[3, 9], "stress"] = "55"
    message = refusal(tables)
    assert "holds '55' at line 5, '55' at line 11 (2 of 154 rows), expected 1 to 10" in message
    assert "convert" not in message
    assert "'stress' is said to be in 'minutes', expected one of 0-1, 0-10, 0-100" in refusal(frames(), convert={"stress": "minutes"})  # fmt: skip
    assert "data.convert: 'stres' is no signal's column" in refusal(frames(), convert={"stres": "0-100"})
    with pytest.raises(DataError, match="nothing converts to this unit"):
        converted(np.ones(3), "minutes", 0, 1, "kg", "weight")


# Export.


@few
@given(sign=st.sampled_from(FORMULA), rest=st.text(max_size=8), plain=st.text("abc1 .", max_size=8), score=st.floats(-9, 9))  # fmt: skip
def test_formulas_are_neutralised_and_numbers_untouched(sign: str, rest: str, plain: str, score: float) -> None:
    assume(not rest.startswith("'"))
    scores = pd.DataFrame({"person": [sign + rest, plain, None], "risk_score": [score, -1.5, 0.0], "driver_1": ["-x", "x", "@y"]})  # fmt: skip
    notes = Notes()
    written = without_formulas(scores, notes)
    assert written["person"].iloc[0] == "'" + sign + rest and written["person"].iloc[1] == plain
    assert written["driver_1"].tolist() == ["'-x", "x", "'@y"]
    assert written["risk_score"].equals(scores["risk_score"])
    assert notes.said("3 cells", "formula")
    again = pd.read_csv(io.StringIO(written.to_csv(index=False)))
    np.testing.assert_allclose(again["risk_score"], scores["risk_score"])


# The command, and a large table.


def arguments(tables: Frames, folder: Path) -> list[str]:
    """The source stage over these tables."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    paths = [f"data.daily={folder}/daily.csv", f"data.profiles={folder}/profiles.csv", f"runs_dir={folder / 'runs'}"]
    return ["preset=smoke", "stage=source", "data=csv", "labels=rules", *paths]


@pytest.mark.slow
def test_the_command_ends_with_one_line_and_status_one(tmp_path: Path) -> None:
    tables = frames()
    tables["daily"].loc[3, "stress"] = "high"
    done = run_command(*arguments(tables, tmp_path))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1 and "column 'stress' holds 'high' at line 5" in errors[0]
    assert "secret" not in done.stdout + done.stderr
    assert not (tmp_path / "runs" / "smoke" / "source").exists()


@pytest.mark.slow
def test_a_million_person_days_in_four_gigabytes(tmp_path: Path) -> None:
    done = run_command(*arguments(frames(persons=10_000, days=100), tmp_path))
    assert done.returncode == 0, done.stderr
    store = RunStore(tmp_path / "runs" / "smoke")
    metrics = store.metrics("source")
    assert metrics["persons"] + metrics["holdout_persons"] == 10_000
    assert metrics["weeks"] + metrics["holdout_weeks"] == 10_000 * 14
    assert store.manifest("source")["peak_memory_mb"] < 4096
