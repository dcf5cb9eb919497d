"""The rhythms stage: learn to draw a week for a profile."""

import time
from typing import Any

import numpy as np

from core.random import numpy_generator
from generators.hierarchical import fit_hierarchical
from generators.quality.persons import one_week_each
from generators.quality.rhythms import rhythm_quality
from generators.rhythms import fit_rhythms
from pipeline.runner import Context, Stage
from pipeline.store import save_artifact


def rhythms(context: Context) -> dict[str, Any]:
    """Learn to draw a week for a profile, beside the hierarchical baseline."""
    config, store = context.config, context.store
    train, holdout = store.cohort("source", "train_"), store.cohort("source", "holdout_")
    started = time.perf_counter()
    fitted = fit_rhythms(train, config.rhythms, config.seed, context.tracker)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "rhythms", fitted.model.to_artifact())
    baseline = fit_hierarchical(train)
    rng = numpy_generator(config.seed, "rhythms", "persons")
    train, holdout = one_week_each(train, rng), one_week_each(holdout, rng)

    def quality(weeks: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float | None]:
        rng = numpy_generator(config.seed, "rhythms", "metrics")
        return rhythm_quality(weeks, holdout.rhythms, rng, holdout.mask, mask)

    def drawn(generator: Any) -> np.ndarray:
        return generator.sample(train.profiles, numpy_generator(config.seed, "rhythms", "quality"))

    return {
        **quality(drawn(fitted.model)),
        "rows": min(len(train), len(holdout)),  # persons on each side of a comparison
        "seconds": round(seconds, 2),
        "choice": fitted.choice,
        "ceiling": quality(train.rhythms, train.mask),
        "hierarchical_baseline": quality(drawn(baseline)),
    }


STAGE = Stage("rhythms", ("source",), ("rhythms",), rhythms)
