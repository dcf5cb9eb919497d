"""Virtual trials as a network reads them: tensors, days in z, what is known for certain worked out once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.patients import Patients
from core.treatments import CONTROL
from intervention.record import Record, Retention, action_features
from intervention.trials import VirtualTrials


@dataclass(frozen=True)
class Courses:
    """Courses as tensors, days in z: ``weeks`` [N, W+1, 7, C] with the baseline week first; ``before`` [N, W],
    the treatment of the week before; the rest as in trials."""

    features: Tensor
    weeks: Tensor
    traces: Tensor
    record: Tensor
    at_low: Tensor
    at_high: Tensor
    treatment: Tensor
    before: Tensor
    intensity: Tensor
    adverse: Tensor
    true_level: Tensor
    level: Tensor
    other_intensity: Tensor
    other_level: Tensor
    other_true_level: Tensor
    other_adverse: Tensor

    def batch(self, rows: Tensor) -> "Courses":
        return Courses(**{name: tensor[rows] for name, tensor in vars(self).items()})

    def __len__(self) -> int:
        return len(self.weeks)


def read_courses(trials: VirtualTrials, patients: Patients, retention: Retention) -> Courses:
    """Scale and join trials with the persons they drew; ``retention`` as in the network's shape."""
    rows, scaler = torch.from_numpy(trials.patient), patients.scaler
    device = patients.week.device

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    observed = tensor(trials.weeks)
    low = torch.tensor([signal.low for signal in patients.signals], device=device)
    high = torch.tensor([signal.high for signal in patients.signals], device=device)
    weeks = scaler.scale(torch.cat([patients.week[rows].unsqueeze(1), observed], dim=1))
    treatment, intensity = tensor(trials.treatment), tensor(trials.intensity)
    before = torch.cat([torch.full_like(treatment[:, :1], CONTROL), treatment[:, :-1]], dim=1)
    traces, record = _records(weeks, action_features(treatment, intensity, before), retention)
    return Courses(
        features=patients.features[rows],
        weeks=weeks,
        traces=traces,
        record=record,
        at_low=observed <= low,
        at_high=observed >= high,
        treatment=treatment,
        before=before,
        intensity=intensity,
        adverse=tensor(trials.adverse),
        true_level=scaler.scale(tensor(trials.true_level)),
        level=scaler.scale(tensor(trials.level)),
        other_intensity=tensor(trials.alternative_intensity),
        other_level=scaler.scale(tensor(trials.alternative_level)),
        other_true_level=scaler.scale(tensor(trials.alternative_true_level)),
        other_adverse=tensor(trials.alternative_adverse),
    )


def _records(weeks: Tensor, action: Tensor, retention: Retention) -> tuple[Tensor, Tensor]:
    """Dose traces ``[N, W, T*ACTION]`` and all record features ``[N, W, F]`` before each of the W weeks under ``action``
    ``[N, W, ACTION]``; ``weeks`` ``[N, W+1, 7, C]``, the baseline week, lived without treatment, first."""
    level = weeks.mean(dim=2)
    record = Record.empty(level[:, 0], len(retention))
    traces, features = [record.traces], [record.features()]
    for week in range(1, action.shape[1]):
        record = record.after(level[:, week] - level[:, 0], action[:, week - 1], retention)
        traces.append(record.traces)
        features.append(record.features())
    return torch.stack(traces, dim=1), torch.stack(features, dim=1)
