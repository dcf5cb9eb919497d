"""Fusion: the profile first, then the week given the profile; never two tables joined by row number."""

import numpy as np

from core.cohort import Cohort
from core.errors import DataError
from core.protocols import ProfileGenerator, RhythmGenerator
from core.signals import DAYS, Signals
from generators.missingness import Missingness, fill


def fuse(
    profiles: ProfileGenerator,
    rhythms: RhythmGenerator,
    n: int,
    signals: Signals,
    rng: np.random.Generator,
    missing: Missingness | None = None,
) -> Cohort:
    """Draw ``n`` whole persons, not yet labelled; person ``i`` is row ``i``.

    Every day is observed, unless ``missing`` says how real people miss days: those are then filled as a source fills
    them, and the mask tells.

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
    mask = np.ones(weeks.shape, dtype=bool) if missing is None else missing.sample(n, rng)
    return Cohort(
        drawn.reset_index(drop=True),
        fill(weeks.astype(np.float32), mask),
        mask,
        np.arange(n, dtype=np.int64),
        signals,
    )
