"""Patients: the persons an environment can draw, ready for batched simulation."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from core.cohort import Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import DataError
from core.signals import Signals


@dataclass(frozen=True)
class Patients:
    """N patients.

    Attributes:
        ids: int64 ``[N]``, unique; what ``patient_id`` means in an environment.
        profiles: the raw profile columns, N rows.
        features: float32 ``[N, P]``, the profiles as ``encoder`` encodes them.
        week: float32 ``[N, 7, C]``, the baseline week in physical units.
        signals, encoder, scaler: how to read them.
    """

    ids: np.ndarray
    profiles: pd.DataFrame
    features: Tensor
    week: Tensor
    signals: Signals
    encoder: ProfileEncoder
    scaler: WeekScaler

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: np.ndarray) -> "Patients":
        index = torch.as_tensor(rows)
        return Patients(
            self.ids[rows],
            self.profiles.iloc[rows].reset_index(drop=True),
            self.features[index],
            self.week[index],
            self.signals,
            self.encoder,
            self.scaler,
        )

    def to(self, device: str | torch.device) -> "Patients":
        """The same with its tensors on a device; what is built with it follows ``week.device``."""
        return replace(self, features=self.features.to(device), week=self.week.to(device))

    def row_of(self, patient_id: int) -> int:
        """The row of a patient id.

        Raises:
            DataError: no such patient.
        """
        rows = np.flatnonzero(self.ids == patient_id)
        if not len(rows):
            raise DataError(
                f"patient_id {patient_id} is unknown; expected one of {len(self)} ids from {self.ids.min()} to {self.ids.max()}"
            )
        return int(rows[0])


def from_cohort(cohort: Cohort, encoder: ProfileEncoder, scaler: WeekScaler) -> Patients:
    """Every row of a cohort as a patient; its id is its row number."""
    return Patients(
        np.arange(len(cohort), dtype=np.int64),
        cohort.profiles,
        torch.from_numpy(encoder.encode(cohort.profiles)),
        torch.from_numpy(cohort.rhythms.astype(np.float32)),
        cohort.signals,
        encoder,
        scaler,
    )
