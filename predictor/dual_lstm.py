"""The risk model: a dense branch for the profile, a stacked LSTM for the week, a fused head, three classes."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.artifact import Artifact
from core.cohort import RISK_CLASSES, Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ArtifactError, DataError
from core.signals import Signal, Signals, names

KIND = "dual_lstm_risk"
VIEWS = 3  # what a day shows of each signal: its value, its distance from the week's own mean, whether it was observed
BATCH = 4096


def day_views(z: Tensor, mask: Tensor) -> Tensor:
    """Scaled week and mask ``[B, 7, C]`` -> what the LSTM reads, ``[B, 7, 3C]``; an unobserved value shows as 0."""
    z = torch.where(mask, z, torch.zeros_like(z))
    observed = mask.to(z.dtype)
    own_mean = z.sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(min=1)  # (B, 1, C)
    return torch.cat([z, (z - own_mean) * observed, observed], dim=-1)


class DualLSTM(nn.Module):
    """Encoded profile ``[B, P]`` and day views ``[B, 7, 3C]`` -> logits ``[B, 3]``."""

    def __init__(self, features: int, signals: int, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.shape = {"width": width, "hidden": hidden, "layers": layers, "dropout": dropout}
        self.profile = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Dropout(dropout))
        between = dropout if layers > 1 else 0.0
        self.week = nn.LSTM(VIEWS * signals, hidden, layers, batch_first=True, dropout=between)
        self.head = nn.Sequential(
            nn.Linear(width + 2 * hidden, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, len(RISK_CLASSES))
        )

    def forward(self, features: Tensor, days: Tensor) -> Tensor:
        states, _ = self.week(days)  # (B, 7, H)
        fused = torch.cat([self.profile(features), states[:, -1], states.mean(1)], dim=-1)  # (B, W + 2H)
        logits: Tensor = self.head(fused)
        return logits


class DualLSTMRisk(nn.Module):
    """The network with all it needs to judge a person: encoder, scaler, signals and calibration.

    Implements ``core.protocols.RiskModel``. Probabilities are ``softmax(logits / temperature + bias)``; both are
    fitted on validation persons (:mod:`predictor.calibration`).
    """

    temperature: Tensor
    bias: Tensor

    def __init__(self, network: DualLSTM, encoder: ProfileEncoder, scaler: WeekScaler, signals: Signals) -> None:
        super().__init__()
        self.network, self.encoder, self.scaler, self.signals = network, encoder, scaler, signals
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("bias", torch.zeros(len(RISK_CLASSES)))

    def raw_logits(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits ``[B, 3]`` before calibration; arguments as :meth:`probabilities`."""
        observed = torch.ones_like(week, dtype=torch.bool) if mask is None else mask
        return self.network(features, day_views(self.scaler.scale(week), observed))

    def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """Calibrated class probabilities ``[B, 3]``.

        Args:
            features: encoded profiles ``[B, P]`` (``encoder.encode``).
            week: ``[B, 7, C]``, physical units.
            mask: bool ``[B, 7, C]``, what was observed; all of it if None.
        """
        return torch.softmax(self.raw_logits(features, week, mask) / self.temperature + self.bias, dim=-1)

    def inputs(self, cohort: Cohort) -> tuple[Tensor, Tensor, Tensor]:
        """A cohort as ``(features, week, mask)`` on the model's device.

        Raises:
            DataError: the cohort's signals are not those the model was trained on.
        """
        if names(cohort.signals) != names(self.signals):
            raise DataError(
                f"risk: the cohort has signals {', '.join(names(cohort.signals))}, the model was trained on "
                f"{', '.join(names(self.signals))}; train the risk stage on this cohort's signals"
            )
        features = torch.from_numpy(self.encoder.encode(cohort.profiles))
        week, mask = torch.from_numpy(cohort.rhythms.astype(np.float32)), torch.from_numpy(cohort.mask)
        device = self.temperature.device
        return features.to(device), week.to(device), mask.to(device)

    @torch.inference_mode()
    def predict_cohort(self, cohort: Cohort) -> np.ndarray:
        """Calibrated class probabilities of every row, float32 ``[N, 3]``."""
        parts = zip(*(tensor.split(BATCH) for tensor in self.inputs(cohort)), strict=True)
        return np.concatenate([self.probabilities(*part).cpu().numpy() for part in parts])

    def to_artifact(self) -> Artifact:
        meta: dict[str, Any] = {
            "kind": KIND,
            "network": self.network.shape,
            "encoder": self.encoder.to_meta(),
            "scaler": self.scaler.to_meta(),
            "signals": [asdict(signal) for signal in self.signals],
        }
        return Artifact({name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}, meta)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "DualLSTMRisk":
        """Exactly the model that was stored.

        Raises:
            ArtifactError: the artifact holds another kind of model.
        """
        meta = artifact.meta
        if meta.get("kind") != KIND:
            raise ArtifactError(
                f"risk: the artifact holds '{meta.get('kind')}', expected '{KIND}'; run stage=risk again"
            )
        encoder = ProfileEncoder.from_meta(meta["encoder"])
        signals = tuple(Signal(**signal) for signal in meta["signals"])
        model = build(encoder, WeekScaler.from_meta(meta["scaler"]), signals, seed=0, **meta["network"])
        model.load_state_dict(artifact.tensors)
        return model.eval()


def build(encoder: ProfileEncoder, scaler: WeekScaler, signals: Signals, seed: int, **shape: Any) -> DualLSTMRisk:
    """An untrained model whose first weights depend on ``seed`` alone; ``shape`` as :class:`DualLSTM` takes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DualLSTMRisk(DualLSTM(encoder.size, len(signals), **shape), encoder, scaler, signals)
