"""gym.vector.VectorEnv: many patients at once, on the batched simulation."""

from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from core.errors import DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel
from envs.patient_env import patient_rows
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.spaces import action_space, decode, observation_space

Info = dict[str, Any]


class PatientVectorEnv(VectorEnv[NDArray[np.float32], Any, NDArray[Any]]):
    """``num_envs`` of :class:`envs.patient_env.PatientEnv`; actions and observations are batches of its own.

    A finished episode is followed by a new one in the same step (``AutoresetMode.SAME_STEP``): the observation is the
    new episode's first, ``infos["final_obs"]`` and ``infos["final_info"]`` hold the old one's last, with the masks
    ``_final_obs`` and ``_final_info``. Sub-environment i of ``reset(seed=s)`` equals a scalar environment's
    ``reset(seed=s + i)``. ``options``: ``patient_id`` (one, or one per environment) and Gymnasium's ``reset_mask``.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012  (gym's own declaration)

    def __init__(
        self,
        patients: Patients,
        dynamics: Dynamics,
        risk_model: RiskModel,
        settings: EnvSettings,
        num_envs: int = 1,
        form: str = "Dict",
    ) -> None:
        self.num_envs, self.form, self.patients, self.settings = num_envs, form, patients, settings
        self.simulation = Simulation(patients, dynamics, risk_model, settings, num_envs, seed=0)
        self.single_observation_space = observation_space(self.simulation.layout)
        self.single_action_space = action_space(form)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeded = self._running = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: Info | None = None
    ) -> tuple[NDArray[np.float32], Info]:
        which = self._reset_mask(options)
        self._reseed(seed, which)
        rows = patient_rows(self.patients, options, self.num_envs)
        chosen = torch.from_numpy(which)
        observation = self.simulation.reset(rows=None if rows is None else rows[chosen], which=chosen)
        self._running = True
        return observation.numpy(force=True), _masked(_arrays(self.simulation.info()), which)

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], Info]:
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        treatment, intensity = decode(self.form, actions, self.num_envs)
        step = self.simulation.step(torch.from_numpy(treatment), torch.from_numpy(intensity))
        observation, info = step.observation.numpy(force=True), _arrays(step.info)
        terminated, truncated = step.terminated.numpy(force=True), step.truncated.numpy(force=True)
        reward, done = step.reward.numpy(force=True).astype(np.float64), terminated | truncated
        if not done.any():
            return observation, reward, terminated, truncated, _masked(info, ~done)
        fresh = self.simulation.reset(which=step.terminated | step.truncated).numpy(force=True)
        infos = self._after_autoreset(info, observation, done)
        return fresh, reward, terminated, truncated, infos

    def _after_autoreset(self, info: Info, observation: NDArray[np.float32], done: NDArray[np.bool_]) -> Info:
        """Infos of a step in which some environments began a new episode, as Gymnasium's SAME_STEP defines them."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            final_obs[i] = observation[i]
        infos = {"final_obs": final_obs, "_final_obs": done, "final_info": _masked(info, done), "_final_info": done}
        infos |= _masked(info, ~done)
        # What a reset reports is there for all: the old episode's where it goes on, the new one's where it began.
        return infos | _masked(_arrays(self.simulation.info()), np.ones_like(done))

    def _reset_mask(self, options: Info | None) -> NDArray[np.bool_]:
        mask = None if options is None else options.get("reset_mask")
        if mask is None or not self._running:
            return np.ones(self.num_envs, dtype=bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise DataError(
                f"options['reset_mask'] is {mask!r}, expected a bool array of shape ({self.num_envs},) with a True"
            )
        return mask

    def _reseed(self, seed: int | list[int | None] | None, which: NDArray[np.bool_]) -> None:
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise DataError(f"reset: {len(seed)} seeds, expected {self.num_envs}, one for each environment")
        given = np.array([value is not None for value in seed]) & which
        self.simulation.reseed(torch.tensor([value or 0 for value in seed]), which=torch.from_numpy(given))
        self._seeded = True


def _arrays(info: dict[str, torch.Tensor]) -> Info:
    return {name: value.numpy(force=True) for name, value in info.items()}


def _masked(info: Info, where: NDArray[np.bool_]) -> Info:
    """Gymnasium's vector infos: every ``key`` (0 outside ``where``) with its mask ``_key``."""
    result: Info = {}
    for name, value in info.items():
        shown = where.reshape(-1, *[1] * (value.ndim - 1))
        result[name], result[f"_{name}"] = np.where(shown, value, np.zeros((), value.dtype)), where.copy()
    return result
