"""Gradients kept small, and refused where they are no numbers: one step with such a gradient spoils every weight."""

from collections.abc import Iterable

import torch
from torch import nn

from core.errors import NumericalError


def clip(parameters: Iterable[nn.Parameter], most: float, what: str, remedy: str) -> None:
    """Scale the gradients so that their norm is at most ``most``; ``what`` and ``remedy`` are words of the message.

    Raises:
        NumericalError: a gradient is NaN or infinite. No weight has moved.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, most)
    if not torch.isfinite(norm):
        raise NumericalError(f"{what}: the norm of the gradient is {norm.item()}; lower {remedy}")
