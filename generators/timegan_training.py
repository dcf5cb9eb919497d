"""Training of the TimeGAN in its three phases: Embedding, Supervisor, Joint."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.cohort import Cohort
from core.errors import NumericalError
from core.protocols import Tracker
from core.random import numpy_generator, seeded_init, torch_generator
from core.settings import Count, Fraction, NonNegative, Positive
from core.signals import DAYS
from generators.condition import Condition, fit_condition
from generators.moments import Moments, moment_gap, week_moments
from generators.timegan import DayNetwork, Discriminator, Sampler, TimeGAN, TimeGANNetworks, raw_scores
from generators.week_correction import Correction, ScoredWeeks, WeekShape, fit_correction, fit_shape
from generators.week_space import WeekSpace

LOG_EVERY = 25
POOL = 20_000  # generated weeks that the final correction is fitted to, at least


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
    correction_prior: NonNegative  # persons' worth of trust that the final correction leaves to the networks


@dataclass(frozen=True)
class Weeks:
    """Training weeks as scores ``(N, 7, C)``, 0 where not observed, what was (0 or 1), and conditions ``(N, K)``."""

    scores: Tensor
    mask: Tensor
    profile: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Tensor) -> "Weeks":
        return Weeks(self.scores[rows], self.mask[rows], self.profile[rows])

    @property
    def whole(self) -> Tensor:
        """Which days were observed in every signal: ``(N, 7, 1)``."""
        return self.mask.amin(-1, keepdim=True)


def fit_timegan(cohort: Cohort, settings: TimeGANSettings, seed: int, tracker: Tracker) -> TimeGAN:
    """Train on a cohort; what fills days that were not observed is never looked at.

    A loss that becomes non-finite in the second half of the joint phase ends it: the generator's average so far is kept,
    and a note says so.

    Raises:
        DataError: a signal was never observed.
        NumericalError: a loss became non-finite earlier; names the phase and step.
    """
    space = WeekSpace.fit(cohort)
    features = space.encoder.encode(cohort.profiles)
    scores = space.scores(cohort, numpy_generator(seed, "timegan", "ranks"))
    condition, given = fit_condition(scores, cohort.mask, features, cohort.person)
    weeks = Weeks(torch.from_numpy(scores).float(), torch.from_numpy(cohort.mask).float(), torch.from_numpy(given))
    training = _Training(weeks, settings, seed, tracker)
    training.embedding()
    training.supervisor()
    sampler = training.joint().eval()
    correction, shape = _finish(
        sampler, settings, cohort, ScoredWeeks(scores, cohort.mask, features, cohort.person), space, condition, seed
    )
    return TimeGAN(sampler, settings.networks, space, condition, correction, shape)


def _finish(
    sampler: Sampler,
    settings: TimeGANSettings,
    cohort: Cohort,
    real: ScoredWeeks,
    space: WeekSpace,
    condition: Condition,
    seed: int,
) -> tuple[Correction, WeekShape]:
    """The final correction, fitted to many weeks drawn for the training persons."""
    rows = np.tile(np.arange(len(cohort)), -(-POOL // len(cohort)))
    features, rng = real.features[rows], numpy_generator(seed, "timegan", "correction")
    drawn = raw_scores(sampler, settings.networks, condition(features), rng)
    fake = ScoredWeeks(drawn, np.ones(drawn.shape, bool), features, np.arange(len(rows)))
    correction = fit_correction(fake, real, settings.correction_prior)
    weeks = space.margins.to_values(correction(drawn, features))
    return correction, fit_shape(weeks, cohort.rhythms, cohort.mask)


class _Training:
    """The networks and data that the three phases share."""

    def __init__(self, weeks: Weeks, settings: TimeGANSettings, seed: int, tracker: Tracker) -> None:
        self.weeks, self.settings, self.tracker = weeks, settings, tracker
        self.random = torch_generator(seed, "timegan", "training")
        sizes, signals, profile = settings.networks, weeks.scores.shape[2], weeks.profile.shape[1]
        with seeded_init(seed):
            self.sampler = Sampler(signals, profile, sizes)
            self.embedder = DayNetwork(2 * signals, profile, sizes.hidden, sizes.latent)
            self.latent_critic = Discriminator(sizes.latent + 1, profile, sizes.discriminator_hidden)
            self.data_critic = Discriminator(2 * signals, profile, sizes.discriminator_hidden)

    def batches(self, phase: str, steps: int) -> Iterator[tuple[int, Weeks]]:
        """``steps`` batches, each week once before any comes again, with a progress bar."""
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

    def check(self, phase: str, step: int, losses: dict[str, Tensor]) -> None:
        """Refuse what is not finite; log the rest."""
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                raise NumericalError(
                    f"TimeGAN {phase} phase, step {step}: {name} is {loss.item()}; lower rhythms learning rates or check the signals"
                )
            if step % LOG_EVERY == 0:
                self.tracker.scalar(f"timegan/{phase}/{name}", loss.item(), step)

    def embed(self, batch: Weeks) -> Tensor:
        """Latents ``(B, 7, H)`` of real weeks."""
        return self.embedder(_visible(batch.scores, batch.mask), batch.profile)

    def reconstruction_loss(self, batch: Weeks) -> tuple[Tensor, Tensor]:
        """Masked squared error of restored weeks, and the latents ``(B, 7, H)``."""
        latent = self.embed(batch)
        error = (self.sampler.recovery(latent, batch.profile) - batch.scores).square() * batch.mask
        return error.sum() / batch.mask.sum().clamp(min=1), latent

    def supervised_loss(self, latent: Tensor, batch: Weeks) -> Tensor:
        """Squared error of the next day's latent, where both days were observed."""
        pairs = batch.whole[:, :-1] * batch.whole[:, 1:]  # (B, 6, 1)
        error = (self.sampler.next_latent(latent, batch.profile)[:, :-1] - latent[:, 1:]).square() * pairs
        return error.sum() / (pairs.sum() * latent.shape[2]).clamp(min=1)

    def embedding(self) -> None:
        """Phase 1: week -> latent -> week; the latent's size is held to that of a normal score."""
        parameters = [*self.embedder.parameters(), *self.sampler.recovery.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.settings.embedding_rate)
        for step, batch in self.batches("embedding", self.settings.embedding_steps):
            loss, latent = self.reconstruction_loss(batch)
            size = (latent.square().mean() - 1).square()
            self.check("embedding", step, {"reconstruction_loss": loss, "latent_size_loss": size})
            _descend(optimizer, loss + 0.1 * size)

    def supervisor(self) -> None:
        """Phase 2: the supervisor learns the next day's latent of real weeks."""
        optimizer = torch.optim.Adam(self.sampler.supervisor.parameters(), lr=self.settings.embedding_rate)
        for step, batch in self.batches("supervisor", self.settings.supervisor_steps):
            with torch.no_grad():
                latent = self.embed(batch)
            loss = self.supervised_loss(latent, batch)
            self.check("supervisor", step, {"supervised_loss": loss})
            _descend(optimizer, loss)

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
                real = self.embed(batch)
            latent = sampler.latent(*self.noise(len(batch)), batch.profile)
            fake = sampler.recovery(latent, batch.profile)
            losses["discriminator_loss"] = self.critic_loss(batch, real, latent.detach(), fake.detach())
            _descend(critic_step, losses["discriminator_loss"])
            making = self.generator_losses(batch, real, latent, fake, wanted)
            try:
                self.check("joint", step, losses | making)
            except NumericalError as error:
                if step < s.joint_steps // 2:
                    raise
                self.tracker.note(f"{error}; the average generator of the {step} steps before is kept")
                return averaged
            # Only what has just given finite losses enters the average: it stays the last good generator.
            _average(averaged, sampler, min(s.average, step / (step + 10)))
            _descend(maker_step, torch.stack(list(making.values())).sum())
            for schedule in decay:
                schedule.step()
        return averaged

    def critic_loss(self, batch: Weeks, real: Tensor, latent: Tensor, fake: Tensor) -> Tensor:
        """Hinge loss of both discriminators, on real weeks and on generated ones of the same people."""
        latents = _hinge(self.latent_critic, _visible(real, batch.whole), _visible(latent, batch.whole), batch.profile)
        return latents + _hinge(
            self.data_critic, _visible(batch.scores, batch.mask), _visible(fake, batch.mask), batch.profile
        )

    def generator_losses(
        self, batch: Weeks, real: Tensor, latent: Tensor, fake: Tensor, wanted: Moments
    ) -> dict[str, Tensor]:
        """The weighted terms of the generator's loss; only generator and supervisor learn from them."""
        s = self.settings
        with torch.no_grad():
            _, real_latent_features = self.latent_critic(_visible(real, batch.whole), batch.profile)
            _, real_features = self.data_critic(_visible(batch.scores, batch.mask), batch.profile)
        latent_score, latent_features = self.latent_critic(_visible(latent, batch.whole), batch.profile)
        score, features = self.data_critic(_visible(fake, batch.mask), batch.profile)
        matching = _feature_gap(features, real_features) + _feature_gap(latent_features, real_latent_features)
        gap = moment_gap(week_moments(fake, batch.mask, batch.profile), wanted)
        return {
            "generator_loss": -s.adversarial_weight * (score.mean() + latent_score.mean()),
            "feature_loss": s.feature_weight * matching,
            "moment_loss": s.moment_weight * gap,
            "supervised_loss": s.supervised_weight * self.supervised_loss(real, batch),
        }


def _visible(week: Tensor, mask: Tensor) -> Tensor:
    """What a network may see of a week: observed values, and which they are; ``(B, 7, C)`` beside the mask."""
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
