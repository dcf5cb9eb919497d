"""The risk model: a dense branch for the profile, a stacked LSTM for the week, concepts, three classes."""

import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.artifact import Artifact
from core.batching import whole_tiles
from core.cohort import RISK_CLASSES, Cohort
from core.encoding import ProfileEncoder, WeekScaler
from core.errors import ArtifactError, DataError
from core.random import seeded_init
from core.signals import DAYS, Signal, Signals, names
from predictor.scoring import RUN, Scorer

KIND = "dual_lstm_risk"
VIEWS = 3  # what a day shows of each signal: its value, its distance from the week's own mean, whether it was observed
PATTERNS = 7  # statistics of week_patterns
BATCH = 4096


def day_views(z: Tensor, mask: Tensor) -> Tensor:
    """Scaled week and mask ``[B, 7, C]`` -> what the LSTM reads, ``[B, 7, 3C]``; an unobserved value shows as 0."""
    z = torch.where(mask, z, torch.zeros_like(z))
    observed = mask.to(z.dtype)
    own_mean = z.sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(min=1)  # (B, 1, C)
    return torch.cat([z, (z - own_mean) * observed, observed], dim=-1)


def week_patterns(z: Tensor, mask: Tensor) -> Tensor:
    """What a week adds up to: ``[B, 7C]`` from a scaled week and mask ``[B, 7, C]``.

    Per signal: mean, sd, trend, distance of the second highest and second lowest day from the median, and the levels
    that three days running stayed below and above. An unobserved day counts as the week's own mean.
    """
    z = torch.where(mask, z, torch.zeros_like(z))
    mean = z.sum(1) / mask.sum(1).clamp(min=1)  # (B, C)
    z = torch.where(mask, z, mean.unsqueeze(1))
    spread = ((z - mean.unsqueeze(1)).square().mean(1) + 1e-6).sqrt()
    day = torch.arange(DAYS, dtype=z.dtype, device=z.device) - DAYS // 2
    trend = (z * (day / day.square().sum())[:, None]).sum(1)
    ordered = z.sort(1).values
    median = ordered[:, DAYS // 2]
    runs = range(DAYS - RUN + 1)
    stays_below = torch.stack([z[:, t : t + RUN].amax(1) for t in runs]).amin(0)
    stays_above = torch.stack([z[:, t : t + RUN].amin(1) for t in runs]).amax(0)
    second_high, second_low = ordered[:, -2] - median, ordered[:, 1] - median
    return torch.cat([mean, spread, trend, second_high, second_low, stays_below, stays_above], dim=-1)


def days_observed(mask: Tensor) -> Tensor:
    """How much of a week is known: observed days ``[B]`` of bool ``[B, 7, C]``, mean over the signals."""
    return mask.float().mean((1, 2)) * DAYS


class PatternSteps(nn.Module):
    """Concepts as sums of smooth steps along every pattern and of the profile: how clinical scores are built.

    Every pattern passes through ``steps`` tanh steps with learned place and steepness. Starts at 0, so that steps which
    are not trained say nothing.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, features: int, signals: int, steps: int, concepts: int) -> None:
        super().__init__()
        patterns = PATTERNS * signals
        self.register_buffer("centre", torch.zeros(patterns))
        self.register_buffer("scale", torch.ones(patterns))
        self.place = nn.Parameter(torch.linspace(-2, 2, steps).repeat(patterns, 1))
        self.steepness = nn.Parameter(torch.full((patterns, steps), 2.0))
        self.concepts = nn.Linear(patterns * (steps + 1) + features, concepts)
        nn.init.zeros_(self.concepts.weight)
        nn.init.zeros_(self.concepts.bias)

    def forward(self, features: Tensor, patterns: Tensor) -> Tensor:
        x = (patterns - self.centre) / self.scale  # (B, 7C)
        stairs = torch.tanh(self.steepness * (x.unsqueeze(-1) - self.place)).flatten(1)  # (B, 7C * steps)
        concepts: Tensor = self.concepts(torch.cat([stairs, x, features], dim=-1))
        return concepts


class DualLSTM(nn.Module):
    """Encoded profile ``[B, P]``, scaled week and mask ``[B, 7, C]`` -> logits ``[B, 3]``, by way of ``concepts``.

    A concept bottleneck (Koh et al. 2020, arXiv 2007.04612): both branches and the steps add up to K concepts, and the
    classes are read off these alone. Where the label is computed from something (subscale scores, rules), that is what
    the concepts are trained to be, which tells more of each person than one of three classes does.

    Args:
        concepts: K, how many.
        flags: whether concepts are yes or no (then logits) rather than scores.
        link: hidden units from concepts to classes.
    """

    def __init__(
        self,
        features: int,
        signals: int,
        width: int,
        hidden: int,
        layers: int,
        dropout: float,
        steps: int,
        link: int,
        concepts: int,
        flags: bool,
    ) -> None:
        super().__init__()
        self.shape = {
            "width": width,
            "hidden": hidden,
            "layers": layers,
            "dropout": dropout,
            "steps": steps,
            "link": link,
            "concepts": concepts,
            "flags": flags,
        }
        self.profile = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Dropout(dropout))
        between = dropout if layers > 1 else 0.0
        self.week = nn.LSTM(VIEWS * signals, hidden, layers, batch_first=True, dropout=between)
        self.head = nn.Sequential(
            nn.Linear(width + 2 * hidden, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, concepts)
        )
        self.patterns = PatternSteps(features, signals, steps, concepts)
        self.link = nn.Sequential(nn.Linear(concepts, link), nn.SiLU(), nn.Linear(link, len(RISK_CLASSES)))

    def concepts(self, features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        """``[B, K]``: standardised scores, or the logits of flags."""
        states, _ = self.week(day_views(z, mask))  # (B, 7, H)
        fused = torch.cat([self.profile(features), states[:, -1], states.mean(1)], dim=-1)  # (B, W + 2H)
        concepts: Tensor = self.head(fused) + self.patterns(features, week_patterns(z, mask))
        return concepts

    def classes(self, concepts: Tensor) -> Tensor:
        """Class logits ``[B, 3]`` of concepts ``[B, K]``."""
        logits: Tensor = self.link(torch.sigmoid(concepts) if self.shape["flags"] else concepts)
        return logits

    def forward(self, features: Tensor, z: Tensor, mask: Tensor) -> Tensor:
        return self.classes(self.concepts(features, z, mask))


class DualLSTMRisk(nn.Module):
    """The network with all it needs to judge a person: encoder, scaler, signals and calibration.

    Implements ``core.protocols.RiskModel``. Probabilities are ``softmax(logits / temperature + bias)``, with a temperature
    and a bias for every number of days observed, since a score of three days must be less sure than one of seven; both
    are fitted on validation persons (:mod:`predictor.calibration`). From P(High) = ``alarm`` on, a person is worth a
    call: the threshold is chosen on the same persons, for recall.
    """

    temperature: Tensor  # (8,), by days observed
    bias: Tensor  # (8, 3)
    alarm: Tensor

    def __init__(self, network: DualLSTM, encoder: ProfileEncoder, scaler: WeekScaler, signals: Signals) -> None:
        super().__init__()
        self.network, self.encoder, self.scaler, self.signals = network, encoder, scaler, signals
        self._packed: tuple[Any, Scorer] | None = None
        self.register_buffer("temperature", torch.ones(DAYS + 1))
        self.register_buffer("bias", torch.zeros(DAYS + 1, len(RISK_CLASSES)))
        self.register_buffer("alarm", torch.full((), 0.5))
        self._parts = list(self.modules())  # looked through at every score, which a walk over them would slow

    def raw_logits(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits ``[B, 3]`` before calibration; arguments as :meth:`probabilities`."""
        observed = torch.ones_like(week, dtype=torch.bool) if mask is None else mask
        return self.network(features, self.scaler.scale(week), observed)

    def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """Calibrated class probabilities ``[B, 3]``.

        Args:
            features: encoded profiles ``[B, P]`` (``encoder.encode``).
            week: ``[B, 7, C]``, physical units.
            mask: bool ``[B, 7, C]``, what was observed; all of it if None.
        """
        if mask is None and self.network.shape["layers"] == 1 and not (self.training or torch.is_grad_enabled()):
            return self._scores(whole_tiles(features), whole_tiles(week))[: len(features)]
        tiled = [None if each is None else whole_tiles(each) for each in (features, week, mask)]
        logits = self.raw_logits(*tiled)[: len(features)]  # type: ignore[arg-type]
        days = DAYS if mask is None else days_observed(mask).round().long()  # (B,)
        return torch.softmax(logits / self.temperature[days].unsqueeze(-1) + self.bias[days], dim=-1)

    def _scores(self, features: Tensor, week: Tensor) -> Tensor:
        """As :meth:`probabilities`, of complete weeks and without gradients."""
        held = (w for part in self._parts for w in (*part._parameters.values(), *part._buffers.values()))
        weights = [(weight.data_ptr(), weight._version) for weight in held if weight is not None]
        if self._packed is None or self._packed[0] != weights:  # trained, loaded or moved since
            self._packed = weights, Scorer(self)
        return torch.softmax(self._packed[1](features, week.permute(1, 2, 0)), dim=0).T

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
    with seeded_init(seed), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Initializing zero-element"
        )  # without profile columns there is nothing to start
        return DualLSTMRisk(DualLSTM(encoder.size, len(signals), **shape), encoder, scaler, signals)
