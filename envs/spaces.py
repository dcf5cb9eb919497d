"""Observation and action spaces, and what an action of each form means.

=============  ==============================================  ==========================================================
form           space                                           meaning
=============  ==============================================  ==========================================================
Dict           Dict(treatment=Discrete(5), intensity=Box(1,))  native: both parts as they are
Box            Box(6,): five scores in [-1, 1], one dose       the highest score's treatment; dose [-1, 1] -> [0.1, 1]
Discrete       Discrete(1 + 4 x 10)                            0 is Control, then treatment by treatment, ten intensities
MultiDiscrete  MultiDiscrete([5, 10])                          treatment and one of ten intensities
=============  ==============================================  ==========================================================

The native intensity must lie in [0.1, 1], else it is refused (Control's counts as 0, so any finite number does). Box
clips to [-1, 1], as agents with Gaussian heads expect, and maps its ends to 0.1 and 1; NaN is refused by every form.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.checks import of_environment
from envs.observation import BOUND, ObservationLayout

Form = Literal["Dict", "Box", "Discrete", "MultiDiscrete"]
FORMS: tuple[Form, ...] = get_args(Form)
SAMPLE = "env.action_space.sample() shows one that fits"
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


def pair_space() -> spaces.Box:
    """What the dual-head policy acts with: the treatment's index and u in [0, 1] for intensity 0.1 + 0.9 u."""
    return spaces.Box(np.zeros(2, np.float32), np.array([len(TREATMENTS) - 1, 1], np.float32), dtype=np.float32)


def decode(form: str, action: Any, n: int | None = None) -> Actions:
    """Treatments int64 ``[n]`` and intensities float32 ``[n]`` of a batch of ``n`` actions; of one action where n is None.

    The range of a native intensity is the simulation's to check.

    Raises:
        DataError: the action is not one of this form; one line that names the environment.
    """
    batch = () if n is None else (n,)
    if form == "Dict":
        _check_keys(action)
        intensity = _numbers(action["intensity"], "intensity", (*batch, 1))[:, 0]
        treatment = _whole(action["treatment"], "treatment", batch)
        return _in_range(treatment, len(TREATMENTS), "treatment"), intensity
    if form == "Box":
        values = np.clip(_numbers(action, "action", (*batch, len(TREATMENTS) + 1)), -1.0, 1.0)
        return values[:, :-1].argmax(axis=1), _dose((values[:, -1] + 1.0) / 2.0)
    if form == "Discrete":
        code = _in_range(_whole(action, "action", batch), 1 + (len(TREATMENTS) - 1) * len(LEVELS), "action")
        return np.where(code == CONTROL, CONTROL, 1 + (code - 1) // len(LEVELS)), LEVELS[(code - 1) % len(LEVELS)]
    both = _whole(action, "action", (*batch, 2)).reshape(-1, 2)
    level = _in_range(both[:, 1], len(LEVELS), "intensity level")
    return _in_range(both[:, 0], len(TREATMENTS), "treatment"), LEVELS[level]


def decode_pair(action: Any, n: int) -> Actions:
    """The same of ``n`` actions of :func:`pair_space`; the treatment is rounded to the nearest."""
    values = _numbers(action, "action", (n, 2))
    share = values[:, 1]
    if ((share < 0) | (share > 1)).any():
        place = int(np.flatnonzero((share < 0) | (share > 1))[0])
        raise DataError(f"action{of_environment(place, n)}: u is {share[place]:g}, expected 0 to 1; clip it")
    return _in_range(np.rint(values[:, 0]).astype(np.int64), len(TREATMENTS), "treatment"), _dose(share)


def _dose(share: NDArray[np.float32]) -> NDArray[np.float32]:
    return (MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * share).astype(np.float32)


def _check_keys(action: Any) -> None:
    hint = "expected a dict with keys 'treatment' and 'intensity'"
    if not isinstance(action, Mapping):
        raise DataError(
            f"action is {_short(action)}, {hint}; for arrays and numbers take another form ({', '.join(FORMS[1:])})"
        )
    if set(action) != {"treatment", "intensity"}:
        raise DataError(
            f"action has keys {', '.join(repr(key) for key in action) or 'none'}, {hint}; rename or add them"
        )


def _array(value: Any, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    try:
        return np.asarray(value, kind)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is {_short(value)}, expected numbers of shape {shape}; {SAMPLE}") from error


def _numbers(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``[n, last of shape]``, n being 1 for a single action."""
    array = _array(value, name, shape, np.float32)
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, expected {shape}; {SAMPLE}")
    array = array.reshape(-1, shape[-1])
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise DataError(
            f"{name}{of_environment(place, len(array))} is {_short(array[place].tolist())}, expected finite numbers; look for NaN in the agent's network"
        )
    return array


def _whole(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The same with whole numbers; ``[n]`` where the shape is that of a batch of single numbers."""
    array = _array(value, name, shape, None)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} has shape {array.shape} and type {array.dtype}, expected whole numbers of shape {shape}; {SAMPLE}"
        )
    return np.atleast_1d(array.astype(np.int64))


def _in_range(array: NDArray[np.int64], n: int, name: str) -> NDArray[np.int64]:
    bad = np.flatnonzero((array < 0) | (array >= n))
    if len(bad):
        raise DataError(
            f"{name}{of_environment(int(bad[0]), len(array))} is {array[bad[0]]}, expected 0 to {n - 1}; {SAMPLE}"
        )
    return array


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
