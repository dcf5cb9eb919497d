"""PMData's folders become weeks on the project's scales, or are refused in one line."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_sources import Notes, read, settings, write_pmdata

from core.errors import DataError
from generators.sources import source_files


@pytest.fixture
def pmdata(tmp_path: Path) -> Path:
    write_pmdata(tmp_path / "pm", 16, 21, np.random.default_rng(0), no_heart=("p12",))
    return tmp_path / "pm"


def test_pmdata_days_and_directions(pmdata: Path) -> None:
    notes = Notes()
    people = read(settings("pmdata", path=str(pmdata)), notes)
    assert people.persons == 15 and len(people) == 45
    assert notes.said("p12", "resting_heart_rate.json: no such file")
    wellness = pd.read_csv(pmdata / "p01/pmsys/wellness.csv")
    sleep = json.loads((pmdata / "p01/fitbit/sleep.json").read_text())
    week = people.rhythms[0]
    np.testing.assert_allclose(week[:, 0], [night["minutesAsleep"] / 60 for night in sleep[:7]], rtol=1e-6)
    np.testing.assert_allclose(week[:, 1], 1 + (wellness["sleep_quality"][:7] - 1) * 2.25)
    np.testing.assert_allclose(week[:, 3], 10 - (wellness["stress"][:7] - 1) * 2.25)  # 5 is best: no stress
    assert list(people.profiles) == ["mean_fatigue", "mean_mood", "mean_readiness", "mean_soreness"]
    assert people.profiles["mean_readiness"].iloc[0] == pytest.approx(wellness["readiness"].mean(), abs=0.005)
    assert notes.said("no table of participants", "means of fatigue, mood, readiness, soreness")
    assert len(source_files(settings("pmdata", path=str(pmdata)))) == 16 + 16 + 15


def test_pmdata_leaves_out_naps_zeros_and_second_reports(pmdata: Path) -> None:
    sleep = json.loads((pmdata / "p01/fitbit/sleep.json").read_text())
    first = sleep[0]["minutesAsleep"]
    sleep += [{**sleep[0], "minutesAsleep": 30, "mainSleep": False}, {**sleep[0], "minutesAsleep": 20}]
    (pmdata / "p01/fitbit/sleep.json").write_text(json.dumps(sleep))
    heart = json.loads((pmdata / "p01/fitbit/resting_heart_rate.json").read_text())
    heart[1]["value"] = {"date": None, "value": 0.0, "error": 0.0}
    (pmdata / "p01/fitbit/resting_heart_rate.json").write_text(json.dumps(heart))
    table = pd.read_csv(pmdata / "p01/pmsys/wellness.csv")
    later = table.iloc[[2]].assign(effective_time_frame="2019-11-06T22:00:00.000Z", stress=5)
    table.loc[3, "stress"] = 0
    pd.concat([table, later]).to_csv(pmdata / "p01/pmsys/wellness.csv", index=False)
    notes = Notes()
    people = read(settings("pmdata", path=str(pmdata)), notes)
    assert people.rhythms[0, 0, 0] == pytest.approx(first / 60)
    assert people.mask[0, :, 2].tolist() == [True, False, *[True] * 5]
    assert people.mask[0, :, 3].tolist() == [*[True] * 3, False, *[True] * 3] and people.rhythms[0, 2, 3] == 1.0
    assert notes.said("1 answers below their scale") and notes.said("1 reports of a day that has a later one")


def test_pmdata_takes_a_table_of_participants(pmdata: Path) -> None:
    table = pd.DataFrame(
        {"Participant ID": [f"p{i:02d}" for i in range(1, 17)], "Age": range(20, 36), "Gender": ["male", "female"] * 8}
    )
    table.to_csv(pmdata / "participants.csv", index=False)
    people = read(settings("pmdata", path=str(pmdata), participants=str(pmdata / "participants.csv")))
    assert list(people.profiles) == ["Age", "Gender"] and people.profiles["Age"].iloc[0] == 20


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("p02/fitbit/sleep.json", "{not json", "p02/fitbit/sleep.json: not the Fitbit records expected"),
        ("p02/fitbit/sleep.json", '[{"dateOfSleep": "2019-11-04"}]', "not the Fitbit records expected .KeyError: 'mainSleep'"),
        ("p02/fitbit/resting_heart_rate.json", '[{"dateTime": "2019-11-05 00:00:00", "value": {"value": 300.0}}]', "p02 has rhr 300 on 2019-11-05"),
        ("p02/pmsys/wellness.csv", "effective_time_frame,mood\n2019-11-04T07:00:00Z,3\n", "wellness.csv: column 'fatigue' is missing"),
    ],
)  # fmt: skip
def test_wrong_pmdata_files_are_refused(pmdata: Path, file: str, text: str, message: str) -> None:
    (pmdata / file).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read(settings("pmdata", path=str(pmdata)))
    assert "\n" not in str(caught.value)


def test_pmdata_configuration_that_cannot_be(pmdata: Path, tmp_path: Path) -> None:
    chosen = settings("pmdata", path=str(pmdata))
    for change, message in (
        ({"path": str(tmp_path / "nowhere")}, "no folder below it holds pmsys/wellness.csv"),
        ({"traits": ("mod",)}, "PMData has no measure 'mod'"),
        ({"traits": ("stress",)}, "'stress', which is a signal"),
        ({"traits": ("mood", "mood")}, "data.traits: 'mood' stands 2 times"),
        ({"traits": ()}, "data.traits is empty"),
    ):
        with pytest.raises(DataError, match=message):
            read(dataclasses.replace(chosen, **change))  # type: ignore[arg-type]
