"""Training of the TimeGAN in its three phases: Embedding, Supervisor, Joint."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.cohort import Cohort
from core.encoding import ProfileEncoder
from core.errors import NumericalError
from core.protocols import Tracker
from core.random import numpy_generator, seeded_init, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from core.signals import DAYS
from generators.moments import Moments, moment_gap, week_moments
from generators.rank_gauss import RankGauss
from generators.timegan import DayNetwork, Discriminator, Sampler, TimeGAN, TimeGANNetworks

LOG_EVERY = 25


@dataclass(frozen=True)
class TimeGANSettings:
    """How to train; see ``conf/rhythms.yaml``."""

    networks: TimeGANNetworks
    batch: Count  # weeks a step sees; the whole cohort where it is smaller
    embedding_steps: Count  # phase 1: the embedder and recovery learn to restore weeks
    supervisor_steps: Count  # phase 2: the supervisor learns the next day's latent
    joint_steps: Count  # phase 3: generator against discriminators
    restoration_interval: Count  # joint steps between two steps of embedder and recovery
    embedding_rate: Positive  # learning rate of phases 1 and 2
    generator_rate: Positive  # learning rate of the generator in phase 3
    discriminator_rate: Positive  # learning rate of both discriminators
    adversarial_weight: NonNegative  # of the hinge loss
    feature_weight: NonNegative  # of feature matching
    moment_weight: NonNegative  # of the moments in data space
    supervised_weight: NonNegative  # of the next day's latent
    average: Fraction  # decay of the generator's running average


@dataclass(frozen=True)
class Weeks:
    """Training weeks as scores ``(N, 7, C)``, what was observed of them (0 or 1), and profiles ``(N, P)``."""

    scores: Tensor
    mask: Tensor
    profile: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Tensor) -> "Weeks":
        return Weeks(self.scores[rows], self.mask[rows], self.profile[rows])


def fit_timegan(cohort: Cohort, settings: TimeGANSettings, seed: int, tracker: Tracker) -> TimeGAN:
    """Train on a cohort; days that were not observed weigh nothing.

    Raises:
        NumericalError: a loss became non-finite; names the phase and step.
    """
    encoder = ProfileEncoder.fit(cohort.profiles)
    margins = RankGauss.fit(cohort.rhythms, cohort.mask)
    scores = margins.to_scores(cohort.rhythms, numpy_generator(seed, "timegan", "ranks"))
    weeks = Weeks(
        torch.from_numpy(scores).float(),
        torch.from_numpy(cohort.mask).float(),
        torch.from_numpy(encoder.encode(cohort.profiles)),
    )
    training = _Training(weeks, len(cohort.signals), encoder.size, settings, seed, tracker)
    training.embedding()
    training.supervisor()
    sampler = training.joint()
    return TimeGAN(sampler.eval(), settings.networks, margins, encoder, cohort.signals)


class _Training:
    """The networks and data that the three phases share."""

    def __init__(
        self, weeks: Weeks, signals: int, profile: int, settings: TimeGANSettings, seed: int, tracker: Tracker
    ) -> None:
        self.weeks, self.settings, self.tracker = weeks, settings, tracker
        self.random = torch_generator(seed, "timegan", "training")
        sizes = settings.networks
        with seeded_init(seed):
            self.sampler = Sampler(signals, profile, sizes)
            self.embedder = DayNetwork(signals, profile, sizes.hidden, sizes.latent)
            self.latent_critic = Discriminator(sizes.latent, profile, sizes.discriminator_hidden)
            self.data_critic = Discriminator(2 * signals, profile, sizes.discriminator_hidden)

    def batches(self, phase: str, steps: int) -> Iterator[tuple[int, Weeks]]:
        """``steps`` batches, each person once before any comes again, with a progress bar."""
        size = min(self.settings.batch, len(self.weeks))
        order = torch.empty(0, dtype=torch.long)
        for step in self.tracker.track(range(steps), f"TimeGAN {phase}", steps):
            if len(order) < size:
                order = torch.randperm(len(self.weeks), generator=self.random)
            rows, order = order[:size], order[size:]
            yield step, self.weeks.select(rows)

    def noise(self, batch: int) -> tuple[Tensor, Tensor]:
        sizes = self.settings.networks
        return (
            torch.randn(batch, sizes.person_noise, generator=self.random),
            torch.randn(batch, DAYS, sizes.day_noise, generator=self.random),
        )

    def report(self, phase: str, step: int, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                raise NumericalError(
                    f"TimeGAN {phase} phase, step {step}: {name} is {loss.item()}; lower rhythms learning rates or check the signals"
                )
            if step % LOG_EVERY == 0:
                self.tracker.scalar(f"timegan/{phase}/{name}", loss.item(), step)

    def reconstruction_loss(self, batch: Weeks) -> tuple[Tensor, Tensor]:
        """Masked squared error of restored weeks, and the latents ``(B, 7, H)``."""
        latent = self.embedder(batch.scores, batch.profile)
        error = (self.sampler.recovery(latent, batch.profile) - batch.scores).square() * batch.mask
        return error.sum() / batch.mask.sum().clamp(min=1), latent

    def supervised_loss(self, latent: Tensor, profile: Tensor) -> Tensor:
        return (self.sampler.next_latent(latent, profile)[:, :-1] - latent[:, 1:]).square().mean()

    def embedding(self) -> None:
        """Phase 1: week -> latent -> week; the latent's size is held to that of a normal score."""
        parameters = [*self.embedder.parameters(), *self.sampler.recovery.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.settings.embedding_rate)
        for step, batch in self.batches("embedding", self.settings.embedding_steps):
            loss, latent = self.reconstruction_loss(batch)
            size = (latent.square().mean() - 1).square()
            _descend(optimizer, loss + 0.1 * size)
            self.report("embedding", step, {"reconstruction_loss": loss, "latent_size_loss": size})

    def supervisor(self) -> None:
        """Phase 2: the supervisor learns the next day's latent of real weeks."""
        optimizer = torch.optim.Adam(self.sampler.supervisor.parameters(), lr=self.settings.embedding_rate)
        for step, batch in self.batches("supervisor", self.settings.supervisor_steps):
            with torch.no_grad():
                latent = self.embedder(batch.scores, batch.profile)
            loss = self.supervised_loss(latent, batch.profile)
            _descend(optimizer, loss)
            self.report("supervisor", step, {"supervised_loss": loss})

    def joint(self) -> Sampler:
        """Phase 3: discriminators, then generator and supervisor, then embedder and recovery, at every step."""
        s, sampler = self.settings, self.sampler
        wanted = week_moments(self.weeks.scores, self.weeks.mask, self.weeks.profile)
        critics = [*self.latent_critic.parameters(), *self.data_critic.parameters()]
        makers = [*sampler.generator.parameters(), *sampler.supervisor.parameters()]
        restorers = [*self.embedder.parameters(), *sampler.recovery.parameters()]
        critic_step = torch.optim.Adam(critics, lr=s.discriminator_rate, betas=(0.5, 0.99))
        maker_step = torch.optim.Adam(makers, lr=s.generator_rate, betas=(0.5, 0.99))
        restorer_step = torch.optim.Adam(restorers, lr=s.embedding_rate)
        optimizers = (critic_step, maker_step, restorer_step)
        decay = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.02, s.joint_steps) for o in optimizers]
        averaged = copy.deepcopy(sampler)
        for step, batch in self.batches("joint", s.joint_steps):
            losses = {}
            if step % s.restoration_interval == 0:
                losses["reconstruction_loss"], _ = self.reconstruction_loss(batch)
                _descend(restorer_step, losses["reconstruction_loss"])
            with torch.no_grad():
                real = self.embedder(batch.scores, batch.profile)
            latent = sampler.latent(*self.noise(len(batch)), batch.profile)
            fake = sampler.recovery(latent, batch.profile)
            losses["discriminator_loss"] = self.critic_loss(batch, real, latent.detach(), fake.detach())
            _descend(critic_step, losses["discriminator_loss"])
            making = self.generator_losses(batch, real, latent, fake, wanted)
            _descend(maker_step, torch.stack(list(making.values())).sum())
            for schedule in decay:
                schedule.step()
            _average(averaged, sampler, min(s.average, step / (step + 10)))
            self.report("joint", step, losses | making)
        return averaged

    def critic_loss(self, batch: Weeks, real: Tensor, latent: Tensor, fake: Tensor) -> Tensor:
        """Hinge loss of both discriminators, on real weeks and on generated ones of the same people."""
        return _hinge(self.latent_critic, real, latent, batch.profile) + _hinge(
            self.data_critic, _visible(batch.scores, batch.mask), _visible(fake, batch.mask), batch.profile
        )

    def generator_losses(
        self, batch: Weeks, real: Tensor, latent: Tensor, fake: Tensor, wanted: Moments
    ) -> dict[str, Tensor]:
        """The weighted terms of the generator's loss; only generator and supervisor learn from them."""
        s = self.settings
        with torch.no_grad():
            _, real_latent_features = self.latent_critic(real, batch.profile)
            _, real_features = self.data_critic(_visible(batch.scores, batch.mask), batch.profile)
        latent_score, latent_features = self.latent_critic(latent, batch.profile)
        score, features = self.data_critic(_visible(fake, batch.mask), batch.profile)
        matching = _feature_gap(features, real_features) + _feature_gap(latent_features, real_latent_features)
        gap = moment_gap(week_moments(fake, batch.mask, batch.profile), wanted)
        return {
            "generator_loss": -s.adversarial_weight * (score.mean() + latent_score.mean()),
            "feature_loss": s.feature_weight * matching,
            "moment_loss": s.moment_weight * gap,
            "supervised_loss": s.supervised_weight * self.supervised_loss(real, batch.profile),
        }


def _visible(week: Tensor, mask: Tensor) -> Tensor:
    """What a discriminator may see of a week: observed values, and which they are; ``(B, 7, 2C)``."""
    return torch.cat([week * mask, mask], dim=-1)


def _hinge(critic: Discriminator, real: Tensor, fake: Tensor, profile: Tensor) -> Tensor:
    return torch.relu(1 - critic(real, profile)[0]).mean() + torch.relu(1 + critic(fake, profile)[0]).mean()


def _feature_gap(fake: Tensor, real: Tensor) -> Tensor:
    return (fake.mean(0) - real.mean(0)).abs().mean()


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimizer's own parameters; what else the loss touches is left alone."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def _average(averaged: nn.Module, live: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for mean, value in zip(averaged.parameters(), live.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
