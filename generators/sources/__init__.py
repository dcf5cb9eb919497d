"""Where people come from: the reference population, published data sets, or the user's own tables. All give a ``Cohort``."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from core.cohort import MIN_PERSONS, Cohort, numeric_columns, validate
from core.protocols import Tracker
from generators.sources.around import RHYTHMS
from generators.sources.dass42 import DASS42Settings, read_dass42
from generators.sources.lifesnaps import LifeSnapsSettings, read_lifesnaps
from generators.sources.pmdata import PMDataSettings, read_pmdata
from generators.sources.reference import ReferenceParameters, sample_reference
from generators.sources.sleep_health import SleepHealthSettings, read_sleep_health
from generators.sources.tables import TableSettings, read_tables

DataSettings = (  # told apart by ``kind``
    ReferenceParameters | LifeSnapsSettings | SleepHealthSettings | DASS42Settings | PMDataSettings | TableSettings
)

PMDATA_PERSONS = 12  # the whole data set has sixteen, fourteen with a heart rate


def read_source(settings: DataSettings, persons: int, rng: np.random.Generator, tracker: Tracker) -> Cohort:
    """An unlabelled, validated cohort. ``persons`` is how many to draw from the reference population; tables give theirs.

    Missing profile numbers stay NaN: split the persons, then ``split.fill_missing``.

    Raises:
        DataError: the tables do not hold a usable cohort.
    """
    if isinstance(settings, ReferenceParameters):
        cohort = sample_reference(settings, persons, rng)
    elif isinstance(settings, LifeSnapsSettings):
        cohort = read_lifesnaps(settings, tracker)
    elif isinstance(settings, SleepHealthSettings):
        cohort = read_sleep_health(settings, rng, tracker)
    elif isinstance(settings, DASS42Settings):
        cohort = read_dass42(settings, rng, tracker)
    elif isinstance(settings, PMDataSettings):
        cohort = read_pmdata(settings, tracker)
    else:
        cohort = read_tables(settings, tracker)
    complete = cohort.profiles.drop(columns=numeric_columns(cohort.profiles))
    least = PMDATA_PERSONS if isinstance(settings, PMDataSettings) else MIN_PERSONS
    validate(replace(cohort, profiles=complete), f"data={settings.kind}", least)
    return cohort


def simulates_weeks(settings: DataSettings) -> bool:
    """Whether the persons are a table's and their weeks are simulated, so that no day was observed."""
    return isinstance(settings, SleepHealthSettings | DASS42Settings)


def rhythm_origin(settings: DataSettings) -> str:
    """Where the days come from, in words."""
    if isinstance(settings, ReferenceParameters):
        return "reference population"
    return RHYTHMS if simulates_weeks(settings) else "observed"


def source_files(settings: DataSettings) -> list[Path]:
    """The user's files that ``read_source`` reads."""
    if isinstance(settings, ReferenceParameters):
        return []
    if isinstance(settings, LifeSnapsSettings):
        return sorted(Path(settings.path).glob("lifesnaps_*.csv"))
    if isinstance(settings, SleepHealthSettings | DASS42Settings):
        return [Path(settings.path)]
    if isinstance(settings, PMDataSettings):
        table = [Path(settings.participants)] if settings.participants else []
        patterns = ("*/pmsys/wellness.csv", "*/fitbit/sleep.json", "*/fitbit/resting_heart_rate.json")
        return table + sorted(path for pattern in patterns for path in Path(settings.path).glob(pattern))
    return [Path(settings.daily), Path(settings.profiles)]
