"""Observation and action spaces, and what an action of each form means.

=============  ==============================================  ==========================================================
form           space                                           meaning
=============  ==============================================  ==========================================================
Dict           Dict(treatment=Discrete(5), intensity=Box(1,))  native: both parts as they are
Box            Box(6,): five scores in [-1, 1], one dose       the highest score's treatment; dose [-1, 1] -> [0.1, 1]
Discrete       Discrete(1 + 4 x 10)                            0 is Control, then treatment by treatment, ten intensities
MultiDiscrete  MultiDiscrete([5, 10])                          treatment and one of ten intensities
=============  ==============================================  ==========================================================
"""

from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.observation import BOUND, ObservationLayout

Form = Literal["Dict", "Box", "Discrete", "MultiDiscrete"]
FORMS: tuple[Form, ...] = get_args(Form)
LEVELS = np.linspace(MIN_INTENSITY, MAX_INTENSITY, 10).astype(np.float32)
Actions = tuple[NDArray[np.int64], NDArray[np.float32]]  # treatment and intensity, each (B,)


def observation_space(layout: ObservationLayout) -> spaces.Box:
    return spaces.Box(-BOUND, BOUND, (layout.size,), np.float32)


def action_space(form: str) -> spaces.Space[Any]:
    """The action space of a form.

    Raises:
        ConfigError: no such form.
    """
    if form == "Dict":
        low, high = np.float32(MIN_INTENSITY), np.float32(MAX_INTENSITY)
        return spaces.Dict(
            {"treatment": spaces.Discrete(len(TREATMENTS)), "intensity": spaces.Box(low, high, (1,), np.float32)}
        )
    if form == "Box":
        return spaces.Box(-1.0, 1.0, (len(TREATMENTS) + 1,), np.float32)
    if form == "Discrete":
        return spaces.Discrete(1 + (len(TREATMENTS) - 1) * len(LEVELS))
    if form == "MultiDiscrete":
        return spaces.MultiDiscrete([len(TREATMENTS), len(LEVELS)])
    raise ConfigError(f"action form '{form}' is unknown; expected one of {', '.join(FORMS)}")


def decode(form: str, action: Any, n: int) -> Actions:
    """Treatments int64 ``[n]`` and intensities float32 ``[n]`` of a batch of ``n`` actions.

    Raises:
        DataError: the batch is not one of this form, in one line.
    """
    if form == "Dict":
        if not isinstance(action, dict) or set(action) != {"treatment", "intensity"}:
            raise DataError(f"action is {_short(action)}, expected a dict with keys 'treatment' and 'intensity'")
        intensity = _numbers(action["intensity"], "intensity", (n, 1))[:, 0]
        return _in_range(_whole(action["treatment"], "treatment", (n,)), len(TREATMENTS), "treatment"), intensity
    if form == "Box":
        values = np.clip(_numbers(action, "action", (n, len(TREATMENTS) + 1)), -1.0, 1.0)
        share = (values[:, -1] + 1.0) / 2.0
        intensity = (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * share).astype(np.float32)
        return values[:, :-1].argmax(axis=1), intensity
    if form == "Discrete":
        code = _in_range(_whole(action, "action", (n,)), 1 + (len(TREATMENTS) - 1) * len(LEVELS), "action")
        return np.where(code == CONTROL, CONTROL, 1 + (code - 1) // len(LEVELS)), LEVELS[(code - 1) % len(LEVELS)]
    both = _whole(action, "action", (n, 2))
    level = _in_range(both[:, 1], len(LEVELS), "intensity level")
    return _in_range(both[:, 0], len(TREATMENTS), "treatment"), LEVELS[level]


def batch_of_one(form: str, action: Any) -> Any:
    """A single action as a batch of one."""
    if form == "Dict" and isinstance(action, dict):
        return {key: np.asarray(value)[None] for key, value in action.items()}
    return action if form == "Dict" else np.asarray(action)[None]


def _numbers(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is {_short(value)}, expected numbers of shape {shape}") from error
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name} is {_short(array.tolist())}, expected finite numbers")
    return array


def _whole(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected whole numbers of shape {shape}"
        )
    return array.astype(np.int64)


def _in_range(array: NDArray[np.int64], n: int, name: str) -> NDArray[np.int64]:
    if ((array < 0) | (array >= n)).any():
        raise DataError(f"{name} is {_short(array.tolist())}, expected 0 to {n - 1}")
    return array


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
