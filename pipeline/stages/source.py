"""The source stage: read or draw the persons, label them, and hold some out for the whole run."""

from pathlib import Path
from typing import Any

import numpy as np

from core.cohort import Cohort, require_classes
from core.random import numpy_generator
from envs.trial import check_signals
from generators.labels import label
from generators.sources import LifeSnapsSettings, TableSettings, read_source
from generators.sources.reference import ReferenceParameters
from generators.sources.split import split_persons
from pipeline.config import Config
from pipeline.runner import Context, Stage
from pipeline.store import save_cohort


def source(context: Context) -> dict[str, Any]:
    """Read or draw the persons, label them, and set the held-out ones apart for the whole run."""
    config, tracker = context.config, context.tracker
    sizes = config.source
    rng = numpy_generator(config.seed, "source")
    drawn = isinstance(config.data, ReferenceParameters)
    everyone = read_source(config.data, sizes.persons + sizes.holdout_persons, rng, tracker)
    check_signals(config.trial, everyone.signals)  # now, not after the generators have trained
    fraction = sizes.holdout_persons / len(everyone) if drawn else sizes.holdout_fraction
    train, holdout = split_persons(everyone, fraction, rng)
    train_risk = label(train, config.labels, tracker)
    # Cohort-relative rules mean the training persons' cohort, for the held-out ones too.
    holdout = holdout.with_risk(label(holdout, config.labels, tracker, relative_to=train))
    train = train.with_risk(train_risk)
    for part, what in ((train, "training"), (holdout, "held-out")):
        require_classes(part, f"data={config.data.kind} labels={config.labels.kind}, {what} persons")
    save_cohort(context.out, train, "train_")
    save_cohort(context.out, holdout, "holdout_")
    return {
        "persons": train.persons,
        "weeks": len(train),
        "holdout_persons": holdout.persons,
        "holdout_weeks": len(holdout),
        "risk_counts": risk_counts(train),
        "holdout_risk_counts": risk_counts(holdout),
        "observed_share": float(train.mask.mean()),
    }


def risk_counts(cohort: Cohort) -> list[int]:
    assert cohort.risk is not None
    return np.bincount(cohort.risk, minlength=3).tolist()


def data_files(config: Config) -> list[Path]:
    """The user's files that the source stage reads: when their bytes change, it runs again."""
    if isinstance(config.data, LifeSnapsSettings):
        return sorted(Path(config.data.path).glob("lifesnaps_*.csv"))
    if isinstance(config.data, TableSettings):
        return [Path(config.data.daily), Path(config.data.profiles)]
    return []


STAGE = Stage("source", (), ("source", "data", "labels", "trial"), source, data_files)
