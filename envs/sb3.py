"""Stable-Baselines3's VecEnv on the batched simulation."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from core.errors import DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel
from core.treatments import MAX_INTENSITY, MIN_INTENSITY, TREATMENTS
from envs.rewards import EnvSettings
from envs.simulation import Simulation, Step
from envs.spaces import observation_space


class PatientVecEnv(VecEnv):
    """``num_envs`` patients for SB3, resetting by itself.

    Action: Box ``(2,)``, column 0 the treatment's index (rounded), column 1 u in [0, 1], given as intensity 0.1 + 0.9 u.
    ``infos`` of a finished episode hold ``terminal_observation``, ``TimeLimit.truncated``, ``episode`` (r, l) and what
    it came to: ``remission``, ``risk``, ``dose_weeks``, ``adverse_events``; others are empty. ``last`` is the whole Step.
    """

    last: Step

    def __init__(
        self,
        patients: Patients,
        dynamics: Dynamics,
        risk_model: RiskModel,
        settings: EnvSettings,
        num_envs: int,
        seed: int,
    ) -> None:
        self.simulation = Simulation(patients, dynamics, risk_model, settings, num_envs, seed)
        self.render_mode = None
        high = np.array([len(TREATMENTS) - 1, 1], np.float32)
        space = gym.spaces.Box(np.zeros(2, np.float32), high, dtype=np.float32)
        super().__init__(num_envs, observation_space(self.simulation.layout), space)
        self._actions: NDArray[Any] = np.zeros((num_envs, 2), np.float32)
        self._sums = np.zeros((num_envs, 4))  # return, weeks, dose-weeks, adverse events of the running episodes

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Environment i gets seed + i and its first episode at the next ``reset``."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.simulation.reseed(seed + torch.arange(self.num_envs))
        return [seed + i for i in range(self.num_envs)]

    def reset(self) -> VecEnvObs:
        self._sums[:] = 0.0
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self.simulation.reset().numpy(force=True)

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        if self._actions.shape != (self.num_envs, 2) or not np.isfinite(self._actions).all():
            raise DataError(
                f"actions have shape {self._actions.shape} or are not finite, expected finite {(self.num_envs, 2)}"
            )
        actions = torch.as_tensor(self._actions, dtype=torch.float32)
        treatment = actions[:, 0].round().long()
        step = self.simulation.step(treatment, MIN_INTENSITY + (MAX_INTENSITY - MIN_INTENSITY) * actions[:, 1])
        self.last = step
        observation, reward = step.observation.numpy(force=True), step.reward.numpy(force=True)
        done = step.terminated | step.truncated
        dose, adverse = step.info["intensity"].numpy(force=True), step.info["adverse"].numpy(force=True)
        self._sums += np.stack([reward, np.ones_like(reward), dose, adverse], axis=1)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if bool(done.any()):
            for i in np.flatnonzero(done.numpy(force=True)):
                infos[i] = self._summary(step, int(i), observation[i])
            self._sums[done.numpy(force=True)] = 0.0
            observation = self.simulation.reset(which=done).numpy(force=True)
        return observation, reward, done.numpy(force=True), infos

    def _summary(self, step: Step, i: int, observation: NDArray[Any]) -> dict[str, Any]:
        total, weeks, dose_weeks, adverse_events = self._sums[i].tolist()
        return {
            "terminal_observation": observation,
            "TimeLimit.truncated": bool(step.truncated[i]),
            "episode": {"r": total, "l": int(weeks), "t": 0.0},
            "patient_id": int(step.info["patient_id"][i]),
            "remission": bool(step.terminated[i]),
            "risk": float(step.info["risk"][i]),
            "dose_weeks": dose_weeks,
            "adverse_events": int(adverse_events),
        }

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise DataError(f"attribute '{attr_name}' cannot be set: the environments share one simulation; build another")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        raise DataError(f"method '{method_name}' cannot be called on one environment: they share one simulation")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))
