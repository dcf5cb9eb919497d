"""PPO learns in the Twin, beside a privileged reference in Trial."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch

from core.artifact import Artifact
from core.patients import Patients
from core.protocols import Tracker
from envs.rewards import EnvSettings
from envs.sb3 import PatientVecEnv
from intervention.baselines import Greedy
from intervention.demonstrations import demonstrate
from intervention.imitation import Demonstrations
from intervention.learning_curve import LearningCurve, Point
from intervention.policy import resolve
from intervention.side_by_side import KeptTracker, side_by_side
from intervention.training import PrivilegedVecEnv, TrainedPolicy, of_privileged, train_policy
from intervention.twin import TwinDynamics
from pipeline.config import Config
from pipeline.parts import (
    HELD_OUT_SEED,
    World,
    load_risk,
    load_twin,
    simulations,
    synthetic_patients,
    trial_world,
    worlds,
)
from pipeline.runner import Context, Stage
from pipeline.store import RunStore, save_artifact, write_json

CURVE_SEED = 2 * HELD_OUT_SEED  # of Trial where learning curves are drawn
PRIVILEGED = "privileged"
Job = tuple[str, int, Literal["twin", "trial"], bool]  # name, policy seed, where it learns, whether it sees responses


def policy(context: Context) -> dict[str, Any]:
    """Train one agent per policy seed, and the privileged reference, side by side."""
    settings, out = context.config.policy, context.out
    seeds = [context.config.seed + index for index in range(settings.seeds)]
    jobs: list[Job] = [(f"ppo_{seed}", seed, settings.world, False) for seed in seeds]
    if settings.privileged:
        jobs.append((PRIVILEGED, seeds[0], "trial", True))
    bare = replace(context, tracker=cast(Any, KeptTracker()))  # a process can be told all of it but the terminal
    arguments = [(bare, *job) for job in jobs]
    found = side_by_side(train_in, arguments, "policies", context.tracker, context.config.wide_threads)
    trained, curves = {}, {}
    for (name, seed, *_), (result, curve) in zip(jobs, found, strict=True):
        save_artifact(out, PRIVILEGED if name == PRIVILEGED else f"agent_{seed}", result.agent.to_artifact())
        trained[name], curves[PRIVILEGED if name == PRIVILEGED else str(seed)] = result, curve
    own = [result for name, result in trained.items() if name != PRIVILEGED]
    metrics: dict[str, Any] = {
        "world": settings.world,
        "steps": settings.steps,
        "demonstrated_courses": settings.imitation.courses,
        "caution": settings.caution,
        "seconds": round(float(np.mean([result.seconds for result in own])), 2),
        "steps_per_second": round(float(np.mean([result.steps_per_second for result in own]))),
        "returns": {
            str(seed): [None if math.isnan(mean) else mean for mean in result.returns]  # no course had ended yet
            for seed, result in zip(seeds, own, strict=True)
        },
        "learning_curves": curves,  # of each seed: steps, return and remission in Trial
    }
    if settings.privileged:
        metrics["privileged_seconds"] = round(trained[PRIVILEGED].seconds, 2)
    write_json(out / "policy.json", {"seeds": seeds, "privileged": settings.privileged})
    return metrics


def train_in(
    context: Context, name: str, seed: int, where: Literal["twin", "trial"], privileged: bool, tracker: Tracker
) -> tuple[TrainedPolicy, list[Point]]:
    """PPO in the Twin or in Trial, from this policy seed, and its curve in Trial; goes on from a checkpoint if there is one."""
    context = replace(context, tracker=cast(Any, tracker))
    config, store = context.config, context.store
    patients = synthetic_patients(store, config.env)
    task = config.env if privileged else cautious(config)
    world = worlds(store, patients, config.trial, task, config.seed)[where]
    # The training draws its environments' seeds anew in every leg, from the policy's own.
    env = PatientVecEnv(
        world.patients, world.dynamics, world.risk_model, world.settings, config.policy.environments, seed=0
    )
    resume = context.checkpoint(name)
    curve = learning_curve(config, store, patients, privileged, () if resume is None else resume.meta["curve"])

    def keep(checkpoint: Artifact) -> None:
        context.keep(name, Artifact(checkpoint.tensors, checkpoint.meta | {"curve": points(curve)}))

    settings = of_privileged(config.policy) if privileged else config.policy
    result = train_policy(
        PrivilegedVecEnv(env) if privileged else env,
        settings,
        seed,
        tracker,
        env.simulation.layout.names + (PrivilegedVecEnv.names if privileged else ()),
        tensorboard_dir=context.out / name,
        callbacks=curve,
        resume=resume,
        demonstrations=None if privileged or resume is not None else demonstrations(config, store, world, seed),
        on_checkpoint=keep,
    )
    if resume is not None:
        tracker.note(f"{name}: went on from week {resume.meta['steps']:,} of an interrupted training")
    return result, points(curve)


def cautious(config: Config) -> EnvSettings:
    """The reward an agent learns from: harm weighs more there than where it is judged."""
    return replace(config.env, adverse_cost=config.policy.caution * config.env.adverse_cost)


def demonstrations(config: Config, store: RunStore, world: World, seed: int) -> Demonstrations | None:
    """One-week-ahead planning in the Twin, shown on the patients of the ``world`` the agent will learn in."""
    settings = config.policy.imitation
    if not settings.courses:
        return None
    rows = torch.arange(settings.courses) % len(world.patients)
    simulation = simulations(world, rows)(seed)
    rules = resolve(config.policy.contraindications, simulation.layout.names)
    planner = Greedy(TwinDynamics(load_twin(store), world.patients), settings.intensities, rules)
    return demonstrate(planner, simulation, rows, settings.explored, config.policy.gamma, seed)


def learning_curve(
    config: Config, store: RunStore, patients: Patients, privileged: bool, before: Sequence[Point]
) -> list[LearningCurve]:
    """The callback that draws the curve, where one is wanted: responses are others than those a policy is trained on."""
    settings = config.learning_curve
    if not settings.rollouts:
        return []
    world = trial_world(patients, load_risk(store), config.trial, config.env, config.seed + CURVE_SEED)
    rows = torch.arange(min(len(patients), settings.patients))
    return [LearningCurve(simulations(world, rows), rows, settings.rollouts, privileged, before)]


def points(curve: list[LearningCurve]) -> list[Point]:
    return [point for each in curve for point in each.points]


STAGES = (Stage("policy", ("cohort", "risk", "twin"), ("policy", "learning_curve", "trial", "env"), policy, wide=True),)
