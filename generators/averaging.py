"""An exponential average of a network's weights, and what to do when training stops being finite."""

import math

import torch
from torch import Tensor, nn

from core.errors import NumericalError
from core.protocols import Tracker


class Averaged:
    """Weights averaged over about the last ``horizon`` updates; integer buffers stay as they were first."""

    def __init__(self, network: nn.Module, horizon: float):
        self.network, self._rate = network, 1.0 / max(horizon, 1.0)
        self._state: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        state = self.network.state_dict()
        if self._state is None:
            self._state = {name: tensor.clone() for name, tensor in state.items()}
            return
        for name, tensor in state.items():
            if tensor.is_floating_point():
                self._state[name].lerp_(tensor, self._rate)

    @property
    def started(self) -> bool:
        return self._state is not None

    def restore(self) -> None:
        """Give the network its averaged weights."""
        if self._state is not None:
            self.network.load_state_dict(self._state)


def finite(
    name: str, losses: dict[str, float], step: int, steps: int, kept: bool, remedy: str, tracker: Tracker
) -> bool:
    """Whether training may go on; False where it must stop and the averaged weights are kept.

    ``kept`` tells whether there are such weights yet. A network that trained for half of its steps is of use, and its average holds only weights whose losses were finite.

    Raises:
        NumericalError: a loss is not finite before half of the steps are done, or before anything was kept.
    """
    bad = next((which for which, loss in losses.items() if not math.isfinite(loss)), None)
    if bad is None:
        return True
    said = f"profiles: {name}'s {bad} loss is {losses[bad]} at step {step} of {steps}"
    if step < steps / 2 or not kept:
        raise NumericalError(f"{said}; lower {remedy}")
    tracker.note(f"{said}; training stopped there and the average of the weights before it is kept (lower {remedy})")
    return False
