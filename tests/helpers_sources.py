"""Made-up input files in the formats that the sources read, and what tests of sources share."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort
from core.protocols import NullTracker
from generators.sources import DataSettings, read_source
from pipeline.config import load_config

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"


class Notes(NullTracker):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)

    def said(self, *parts: str) -> bool:
        """Whether one note holds all of ``parts``."""
        return any(all(part in line for part in parts) for line in self.lines)


@cache
def _composed(*overrides: str) -> DataSettings:
    return load_config(overrides).data


def settings(name: str, *overrides: str, **fields: Any) -> DataSettings:
    """The source ``name`` as the command line would compose it, with ``fields`` set."""
    return replace(_composed(f"data={name}", *overrides), **fields)


def read(chosen: DataSettings, notes: Notes | None = None, seed: int = 0) -> Cohort:
    return read_source(chosen, 0, np.random.default_rng(seed), notes or Notes())


def sleep_health_table(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Person ID": np.arange(1, rows + 1),
            "Gender": rng.choice(["Male", "Female"], rows),
            "Age": rng.integers(20, 70, rows),
            "Occupation": rng.choice(["Doctor", "Nurse", "Lawyer"], rows),
            "Sleep Duration": rng.normal(7, 0.7, rows).round(1).clip(4, 10),
            "Quality of Sleep": rng.integers(3, 10, rows),
            "Physical Activity Level": rng.integers(10, 120, rows),
            "Stress Level": rng.integers(3, 9, rows),
            "BMI Category": rng.choice(["Normal", "Normal Weight", "Overweight", "Obese"], rows),
            "Blood Pressure": [f"{110 + d}/{70 + d // 2}" for d in rng.integers(0, 40, rows)],
            "Heart Rate": rng.integers(55, 90, rows),
            "Daily Steps": rng.integers(2000, 12000, rows),
            "Sleep Disorder": rng.choice(["None", "Insomnia", "Sleep Apnea"], rows, p=[0.6, 0.2, 0.2]),
        }
    )


def dass_table(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """All 172 columns in the file's order; a person's answers hang together."""
    severity = rng.normal(size=rows)
    columns: dict[str, np.ndarray | list[str]] = {}
    for item in range(1, 43):
        columns[f"Q{item}A"] = np.clip(np.rint(2.2 + severity + rng.normal(size=rows)), 1, 4).astype(int)
        columns[f"Q{item}I"] = rng.integers(1, 43, rows)
        columns[f"Q{item}E"] = rng.integers(800, 20_000, rows)
    columns |= {"country": ["MY"] * rows, "source": rng.integers(0, 3, rows)}
    columns |= {f"{name}elapse": rng.integers(1, 900, rows) for name in ("intro", "test", "survey")}
    columns |= {f"TIPI{item}": rng.integers(1, 8, rows) for item in range(1, 11)}
    columns |= {
        f"VCL{item}": rng.integers(0, 2, rows) if item not in (6, 9, 12) else np.zeros(rows, int)
        for item in range(1, 17)
    }
    codes = {"education": 4, "urban": 3, "gender": 3, "engnat": 2}
    columns |= {name: rng.integers(0 if name == "education" else 1, most + 1, rows) for name, most in codes.items()}
    columns |= {
        "age": rng.integers(16, 70, rows),
        "screensize": rng.integers(1, 3, rows),
        "uniquenetworklocation": rng.integers(1, 3, rows),
    }
    columns |= {
        "hand": rng.integers(1, 4, rows),
        "religion": rng.integers(1, 13, rows),
        "orientation": rng.integers(1, 6, rows),
    }
    columns |= {
        "race": rng.integers(10, 80, rows),
        "voted": rng.integers(1, 3, rows),
        "married": rng.integers(1, 4, rows),
    }
    columns |= {
        "familysize": rng.integers(1, 8, rows),
        "major": rng.choice(["law", "", "the arts, mostly"], rows).tolist(),
    }
    return pd.DataFrame(columns)


def write_pmdata(folder: Path, persons: int, days: int, rng: np.random.Generator, no_heart: Sequence[str] = ()) -> None:
    """``p01`` ... below ``folder``; those in ``no_heart`` lack the heart rate file."""
    dates = pd.date_range("2019-11-04", periods=days)
    for number in range(1, persons + 1):
        pid = f"p{number:02d}"
        own = rng.normal(size=4)
        strain = np.repeat(rng.normal(size=-(-days // 7)), 7)[:days]  # bad weeks are bad in everything
        (folder / pid / "pmsys").mkdir(parents=True)
        (folder / pid / "fitbit").mkdir()
        answer = {
            column: np.clip(np.rint(3 + own[k % 4] * 0.4 - strain + rng.normal(size=days) * 0.8), 1, 5).astype(int)
            for k, column in enumerate(("fatigue", "mood", "sleep_quality", "soreness", "stress"))
        }
        table = pd.DataFrame(
            {
                "effective_time_frame": [
                    f"{day:%Y-%m-%d}T07:{m:02d}:12.751Z"
                    for day, m in zip(dates, rng.integers(0, 60, days), strict=True)
                ],
                **answer,
                "readiness": rng.integers(0, 11, days),
                "sleep_duration_h": rng.integers(5, 10, days),
                "soreness_area": "[]",
            }
        )
        table.to_csv(folder / pid / "pmsys/wellness.csv", index=False)
        sleep = [
            {
                "logId": i,
                "dateOfSleep": f"{day:%Y-%m-%d}",
                "minutesAsleep": int(minutes),
                "efficiency": 92,
                "mainSleep": True,
            }
            for i, (day, minutes) in enumerate(
                zip(dates, (rng.normal(410, 60, days) - 40 * strain).clip(200, 700), strict=True)
            )
        ]
        (folder / pid / "fitbit/sleep.json").write_text(json.dumps(sleep))
        if pid in no_heart:
            continue
        rates = (60 + 5 * own[0] + strain + rng.normal(size=days)).round(2)
        heart = [
            {
                "dateTime": f"{day:%Y-%m-%d} 00:00:00",
                "value": {"date": f"{day:%m/%d/%y}", "value": float(rate), "error": 6.7},
            }
            for day, rate in zip(dates, rates, strict=True)
        ]
        (folder / pid / "fitbit/resting_heart_rate.json").write_text(json.dumps(heart))
