"""Stable-Baselines3's VecEnv on the batched simulation."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from core.errors import ConfigError, DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel
from envs.patient_env import check_options, patient_rows
from envs.rewards import EnvSettings
from envs.simulation import Simulation, Step
from envs.spaces import action_space, decode, decode_pair, observation_space, pair_space
from envs.vector_env import PatientVectorEnv


def make_vec_env(env_id: str, n_envs: int = 1, seed: int | None = None, **env_kwargs: Any) -> "PatientVecEnv":
    """A registered id as SB3 takes it, all environments in one batch; the name is that of SB3's own function.

    ``env_kwargs``: what ``gym.make`` takes (``run``, ``device``). Environment i has the seed ``seed + i``; None draws one.

    Raises:
        ConfigError: the id's actions are a Dict; ``run`` is missing or does not exist.
    """
    made = gym.make_vec(env_id, num_envs=n_envs, **env_kwargs).unwrapped
    assert isinstance(made, PatientVectorEnv)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    world = made.simulation
    return PatientVecEnv(world.patients, world.dynamics, world.risk_model, world.settings, n_envs, seed, form=made.form)


class PatientVecEnv(VecEnv):
    """``num_envs`` patients for SB3, resetting by itself.

    ``form``: ``Box``, ``Discrete`` or ``MultiDiscrete`` as in ``envs.spaces``, for SB3's own agents (which take no Dict); or
    None for the dual-head policy's: Box ``(2,)``, column 0 the treatment's index (rounded), column 1 u in [0, 1], given as
    intensity 0.1 + 0.9 u.

    ``infos`` of a finished episode hold ``terminal_observation``, ``TimeLimit.truncated``, ``episode`` (r, l) and what
    it came to: ``remission``, ``risk``, ``dose_weeks``, ``adverse_events``, ``spread_exceeded``; others are empty.
    ``reset_infos`` hold ``patient_id``. ``last`` is the whole Step. ``set_options({"patient_id": 17})`` before ``reset``
    chooses patients, one for all or (a list of such options) one each.

    Raises:
        DataError: an action is not of the action space, an option or the patient is unknown.
        ResetNeeded: ``step`` before the first ``reset``.
        NumericalError: days, state, risk, reward or observation became NaN or infinite.
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
        form: str | None = None,
    ) -> None:
        if form == "Dict":
            raise ConfigError(
                "stable-baselines3's agents take no Dict actions; expected form Box, Discrete or MultiDiscrete"
            )
        self.simulation = Simulation(patients, dynamics, risk_model, settings, num_envs, seed)
        self.render_mode, self.form, self._running = None, form, False
        space = pair_space() if form is None else action_space(form)
        super().__init__(num_envs, observation_space(self.simulation.layout), space)
        self._actions: Any = None
        self._sums = np.zeros((num_envs, 4))  # return, weeks, dose-weeks, adverse events of the running episodes

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Environment i gets seed + i and its first episode at the next ``reset``."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.simulation.reseed(seed + torch.arange(self.num_envs))
        return [seed + i for i in range(self.num_envs)]

    def reset(self) -> VecEnvObs:
        observation = self.simulation.reset(rows=self._chosen_rows()).numpy(force=True)
        self._sums[:], self._running = 0.0, True
        self.reset_infos = [{"patient_id": patient} for patient in self.simulation.info()["patient_id"].tolist()]
        self._reset_options()
        return observation

    def _chosen_rows(self) -> torch.Tensor | None:
        """Rows of the patients that ``set_options`` named."""
        for options in self._options:
            check_options(options, {"patient_id"})
        named = [options["patient_id"] for options in self._options if "patient_id" in options]
        if named and len(named) != self.num_envs:
            raise DataError(
                f"set_options: {len(named)} of {self.num_envs} environments have a patient_id, expected all or none; name the others too"
            )
        return patient_rows(self.simulation.patients, {"patient_id": named} if named else None, self.num_envs)

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        n, form = self.num_envs, self.form
        treatment, intensity = decode_pair(self._actions, n) if form is None else decode(form, self._actions, n)
        self.last = step = self.simulation.step(torch.from_numpy(treatment), torch.from_numpy(intensity))
        observation, reward = step.observation.numpy(force=True), step.reward.numpy(force=True)
        done = step.terminated | step.truncated
        dose, adverse = step.info["intensity"].numpy(force=True), step.info["adverse"].numpy(force=True)
        self._sums += np.stack([reward, np.ones_like(reward), dose, adverse], axis=1)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if bool(done.any()):
            ended = np.flatnonzero(done.numpy(force=True))
            for i, summary in zip(ended, self._summaries(step, ended, observation), strict=True):
                infos[i] = summary
            self._sums[done.numpy(force=True)] = 0.0
            observation = self.simulation.reset(which=done).numpy(force=True)
        return observation, reward, done.numpy(force=True), infos

    def _summaries(self, step: Step, ended: NDArray[np.int64], observation: NDArray[Any]) -> list[dict[str, Any]]:
        """What the episodes at these places came to. Lists first: a number out of a tensor costs more than all else here."""
        told = {"TimeLimit.truncated": step.truncated, "remission": step.terminated}
        told |= {name: step.info[name] for name in ("patient_id", "risk", "spread_exceeded")}
        rows = zip(*(value.numpy(force=True)[ended].tolist() for value in told.values()), strict=True)
        return [
            {
                **dict(zip(told, row, strict=True)),
                "terminal_observation": observation[i],
                "episode": {"r": total, "l": int(weeks), "t": 0.0},
                "dose_weeks": dose_weeks,
                "adverse_events": int(adverse_events),
            }
            for i, row, (total, weeks, dose_weeks, adverse_events) in zip(
                ended, rows, self._sums[ended].tolist(), strict=True
            )
        ]

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
