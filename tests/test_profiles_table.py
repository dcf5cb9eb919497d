"""Tables that cannot be learned from are refused in one line that names the column; tables that can are not."""

import numpy as np
import pandas as pd
import pytest
from helpers_profiles import QUICK, Recorder, people

from core.errors import DataError
from core.protocols import NullTracker
from generators.profile_table import check_profiles, drop_columns, id_like
from generators.profiles import fit_profiles

N = 300


def column(name: str, values: object) -> pd.DataFrame:
    return people(N).assign(**{name: values})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (column("bmi", np.nan), "column 'bmi' has no value at all; leave it out"),
        (column("gender", None), "column 'gender' has no value at all"),
        (column("gender", ["Male"] * 297 + [None] * 3), r"'gender' lacks 3 of 300 values \(first at row 297\)"),
        (column("bmi", [np.nan, *range(N - 1)]), r"'bmi' lacks 1 of 300 values \(first at row 0\)"),
        (column("bmi", [1.5, np.inf, -np.inf] + [2.0] * 297), r"'bmi' has 2 infinite values \(first at row 1\)"),
        (
            column("town", [f"t{i % 150}" for i in range(N)]),
            "'town' has 150 distinct texts in 300 rows, expected at most",
        ),
        (people(0), "the table has 0 rows and 7 columns"),
    ],
)
def test_faults_are_named(table: pd.DataFrame, message: str):
    with pytest.raises(DataError, match=message) as caught:
        fit_profiles(table, QUICK, 0, NullTracker())
    assert "\n" not in str(caught.value)


def test_a_thousand_levels_are_refused_by_name_and_remedy():
    table = people(4000).assign(town=[f"t{i % 1000}" for i in range(4000)])
    with pytest.raises(
        DataError, match=r"'town' has 1000 distinct texts .* group its values, leave it out .*max_levels"
    ):
        check_profiles(table, 100)


RNG = np.random.default_rng(0)
IDENTIFIERS = {
    "running number": np.arange(1, N + 1),
    "shuffled running number": RNG.permutation(N) + 1000,
    "half of a running number": RNG.permutation(2 * N)[:N],
    "six digits at random": RNG.choice(10**6, N, replace=False),
    "running number as floats": RNG.permutation(N).astype(float),
    "every tenth number": np.arange(0, 10 * N, 10),
    "texts": [f"{i:08x}" for i in RNG.choice(2**31, N, replace=False)],
    "texts, one typed twice": [f"p{max(i, 1)}" for i in range(N)],
}
MEASURED = {
    "bmi": np.round(25 + 4 * RNG.normal(size=N), 1),
    "income": np.round(np.exp(10 + 0.7 * RNG.normal(size=N))),
    "steps a day": np.round(8000 + 3000 * RNG.normal(size=N)).astype(int),
    "uniform number": RNG.random(N),
    "age": RNG.integers(18, 80, N),
    "town": [f"t{i}" for i in RNG.integers(0, 90, N)],
}


@pytest.mark.parametrize("kind", IDENTIFIERS)
def test_identifiers_are_found(kind: str):
    assert id_like(column("x", IDENTIFIERS[kind])) == ["x"]


@pytest.mark.parametrize("kind", MEASURED)
def test_measured_columns_are_no_identifiers(kind: str):
    assert id_like(column("x", MEASURED[kind])) == []


@pytest.mark.parametrize("seed", range(20))
def test_measurements_of_25_persons_are_no_identifiers(seed: int):
    rng = np.random.default_rng(seed)
    steps, income = rng.normal(8000, 3000, 25).astype(int), np.round(np.exp(rng.normal(10, 0.7, 25)))
    assert id_like(people(25, seed).assign(steps=steps, income=income)) == []


def test_a_person_with_several_rows_is_still_named_by_an_identifier():
    persons = people(40).assign(pid=[f"p{i}" for i in range(40)])
    assert id_like(persons.loc[np.repeat(np.arange(40), 5)]) == ["pid"]
    assert id_like(pd.DataFrame({"town": [f"t{i % 30}" for i in range(900)]})) == []  # one column: nobody is named


def test_columns_are_dropped_on_request_and_said():
    table, tracker = people(N).assign(pid=np.arange(N)), Recorder()
    kept = drop_columns(table, ("country",), "drop", tracker)
    assert list(kept) == [name for name in people(N) if name != "country"] and len(kept) == N
    assert tracker.notes == ["profiles: left out columns country, pid"]
    assert list(drop_columns(table, (), "keep", tracker)) == list(table)
    with pytest.raises(DataError, match=r"'pid' looks like an identifier .*source.drop=\[pid\].*id_like=keep"):
        drop_columns(table, (), "refuse", tracker)
    with pytest.raises(DataError, match=r"source.drop names column 'contry', expected one of age, "):
        drop_columns(table, ("contry",), "keep", tracker)
    with pytest.raises(DataError, match="leave no column"):
        drop_columns(table[["pid"]], ("pid",), "keep", tracker)
