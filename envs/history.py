"""The weeks of running episodes, kept for those who want to see them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.treatments import CONTROL
from envs.simulation import Simulation


@dataclass(frozen=True)
class WeekRecord:
    """What one week looked like; the baseline week has no treatment."""

    days: NDArray[np.float32]  # (7, C)
    risk: float
    treatment: int | None
    intensity: float
    adverse: bool


class History:
    """``weeks[i]``: the weeks so far of environment i's running episode, its baseline first."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.weeks: list[list[WeekRecord]] = [[] for _ in range(simulation.num_envs)]

    def begin(self, which: NDArray[np.bool_]) -> None:
        """New episodes began in the environments that are True in ``which`` (bool ``[B]``)."""
        for place in np.flatnonzero(which):
            self.weeks[place] = [self._now(int(place), None, 0.0)]

    def add(self, treatment: NDArray[np.int64], intensity: NDArray[np.float32]) -> None:
        """One more week in every environment, under these treatments and intensities ``[B]``."""
        for place, (chosen, dose) in enumerate(zip(treatment.tolist(), intensity.tolist(), strict=True)):
            self.weeks[place].append(self._now(place, chosen, 0.0 if chosen == CONTROL else dose))

    def patient(self, place: int) -> int:
        return int(self.simulation.patients.ids[int(self.simulation.rows[place])])

    def _now(self, place: int, treatment: int | None, intensity: float) -> WeekRecord:
        days = self.simulation.days[place].numpy(force=True).copy()
        adverse = bool(self.simulation.info()["adverse"][place])
        return WeekRecord(days, float(self.simulation.risk[place]), treatment, intensity, adverse)
