"""TimeGAN conditioned on the profile: the networks, and the trained generator of weeks.

Yoon, Jarrett & van der Schaar 2019, "Time-series generative adversarial networks" (NeurIPS), with the profile in every
network, a person latent beside the daily noise, and a projection discriminator (Miyato & Koyama 2018) on the latent
and on the data.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from core.artifact import Artifact
from core.random import seeded_init
from core.settings import Count
from core.signals import DAYS, Signals
from generators.condition import Condition
from generators.week_correction import Correction, WeekShape
from generators.week_space import WeekSpace

KIND = "timegan"
_CHUNK = 16_384  # weeks per forward pass when sampling


@dataclass(frozen=True)
class TimeGANNetworks:
    """Sizes of the networks."""

    hidden: Count  # units of each recurrent layer
    latent: Count  # size of a day's latent
    discriminator_hidden: Count  # units of each discriminator layer
    person_noise: Count  # noise drawn once a week, repeated over its days
    day_noise: Count  # noise drawn every day


class DayNetwork(nn.Module):
    """A GRU over the days of a week; it knows the weekday, and the person from the start and at every output."""

    def __init__(self, inputs: int, profile: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.person = nn.Linear(profile, hidden)
        self.gru = nn.GRU(inputs + DAYS, hidden, batch_first=True)
        self.out = nn.Linear(hidden + inputs, outputs)
        self.person_out = nn.Linear(profile, outputs, bias=False)

    def forward(self, days: Tensor, profile: Tensor) -> Tensor:
        """``(B, 7, inputs)`` and ``(B, P)`` -> ``(B, 7, outputs)``; the inputs also reach the output directly."""
        weekday = torch.eye(DAYS, dtype=days.dtype, device=days.device).expand(len(days), DAYS, DAYS)
        start = torch.tanh(self.person(profile)).unsqueeze(0)  # (1, B, H)
        hidden, _ = self.gru(torch.cat([days, weekday], dim=-1), start)  # (B, 7, H)
        return self.out(torch.cat([hidden, days], dim=-1)) + self.person_out(profile).unsqueeze(1)


class Sampler(nn.Module):
    """What is left after training: generator, supervisor and recovery."""

    def __init__(self, signals: int, profile: int, sizes: TimeGANNetworks) -> None:
        super().__init__()
        self.person_noise, self.day_noise = sizes.person_noise, sizes.day_noise
        self.generator = DayNetwork(sizes.person_noise + sizes.day_noise, profile, sizes.hidden, sizes.latent)
        self.supervisor = DayNetwork(sizes.latent, profile, sizes.hidden, sizes.latent)
        self.recovery = DayNetwork(sizes.latent, profile, sizes.hidden, signals)

    def next_latent(self, latent: Tensor, profile: Tensor) -> Tensor:
        """The supervisor's view of the following day, as a step from today: ``(B, 7, H)`` -> ``(B, 7, H)``."""
        return latent + self.supervisor(latent, profile)

    def latent(self, person: Tensor, day: Tensor, profile: Tensor) -> Tensor:
        """Noise ``(B, Zp)`` and ``(B, 7, Zd)`` -> latent weeks ``(B, 7, H)``."""
        noise = torch.cat([person.unsqueeze(1).expand(-1, DAYS, -1), day], dim=-1)
        return self.next_latent(self.generator(noise, profile), profile)


class Discriminator(nn.Module):
    """Scores a whole week for being real and for belonging to its profile (projection), with minibatch sd.

    Seven days are few: the week is read flat, beside its own level and spread.
    """

    def __init__(self, inputs: int, profile: int, hidden: int) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Linear((DAYS + 2) * inputs + profile, hidden))
        self.second = spectral_norm(nn.Linear(hidden + 1, hidden))
        self.score = spectral_norm(nn.Linear(hidden, 1))
        self.person = spectral_norm(nn.Linear(profile, hidden))

    def forward(self, week: Tensor, profile: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 7, inputs)`` and ``(B, P)`` -> scores ``(B,)`` and features ``(B, hidden)``."""
        level = week.mean(1)
        spread = ((week - level.unsqueeze(1)).square().mean(1) + 1e-4).sqrt()
        flat = torch.cat([week.flatten(1), 2 * level, 2 * spread, profile], dim=1)
        hidden = nn.functional.leaky_relu(self.first(flat), 0.2)
        batch_sd = ((hidden - hidden.mean(0)).square().mean(0) + 1e-6).sqrt().mean().expand(len(week), 1)
        features = nn.functional.leaky_relu(self.second(torch.cat([hidden, batch_sd], dim=1)), 0.2)
        return self.score(features).squeeze(1) + (self.person(profile) * features).sum(1), features


@dataclass(frozen=True)
class TimeGAN:
    """A trained generator of weeks: a ``RhythmGenerator``."""

    sampler: Sampler
    sizes: TimeGANNetworks
    space: WeekSpace
    condition: Condition
    correction: Correction
    shape: WeekShape

    @property
    def signals(self) -> Signals:
        return self.space.signals

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """One week for each profile: float32 ``[N, 7, C]``, physical units, within each signal's range.

        Raises:
            DataError: a profile column is missing.
        """
        features = self.space.encoder.encode(profiles)
        scores = self.correction(raw_scores(self.sampler, self.sizes, self.condition(features), rng), features)
        return self.space.within_range(self.shape(self.space.margins.to_values(scores)))

    def to_artifact(self) -> Artifact:
        tensors = {f"sampler.{name}": value for name, value in self.sampler.state_dict().items()}
        tensors |= self.condition.tensors() | self.correction.tensors() | self.shape.tensors()
        return self.space.artifact(KIND, tensors, sizes=asdict(self.sizes))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "TimeGAN":
        """The generator that :meth:`to_artifact` described; it samples the same weeks.

        Raises:
            ArtifactError: the artifact is of another kind of model.
        """
        space = WeekSpace.from_artifact(artifact, KIND)
        sizes, condition = TimeGANNetworks(**artifact.meta["sizes"]), Condition.from_tensors(artifact.tensors)
        with seeded_init(0):  # the weights are overwritten: building must not move the global generator
            sampler = Sampler(len(space.signals), condition.size, sizes)
        prefix = "sampler."
        sampler.load_state_dict(
            {name[len(prefix) :]: value for name, value in artifact.tensors.items() if name.startswith(prefix)}
        )
        correction, shape = Correction.from_tensors(artifact.tensors), WeekShape.from_tensors(artifact.tensors)
        return cls(sampler.eval(), sizes, space, condition, correction, shape)


def raw_scores(sampler: Sampler, sizes: TimeGANNetworks, condition: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw scores ``[N, 7, C]`` float64 for conditions ``[N, K]``."""
    n, given = len(condition), torch.from_numpy(condition)
    person = torch.from_numpy(rng.standard_normal((n, sizes.person_noise), dtype=np.float32))
    day = torch.from_numpy(rng.standard_normal((n, DAYS, sizes.day_noise), dtype=np.float32))
    parts = []
    with torch.no_grad():
        for part in zip(*(tensor.split(_CHUNK) for tensor in (person, day, given)), strict=True):
            parts.append(sampler.recovery(sampler.latent(*part), part[2]))
    return torch.cat(parts).numpy().astype(np.float64)
