"""Profiles by CTGAN: the library's networks and column preparation, trained and sampled here.

Xu, Skoularidou, Cuesta-Infante & Veeramachaneni, "Modeling Tabular data using Conditional GAN", NeurIPS 2019.

As in the paper, a step picks a column and one of its levels for each row by log-frequency, tells the generator, and shows
the critic training rows picked by the same conditions. Beside the critic (Wasserstein loss with gradient penalty) and
the cross-entropy of the asked level the generator sees a kernel distance to such rows (Gretton et al. 2012, JMLR 13)::

    MMD^2 = E k(x, x') - 2 E k(x, y) + E k(y, y'),    k(a, b) = sum_w exp(-|a - b|^2 / w)

over whole rows of Gaussian ranks and levels; the last term has no gradient. It sees in every batch what a critic takes
many to learn: on 2,000 persons it brings a forest's AUC on uncalibrated rows from .73 to .60. Sampling draws the condition with the training
frequencies and normalises with the statistics learned in training, so that the rows are independent of each other.
"""

import math

import numpy as np
import pandas as pd
import torch
from ctgan.data_transformer import DataTransformer
from ctgan.synthesizers.ctgan import Discriminator, Generator
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from core.artifact import Artifact
from core.protocols import Tracker
from core.random import seeded_init
from generators.averaging import Averaged, finite
from generators.columns import (
    SPREAD,
    Column,
    Columns,
    batch_of,
    decode,
    describe,
    described,
    encode,
    legacy_seed,
    network_artifact,
    one_thread,
    with_mixtures,
)
from generators.network_settings import CTGANSettings

_CHUNK = 20_000  # rows per forward pass when sampling
_TEMPERATURE = 0.2  # of the relaxed categories
_PENALTY = 10.0  # weight of the gradient penalty
_WIDTHS = (2.0, 6.0, 18.0)  # of the kernels, in squared distance between rows' ranks and levels
_BETAS = (0.5, 0.9)
_NOWHERE = -1e30  # a logit that is never taken


class CTGANProfiles:
    """A trained CTGAN (a ``core.protocols.ProfileGenerator``)."""

    def __init__(self, columns: Columns, network: Generator, embedding_dim: int, layers: tuple[int, ...]):
        self.columns, self.network = columns, network.eval()
        self.embedding_dim, self.layers = embedding_dim, layers

    @torch.no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """Draw ``n`` profiles with the columns of the training table; whole numbers are int64, others float64."""
        parts = []
        with one_thread():
            for start in range(0, n, _CHUNK):
                rows = min(_CHUNK, n - start)
                noise = torch.from_numpy(rng.standard_normal((rows, self.embedding_dim), dtype=np.float32))
                out = self.network(torch.cat([noise, self._condition(rows, rng)], dim=1))  # (rows, D)
                parts.append(decode(out.numpy(), self.columns, rng))
        return pd.concat(parts, ignore_index=True)

    def _condition(self, n: int, rng: np.random.Generator) -> Tensor:
        """One column and one of its levels per row, at the training frequency, one-hot: ``[n, levels]``."""
        shares = [column.frequencies for column in _conditioned(self.columns)]
        condition = np.zeros((n, sum(map(len, shares))), np.float32)
        if shares:
            level = rng.choice(condition.shape[1], size=n, p=np.concatenate(shares) / len(shares))
            condition[np.arange(n), level] = 1.0
        return torch.from_numpy(condition)

    def to_artifact(self) -> Artifact:
        return network_artifact("ctgan", self.columns, self.network, self.embedding_dim, self.layers)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "CTGANProfiles":
        columns, embedding_dim, layers = described(artifact)
        conditions = sum(column.width for column in _conditioned(columns))
        width = sum(column.width for column in columns if column.trained)
        with seeded_init(0):  # the weights are overwritten: building must not move the global generator
            network = Generator(embedding_dim + conditions, layers, width)
        network.load_state_dict(artifact.tensors)
        return cls(columns, network, embedding_dim, layers)


def _conditioned(columns: Columns) -> list[Column]:
    return [column for column in columns if column.kind == "discrete" and column.trained]


class _Heads:
    """What each of the network's ``D`` outputs is: a value within a component (tanh), or a logit of a choice (softmax).

    Choices are gathered into one padded table ``[B, choices, widest]``, so that a step runs one softmax, not one each.
    """

    def __init__(self, columns: Columns):
        spans: list[tuple[int, int]] = []
        values: list[int] = []
        asked: list[int] = []
        first = 0
        trained = [column for column in columns if column.trained]
        size, numeric = sum(column.width for column in trained), sum(column.kind == "continuous" for column in trained)
        self.mean, self.spread = torch.zeros(size, numeric), torch.zeros(size, numeric)  # of each component's score
        for column in trained:
            if column.kind == "continuous":
                components = slice(first + 1, first + column.width)
                self.mean[components, len(values)] = torch.tensor(column.means)
                self.spread[components, len(values)] = SPREAD * torch.tensor(column.sds)
                values.append(first)
                spans.append((first + 1, column.width - 1))
            else:
                asked.append(len(spans))
                spans.append((first, column.width))
            first += column.width
        levels = [start + k for i in asked for start, width in [spans[i]] for k in range(width)]
        self.levels = torch.tensor(levels, dtype=torch.long)  # the outputs that are levels of whole columns
        self.shape = (len(spans), max(width for _, width in spans))
        self.asked = torch.tensor(asked, dtype=torch.long)  # the choices that are whole columns, in order
        gather = torch.full(self.shape, first)  # output of each place of the table; one past the last where padded
        place = torch.empty(first, dtype=torch.long)  # and the place of each output
        for i, (start, width) in enumerate(spans):
            gather[i, :width] = torch.arange(start, start + width)
            place[start : start + width] = i * self.shape[1] + torch.arange(width)
        for i, start in enumerate(values):
            place[start] = gather.numel() + i
        self.gather, self.place, self.values = gather.ravel(), place, torch.tensor(values, dtype=torch.long)

    def logits(self, out: Tensor) -> Tensor:
        """``[B, D]`` to ``[B, choices, widest]``."""
        return pad(out, (0, 1), value=_NOWHERE)[:, self.gather].view(len(out), *self.shape)

    def rows(self, out: Tensor) -> Tensor:
        """Outputs to rows ``[B, D]`` as the critic sees them: tanh, and relaxed one-hot draws."""
        noise = torch.empty_like(out).exponential_().log()
        choices = self.logits((out - noise) / _TEMPERATURE).softmax(dim=2).flatten(1)
        return torch.cat([choices, torch.tanh(out[:, self.values])], dim=1)[:, self.place]

    def scores(self, rows: Tensor) -> Tensor:
        """Rows as the Gaussian ranks of the numeric columns and one-hot levels of the others: ``[B, F]``."""
        ranks = rows @ self.mean + rows[:, self.values] * (rows @ self.spread)
        return torch.cat([ranks, rows[:, self.levels]], dim=1)

    def asked_level_loss(self, out: Tensor, column: Tensor, level: Tensor) -> Tensor:
        """Cross-entropy of the level each row was asked for."""
        logits = self.logits(out)[torch.arange(len(out)), self.asked[column]]
        return cross_entropy(logits, level)


class _Conditions:
    """Columns and levels to ask for, and training rows that have them."""

    def __init__(self, data: np.ndarray, columns: Columns, rng: np.random.Generator):
        self.rng, self.rows = rng, len(data)
        conditioned, first = [], 0
        for column in columns:
            if column.trained:
                if column.kind == "discrete":
                    conditioned.append(data[:, first : first + column.width])
                first += column.width
        self.offsets = np.cumsum([0, *(one_hot.shape[1] for one_hot in conditioned)])
        self.size = int(self.offsets[-1])
        orders, counts = [], []
        for one_hot in conditioned:
            orders.append(np.argsort(one_hot.argmax(axis=1), kind="stable"))  # rows by level
            counts.append(one_hot.sum(axis=0).astype(np.int64))
        self.order, self.count = np.concatenate([*orders, np.zeros(0, np.int64)]), counts
        self.start = np.concatenate(
            [i * self.rows + np.cumsum(c) - c for i, c in enumerate(counts)] or [np.zeros(0, int)]
        )

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """One-hot conditions ``[n, size]``, and their columns and levels ``[n]``."""
        column, level = np.zeros(n, np.int64), np.zeros(n, np.int64)
        condition = np.zeros((n, self.size), np.float32)
        if self.count:
            column = self.rng.integers(len(self.count), size=n)
            for i, count in enumerate(self.count):
                rows, share = column == i, np.log(count + 1)
                level[rows] = self.rng.choice(len(count), size=rows.sum(), p=share / share.sum())
            condition[np.arange(n), self.offsets[column] + level] = 1.0
        return torch.from_numpy(condition), torch.from_numpy(column), torch.from_numpy(level)

    def training_rows(self, column: Tensor, level: Tensor) -> np.ndarray:
        """A random training row for each condition: ``[n]``."""
        if not self.count:
            return self.rng.integers(self.rows, size=len(column))
        cell = self.offsets[column.numpy()] + level.numpy()
        within = (self.rng.random(len(cell)) * np.concatenate(self.count)[cell]).astype(np.int64)
        return self.order[self.start[cell] + within]


def fit_ctgan(profiles: pd.DataFrame, settings: CTGANSettings, seed: int, tracker: Tracker) -> CTGANProfiles:
    """Train CTGAN on a table without missing values.

    Raises:
        DataError: nothing varies in the table.
        NumericalError: a loss became non-finite in the first half of training; later, the average before it is kept.
    """
    rng = np.random.default_rng(seed)
    columns = describe(profiles, settings.discrete_levels, rng)
    table, discrete = encode(profiles, columns, rng)
    with one_thread(), seeded_init(seed):
        with legacy_seed(seed):
            transformer = DataTransformer(max_clusters=settings.components)
            transformer.fit(table, discrete)
            data = transformer.transform(table).astype(np.float32)
        columns = with_mixtures(columns, transformer)
        network = _train(data, columns, settings, rng, tracker)
    return CTGANProfiles(columns, network, settings.embedding_dim, tuple(settings.generator_dim))


def _train(
    data: np.ndarray, columns: Columns, settings: CTGANSettings, rng: np.random.Generator, tracker: Tracker
) -> Generator:
    """The averaged generator of ``settings.steps`` steps on rows ``[N, D]``."""
    batch = batch_of(len(data), settings.batch_size, math.lcm(2, settings.pac))
    heads, conditions, rows = _Heads(columns), _Conditions(data, columns, rng), torch.from_numpy(data)
    network = Generator(settings.embedding_dim + conditions.size, settings.generator_dim, data.shape[1])
    critic = Discriminator(data.shape[1] + conditions.size, settings.discriminator_dim, settings.pac)
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=lr, betas=_BETAS, weight_decay=decay, fused=True)
        for net, lr, decay in (
            (network, settings.generator_lr, settings.generator_decay),
            (critic, settings.discriminator_lr, 1e-6),
        )
    ]
    averaged = Averaged(network, settings.steps * settings.average / 100)

    def generate() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        condition, column, level = conditions.draw(batch)
        return (
            network(torch.cat([torch.randn(batch, settings.embedding_dim), condition], dim=1)),
            condition,
            column,
            level,
        )

    for step in tracker.track(range(1, settings.steps + 1), "profiles: CTGAN", total=settings.steps):
        for _ in range(settings.discriminator_steps):
            with torch.no_grad():
                out, condition, column, level = generate()
                fake = torch.cat([heads.rows(out), condition], dim=1)
            mixed = torch.from_numpy(rng.permutation(batch))  # no row sits beside the one of its own condition
            real = rows[conditions.training_rows(column[mixed], level[mixed])]
            critic_loss = _critic_loss(critic, torch.cat([real, condition[mixed]], dim=1), fake)
            optimizers[1].zero_grad()
            critic_loss.backward()
            optimizers[1].step()

        out, condition, column, level = generate()
        fake = heads.rows(out)
        loss = -critic(torch.cat([fake, condition], dim=1)).mean()
        if conditions.size:
            loss = loss + heads.asked_level_loss(out, column, level)
        if settings.kernel:
            real = rows[conditions.training_rows(column, level)]
            loss = loss + settings.kernel * kernel_distance(heads.scores(fake), heads.scores(real))
        losses = {"generator": loss.item(), "discriminator": critic_loss.item()}
        if not finite("CTGAN", losses, step, settings.steps, averaged.started, "profiles.ctgan.generator_lr", tracker):
            break
        averaged.update()
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        if step % 10 == 0 or step == settings.steps:
            for name, value in losses.items():
                tracker.scalar(f"ctgan/{name}_loss", value, step)
    averaged.restore()
    return network


def _critic_loss(critic: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein loss with gradient penalty, of rows ``[B, D + levels]``."""
    between = torch.rand(len(real) // critic.pac, 1).repeat_interleave(critic.pac, dim=0)
    mixed = (between * real + (1 - between) * fake).requires_grad_()
    gradient = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)[0]
    norm = gradient.view(-1, critic.pacdim).norm(dim=1)
    scores = critic(torch.cat([fake, real])).view(2, -1).mean(dim=1)
    return scores[0] - scores[1] + _PENALTY * ((norm - 1) ** 2).mean()


def kernel_distance(fake: Tensor, real: Tensor) -> Tensor:
    """The terms of the squared MMD that depend on ``fake [B, D]``, unbiased."""

    def kernel(squared: Tensor) -> Tensor:
        return torch.stack([torch.exp(-squared / width) for width in _WIDTHS]).sum(dim=0)

    n = len(fake)
    alike = kernel(_squared(fake, fake))
    return (alike.sum() - alike.diagonal().sum()) / (n * (n - 1)) - 2 * kernel(_squared(fake, real)).mean()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``[N, M]``."""
    return ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T).clamp_min(0)
