"""Real rows stay in the run's source folder: marks planted in a made-up source are looked for in all a run writes and prints."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run_command

from pipeline.store import RunStore

PERSONS, DAYS = 60, 21
MARK = "zq7mark"
COLUMNS = {"sleep_duration": (7.0, 1.0), "sleep_quality": (6.0, 1.2), "heart_rate": (66.0, 6.0), "stress": (5.0, 1.6)}


def write_source(folder: Path) -> list[str]:
    """Two tables whose persons, and a column that is not used, bear the mark; the words that read them."""
    rng = np.random.default_rng(0)
    who = [f"{MARK}-{i:03d}" for i in range(PERSONS)]
    own = rng.normal(size=PERSONS)
    daily = {"person": np.repeat(who, DAYS), "date": np.tile(pd.date_range("2024-01-01", periods=DAYS).astype(str), PERSONS)}  # fmt: skip
    for k, (column, (mean, sd)) in enumerate(COLUMNS.items()):
        days = mean + sd * (np.repeat(own, DAYS) * (-1 if k < 2 else 1) + rng.normal(size=PERSONS * DAYS))
        low, high = (40, 120) if column == "heart_rate" else (1.5, 9.9)
        daily[column] = days.clip(low, high).round(4)
    pd.DataFrame(daily).to_csv(folder / "daily.csv", index=False)
    static = {
        "person": who,
        "age": rng.integers(20, 70, PERSONS),
        "job": rng.choice(["office", "shop", "none"], PERSONS),
    }
    static |= {"income": rng.lognormal(10, 0.4, PERSONS).round(3), "remark": [f"{MARK} wrote this" for _ in who]}
    pd.DataFrame(static).to_csv(folder / "profiles.csv", index=False)
    files = [f"data.daily={folder}/daily.csv", f"data.profiles={folder}/profiles.csv"]
    return ["data=csv", "labels=rules", "data.profile_columns=[age,job,income]", "cohort.sensitive=job", *files]


def marked(path: Path) -> bool:
    """Whether a file holds the mark, in its bytes or in a Parquet table's cells."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        data += pd.read_parquet(io.BytesIO(data)).to_csv().encode()
    return any(mark in data for mark in (MARK.encode(), MARK.encode("utf-16-le"), MARK.upper().encode()))


@pytest.mark.slow
def test_marks_of_real_persons_leave_the_source_folder_nowhere(tmp_path: Path) -> None:
    words = ["preset=smoke", f"runs_dir={tmp_path / 'runs'}", *write_source(tmp_path)]
    made = run_command(*words)
    assert made.returncode == 0, made.stderr
    store = RunStore(tmp_path / "runs" / "smoke")
    for more in (["stage=export", "export.format=csv"], ["stage=journey"], ["stage=audit"]):
        done = run_command(*words, *more)
        assert done.returncode == 0, done.stderr
        assert MARK not in done.stdout + done.stderr
    assert MARK not in made.stdout + made.stderr
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 40 and any("tfevents" in path.name for path in files)
    assert [str(path) for path in files if marked(path)] == []  # not even where the rows are: ids became numbers
    assert marked(tmp_path / "profiles.csv")  # the search finds what is there
    _no_real_row(store, tmp_path)


def _no_real_row(store: RunStore, folder: Path) -> None:
    """No synthetic week is a real one, no synthetic profile a real one, and no real week stands in another file's bytes."""
    real = pd.concat([store.cohort("source", part).profiles for part in ("train_", "holdout_")])
    weeks = np.concatenate([store.cohort("source", part).rhythms for part in ("train_", "holdout_")])
    cohort = store.cohort("cohort")
    assert not {week.tobytes() for week in weeks} & {week.tobytes() for week in cohort.rhythms}
    assert cohort.profiles.merge(real.drop_duplicates(), how="inner").empty
    outside = [path for path in store.root.rglob("*") if path.is_file() and "source" not in path.relative_to(store.root).parts]  # fmt: skip
    runs = [week.tobytes() for week in weeks[:40]]
    assert [path for path in outside if any(run in path.read_bytes() for run in runs)] == []
