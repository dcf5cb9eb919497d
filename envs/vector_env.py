"""gym.vector.VectorEnv: many patients at once, on the batched simulation."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel
from envs.history import History
from envs.patient_env import RENDER_MODES, SEED_LIMIT, check_options, check_render_mode, patient_rows
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.spaces import action_space, decode, observation_space

Info = dict[str, Any]


class PatientVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """``num_envs`` of :class:`envs.patient_env.PatientEnv`; actions and observations are batches of its own.

    A finished episode is followed by a new one in the same step (``AutoresetMode.SAME_STEP``): the observation is the
    new episode's first, ``infos["final_obs"]`` and ``infos["final_info"]`` hold the old one's last, with the masks
    ``_final_obs`` and ``_final_info``. ``autoreset_mode`` can also be ``NEXT_STEP``, which Gymnasium's own vector wrappers
    of observations ask for (NormalizeObservation), or ``DISABLED``. Sub-environment i of ``reset(seed=s)`` equals a scalar environment's
    ``reset(seed=s + i)``. ``options``: ``patient_id`` (one, or one per environment) and Gymnasium's ``reset_mask``.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012  (gym's own declaration)

    def __init__(
        self,
        patients: Patients,
        dynamics: Dynamics,
        risk_model: RiskModel,
        settings: EnvSettings,
        num_envs: int = 1,
        form: str = "Dict",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        check_render_mode(render_mode)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.num_envs, self.form, self.patients, self.settings = num_envs, form, patients, settings
        self.simulation = Simulation(patients, dynamics, risk_model, settings, num_envs, seed=0)
        self.single_observation_space = observation_space(self.simulation.layout)
        self.single_action_space = action_space(form)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeded = self._running = False
        self._ended = np.zeros(num_envs, dtype=bool)  # which episodes are over and not yet followed by another
        self._history = None if render_mode is None else History(self.simulation)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: Info | None = None
    ) -> tuple[NDArray[np.float32], Info]:
        check_options(options, {"patient_id", "reset_mask"})
        which = self._reset_mask(options)
        self._reseed(seed, which)
        rows = patient_rows(self.patients, options, self.num_envs)
        chosen = torch.from_numpy(which)
        observation = self.simulation.reset(rows=None if rows is None else rows[chosen], which=chosen)
        self._running, self._ended = True, self._ended & ~which
        if self._history is not None:
            self._history.begin(which)
        return observation.numpy(force=True), _masked(_arrays(self.simulation.info()), which)

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Info]:
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        treatment, intensity = decode(self.form, actions, self.num_envs)
        ended = self._ended.copy()
        if self.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            raise ResetNeeded(
                f"environments {np.flatnonzero(ended).tolist()} have ended: reset them (options['reset_mask'])"
            )
        # Of those that only reset in this step (NEXT_STEP) the week is lived too, and then forgotten.
        step = self.simulation.step(torch.from_numpy(treatment), torch.from_numpy(intensity))
        if self._history is not None:
            self._history.add(*(step.info[name].numpy(force=True) for name in ("treatment", "intensity")))
        observation, info = step.observation.numpy(force=True), _arrays(step.info)
        terminated, truncated = step.terminated.numpy(force=True) & ~ended, step.truncated.numpy(force=True) & ~ended
        reward, done = step.reward.numpy(force=True).astype(np.float64) * ~ended, terminated | truncated
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._ended = np.zeros_like(done) if same_step else done
        begin = done if same_step else ended
        if not begin.any():
            return observation, reward, terminated, truncated, _masked(info, ~begin)
        fresh = self.simulation.reset(which=torch.from_numpy(begin)).numpy(force=True)
        if self._history is not None:
            self._history.begin(begin)
        infos = self._final(info, observation, done) if same_step else {}
        infos |= _masked(info, ~begin)
        # What a reset reports is there for all: the old episode's where it goes on, the new one's where it began.
        infos |= _masked(_arrays(self.simulation.info()), np.ones_like(begin))
        return fresh, reward, terminated, truncated, infos

    def _final(self, info: Info, observation: NDArray[np.float32], done: NDArray[np.bool_]) -> Info:
        """How episodes ended, as Gymnasium's SAME_STEP defines it."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            final_obs[i] = observation[i]
        return {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": _masked(info, done),
            "_final_info": done.copy(),
        }

    def render(self) -> tuple[Any, ...] | None:
        """One text or picture for each environment (see PatientEnv), as Gymnasium's SyncVectorEnv gives them."""
        if self.render_mode is None or self._history is None:
            gym.logger.warn("render() needs a render_mode: make the environment with render_mode='ansi' or 'rgb_array'")
            return None
        if not self._running:
            raise ResetNeeded("nothing to render: call reset() first")
        from envs.rendering import render

        return tuple(render(self.render_mode, self._history, i, self.settings) for i in range(self.num_envs))

    def _reset_mask(self, options: Info | None) -> NDArray[np.bool_]:
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise DataError(
                f"options['reset_mask'] is {mask!r}, expected a bool array of shape ({self.num_envs},) with a True"
            )
        if not self._running:
            raise ResetNeeded("reset_mask needs episodes that go on: call reset() without it first")
        return mask

    def _reseed(self, seed: int | list[int | None] | None, which: NDArray[np.bool_]) -> None:
        if seed is None and self._seeded:
            return
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        if isinstance(seed, int | np.integer):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))
            seed = [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise DataError(
                f"reset: seed is a list of {len(seed)}, expected {self.num_envs}, one for each environment; or give one number"
            )
        if not self._seeded:  # chance for whom no seed is given and none was
            seed = [int(self.np_random.integers(2**31)) if value is None else value for value in seed]
        given = np.array([value is not None for value in seed]) & which
        self.simulation.reseed(
            torch.tensor([(value or 0) % SEED_LIMIT for value in seed]), which=torch.from_numpy(given)
        )
        self._seeded = True


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Gymnasium's modes, by member or by name.

    Raises:
        ConfigError: no such mode.
    """
    found = {name: one for one in AutoresetMode for name in (one, one.name, one.value)}.get(mode)
    if found is None:
        raise ConfigError(
            f"autoreset_mode {mode!r} is unknown, expected one of {', '.join(one.name for one in AutoresetMode)}; leave it out for SAME_STEP"
        )
    return found


def _arrays(info: dict[str, torch.Tensor]) -> Info:
    """As Gymnasium batches the scalar environment's: its numbers are Python's, so double; its vectors stay float32."""
    arrays = {name: value.numpy(force=True) for name, value in info.items()}
    return {name: v.astype(np.float64) if v.dtype == np.float32 and v.ndim == 1 else v for name, v in arrays.items()}


def _masked(info: Info, where: NDArray[np.bool_]) -> Info:
    """Gymnasium's vector infos: every ``key`` (0 outside ``where``) with its mask ``_key``; none where none has it."""
    result: Info = {}
    if not where.any():
        return result
    for name, value in info.items():
        shown = where.reshape(-1, *[1] * (value.ndim - 1))
        result[name], result[f"_{name}"] = np.where(shown, value, np.zeros((), value.dtype)), where.copy()
    return result
