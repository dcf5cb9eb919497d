"""The stages that learn how treatment works: virtual trials in Trial, then the Twin."""

import time
from typing import Any

import numpy as np

from envs.trial import Trial
from intervention.trials import VirtualTrials, simulate_trials
from intervention.twin_quality import twin_quality
from intervention.twin_training import train_twin
from pipeline.parts import HELD_OUT_SEED, holdout_patients, load_risk, synthetic_patients
from pipeline.runner import Context, Stage
from pipeline.store import save_artifact


def trials(context: Context) -> dict[str, Any]:
    """Treat synthetic patients in Trial, by chance and by steps; keep what the ground truth expected."""
    config = context.config
    patients = synthetic_patients(context.store, config.env)
    started = time.perf_counter()
    courses = simulate_trials(
        lambda people: Trial(people, config.trial, config.seed), patients, config.trials, config.seed, context.tracker
    )
    seconds = time.perf_counter() - started
    with (context.out / "trials.npz").open("wb") as file:
        np.savez(file, **courses.to_arrays())  # type: ignore[arg-type]
    return {
        "courses": len(courses),
        "patients": len(np.unique(courses.patient)),
        "person_weeks": int(courses.treatment.size),
        "adverse_share": float(courses.adverse.mean()),
        "seconds": round(seconds, 2),
    }


def twin(context: Context) -> dict[str, Any]:
    """Distil the trials into the Twin, and score it against Trial on held-out persons."""
    config, store = context.config, context.store
    patients, held_out, risk = (
        synthetic_patients(store, config.env),
        holdout_patients(store, config.env),
        load_risk(store),
    )
    courses = VirtualTrials.from_arrays(store.arrays("trials", "trials.npz"))
    started = time.perf_counter()
    model = train_twin(courses, patients, config.twin, config.seed, context.tracker, processes=config.wide_threads)
    seconds = time.perf_counter() - started
    save_artifact(context.out, "twin", model.to_artifact())
    quality = twin_quality(
        model,
        lambda people: Trial(people, config.trial, config.seed + HELD_OUT_SEED),
        held_out,
        patients,
        risk,
        config.env,
        config.trials,
        config.twin_quality,
        config.seed,
    )
    return {**quality, "seconds": round(seconds, 2)}


STAGES = (
    Stage("trials", ("cohort", "risk"), ("trial", "env", "trials"), trials),
    Stage(
        "twin",
        ("source", "cohort", "risk", "trials"),
        ("trial", "env", "trials", "twin", "twin_quality"),
        twin,
        wide=True,
    ),
)
