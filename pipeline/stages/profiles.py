"""The profiles stage: learn to draw who people are."""

import time
from typing import Any

from core.random import numpy_generator
from generators.profiles import fit_profiles
from generators.quality.persons import one_week_each
from generators.quality.profiles import profile_quality
from pipeline.runner import Context, Stage
from pipeline.store import save_artifact


def profiles(context: Context) -> dict[str, Any]:
    """Learn to draw profiles: a generator, then calibration."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    started = time.perf_counter()
    generator = fit_profiles(train.profiles, config.profiles, config.seed, context.tracker, train.person)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "profiles", generator.to_artifact())
    rng = numpy_generator(config.seed, "profiles", "metrics")
    train, holdout = one_week_each(train, rng), one_week_each(holdout, rng)
    quality = profile_quality(generator.sample(len(train), rng), train.profiles, holdout.profiles, rng)
    return {
        **quality,
        "effective_share": generator.effective_share,
        "choice": generator.choice,
        "seconds": round(seconds, 2),
    }


STAGE = Stage("profiles", ("source",), ("profiles",), profiles)
