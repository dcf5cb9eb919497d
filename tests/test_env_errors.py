"""What no environment takes: one line that says what was got, what was expected and what to do, on every face."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from helpers_envs import people, simulation, world_of

from core.errors import ConfigError, DataError, ManoError, NumericalError
from core.patients import Patients
from core.protocols import Dynamics, State
from envs.patient_env import PatientEnv
from envs.sb3 import PatientVecEnv
from envs.severity import SeverityIndex
from envs.simulation import Simulation
from envs.spaces import action_space
from envs.vector_env import PatientVectorEnv

GOOD = np.array([0.5], np.float32)


@pytest.fixture(scope="module")
def patients() -> Patients:
    return people(600)


@pytest.fixture(scope="module")
def world(patients):
    return world_of(patients)


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and ";" in message, message
    return message


BAD_ACTIONS = [
    ("Dict", {"treatment": 5, "intensity": GOOD}, "treatment is 5"),
    ("Dict", {"treatment": -1, "intensity": GOOD}, "treatment is -1"),
    ("Dict", {"treatment": 1.5, "intensity": GOOD}, "treatment"),
    ("Dict", {"treatment": 1, "intensity": np.array([0.0], np.float32)}, "intensity is 0,"),
    ("Dict", {"treatment": 1, "intensity": np.array([1.5], np.float32)}, "intensity is 1.5"),
    ("Dict", {"treatment": 1, "intensity": np.array([np.nan], np.float32)}, "intensity"),
    ("Dict", {"treatment": 0, "intensity": np.array([np.nan], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1, "intensity": np.array([0.5, 0.5], np.float32)}, "intensity"),
    ("Dict", {"treatment": 1}, "intensity"),
    ("Dict", {"treatment": 1, "dose": GOOD}, "'dose'"),
    ("Dict", np.array([1, 0.5]), "dict"),
    ("Box", np.zeros(5, np.float32), r"shape \(5,\), expected \(6,\)"),
    ("Box", np.full(6, np.nan, np.float32), "finite"),
    ("Box", "much", "numbers"),
    ("Discrete", 41, "41, expected 0 to 40"),
    ("Discrete", None, "whole numbers"),
    ("MultiDiscrete", np.array([1, 10]), "intensity level"),
    ("MultiDiscrete", np.array([1]), "shape"),
]


@pytest.mark.parametrize(("form", "action", "word"), BAD_ACTIONS)
def test_a_bad_action_is_one_clear_line(world, form, action, word):
    env = PatientEnv(*world, form=form)
    env.reset(seed=0)
    with pytest.raises(DataError, match=word) as caught:
        env.step(action)
    assert "environment" not in one_line(caught)


def spoilt(good: np.ndarray, value: float, column: int | None = None) -> np.ndarray:
    """A batch in which environment 2 has another value."""
    bad = good.copy()
    bad[2 if column is None else (2, column)] = value
    return bad


ONES, DOSES = np.ones(4, np.int64), np.full((4, 1), 0.5, np.float32)
PAIRS, LEVELS = np.tile(np.array([1, 0.5], np.float32), (4, 1)), np.ones((4, 2), np.int64)
BAD_BATCHES = [
    ("Dict", {"treatment": spoilt(ONES, 7), "intensity": DOSES}, "environment 2 is 7"),
    ("Dict", {"treatment": ONES, "intensity": spoilt(DOSES, 1.2)}, "environment 2: intensity is 1.2"),
    ("Dict", {"treatment": ONES, "intensity": spoilt(DOSES, np.nan)}, "intensity of environment 2"),
    ("Dict", {"treatment": ONES, "intensity": DOSES[:3]}, r"\(3, 1\), expected \(4, 1\)"),
    ("Box", spoilt(np.zeros((4, 6), np.float32), np.inf, 5), "action of environment 2"),
    ("Discrete", spoilt(ONES, -1), "environment 2 is -1"),
    ("MultiDiscrete", spoilt(LEVELS, 11, 1), "level of environment 2 is 11"),
    (None, spoilt(PAIRS, 4.6, 0), "treatment of environment 2 is 5"),
    (None, spoilt(PAIRS, 1.5, 1), "environment 2: u is 1.5"),
    (None, spoilt(PAIRS, np.nan, 1), "environment 2"),
    (None, PAIRS[:, :1], r"\(4, 1\), expected \(4, 2\)"),
]


@pytest.mark.parametrize(("form", "actions", "word"), BAD_BATCHES)
def test_a_batch_says_whose_action_is_bad(world, form, actions, word):
    faces = [] if form is None else [PatientVectorEnv(*world, num_envs=4, form=form)]
    faces += [] if form == "Dict" else [PatientVecEnv(*world, num_envs=4, seed=0, form=form)]
    for env in faces:
        env.reset()
        with pytest.raises(DataError, match=word) as caught:
            env.step(actions)
        one_line(caught)


def test_controls_intensity_may_be_anything_finite(world):
    env = PatientEnv(*world)
    env.reset(seed=0)
    *_, info = env.step({"treatment": 0, "intensity": np.array([0.0], np.float32)})
    assert info["intensity"] == 0.0


def test_no_face_steps_before_a_reset(world):
    faces = [PatientEnv(*world, form="Discrete"), PatientVectorEnv(*world, num_envs=2, form="Discrete")]
    for env, action in zip(
        [*faces, PatientVecEnv(*world, 2, 0, form="Discrete")], (1, ONES[:2], ONES[:2]), strict=True
    ):
        with pytest.raises(ResetNeeded, match="reset"):
            env.step(action)
    with pytest.raises(ResetNeeded, match="reset_mask"):
        faces[1].reset(options={"reset_mask": np.array([True, False])})


def resets(world):
    """Every face as a function from options to a reset."""
    scalar, vector, sb3 = PatientEnv(*world), PatientVectorEnv(*world, num_envs=2), PatientVecEnv(*world, 2, 0)

    def reset_sb3(options):
        sb3.set_options(options)
        sb3.reset()

    return [lambda o: scalar.reset(options=o), lambda o: vector.reset(options=o), reset_sb3]


def test_unknown_patients_and_options_are_named_on_every_face(world):
    for reset in resets(world):
        for patient in (-1, 10_000):
            with pytest.raises(
                DataError, match=rf"patient_id {patient} is unknown; expected one of 600 ids from 0 to 599"
            ):
                reset({"patient_id": patient})
        with pytest.raises(DataError, match="patient_id"):
            reset({"patient_id": "seventeen"})
        with pytest.raises(DataError, match="'patient', expected 'patient_id'") as caught:
            reset({"patient": 3})
        one_line(caught)
    with pytest.raises(DataError, match=r"\[1, 2, 3\], expected .* each of 2 environments"):
        PatientVectorEnv(*world, num_envs=2).reset(options={"patient_id": [1, 2, 3]})
    with pytest.raises(DataError, match="1 of 2 environments have a patient_id"):
        resets(world)[2]([{"patient_id": 3}, {}])
    with pytest.raises(DataError, match="list of 3, expected 2"):
        PatientVectorEnv(*world, num_envs=2).reset(seed=[1, 2, 3])


def test_other_misuse_is_one_clear_line(world):
    with pytest.raises(ConfigError, match="Dict, Box"):
        action_space("Tuple")
    with pytest.raises(ConfigError, match="no Dict actions"):
        PatientVecEnv(*world, num_envs=2, seed=0, form="Dict")
    for face in (PatientEnv, PatientVectorEnv):
        with pytest.raises(ConfigError, match="render_mode"):
            face(*world, render_mode="human")
    with pytest.raises(ConfigError, match="treatment_cost"):
        Simulation(*world[:3], replace(world[3], treatment_cost={"app": 0.1}), 1, 0)
    with pytest.raises(DataError, match="min_risk"):
        Simulation(*world[:3], replace(world[3], min_risk=1.0), 1, 0)
    with pytest.raises(ManoError, match="cannot be set"):
        PatientVecEnv(*world, num_envs=2, seed=0).set_attr("x", 1)


# Numbers that are none.


class Spoilt(Dynamics):
    """Trial that breaks in one week for the patient in one place of a batch: the named part of what it gives."""

    place = 1

    def __init__(self, trial: Dynamics, part: str, value: float, week: int = 3) -> None:
        self.trial, self.part, self.value, self.at = trial, part, value, week

    def start(self, rows: torch.Tensor, keys: torch.Tensor) -> State:
        return self.trial.start(rows, keys)

    def step(self, state: State, treatment: torch.Tensor, intensity: torch.Tensor, keys: torch.Tensor):
        now = int(state["week"][0]) + 1
        state, outcome = self.trial.step(state, treatment, intensity, keys)
        if now != self.at:
            return state, outcome
        if self.part == "drift":
            state = {**state, "drift": state["drift"].index_fill(0, torch.tensor([self.place]), self.value)}
            return state, outcome
        field, _, signal = self.part.partition(".")
        broken = getattr(outcome, field).clone()
        broken[(self.place, ..., int(signal)) if signal else self.place] = self.value
        return state, replace(outcome, **{field: broken})


class Deaf(SeverityIndex):
    """A risk model that reads what is not a number as the middle of the range, so that the risk stays finite."""

    def probabilities(self, features, week, mask=None):
        return super().probabilities(features, week.nan_to_num(5.0, 5.0, 5.0), mask)


PLANTED = [
    ("week", np.nan, "days of sleep_duration, sleep_quality, heart_rate, stress became nan"),
    ("week.3", np.nan, "days of stress became nan"),
    ("week.2", np.inf, "days of heart_rate became inf"),
    ("level", np.nan, "level became nan"),
    ("spread", np.nan, "spread became nan"),
    ("drift", np.nan, "state 'drift' became nan"),
]


@pytest.mark.parametrize("face", [PatientVectorEnv, PatientVecEnv])
@pytest.mark.parametrize(("part", "value", "words"), PLANTED)
def test_what_is_no_number_is_caught_in_its_week(world, face, part, value, words):
    patients, trial, index, config = world
    judge = Deaf(patients.signals, patients.scaler) if part.startswith("week") else index
    more = {"seed": 5} if face is PatientVecEnv else {}
    env = face(
        patients,
        Spoilt(trial, part, value),
        judge,
        replace(config, remission_threshold=0.0),
        3,
        **more,
        form="Discrete",
    )
    env.reset()
    for _ in range(2):
        env.step(np.zeros(3, np.int64))
    patient = int(env.simulation.info()["patient_id"][1])
    with pytest.raises(NumericalError, match=f"^patient {patient}, week 3 of environment 1: {words}") as caught:
        env.step(np.zeros(3, np.int64))
    one_line(caught)


def test_a_single_environment_names_patient_and_week(world):
    class First(Spoilt):
        place = 0

    patients, trial, index, config = world
    env = PatientEnv(patients, First(trial, "week.0", np.nan, week=1), index, config, form="Discrete")
    env.reset(seed=0, options={"patient_id": 17})
    with pytest.raises(NumericalError, match=r"^patient 17, week 1: days of sleep_duration became nan"):
        env.step(0)


def test_a_non_finite_risk_is_named(world):
    class Broken(SeverityIndex):
        def probabilities(self, features, week, mask=None):
            found = super().probabilities(features, week, mask)
            return found.where(torch.arange(len(week))[:, None] != 1, torch.nan) if len(week) < 600 else found

    patients, trial, _, config = world
    sim = Simulation(patients, trial, Broken(patients.signals, patients.scaler), config, 3, 0)
    sim.reset()
    with pytest.raises(NumericalError, match="week 1 of environment 1: risk became nan"):
        sim.step(torch.zeros(3, dtype=torch.int64), torch.full((3,), 0.5))


def test_runs_under_inference_mode_and_goes_on_outside(patients):
    sim = simulation(patients, 4)
    with torch.inference_mode():
        sim.reset()
        sim.step(torch.tensor([1, 2, 3, 4]), torch.full((4,), 0.5))
    sim.reset(which=torch.tensor([True, False, False, False]))
    assert sim.week.tolist() == [0, 1, 1, 1]
