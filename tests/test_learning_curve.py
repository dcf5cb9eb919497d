"""Learning curves in Trial: what they say is so, and training does not notice them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_envs import env_settings, people, settings, world_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.artifact import Artifact
from core.protocols import NullTracker
from envs.sb3 import PatientVecEnv
from envs.simulation import Simulation
from intervention.baselines import Learned
from intervention.evaluation import run_policy
from intervention.learning_curve import LearningCurve
from intervention.training import PolicySettings, PrivilegedVecEnv, TrainedPolicy, train_policy

PATIENTS = people(60)
ROWS = torch.arange(8)
SMALL = replace(
    settings(PolicySettings, "policy"),
    steps=512, environments=32, rollout_weeks=4, batch_size=128, epochs=1, hidden=(16,), leg_rollouts=2,
)  # fmt: skip


def truth(seed: int) -> Simulation:
    return Simulation(*world_of(PATIENTS), len(ROWS), seed)


def train(curve: list[LearningCurve], privileged: bool = False, **more: Any) -> TrainedPolicy:
    *world, _ = world_of(PATIENTS)
    env = PatientVecEnv(*world, replace(env_settings(), min_risk=0.2), SMALL.environments, 0)  # type: ignore[arg-type]
    names = env.simulation.layout.names + (PrivilegedVecEnv.names if privileged else ())
    venv = PrivilegedVecEnv(env) if privileged else env
    return train_policy(venv, SMALL, 0, NullTracker(), names, callbacks=curve, **more)


def weights(trained: TrainedPolicy) -> dict[str, torch.Tensor]:
    return trained.agent.to_artifact().tensors


@pytest.fixture(scope="module")
def plain() -> TrainedPolicy:
    return train([])


def test_training_goes_as_without_a_curve_and_the_curve_ends_in_the_agent(plain: TrainedPolicy, tmp_path: Path) -> None:
    curve = LearningCurve(truth, ROWS, 2)
    state = torch.get_rng_state()
    watched = train([curve], tensorboard_dir=tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(watched)[name]), name
    assert np.array_equal(watched.returns, plain.returns, equal_nan=True)

    assert [step for step, _, _ in curve.points] == [0, 256, 512]
    episodes = run_policy("ppo", Learned(watched.agent, privileged=False), truth(0), ROWS, 0)
    assert curve.points[-1][1] == pytest.approx(episodes.groupby("patient")["reward"].sum().mean(), abs=1e-4)
    assert curve.points[-1][2] == episodes.groupby("patient")["remission"].any().mean()
    assert curve.points[0][1] != curve.points[-1][1]

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {"eval_true/return", "eval_true/remission", "rollout/ep_rew_mean"} <= set(events.Tags()["scalars"])
    written = [(event.step, event.value) for event in events.Scalars("eval_true/return")]
    assert written == [(step, pytest.approx(earned)) for step, earned, _ in curve.points]
    # stable-baselines3's own numbers stay at their own steps
    assert [event.step for event in events.Scalars("train/value_loss")] == [128 * k for k in range(2, 5)]


def test_an_interrupted_training_keeps_its_curve(plain: TrainedPolicy) -> None:
    whole, kept = LearningCurve(truth, ROWS, 1), []
    train([whole], on_checkpoint=lambda checkpoint: kept.append((checkpoint, list(whole.points))))
    checkpoint, before = kept[0]
    assert isinstance(checkpoint, Artifact) and [step for step, _, _ in before] == [0, 128]
    rest = LearningCurve(truth, ROWS, 1, before=before)
    resumed = train([rest], resume=checkpoint)
    assert rest.points == whole.points
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(resumed)[name]), name


def test_a_privileged_agent_is_shown_the_response() -> None:
    curve = LearningCurve(truth, ROWS, 4, privileged=True)
    trained = train([curve], privileged=True)
    episodes = run_policy("privileged", Learned(trained.agent, privileged=True), truth(0), ROWS, 0)
    assert curve.points[-1][1] == pytest.approx(episodes.groupby("patient")["reward"].sum().mean(), abs=1e-4)
