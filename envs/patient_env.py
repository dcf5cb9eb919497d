"""gym.Env: one patient, one step a week."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.patients import Patients
from core.protocols import Dynamics, RiskModel
from core.treatments import CONTROL
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.spaces import action_space, batch_of_one, decode, observation_space

RENDER_MODES = ["ansi", "rgb_array"]


class PatientEnv(gym.Env[Any, Any]):
    """Treat one patient for up to ``horizon`` weeks with the least that makes them well.

    **Action.** ``Dict(treatment=Discrete(5), intensity=Box(0.1, 1, (1,)))``: 0 Control, 1 Wellness app, 2 CBT,
    3 Exercise, 4 Medication, and how much of it this week. Control's intensity counts as 0. Other forms: ``envs.spaces``.

    **Observation.** A flat float32 vector in [-10, 10]; ``env.unwrapped.simulation.layout`` names every number and every
    part's slice (see ``envs.observation.ObservationLayout``).

    **Reward.** ``risk_scale * (risk before - risk after) - treatment_cost * intensity - adverse_cost * adverse event -
    spread_cost * model disagreement + remission_bonus`` on remission. The first term telescopes over an episode.

    **Episode.** Starts after a patient's baseline week. Remission (risk score below ``remission_threshold`` for
    ``remission_weeks`` weeks running) terminates it, the horizon truncates it.

    **Reset.** ``reset(seed=...)`` fixes the patient and all chance, and every episode after it; it equals sub-environment 0
    of a vector environment reset with that seed. ``options={"patient_id": 17}`` chooses the patient (any, also one
    whose risk is too low to be drawn).

    **Info.** ``patient_id``, ``week``, ``risk``, ``probabilities`` (Low, Medium, High), ``adverse``; after a step also
    the terms of the reward (costs negative), ``intensity``, ``remission``, ``level`` (the true weekly level where the
    dynamics know it, physical units) and ``spread`` (disagreement between models).

    **Render.** ``ansi``: text; ``rgb_array``: a picture of the weeks so far.

    Args:
        patients: whom episodes draw; ``dynamics`` must be built with the same.
        form: ``Dict``, ``Box``, ``Discrete`` or ``MultiDiscrete``.

    Raises:
        DataError: an action is not of the action space, or the patient is unknown.
        ResetNeeded: ``step`` without a running episode.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012  (gym's own declaration)

    def __init__(
        self,
        patients: Patients,
        dynamics: Dynamics,
        risk_model: RiskModel,
        settings: EnvSettings,
        render_mode: str | None = None,
        form: str = "Dict",
    ) -> None:
        check_render_mode(render_mode)
        self.simulation = Simulation(patients, dynamics, risk_model, settings, num_envs=1, seed=0)
        self.patients, self.settings, self.form, self.render_mode = patients, settings, form, render_mode
        self.observation_space = observation_space(self.simulation.layout)
        self.action_space = action_space(form)
        self._seeded = self._running = False
        self._history: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.simulation.reseed(torch.tensor([seed]))
            self._seeded = True
        rows = patient_rows(self.patients, options, 1)
        observation = self.simulation.reset(rows=rows)
        self._running, self._history = True, []
        self._remember(None, 0.0)
        return observation[0].numpy(force=True), self._info(self.simulation.info())

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        treatment, intensity = decode(self.form, batch_of_one(self.form, action), 1)
        step = self.simulation.step(torch.from_numpy(treatment), torch.from_numpy(intensity))
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._running = not (terminated or truncated)
        self._remember(int(treatment[0]), 0.0 if treatment[0] == CONTROL else float(intensity[0]))
        return (
            step.observation[0].numpy(force=True),
            float(step.reward[0]),
            terminated,
            truncated,
            self._info(step.info),
        )

    def render(self) -> Any:
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: make the environment with render_mode='ansi' or 'rgb_array'")
            return None
        if not self._history:
            raise ResetNeeded("nothing to render: call reset() first")
        # Imported when a picture is asked for: matplotlib is slow to load.
        from envs.rendering import render_image, render_text

        patient, signals = int(self.patients.ids[int(self.simulation.rows[0])]), self.patients.signals
        if self.render_mode == "ansi":
            return render_text(patient, self._history, signals)
        settings = self.settings
        return render_image(patient, self._history, signals, settings.horizon, settings.remission_threshold)

    def _remember(self, treatment: int | None, intensity: float) -> None:
        """Keep the week for ``render``; nothing is kept where nothing can be rendered."""
        if self.render_mode is None:
            return
        from envs.rendering import WeekRecord

        days, risk = self.simulation.days[0].numpy(force=True), float(self.simulation.risk[0])
        adverse = bool(self.simulation.info()["adverse"][0])
        self._history.append(WeekRecord(days, risk, treatment, intensity, adverse))

    @staticmethod
    def _info(info: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Plain Python numbers, and arrays where a value is a vector."""
        return {name: v[0].numpy(force=True) if v.ndim > 1 else v[0].item() for name, v in info.items()}


def check_render_mode(render_mode: str | None) -> None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ConfigError(f"render_mode '{render_mode}' is unknown; expected one of {', '.join(RENDER_MODES)}")


def patient_rows(patients: Patients, options: dict[str, Any] | None, n: int) -> torch.Tensor | None:
    """Rows of ``options["patient_id"]``, one id for all ``n`` environments or one for each; None where not given.

    Raises:
        DataError: not whole numbers, not ``n`` of them, or an unknown patient.
    """
    if options is None or options.get("patient_id") is None:
        return None
    ids = np.asarray(options["patient_id"])
    if ids.dtype.kind not in "iu" or ids.shape not in ((), (n,)):
        raise DataError(
            f"options['patient_id'] is {options['patient_id']!r}, expected a whole number or one for each of {n} environments"
        )
    return torch.tensor([patients.row_of(int(patient)) for patient in np.broadcast_to(ids, (n,))])
