"""The cohort stage: draw whole synthetic persons, label them, and judge them."""

import time
from typing import Any

from core.cohort import require_classes
from core.random import numpy_generator
from generators.calibration import CalibratedProfiles
from generators.fusion import fuse
from generators.labels import hidden_columns, label
from generators.quality.cohort import cohort_quality
from generators.timegan import TimeGAN
from pipeline.runner import Context, Stage
from pipeline.store import save_cohort


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
    quality = cohort_quality(synthetic, train, holdout, hidden, config.cohort.sensitive, None, metrics)
    return {**quality, "seconds": round(seconds, 2)}


STAGE = Stage("cohort", ("source", "profiles", "rhythms"), ("cohort", "labels"), cohort)
