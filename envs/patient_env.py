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
from envs.history import History
from envs.rewards import EnvSettings
from envs.simulation import Simulation
from envs.spaces import action_space, decode, observation_space

SEED_LIMIT = 1 << 63  # a stream's seed is an int64; Gymnasium's may be any whole number
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
    ``remission_weeks`` weeks running) terminates it, the horizon truncates it. With a ``spread_limit``, so does a week in
    which the models disagree by more (``spread``; the Twin's only, Trial has one truth): what follows is beyond
    what they know, so value the state by bootstrapping, as at any truncation.

    **Safety.** With ``max_intensity_change``, an intensity further than that from last week's (0 at the start and after
    Control) is limited to it, never below 0.1; with ``adverse_budget``, only Control is given after so many adverse events.

    **Reset.** ``reset(seed=...)`` fixes the patient and all chance, and every episode after it; it equals sub-environment 0
    of a vector environment reset with that seed. ``options={"patient_id": 17}`` chooses the patient (any, also one
    whose risk is too low to be drawn).

    **Info.** ``patient_id``, ``week``, ``risk``, ``probabilities`` (Low, Medium, High), ``adverse``; after a step also
    the terms of the reward (costs negative), ``treatment`` and ``intensity`` (as given; 0 for Control), ``remission``, ``level`` (the
    true weekly level where the dynamics know it, physical units), ``spread`` (sd between the models' expected levels, in
    between-person sd) and ``spread_exceeded`` (it was beyond ``spread_limit``).

    **Render.** ``ansi``: a line of text a week; ``rgb_array``: a picture of the weeks so far, of constant size.

    Args:
        patients: whom episodes draw; ``dynamics`` must be built with the same.
        form: ``Dict``, ``Box``, ``Discrete`` or ``MultiDiscrete``.

    Raises:
        DataError: an action is not of the action space, an option or the patient is unknown.
        NumericalError: days, state, risk, reward or observation became NaN or infinite.
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
        self._history = None if render_mode is None else History(self.simulation)

    # Nothing of torch leaves step and reset, so they can do without its book-keeping altogether.
    @torch.inference_mode()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))
        if seed is not None:
            self.simulation.reseed(torch.tensor([seed % SEED_LIMIT]))
            self._seeded = True
        check_options(options, {"patient_id"})
        rows = patient_rows(self.patients, options, 1)
        observation = self.simulation.reset(rows=rows)
        self._running = True
        if self._history is not None:
            self._history.begin(np.ones(1, dtype=bool))
        return observation[0].numpy(force=True), self._info(self.simulation.info())

    @torch.inference_mode()
    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if not self._running:
            raise ResetNeeded("no episode is running: call reset() before step()")
        treatment, intensity = decode(self.form, action)
        step = self.simulation.step(torch.from_numpy(treatment), torch.from_numpy(intensity))
        terminated, truncated = bool(step.terminated), bool(step.truncated)
        self._running = not (terminated or truncated)
        if self._history is not None:
            self._history.add(*(step.info[name].numpy(force=True) for name in ("treatment", "intensity")))
        return (
            step.observation[0].numpy(force=True),
            float(step.reward),
            terminated,
            truncated,
            self._info(step.info),
        )

    def render(self) -> Any:
        if self.render_mode is None or self._history is None:
            gym.logger.warn("render() needs a render_mode: make the environment with render_mode='ansi' or 'rgb_array'")
            return None
        if not self._history.weeks[0]:
            raise ResetNeeded("nothing to render: call reset() first")
        # Imported when a picture is asked for: matplotlib is slow to load.
        from envs.rendering import render

        return render(self.render_mode, self._history, 0, self.settings)

    @staticmethod
    def _info(info: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Plain Python numbers, and arrays where a value is a vector."""
        return {name: v[0].numpy(force=True).copy() if v.ndim > 1 else v.item() for name, v in info.items()}


def check_render_mode(render_mode: str | None) -> None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ConfigError(f"render_mode '{render_mode}' is unknown; expected one of {', '.join(RENDER_MODES)}")


def check_options(options: dict[str, Any] | None, known: set[str]) -> None:
    """Refuse options that nothing reads.

    Raises:
        DataError: there is one.
    """
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise DataError(
            f"reset: options has '{unknown[0]}', expected {' or '.join(map(repr, sorted(known)))}; rename or remove it"
        )


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
