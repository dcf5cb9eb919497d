"""Direct identifiers in a source are found by name and by value, named and refused unless allowed by name."""

import numpy as np
import pandas as pd
import pytest
from helpers_sources import Notes, dass_table, read, settings, sleep_health_table
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from core.errors import DataError
from generators.identifiers import direct_identifiers, kind_of_name, kind_of_values, looks_like_one
from generators.profile_table import drop_columns

NAMED = {
    "a person's name": ["Name", "first name", "Last_Name", "surname", "patientName", "Vorname"],
    "an e-mail address": ["email", "E-Mail", "e-mail address", "contact_email"],
    "a telephone number": ["phone", "Phone Number", "mobilePhone", "home phone", "Telefon"],
    "an address": ["Address", "street", "home_address", "ZIP code", "postcode", "IP address", "PLZ"],
    "a national or record number": ["SSN", "national id", "passportNumber", "MRN", "NHS number", "tax_id"],
    "a date of birth": ["DOB", "date of birth", "birth_date", "dateOfBirth", "Geburtsdatum"],
}
HARMLESS = [
    "age", "gender", "occupation", "bmi", "year_of_birth", "phone_use_minutes", "drug_name", "address_changes", "country",
    "sleep_disorder", "stress", "city_size", "email_per_day", "mobility", "nameless", "dass_stress", "physical_activity",
]  # fmt: skip


def _values(kind: str, rng: np.random.Generator, n: int) -> list[str]:
    i = rng.integers(1000, 9999, n)
    first, last = rng.choice(["Jane", "Omar", "Zoë", "Li"], n), [f"Sm{'aeiou'[k % 5]}th{chr(97 + k % 26)}" for k in i]
    return {
        "a person's name": [f"{a} {b}" for a, b in zip(first, last, strict=True)],
        "an e-mail address": [f"user{k}@example.org" for k in i],
        "a telephone number": [f"+49 30 {k} {k % 97:02d}" for k in i],
        "an address": [f"{k % 200 + 1} Long Acre Street" for k in i],
        "a national or record number": [f"{k % 900 + 100}-{k % 90 + 10}-{k}" for k in i],
        "a date of birth": [f"{1940 + k % 60}-{k % 12 + 1:02d}-{k % 28 + 1:02d}" for k in i],
    }[kind]


@pytest.mark.parametrize("kind", NAMED)
def test_they_are_told_by_name_and_by_value(kind: str) -> None:
    for name in NAMED[kind]:
        assert kind_of_name(name) == kind, name
    cells = pd.Series(_values(kind, np.random.default_rng(0), 60), dtype=object)
    assert kind_of_values(cells) == kind
    table = pd.DataFrame({"age": np.arange(60) % 7, "remark": cells})
    assert direct_identifiers(table) == {"remark": kind}
    with pytest.raises(DataError, match=rf"'remark' \({kind}\) looks like a direct identifier.*source.drop=\[remark\].*source.allow_identifiers=\[remark\]") as caught:  # fmt: skip
        drop_columns(table, (), "keep", Notes())
    assert "\n" not in str(caught.value) and not any(cell in str(caught.value) for cell in cells)
    notes = Notes()
    assert list(drop_columns(table, (), "drop", notes)) == ["age"] and notes.said("left out columns remark")
    assert list(drop_columns(table, ("remark",), "refuse", notes)) == ["age"]
    assert list(drop_columns(table, (), "refuse", notes, ("remark",))) == ["age", "remark"]
    with pytest.raises(
        DataError, match=r"source.allow_identifiers names column 'remarks', expected one of age, remark"
    ):
        drop_columns(table, (), "refuse", notes, ("remarks",))


@effort(max_examples=30, deadline=None)
@given(kind=st.sampled_from([k for k in NAMED if k != "a person's name"]), seed=st.integers(0, 999), noise=st.integers(0, 20))  # fmt: skip
def test_most_values_are_enough(kind: str, seed: int, noise: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [*_values(kind, rng, 60), *(f"none {k}" for k in range(noise))]
    found = kind_of_values(pd.Series(rng.permutation(np.array(cells, object))))
    assert found == kind


def test_what_is_measured_or_a_category_is_none() -> None:
    assert [name for name in HARMLESS if kind_of_name(name)] == []
    rng = np.random.default_rng(0)
    harmless = {
        "pressure": [f"{k}/{k - 40}" for k in rng.integers(110, 160, 60)],
        "disorder": rng.choice(["Sleep Apnea", "No Disorder", "Insomnia Type"], 60),
        "band": rng.choice(["10000-20000", "20000-30000"], 60),
        "enrolled": [f"2023-0{k}-1{k}" for k in rng.integers(1, 9, 60)],
        "steps": rng.integers(1000, 20_000, 60),
        "bmi": rng.choice(["<19", ">=25", "22.0"], 60),
        "words": rng.choice(["the arts, mostly", "law", "a.b"], 60),
    }
    assert direct_identifiers(pd.DataFrame(harmless)) == {}
    for cell in ("high", "65,5", "31.01.2024", "-3", "=1+1", "126-83"):
        assert not looks_like_one(cell)


@pytest.mark.parametrize("kind", ["sleep_health", "dass42"])
def test_the_known_sources_hold_none(kind: str, tmp_path: object) -> None:
    rng, path = np.random.default_rng(0), f"{tmp_path}/table.csv"
    table, separator = (sleep_health_table(60, rng), ",") if kind == "sleep_health" else (dass_table(60, rng), "\t")
    table.to_csv(path, index=False, sep=separator)
    assert direct_identifiers(read(settings(kind, path=path)).profiles) == {}
