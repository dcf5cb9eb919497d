"""Fusion: the profile first, then the week given the profile; never two tables joined by row number."""

import numpy as np

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import ProfileGenerator, RhythmGenerator
from core.signals import DAYS, Signals


def fuse(
    profiles: ProfileGenerator, rhythms: RhythmGenerator, n: int, signals: Signals, rng: np.random.Generator
) -> Cohort:
    """Draw ``n`` whole persons, everything observed and not yet labelled; person ``i`` is row ``i``.

    Raises:
        DataError: the weeks do not have the shape ``[n, 7, len(signals)]``: the rhythm model knows other signals.
    """
    drawn = profiles.sample(n, rng)
    weeks = rhythms.sample(drawn, rng)  # (n, 7, C)
    if weeks.shape != (n, DAYS, len(signals)):
        raise DataError(
            f"fusion: the rhythm generator gave weeks of shape {weeks.shape}, expected {(n, DAYS, len(signals))}; "
            "train it on the same signals"
        )
    return Cohort(
        drawn.reset_index(drop=True),
        weeks.astype(np.float32),
        np.ones(weeks.shape, dtype=bool),
        np.arange(n, dtype=np.int64),
        signals,
    )
