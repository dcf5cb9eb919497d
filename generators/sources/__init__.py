"""Where people come from: the reference population, LifeSnaps, or the user's own tables. All give a ``Cohort``."""

import numpy as np

from core.cohort import Cohort, validate
from core.protocols import Tracker
from generators.sources.lifesnaps import LifeSnapsSettings, read_lifesnaps
from generators.sources.reference import ReferenceParameters, sample_reference
from generators.sources.tables import TableSettings, read_tables

DataSettings = ReferenceParameters | LifeSnapsSettings | TableSettings  # told apart by ``kind``


def read_source(settings: DataSettings, persons: int, rng: np.random.Generator, tracker: Tracker) -> Cohort:
    """An unlabelled, validated cohort. ``persons`` is how many to draw from the reference population; tables give theirs.

    Raises:
        DataError: the tables do not hold a usable cohort.
    """
    if isinstance(settings, ReferenceParameters):
        cohort = sample_reference(settings, persons, rng)
    elif isinstance(settings, LifeSnapsSettings):
        cohort = read_lifesnaps(settings, tracker)
    else:
        cohort = read_tables(settings, tracker)
    validate(cohort, f"data={settings.kind}")
    return cohort
