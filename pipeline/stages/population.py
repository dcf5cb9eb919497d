"""The stages that make people: source, profiles, rhythms, cohort."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from core.cohort import Cohort, require_classes
from core.random import numpy_generator
from envs.trial import check_signals
from generators.calibration import CalibratedProfiles, calibrate
from generators.ctgan import fit_ctgan
from generators.fusion import fuse
from generators.hierarchical import fit_hierarchical
from generators.labels import hidden_columns, label
from generators.quality.cohort import cohort_quality
from generators.quality.persons import one_week_each
from generators.quality.profiles import profile_quality
from generators.quality.rhythms import rhythm_quality
from generators.sources import LifeSnapsSettings, TableSettings, read_source
from generators.sources.reference import ReferenceParameters
from generators.sources.split import split_persons
from generators.timegan import TimeGAN
from generators.timegan_training import fit_timegan
from pipeline.config import Config
from pipeline.runner import Context, Stage
from pipeline.store import save_artifact, save_cohort


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


def profiles(context: Context) -> dict[str, Any]:
    """Learn to draw profiles: CTGAN, then calibration."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    started = time.perf_counter()
    plain = fit_ctgan(train.profiles, config.profiles.ctgan, config.seed, context.tracker)
    rng = numpy_generator(config.seed, "profiles", "calibration")
    generator = calibrate(plain, train.profiles, config.profiles.calibration, rng, context.tracker)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "profiles", generator.to_artifact())
    rng = numpy_generator(config.seed, "profiles", "metrics")
    train, holdout = one_week_each(train, rng), one_week_each(holdout, rng)
    quality = profile_quality(generator.sample(len(train), rng), train.profiles, holdout.profiles, rng)
    return {**quality, "effective_share": generator.effective_share, "seconds": round(seconds, 2)}


def rhythms(context: Context) -> dict[str, Any]:
    """Learn to draw a week for a profile: TimeGAN, beside the hierarchical baseline."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    started = time.perf_counter()
    gan = fit_timegan(train, config.rhythms, config.seed, context.tracker)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "rhythms", gan.to_artifact())
    baseline = fit_hierarchical(train)
    rng = numpy_generator(config.seed, "rhythms", "persons")
    train, holdout = one_week_each(train, rng), one_week_each(holdout, rng)

    def quality(weeks: np.ndarray) -> dict[str, float | None]:
        return rhythm_quality(weeks, holdout.rhythms, numpy_generator(config.seed, "rhythms", "metrics"))

    def drawn(generator: Any) -> np.ndarray:
        return generator.sample(train.profiles, numpy_generator(config.seed, "rhythms", "quality"))

    return {
        **quality(drawn(gan)),
        "seconds": round(seconds, 2),
        "ceiling": quality(train.rhythms),
        "hierarchical_baseline": quality(drawn(baseline)),
    }


def cohort(context: Context) -> dict[str, Any]:
    """Fuse the synthetic cohort (profile first, then the week given the profile) and label it."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    generator = CalibratedProfiles.from_artifact(store.artifact("profiles", "profiles"))
    gan = TimeGAN.from_artifact(store.artifact("rhythms", "rhythms"))
    rng = numpy_generator(config.seed, "cohort")
    started = time.perf_counter()
    synthetic = fuse(generator, gan, config.cohort.persons, train.signals, rng)
    seconds = time.perf_counter() - started
    synthetic = synthetic.with_risk(label(synthetic, config.labels, context.tracker, relative_to=train))
    require_classes(synthetic, "synthetic cohort")
    save_cohort(context.out, synthetic)
    hidden, metrics = hidden_columns(config.labels), numpy_generator(config.seed, "cohort", "metrics")
    quality = cohort_quality(synthetic, train, holdout, hidden, config.cohort.sensitive, metrics)
    return {**quality, "seconds": round(seconds, 2)}


def data_files(config: Config) -> list[Path]:
    """The user's files that the source stage reads: when their bytes change, it runs again."""
    if isinstance(config.data, LifeSnapsSettings):
        return sorted(Path(config.data.path).glob("lifesnaps_*.csv"))
    if isinstance(config.data, TableSettings):
        return [Path(config.data.daily), Path(config.data.profiles)]
    return []


STAGES = (
    Stage("source", (), ("source", "data", "labels", "trial"), source, data_files),
    Stage("profiles", ("source",), ("profiles",), profiles),
    Stage("rhythms", ("source",), ("rhythms",), rhythms),
    Stage("cohort", ("source", "profiles", "rhythms"), ("cohort", "labels"), cohort),
)
