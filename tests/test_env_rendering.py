"""What a person sees of an episode, as text and as pictures."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.wrappers import RenderCollection
from helpers_envs import people, world_of

from core.treatments import TREATMENTS
from envs.patient_env import PatientEnv
from envs.rendering import ALARM, COLOURS, WELL
from envs.vector_env import PatientVectorEnv

CBT = {"treatment": TREATMENTS.index("cbt"), "intensity": np.array([0.5], np.float32)}


@pytest.fixture(scope="module")
def world():
    return world_of(people(100))


def pixels(image: np.ndarray, colour: str) -> int:
    """How many pixels are of this very colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((image == rgb).all(axis=2).sum())


def test_text(world):
    env = PatientEnv(*world, render_mode="ansi")
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    env.step(CBT)
    assert "CBT 0.50" in env.render() and env.render().count("week") == 2


def test_pictures_keep_their_size_and_show_what_was_given(world):
    """As a recorder of videos collects them: one frame a week."""
    env = RenderCollection(PatientEnv(*world, render_mode="rgb_array"), pop_frames=False)
    env.reset(seed=0)
    adverse = 0
    for week in range(2):
        *_, info = env.step(CBT if week % 2 == 0 else {**CBT, "treatment": 4, "intensity": np.array([1.0], np.float32)})
        adverse += info["adverse"]
    frames = env.render()
    assert len(frames) == 3 and len({frame.shape for frame in frames}) == 1
    assert frames[0].dtype == np.uint8 and all(side % 16 == 0 for side in frames[0].shape[:2])
    # Every kind of bar takes room when it is given; the legend has some of each from the start.
    cbt, medication = ([pixels(frame, COLOURS[t]) for frame in frames] for t in (2, 4))
    assert cbt[1] > cbt[0] + 500 and cbt[2] == pytest.approx(cbt[1], abs=50)
    assert medication[2] > medication[1] + 1000
    assert (pixels(frames[-1], ALARM) > pixels(frames[0], ALARM)) == (adverse > 0)
    assert pixels(frames[0], WELL) > 0


def test_a_batch_renders_each_of_its_environments(world):
    env = PatientVectorEnv(*world, num_envs=3, form="Discrete", render_mode="ansi")
    env.reset(seed=0, options={"patient_id": [3, 4, 5]})
    env.step(np.array([0, 20, 40]))
    texts = env.render()
    assert [text.split("\n")[0] for text in texts] == ["patient 3", "patient 4", "patient 5"]
    assert "Control" in texts[0] and "CBT 1.00" in texts[1] and "Medication 1.00" in texts[2]
    scalar = PatientEnv(*world, form="Discrete", render_mode="ansi")
    scalar.reset(seed=1, options={"patient_id": 4})
    scalar.step(20)
    assert scalar.render() == texts[1]
    for _ in range(12):
        env.step(np.zeros(3, np.int64))
    weeks = env.simulation.week.tolist()
    assert min(weeks) < 12 and [text.count("week") - 1 for text in env.render()] == weeks  # other episodes by now
    with pytest.warns(UserWarning, match="render_mode"):
        gym.logger.min_level = gym.logger.WARN
        assert PatientVectorEnv(*world, num_envs=1).render() is None
