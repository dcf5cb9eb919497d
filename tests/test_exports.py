"""Exports: the synthetic cohort as others read it, under new ids, and nobody of the source in it."""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_here
from rich.console import Console

from core.cohort import Cohort
from core.errors import ConfigError
from core.signals import DEFAULT_SIGNALS
from pipeline.exports.command import WARNING, require, write_csv
from pipeline.exports.croissant import croissant
from pipeline.exports.fhir import LOCAL, LOCAL_NOTE, LOINC, bundles
from pipeline.exports.tables import PERSON_DAYS, PERSONS, days_table, dictionary, persons_table
from pipeline.store import RunStore
from pipeline.tracker import RunTracker

FACTS = {"name": "mano-try", "description": "Three synthetic persons.", "license": "https://spdx.org/licenses/MIT.html",
         "url": "urn:sha-256:0", "version": "0.1.0", "date_published": "2026-01-02", "cite_as": "Manō"}  # fmt: skip


@pytest.fixture
def cohort() -> Cohort:
    """Three persons; a column that collides with the export's own, a value and a name that a spreadsheet would run."""
    rng = np.random.default_rng(0)
    profiles = pd.DataFrame({"age": [30, 41, 52], "gender": ["Female", "Male", "?"], "bmi": [20.5, 25.0, 31.25],
                             "risk": ["=1+1", "@x", "plain"], "+note": ["a", "b", "c"]})  # fmt: skip
    rhythms = rng.uniform([5, 1, 50, 1], [9, 10, 90, 10], (3, 7, 4)).astype(np.float32)
    mask = np.ones((3, 7, 4), bool)
    mask[1, 2, 0] = False
    person = np.array([901, 902, 903])  # numbers that must not come out
    return Cohort(profiles, rhythms, mask, person, DEFAULT_SIGNALS, np.array([0, 1, 2], np.int8))


def written(folder: Path, cohort: Cohort) -> dict[str, pd.DataFrame]:
    tables = {PERSONS: persons_table(cohort), PERSON_DAYS: days_table(cohort)}
    list(write_csv(folder, tables, cohort, RunTracker(folder, Console(file=io.StringIO()))))
    return tables


def test_the_tables_hold_the_cohort_and_no_id_of_its_own(cohort: Cohort) -> None:
    persons, days = persons_table(cohort), days_table(cohort)
    assert persons["risk"].tolist() == ["Low", "Medium", "High"]
    assert persons["source_risk"].tolist() == cohort.profiles["risk"].tolist()
    assert persons["person"].is_unique and not persons["person"].astype(str).str.contains("90").any()
    assert days.groupby("person").size().tolist() == [7, 7, 7]
    assert pd.isna(days.loc[7 + 2, "sleep_duration"])  # a missed day is empty, not what filled it
    assert days["sleep_duration"].isna().sum() == 1
    np.testing.assert_allclose(days["stress"].to_numpy().reshape(3, 7), cohort.rhythms[:, :, 3], atol=0.0051)


def test_a_spreadsheet_runs_nothing(cohort: Cohort, tmp_path: Path) -> None:
    written(tmp_path, cohort)
    for name in (PERSONS, PERSON_DAYS, "data_dictionary"):
        table = pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False)
        cells = [*table.columns, *table.select_dtypes(object).to_numpy().ravel()]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    persons = pd.read_csv(tmp_path / f"{PERSONS}.csv")
    assert persons["source_risk"].tolist() == ["'=1+1", "'@x", "plain"]


def test_the_dictionary_explains_every_column_once(cohort: Cohort) -> None:
    found = dictionary(cohort)
    for name, table in ((PERSONS, persons_table(cohort)), (PERSON_DAYS, days_table(cohort))):
        assert found.loc[found["table"] == name, "column"].tolist() == list(table)
    sleep = found[found["column"] == "sleep_duration"].iloc[0]
    assert (sleep["unit"], sleep["low"], sleep["high"]) == ("h", 0.0, 14.0)
    assert found[found["column"] == "gender"].iloc[0]["values"] == "? | Female | Male"


def test_mlcroissant_accepts_the_metadata_and_reads_the_tables_by_it(cohort: Cohort, tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant")
    tables = written(tmp_path, cohort)
    digests = {name: hashlib.sha256((tmp_path / f"{name}.csv").read_bytes()).hexdigest() for name in tables}
    (tmp_path / "croissant.json").write_text(json.dumps(croissant(FACTS, digests, dictionary(cohort), WARNING)))
    dataset = mlc.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.issues.errors and not dataset.metadata.issues.warnings
    rows = list(dataset.records(PERSONS))
    assert [row["persons/age"] for row in rows] == [30, 41, 52]
    assert [row["persons/source_risk"] for row in rows] == [b"'=1+1", b"'@x", b"plain"]
    assert len(list(dataset.records(PERSON_DAYS))) == 21
    assert "not medical advice" in (tmp_path / "croissant.json").read_text()


def test_bundles_are_valid_and_say_what_is_coded_by_whom(cohort: Cohort) -> None:
    library = pytest.importorskip("fhir.resources.R4B.bundle")
    texts = bundles(cohort, "run", 2, WARNING)
    assert len(texts) == 2 and texts == bundles(cohort, "run", 2, WARNING)
    assert not set(urls(texts[0])) & set(urls(texts[1])) and len(set(urls(texts[1]))) == len(urls(texts[1]))
    bundle = json.loads(library.Bundle.model_validate_json(texts[1]).model_dump_json())
    patient, *observations = [entry["resource"] for entry in bundle["entry"]]
    assert patient["gender"] == "male" and "not medical advice" in patient["text"]["div"]
    assert {each["subject"]["reference"] for each in observations} == {urls(texts[1])[0]}
    coded: dict[str, list[dict]] = {}
    for each in observations:
        coded.setdefault(each["code"]["coding"][0]["code"], []).append(each)
    hearts, sleeps = coded["8867-4"], coded["93832-4"]
    assert {each["code"]["coding"][0]["system"] for each in hearts + sleeps} == {LOINC}
    assert (len(hearts), len(sleeps)) == (7, 6)  # one night was missed
    assert [each["effectiveTiming"]["repeat"]["dayOfWeek"] for each in sleeps] == [
        ["mon"], ["tue"], ["thu"], ["fri"], ["sat"], ["sun"],
    ]  # fmt: skip
    assert hearts[0]["valueQuantity"]["code"] == "/min"
    assert float(hearts[0]["valueQuantity"]["value"]) == pytest.approx(float(cohort.rhythms[1, 0, 2]), abs=0.0051)
    local = coded["stress"][0]["code"]["coding"][0]
    assert (local["system"], local["display"]) == (LOCAL, LOCAL_NOTE)
    assert coded["risk_class"][0]["valueString"] == "Medium"


def urls(text: str) -> list[str]:
    return [entry["fullUrl"] for entry in json.loads(text)["entry"]]


def test_a_format_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(
        ConfigError, match=r'export.format=croissant needs mlcroissant.*pip install -e ".\[croissant\]"'
    ):
        require("croissant")
    require("csv")


def test_the_command_writes_the_synthetic_cohort_and_no_real_row(smoke: RunStore, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = ("preset=smoke", f"runs_dir={smoke.root.parent}", "stage=export", f"export.folder={folder}")
    for form in ("csv", "parquet"):
        assert "not medical advice" in run_here(*options, f"export.format={form}")
    days, cohort = pd.read_parquet(folder / "days.parquet"), smoke.cohort("cohort")
    pd.testing.assert_frame_equal(pd.read_csv(folder / "days.csv"), days, check_dtype=False)
    assert len(pd.read_parquet(folder / "persons.parquet")) == len(cohort)
    weeks = {week.tobytes() for week in days[[s.name for s in cohort.signals]].to_numpy().reshape(-1, 28)}
    for part in ("train_", "holdout_"):
        real = smoke.cohort("source", part).rhythms.astype(float).round(2).reshape(-1, 28)
        assert not weeks & {week.tobytes() for week in real}
