"""Muon against the polar factor, and on a problem that plain gradient steps find hard."""

import pytest
import torch
from torch import nn

from intervention.muon import RMS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (5, 30), (30, 5)])
def test_a_direction_keeps_its_singular_vectors_and_loses_its_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, length, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ v.T  # diagonal where the singular vectors are the same
    assert (found - found.diagonal().diag()).abs().max() < 1e-3
    assert found.diagonal().min() > 0.6 and found.diagonal().max() < 1.3
    assert length.max() / length.min() > 1.5  # it was not so before
    assert torch.allclose(orthogonal(1000 * matrix), orthogonal(matrix), atol=1e-4)


def test_a_gradient_of_zero_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(4, 6))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], 0.1).step()
    assert torch.equal(weight, torch.ones(4, 6))


def test_a_step_is_as_large_as_adams() -> None:
    """Root mean square of a step: RMS x learning rate, for square and for flat matrices."""
    for shape in ((40, 40), (10, 40)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        Muon([weight], 0.1).step()
        assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.1 * RMS, rel=0.2)


def test_inputs_of_very_unlike_scale_are_learned_alike() -> None:
    """Least squares whose directions differ a hundredfold in curvature: gradient descent leaves the flat ones behind."""
    generator = torch.Generator().manual_seed(7)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
    x = torch.randn(400, 12, generator=generator) * torch.logspace(0, -2, 12) @ rotation
    true = torch.randn(12, 12, generator=generator)

    def left(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> float:
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=300)
        for _ in range(300):
            optimizer.zero_grad()
            (x @ (weight - true)).square().mean().backward()
            optimizer.step()
            schedule.step()
        return (weight - true).square().mean().item()

    ours, plain = (nn.Parameter(torch.zeros(12, 12)) for _ in range(2))
    assert left(Muon([ours], 0.3), ours) < 0.1 * left(torch.optim.SGD([plain], 1.0, momentum=0.9), plain)
