"""Settings of the generators that train networks; apart from them, so that reading a configuration imports no library."""

from dataclasses import dataclass

from core.settings import Count, NonNegative, Positive


@dataclass(frozen=True)
class CTGANSettings:
    """How CTGAN is trained."""

    steps: Count  # generator steps, whatever the number of rows
    batch_size: Count  # rows a step; lowered to the table's size, always a multiple of 2 and of pac
    pac: Count  # rows the discriminator judges together
    embedding_dim: Count  # size of the noise
    generator_dim: tuple[Count, ...]  # width of each residual layer
    discriminator_dim: tuple[Count, ...]  # width of each layer
    generator_lr: Positive
    discriminator_lr: Positive
    generator_decay: NonNegative  # weight decay
    discriminator_steps: Count  # discriminator updates for each generator update
    kernel: NonNegative  # weight of the kernel distance between generated and training rows in the generator's loss
    average: Count  # the generator kept is an exponential average of the weights over this percentage of training
    components: Count  # Gaussians, at most, that a numeric column's ranks are split into
    discrete_levels: Count  # a numeric column with no more distinct values than this is learned as categories


@dataclass(frozen=True)
class TVAESettings:
    """How TVAE is trained."""

    steps: Count  # steps, whatever the number of rows
    batch_size: Count  # rows a step; lowered to the table's size
    embedding_dim: Count  # size of the latent
    compress_dims: tuple[Count, ...]  # width of each encoder layer
    decompress_dims: tuple[Count, ...]  # width of each decoder layer
    l2scale: NonNegative  # weight decay
    loss_factor: Positive  # weight of the reconstruction beside the KL divergence
    average: Count  # the decoder kept is an exponential average of the weights over this percentage of training
    components: Count  # Gaussians, at most, that a numeric column's ranks are split into
    discrete_levels: Count  # a numeric column with no more distinct values than this is learned as categories
