"""The source stage: read or draw the persons, label them, and hold some out for the whole run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.cohort import Cohort, require_classes
from core.errors import DataError
from core.protocols import Tracker
from core.random import numpy_generator
from envs.trial import check_signals
from generators.labels import label
from generators.profile_table import drop_columns
from generators.sources import read_source, rhythm_origin, simulates_weeks, source_files
from generators.sources.reference import ReferenceParameters
from generators.sources.split import fill_missing, split_persons
from pipeline.config import Config
from pipeline.runner import Context, Stage
from pipeline.store import save_cohort


def source(context: Context) -> dict[str, Any]:
    """Set the persons of the whole run, those to learn from and those held out."""
    config = context.config
    train, holdout = persons(config, context.tracker)
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
        "rhythms": rhythm_origin(config.data),
        "observed_share": 0.0 if simulates_weeks(config.data) else float(train.mask.mean()),
    }


def persons(config: Config, tracker: Tracker) -> tuple[Cohort, Cohort]:
    """Training and held-out persons: read or drawn, split by person, labelled."""
    sizes, rng = config.source, numpy_generator(config.seed, "source")
    drawn = isinstance(config.data, ReferenceParameters)
    everyone = read_source(config.data, sizes.persons + sizes.holdout_persons, rng, tracker)
    kept = drop_columns(everyone.profiles, sizes.drop, sizes.id_like, tracker, sizes.allow_identifiers)
    everyone = replace(everyone, profiles=kept)
    _check_sensitive(config.cohort.sensitive, kept)
    check_signals(config.trial, everyone.signals)  # now, not after the generators have trained
    fraction = sizes.holdout_persons / len(everyone) if drawn else sizes.holdout_fraction
    train, holdout = fill_missing(*split_persons(everyone, fraction, rng), tracker)
    train_risk = label(train, config.labels, tracker)
    # Cohort-relative rules mean the training persons' cohort, for the held-out ones too.
    holdout = holdout.with_risk(label(holdout, config.labels, tracker, relative_to=train))
    return train.with_risk(train_risk), holdout


def _check_sensitive(sensitive: str | None, profiles: pd.DataFrame) -> None:
    """Refuse an unknown column now; the attack on it comes after all training."""
    if sensitive is not None and sensitive not in profiles:
        raise DataError(
            f"cohort.sensitive is '{sensitive}', expected a profile column: {', '.join(map(str, profiles))}; "
            "name one of them, or null for none"
        )


def risk_counts(cohort: Cohort) -> list[int]:
    assert cohort.risk is not None
    return np.bincount(cohort.risk, minlength=3).tolist()


def data_files(config: Config) -> list[Path]:
    """The user's files that the source stage reads: when their bytes change, it runs again."""
    return source_files(config.data)


STAGE = Stage("source", (), ("source", "data", "labels", "trial"), source, data_files)
