"""The cohort stage: draw whole synthetic persons, label them, and judge them."""

import time
from typing import Any

from core.cohort import Cohort, require_classes
from core.random import numpy_generator
from generators.calibration import CalibratedProfiles
from generators.fusion import fuse
from generators.labels import hidden_columns, label
from generators.missingness import Missingness
from generators.quality.cohort import cohort_quality
from generators.rhythms import rhythms_from_artifact
from pipeline.parts import check_signals
from pipeline.quality_figures import quality_figures
from pipeline.runner import Context, Stage
from pipeline.shadows import shadows_of
from pipeline.store import save_cohort


def cohort(context: Context) -> dict[str, Any]:
    """Fuse the synthetic cohort (profile first, then the week given the profile) and label it."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    generator = CalibratedProfiles.from_artifact(store.artifact("profiles", "profiles"))
    weeks = rhythms_from_artifact(store.artifact("rhythms", "rhythms"))
    check_signals(store, weeks.signals, train, "week model", "rhythms")
    missing = Missingness.fit(train) if config.cohort.missing == "realistic" else None
    rng = numpy_generator(config.seed, "cohort")
    started = time.perf_counter()
    synthetic = fuse(generator, weeks, config.cohort.persons, train.signals, rng, missing)
    seconds = time.perf_counter() - started
    synthetic = synthetic.with_risk(label(synthetic, config.labels, context.tracker, relative_to=train))
    require_classes(synthetic, "synthetic cohort")
    save_cohort(context.out, synthetic)
    started = time.perf_counter()
    quality = _quality(context, synthetic, train, holdout)
    took = time.perf_counter() - started
    return {**quality, "seconds": round(seconds, 2), "quality_seconds": round(took, 2)}


def _quality(context: Context, synthetic: Cohort, train: Cohort, holdout: Cohort) -> dict[str, Any]:
    """The quality report; its figures go to TensorBoard."""
    config = context.config
    shadows = shadows_of(config, context.store, train.persons, context.tracker)
    rng = numpy_generator(config.seed, "cohort", "metrics")
    hidden, sensitive = hidden_columns(config.labels), config.cohort.sensitive
    quality = cohort_quality(synthetic, train, holdout, hidden, sensitive, shadows, rng)
    if quality["shadow_note"]:
        context.tracker.note(f"no membership attack by shadow models: {quality['shadow_note']}")
    for name, figure in quality_figures(holdout, synthetic, quality).items():
        context.tracker.figure(f"cohort/{name}", figure)
    return {**quality, "shadow_generators": config.cohort.shadow_generators, "shadows": config.cohort.shadows}


STAGE = Stage("cohort", ("source", "profiles", "rhythms"), ("cohort", "labels", "profiles", "rhythms"), cohort)
