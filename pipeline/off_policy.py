"""Off-policy evaluation held against the truth: what logged courses, and what the Twin, say twenty policies are worth."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core.random import numpy_generator
from envs.simulation import Simulation
from intervention.off_policy import (
    Evidence,
    bootstrap_counts,
    effective_sizes,
    estimates,
    fitted_values,
    score_estimators,
    value_features,
)
from intervention.stochastic import Logged, Stochastic, UsualCare, log_courses, log_ratios, replay, target_policies
from pipeline.config import Config
from pipeline.parts import World, load_agent, load_risk, load_twin, synthetic_patients, trial_world, twin_world
from pipeline.runner import Context

TWIN, LOGGED = "twin", "logged_return"
SEEDS = 1 << 62  # of simulations


def off_policy(context: Context) -> dict[str, Any]:
    """The metrics; every estimate is written to ``off_policy.parquet``. Nothing where it is not enabled.

    ``truth_error`` is the standard error of a true value, as a share like the estimators' errors.
    """
    config, settings = context.config, context.config.off_policy
    if not settings.enabled:
        return {}
    trial, twin = synthetic_worlds(context)
    people = min(len(trial.patients), settings.patients)
    targets = target_policies(load_agent(context.store), config.evaluate.stepped_care)
    care = UsualCare(config.evaluate.stepped_care, settings.step, settings.stay)
    log = treat(care, trial, people, settings.logged_courses, config.seed, "log")
    found = [*from_log(log, targets, trial, config)]
    jobs = context.tracker.track(targets.items(), "off-policy: Trial, Twin", len(targets))
    truth, luck = {}, {}
    for name, target in jobs:
        # The same luck for every policy, and for no other purpose.
        earned = returns(treat(target, trial, people, settings.true_courses, config.seed, "truth"))
        truth[name], luck[name] = float(earned.mean()), float(earned.std() / len(earned) ** 0.5)
        imagined = treat(target, twin, people, settings.twin_courses, config.seed, "twin")
        found.append(plain_mean(TWIN, name, imagined, config))
        found.append(plain_mean(LOGGED, name, log, config))
    table = pd.DataFrame(found)
    table = table.assign(truth=table["policy"].map(truth), truth_error=table["policy"].map(luck))
    table.to_parquet(context.out / "off_policy.parquet", index=False)
    return {
        "off_policy": {
            "estimators": score_estimators(table),
            "policies": len(targets),
            "logged_courses": len(log.rows),
            "true_courses": people * settings.true_courses,
            "truth_error": float(table["truth_error"].mean() / table["truth"].abs().mean()),
        }
    }


def synthetic_worlds(context: Context) -> tuple[World, World]:
    """Trial and the Twin over the patients on whom policies are trained."""
    config, store = context.config, context.store
    patients, risk = synthetic_patients(store, config.env), load_risk(store)
    trial = trial_world(patients, risk, config.trial, config.env, config.seed)
    return trial, twin_world(patients, risk, load_twin(store), config.env)


def treat(policy: Stochastic, world: World, people: int, courses: int, seed: int, purpose: str) -> Logged:
    """So many courses of each of the first ``people`` patients."""
    rng = numpy_generator(seed, "off_policy", purpose)
    rows = torch.arange(people).repeat(courses)
    luck = int(rng.integers(SEEDS))
    simulation = Simulation(world.patients, world.dynamics, world.risk_model, world.settings, len(rows), luck)
    return log_courses(policy, simulation, rows, rng)


def returns(log: Logged) -> Tensor:
    return log.reward.sum(dim=1)


def from_log(log: Logged, targets: dict[str, Stochastic], world: World, config: Config) -> Iterator[dict[str, Any]]:
    """Every estimator's value of every target policy, with its interval."""
    simulation = Simulation(world.patients, world.dynamics, world.risk_model, world.settings, 1, 0)
    choices = [replay(target, simulation, log) for target in targets.values()]
    fitted = fitted_values(log, choices, *value_features(log.observations, simulation.layout))
    draws = resampled(log, config)
    for name, chosen, (q, v) in zip(targets, choices, fitted, strict=True):
        evidence = Evidence(log_ratios(log, chosen), log.reward, q, v)
        values, spread = estimates(evidence, torch.ones(1, len(log.rows)).double()), estimates(evidence, draws)
        sizes = effective_sizes(evidence)
        for estimator, value in values.items():
            yield row(estimator, name, float(value), spread[estimator].numpy(), sizes[estimator], config)


def plain_mean(estimator: str, name: str, log: Logged, config: Config) -> dict[str, Any]:
    """The mean return of these courses as an estimate."""
    earned, draws = returns(log), resampled(log, config)
    return row(estimator, name, float(earned.mean()), (draws @ earned / draws.sum(dim=1)).numpy(), len(earned), config)


def resampled(log: Logged, config: Config) -> Tensor:
    rng = numpy_generator(config.seed, "off_policy", "bootstrap")
    return bootstrap_counts(log.rows, rng, config.off_policy.resamples)


def row(estimator: str, name: str, value: float, draws: np.ndarray, size: float, config: Config) -> dict[str, Any]:
    tail = (1 - config.evaluate.confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])  # NaN where a resample has no estimate
    known = {"policy": name, "estimator": estimator, "estimate": value, "low": low, "high": high}
    return known | {"effective_sample_size": float(size)}
