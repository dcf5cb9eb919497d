"""Muon: the matrices of a network learn by steps whose directions all have one length.

Jordan 2024 (kellerjordan.github.io/posts/muon), with the step of Liu et al. 2025 (arXiv 2502.16982), which is as large
as AdamW's. ``torch.optim.Muon`` works in bfloat16, in which processors without it take several times as long; here the
parameters' own type is kept.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = 3.4445, -4.775, 2.0315  # Jordan's: brings singular values from near 0 up to about 1 fastest
ITERATIONS = 3  # enough for singular values above a fiftieth of the norm; five taught no better
RMS = 0.2  # of AdamW's usual step, in learning rates


class Muon(torch.optim.Optimizer):
    """For parameters ``[R, C]``; ``momentum`` is the share of the past in the mean gradient (Nesterov's)."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is taken
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                direction = orthogonal(weight.grad.lerp(mean, group["momentum"]))
                weight.add_(direction, alpha=-group["lr"] * RMS * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` ``[R, C]`` with its singular vectors, and singular values of about 1 (.7 to 1.2 unless tiny), by Newton and
    Schulz's iteration."""
    a, b, c = QUINTIC
    flat = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    flat = flat / flat.norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = flat @ flat.T
        flat = torch.addmm(flat, torch.addmm(gram, gram, gram, beta=b, alpha=c), flat, beta=a)
    return flat.T if matrix.shape[0] > matrix.shape[1] else flat
