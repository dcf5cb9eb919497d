"""The registered environments of a run, as Gymnasium and stable-baselines3 meet them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers_twin import untrained
from stable_baselines3.common.env_checker import check_env as check_sb3

import envs  # noqa: F401 - registers the ids
from core.errors import ArtifactError, ConfigError, DataError, MissingStageError
from core.treatments import MAX_INTENSITY, MIN_INTENSITY
from envs.sb3 import PatientVecEnv
from pipeline.environments import run_world, trial_of
from pipeline.parts import require_members
from pipeline.store import RunStore, sha256, write_manifest

FORMS = ("", "-Box", "-Discrete", "-MultiDiscrete")


@pytest.mark.filterwarnings("ignore:The action space is not based off a numpy array")  # SB3 on Dict actions
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["Trial", "Twin"])
def test_the_checkers_pass(smoke: RunStore, name: str, form: str) -> None:
    env = gym.make(f"Mano/{name}{form}-v0", run=str(smoke.root)).unwrapped
    check_env(env, skip_render_check=True)
    check_sb3(env)


@pytest.mark.parametrize("form", FORMS)
def test_trial_needs_nothing(form: str) -> None:
    env = gym.make(f"Mano/Trial{form}-v0")
    check_env(env.unwrapped, skip_render_check=True)
    assert gym.make_vec(f"Mano/Trial{form}-v0", num_envs=3).reset(seed=0)[0].shape[0] == 3


@pytest.mark.parametrize("twin", [False, True])
def test_scalar_vector_and_sb3_agree_at_any_batch(smoke: RunStore, twin: bool) -> None:
    """One course of each environment, with the run's own risk model."""
    name, run, largest, weeks = ("Twin" if twin else "Trial"), str(smoke.root), 33, 12
    rng = np.random.default_rng(0)
    treatment, share = rng.integers(0, 5, (weeks, largest)), rng.random((weeks, largest)).astype(np.float32)
    dose = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * torch.from_numpy(share)).numpy()

    def vector(n: int) -> np.ndarray:
        env = gym.make_vec(f"Mano/{name}-v0", num_envs=n, run=run)
        env.reset(seed=5)
        steps = [env.step({"treatment": t[:n], "intensity": u[:n, None]}) for t, u in zip(treatment, dose, strict=True)]
        return np.stack([np.c_[observation, reward] for observation, reward, *_ in steps])

    world = run_world(run, twin)
    sb3 = PatientVecEnv(world.patients, world.dynamics, world.risk_model, world.settings, num_envs=largest, seed=5)
    sb3.reset()
    found = [sb3.step(np.stack([t, u], axis=1).astype(np.float32)) for t, u in zip(treatment, share, strict=True)]
    whole = vector(largest)
    np.testing.assert_allclose(np.stack([np.c_[step[0], step[1]] for step in found]), whole, atol=1e-5)
    np.testing.assert_allclose(vector(7), whole[:, :7], atol=1e-5)
    for place in (0, 20):
        env = gym.make(f"Mano/{name}-v0", run=run)
        env.reset(seed=5 + place)
        for week in range(weeks):
            action = {"treatment": treatment[week, place], "intensity": dose[week, place : place + 1]}
            observation, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                assert float(reward) == pytest.approx(whole[week, place, -1], abs=1e-4)
                break
            np.testing.assert_allclose(observation, whole[week, place, :-1], atol=1e-5)


def test_what_cannot_be_loaded_says_so(tmp_path, smoke: RunStore) -> None:
    with pytest.raises(ConfigError, match="needs a trained run"):
        gym.make("Mano/Twin-v0")
    with pytest.raises(ConfigError, match=r"nowhere' does not exist, .*; make it with"):
        gym.make("Mano/Twin-v0", run=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="patient_id 123456 is unknown"):
        gym.make("Mano/Twin-v0", run=str(smoke.root)).reset(options={"patient_id": 123456})
    for broken, change in (
        (copy_of(smoke, tmp_path / "twinless"), "twin"),
        (copy_of(smoke, tmp_path / "bare"), "risk"),
    ):
        shutil.rmtree(broken / change)
        for make in (gym.make, gym.make_vec):
            with pytest.raises(
                MissingStageError, match=rf"'{change}' has not been run; make it with .*stage={change}`"
            ):
                make("Mano/Twin-v0", run=str(broken))


def copy_of(store: RunStore, folder: Path) -> Path:
    """What an environment needs of a run."""
    for stage in ("cohort", "risk", "trials", "twin"):
        shutil.copytree(store.folder(stage), folder / stage)
    return folder


def test_parts_that_do_not_fit_together_are_named(tmp_path, smoke: RunStore) -> None:
    """A cohort of other signals than its risk model's, and a run made by a version with other settings."""
    other = copy_of(smoke, tmp_path / "other")
    signals = json.loads((other / "cohort" / "signals.json").read_text())
    signals[2]["name"] = "variability"
    rewrite(other / "cohort", "signals.json", signals)
    words = "reads the signals sleep_duration, .*heart_rate, stress, its cohort has .*variability, stress"
    with pytest.raises(ArtifactError, match=words) as caught:
        gym.make("Mano/Trial-v0", run=str(other))
    assert "\n" not in str(caught.value) and "stage=risk force=true" in str(caught.value)
    old = copy_of(smoke, tmp_path / "old")
    manifest = json.loads((old / "trials" / "manifest.json").read_text())
    del manifest["config"]["env"]["spread_limit"]
    write_manifest(old / "trials", manifest)
    with pytest.raises(ArtifactError, match=r"another version.*env.spread_limit.*rerun with .*stage=trials") as caught:
        gym.make("Mano/Trial-v0", run=str(old))
    assert "\n" not in str(caught.value)


def rewrite(folder: Path, name: str, value: object) -> None:
    """A file of a stage and its hash in the manifest, as if the stage had written it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / name).write_text(json.dumps(value))
    manifest["outputs"][name] = sha256(folder / name)
    write_manifest(folder, manifest)


def test_disagreement_of_a_trained_twin_can_cost_and_end_an_episode(smoke: RunStore) -> None:
    """Two members disagree from the first treated week on; the reward pays for it, a limit truncates, Trial knows none."""
    action, run = np.full(8, 15), str(smoke.root)
    steps = {}
    for name, setting in {"plain": {}, "cost": {"spread_cost": 2.0}, "limit": {"spread_limit": 1e-4}}.items():
        env = gym.make_vec("Mano/Twin-Discrete-v0", num_envs=8, run=run, **setting)
        env.reset(seed=0)
        steps[name] = env.step(action)
    spread = np.asarray(steps["plain"][4]["spread"])
    assert (spread > 1e-4).all()
    np.testing.assert_allclose(steps["cost"][1], steps["plain"][1] - 2.0 * spread, atol=1e-5)
    assert steps["limit"][3].all() and not steps["plain"][3].any()
    trial = gym.make_vec("Mano/Trial-Discrete-v0", num_envs=8, run=run, spread_limit=1e-4)
    trial.reset(seed=0)
    assert not trial.step(action)[3].any()


def test_a_twin_of_one_member_cannot_be_asked_to_disagree() -> None:
    """It never would: a cost or a limit would do nothing."""
    settings = trial_of(None).settings
    require_members(untrained(1), settings)
    for setting in ({"spread_limit": 0.3}, {"spread_cost": 1.0}):
        require_members(untrained(2), replace(settings, **setting))
        with pytest.raises(ConfigError, match=r"1 member .* expected 2 or more; train it with .*twin.members=3"):
            require_members(untrained(1), replace(settings, **setting))


def test_settings_of_the_task_can_be_given() -> None:
    short = gym.make("Mano/Trial-Discrete-v0", horizon=2, remission_threshold=0.0)
    short.reset(seed=0)
    assert [short.step(0)[3] for _ in range(2)] == [False, True]
    for wrong in ({"horizon": 0}, {"spread_limit": -1.0}, {"treatment_cost": {"app": "much"}}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}.*expected") as caught:
            gym.make("Mano/Trial-v0", **wrong)
        assert "\n" not in str(caught.value)


def test_an_unknown_device_says_so() -> None:
    for device in ("gpu0", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(ConfigError, match=rf"device='{device}' cannot be used.*expected 'cpu'") as caught:
            gym.make("Mano/Trial-v0", device=device)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("twin", [False, True])
def test_a_gpu_gives_the_same_courses(smoke: RunStore, twin: bool) -> None:
    name, run, paths = f"Mano/{'Twin' if twin else 'Trial'}-Discrete-v0", str(smoke.root), []
    for device in ("cpu", "cuda"):
        env = gym.make_vec(name, num_envs=16, run=run, device=device)
        env.reset(seed=0)
        assert env.unwrapped.simulation.days.device.type == device
        paths.append(np.stack([env.step(np.full(16, 15))[0] for _ in range(3)]))
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-2)


def test_a_world_without_a_run_is_the_same_every_time() -> None:
    first = trial_of(None).patients
    assert torch.equal(first.week, trial_of(None).patients.week)
