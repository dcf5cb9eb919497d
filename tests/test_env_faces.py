"""One simulation behind every face: the same trajectories, and each face as its library defines it."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from helpers_envs import people, simulation, world_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from core.errors import ConfigError
from core.patients import Patients
from core.treatments import MAX_INTENSITY, MIN_INTENSITY
from envs.patient_env import PatientEnv
from envs.sb3 import PatientVecEnv
from envs.spaces import FORMS, action_space, decode
from envs.vector_env import PatientVectorEnv

WEEKS, WIDE = 30, 16  # long enough for several episodes; the widest batch
BATCHABLE = FORMS[1:]


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(600)


@pytest.fixture(scope="module")
def world(patients):
    return world_of(patients)


def plan(form: str | None) -> list[dict[str, np.ndarray]]:
    """Weeks of actions for ``WIDE`` environments, as dicts of batches; None is the pair of SB3's own face."""
    rng = np.random.default_rng(0)
    treatment, share = rng.integers(0, 5, (WEEKS, WIDE)), rng.random((WEEKS, WIDE)).astype(np.float32)
    dose = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * share).astype(np.float32)
    if form == "Dict":
        return [{"treatment": t, "intensity": u[:, None]} for t, u in zip(treatment, dose, strict=True)]
    if form is None:
        return [{"": np.stack([t, u], axis=1).astype(np.float32)} for t, u in zip(treatment, share, strict=True)]
    space = gym.vector.utils.batch_space(action_space(form), WIDE)
    space.seed(0)
    return [{"": space.sample()} for _ in range(WEEKS)]


def part(action: dict[str, np.ndarray], rows: slice | int):
    """The action of some environments, or of one."""
    cut = {key: value[rows] for key, value in action.items()}
    return cut.get("", cut)


def run_scalar(world, form: str, place: int) -> list[tuple]:
    env, path = PatientEnv(*world, form=form), []
    env.reset(seed=7 + place)
    for action in plan(form):
        observation, reward, terminated, truncated, _ = env.step(part(action, place))
        if terminated or truncated:
            observation, _ = env.reset()
        path.append((observation, reward, terminated or truncated))
    return path


def run_vector(world, form: str, n: int) -> list[tuple]:
    env = PatientVectorEnv(*world, num_envs=n, form=form)
    env.reset(seed=7)
    steps = [env.step(part(action, slice(n))) for action in plan(form)]
    return [(observation, reward, ended | cut) for observation, reward, ended, cut, _ in steps]


def run_sb3(world, form: str | None, n: int) -> list[tuple]:
    env = PatientVecEnv(*world, num_envs=n, seed=7, form=form)
    env.reset()
    return [env.step(part(action, slice(n)))[:3] for action in plan(form)]


@pytest.mark.parametrize("form", FORMS)
def test_every_face_gives_the_same_trajectories_at_any_batch(world, form):
    whole = run_vector(world, form, WIDE)
    assert sum(int(done.sum()) for *_, done in whole) > WIDE  # episodes did end
    batches = [run_vector(world, form, n) for n in (1, 3)]
    # SB3's own pair of numbers says what the Dict does.
    batches += [run_sb3(world, None if form == "Dict" else form, n) for n in (3, WIDE)]
    for steps in batches:
        for (observation, reward, done), expected in zip(steps, whole, strict=True):
            np.testing.assert_array_equal(observation, expected[0][: len(done)])
            np.testing.assert_array_equal(reward, expected[1][: len(done)])
            np.testing.assert_array_equal(done, expected[2][: len(done)])
    for place in (0, WIDE - 1):
        for (observation, reward, done), expected in zip(run_scalar(world, form, place), whole, strict=True):
            np.testing.assert_array_equal(observation, expected[0][place])
            assert (reward, done) == (expected[1][place], expected[2][place])


def test_part_of_a_batch_equals_the_whole(patients):
    whole, some = simulation(patients, 8, seed=3), simulation(patients, 3, seed=3, first_env=5)
    torch.testing.assert_close(whole.reset()[5:], some.reset(), atol=1e-6, rtol=0)


def test_seeds_differ_and_episodes_differ(world):
    env = PatientEnv(*world)
    first, _ = env.reset(seed=1)
    again, _ = env.reset()
    same, _ = env.reset(seed=1)
    other, _ = env.reset(seed=2)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, again) and not np.array_equal(first, other)
    env.reset(seed=2**70)  # any whole number is a seed to Gymnasium


# gym.Env.


@pytest.mark.parametrize("form", FORMS)
def test_checkers_pass_on_every_form(world, form):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(PatientEnv(*world, form=form), skip_render_check=True)
        sb3_check_env(PatientEnv(*world, form=form), warn=form == "Box")
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    # The native form's Box is [0.1, 1] because that is what a dose is; nothing else may be remarked on.
    assert all("symmetric and normalized" in message and form == "Dict" for message in said), said


def test_infos_are_the_callers_own(world):
    env = PatientEnv(*world)
    _, info = env.reset(seed=0)
    before = info["probabilities"].copy()
    info["probabilities"][:] = -1.0
    np.testing.assert_array_equal(env.simulation.info()["probabilities"][0], before)


# gym.vector.VectorEnv, beside what Gymnasium itself makes of the scalar environment.


def alike(ours, theirs, where: str) -> None:
    """The same keys, types, shapes and values, dict within dict."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), (where, ours.keys() ^ theirs.keys())
        for key, value in theirs.items():
            alike(ours[key], value, f"{where}.{key}")
        return
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
    if theirs.dtype == object:
        assert [value is None for value in ours] == [value is None for value in theirs], where
        for one, other in zip(ours, theirs, strict=True):
            alike(one, other, where) if other is not None else None
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=where)


@pytest.mark.parametrize("mode", ["SAME_STEP", "NEXT_STEP"])
@pytest.mark.parametrize("n", [1, 5])
def test_it_is_what_gymnasium_makes_of_the_scalar_environment(world, n, mode):
    """Step by step, through resets of one, of several and of all environments at once."""
    theirs = SyncVectorEnv([lambda: PatientEnv(*world)] * n, autoreset_mode=AutoresetMode[mode])
    ours = PatientVectorEnv(*world, num_envs=n, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    named = {"patient_id": 17}
    for options in (None, named):
        pair = [env.reset(seed=3, options=options) for env in (ours, theirs)]
        alike(dict(enumerate(pair[0])), dict(enumerate(pair[1])), "reset")
    resets = set()
    for week, action in enumerate(plan("Dict")):
        pair = [env.step(part(action, slice(n))) for env in (ours, theirs)]
        alike(dict(enumerate(pair[0])), dict(enumerate(pair[1])), f"week {week}")
        resets.add(int((pair[0][2] | pair[0][3]).sum()))
    assert {0, 1} <= resets
    mask = np.arange(n) == 0
    pair = [env.reset(options={"reset_mask": mask.copy()}) for env in (ours, theirs)]
    alike(dict(enumerate(pair[0])), dict(enumerate(pair[1])), "masked")


def test_reset_mask_resets_only_those(world):
    env = PatientVectorEnv(*world, num_envs=3)
    env.reset(seed=0)
    action = {"treatment": np.full(3, 1), "intensity": np.full((3, 1), 0.5, np.float32)}
    before = env.step(action)[0]
    mask = np.array([False, True, False])
    after, infos = env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert env.simulation.week.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(infos["_week"], mask)


def test_without_autoreset_the_ended_must_be_reset(world):
    env = PatientVectorEnv(*world, num_envs=3, form="Discrete", autoreset_mode="DISABLED")
    env.reset(seed=0)
    done = np.zeros(3, dtype=bool)
    while not done.any():
        observation, _, terminated, truncated, infos = env.step(np.full(3, 15))
        done = terminated | truncated
    assert "final_obs" not in infos and (observation[done][:, env.simulation.layout.slices["time"]] > 0).all()
    with pytest.raises(ResetNeeded, match="have ended"):
        env.step(np.full(3, 15))
    env.reset(options={"reset_mask": done})
    env.step(np.full(3, 15))
    with pytest.raises(ConfigError, match="SAME_STEP"):
        PatientVectorEnv(*world, num_envs=3, autoreset_mode="never")


def test_gymnasiums_wrappers_take_it(world):
    env = RecordEpisodeStatistics(PatientVectorEnv(*world, num_envs=8, form="Discrete"))
    env.reset(seed=0)
    total, ended = np.zeros(8), 0
    for _ in range(14):
        _, reward, terminated, truncated, infos = env.step(np.zeros(8, np.int64))
        total += reward
        for i in np.flatnonzero(terminated | truncated):
            assert infos["episode"]["r"][i] == pytest.approx(total[i], abs=1e-4) and infos["_episode"][i]
            total[i], ended = 0.0, ended + 1
    assert ended == env.episode_count >= 8
    next_step = PatientVectorEnv(*world, num_envs=8, form="Discrete", autoreset_mode=AutoresetMode.NEXT_STEP)
    wrapped = NormalizeReward(NormalizeObservation(next_step))
    wrapped.reset(seed=0)
    for _ in range(14):
        observation, reward, *_ = wrapped.step(np.zeros(8, np.int64))
    assert np.isfinite(observation).all() and np.isfinite(reward).all() and observation.std() > 0.1


def test_patients_can_be_chosen_on_every_face(world):
    vector = PatientVectorEnv(*world, num_envs=3)
    assert vector.reset(seed=1, options={"patient_id": [5, 6, 7]})[1]["patient_id"].tolist() == [5, 6, 7]
    assert vector.reset(seed=1, options={"patient_id": 9})[1]["patient_id"].tolist() == [9, 9, 9]
    sb3 = PatientVecEnv(*world, num_envs=3, seed=1)
    for options, expected in ({"patient_id": 9}, [9, 9, 9]), ([{"patient_id": i} for i in (5, 6, 7)], [5, 6, 7]):
        sb3.set_options(options)
        sb3.reset()
        assert [info["patient_id"] for info in sb3.reset_infos] == expected
    sb3.reset()  # options are for one reset
    assert [info["patient_id"] for info in sb3.reset_infos] != [5, 6, 7]


# The ids, and what an action of each form means.


def test_registered_ids_make_every_form(capsys):
    import envs  # noqa: F401

    gym.pprint_registry()
    shown = capsys.readouterr().out
    for dynamics in ("Trial", "Twin"):
        for suffix in ("", "-Box", "-Discrete", "-MultiDiscrete"):
            spec = gym.spec(f"Mano/{dynamics}{suffix}-v0")
            assert isinstance(spec.entry_point, str) and isinstance(spec.vector_entry_point, str)
            assert spec.id in shown


def test_registration_is_light():
    code = "import sys, envs; sys.exit('torch' in sys.modules or 'stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.integers(0, 40))
@settings(max_examples=41, deadline=None)
def test_discrete_actions_cover_each_treatment_and_level_once(code):
    treatment, intensity = decode("Discrete", np.array([code]), 1)
    assert treatment[0] == (0 if code == 0 else 1 + (code - 1) // 10)
    assert code == 0 or intensity[0] == pytest.approx(0.1 + 0.1 * ((code - 1) % 10), abs=1e-6)


def test_box_actions_reach_every_treatment_and_both_ends():
    for treatment in range(5):
        scores = np.full(6, -0.5, np.float32)
        scores[treatment] = 0.9
        for end, intensity in ((-1.0, 0.1), (1.0, 1.0)):
            scores[5] = end
            chosen, dose = decode("Box", scores[None], 1)
            assert chosen[0] == treatment and dose[0] == pytest.approx(intensity)
