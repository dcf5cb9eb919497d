"""The TimeGAN of the paper as it is commonly implemented: what the project's own is compared with.

Yoon, Jarrett & van der Schaar 2019, "Time-series Generative Adversarial Networks" (NeurIPS): weeks scaled to [0, 1] by
their minima and maxima, sigmoid latents and outputs, GRUs throughout, uniform noise for each day, cross-entropy
adversarial losses on the generator's and the supervisor's latents, moments of each day and signal. It knows no profile:
its weeks are joined to people by row number.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from core.protocols import Tracker
from core.random import seeded_init, torch_generator
from core.signals import DAYS


@dataclass(frozen=True)
class PlainSettings:
    """The paper's losses, learning rate and widths; steps and depth so that it trains in about 100 s on one thread.

    Of budgets of that length, one layer and more steps came nearer to real weeks than two layers and fewer.
    """

    hidden: int = 24
    layers: int = 1  # the paper: 3
    batch: int = 128
    rate: float = 1e-3
    embedding_steps: int = 1000
    supervisor_steps: int = 500
    joint_steps: int = 1500  # each: two of generator and embedder, at most one of the discriminator
    discriminator_above: float = 0.15  # the discriminator rests while its loss is lower


class Recurrent(nn.Module):
    """A GRU over the days and a linear output: ``(B, 7, inputs)`` -> ``(B, 7, outputs)``."""

    def __init__(self, inputs: int, outputs: int, settings: PlainSettings, layers: int, sigmoid: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, settings.hidden, layers, batch_first=True)
        self.out = nn.Linear(settings.hidden, outputs)
        self.sigmoid = sigmoid

    def forward(self, days: Tensor) -> Tensor:
        out = self.out(self.gru(days)[0])
        return torch.sigmoid(out) if self.sigmoid else out


class Networks(nn.Module):
    """The five networks of the paper."""

    def __init__(self, signals: int, s: PlainSettings) -> None:
        super().__init__()
        self.embedder = Recurrent(signals, s.hidden, s, s.layers)
        self.recovery = Recurrent(s.hidden, signals, s, s.layers)
        self.generator = Recurrent(signals, s.hidden, s, s.layers)
        self.supervisor = Recurrent(s.hidden, s.hidden, s, max(s.layers - 1, 1))
        self.discriminator = Recurrent(s.hidden, 1, s, s.layers, sigmoid=False)


@dataclass(frozen=True)
class PlainTimeGAN:
    """A trained generator of weeks (a ``core.protocols.RhythmGenerator``) that looks at no profile."""

    networks: Networks
    low: np.ndarray  # (C,)
    high: np.ndarray  # (C,)

    @torch.no_grad()
    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """As many weeks as there are profiles: float32 ``[N, 7, C]``, physical units, within the training range."""
        noise = torch.from_numpy(rng.random((len(profiles), DAYS, len(self.low)), dtype=np.float32))
        n = self.networks
        weeks = n.recovery(n.supervisor(n.generator(noise))).numpy()
        return (self.low + weeks * (self.high - self.low)).astype(np.float32)


def fit_plain_timegan(weeks: np.ndarray, settings: PlainSettings, seed: int, tracker: Tracker) -> PlainTimeGAN:
    """Train on weeks ``[N, 7, C]`` in the three phases."""
    low, high = weeks.min(axis=(0, 1)), weeks.max(axis=(0, 1))
    scaled = torch.from_numpy((weeks - low) / (high - low)).float()
    random = torch_generator(seed, "plain timegan")
    with seeded_init(seed):
        n = Networks(weeks.shape[2], settings)

    def batch() -> Tensor:
        return scaled[torch.randint(len(scaled), (settings.batch,), generator=random)]

    def noise() -> Tensor:
        return torch.rand((settings.batch, *scaled.shape[1:]), generator=random)

    def optimizer(*parts: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(chain.from_iterable(part.parameters() for part in parts), settings.rate)

    embedding, supervision = optimizer(n.embedder, n.recovery), optimizer(n.supervisor)
    for _ in tracker.track(range(settings.embedding_steps), "plain TimeGAN: embedding"):
        x = batch()
        descend(embedding, 10 * mse_loss(n.recovery(n.embedder(x)), x).sqrt())
    for _ in tracker.track(range(settings.supervisor_steps), "plain TimeGAN: supervisor"):
        descend(supervision, next_day(n, n.embedder(batch()).detach()))

    embedding, generating = optimizer(n.embedder, n.recovery), optimizer(n.generator, n.supervisor)
    discriminating = optimizer(n.discriminator)
    for _ in tracker.track(range(settings.joint_steps), "plain TimeGAN: joint"):
        for _ in range(2):
            x, z = batch(), noise()
            descend(generating, generator_loss(n, x, z))
            latent = n.embedder(x)
            restored = 10 * mse_loss(n.recovery(latent), x).sqrt()
            descend(embedding, restored + 0.1 * next_day(n, latent))
        loss = discriminator_loss(n, batch(), noise())
        if loss.item() > settings.discriminator_above:
            descend(discriminating, loss)
    return PlainTimeGAN(n.eval(), low, high)


def next_day(n: Networks, latent: Tensor) -> Tensor:
    """How far the supervisor is from the next day's latent."""
    return mse_loss(n.supervisor(latent)[:, :-1], latent[:, 1:])


def generator_loss(n: Networks, x: Tensor, z: Tensor) -> Tensor:
    """Both adversarial losses, the next day's, and the mean and sd of each day and signal, weighed as in the paper."""
    with torch.no_grad():
        latent = n.embedder(x)
    drawn = n.generator(z)
    supervised = n.supervisor(drawn)
    fooled = judged(n, supervised, True) + judged(n, drawn, True)
    weeks = n.recovery(supervised)
    spread = ((weeks.var(0) + 1e-6).sqrt() - (x.var(0) + 1e-6).sqrt()).abs().mean()
    moments = spread + (weeks.mean(0) - x.mean(0)).abs().mean()
    return fooled + 100 * next_day(n, latent).sqrt() + 100 * moments


def discriminator_loss(n: Networks, x: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        real, drawn = n.embedder(x), n.generator(z)
        supervised = n.supervisor(drawn)
    return judged(n, real, True) + judged(n, supervised, False) + judged(n, drawn, False)


def judged(n: Networks, latent: Tensor, real: bool) -> Tensor:
    """Cross-entropy of the discriminator's verdict on every day with ``real``."""
    verdict = n.discriminator(latent)
    return binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, float(real)))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
