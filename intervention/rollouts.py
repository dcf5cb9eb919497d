"""Open-loop courses: the weeks that follow when the plan is fixed beforehand."""

import torch
from torch import Tensor

from core.protocols import Dynamics, Outcome, State
from core.random import stream_keys

Actions = tuple[Tensor, Tensor]  # treatment int64 and intensity float32, each (B, W)


def constant(treatment: int, intensity: float, persons: int, weeks: int) -> Actions:
    """The same action every week."""
    return torch.full((persons, weeks), treatment), torch.full((persons, weeks), intensity)


def rollout(
    dynamics: Dynamics, rows: Tensor, actions: Actions, keys: Tensor, state: State | None = None
) -> list[Outcome]:
    """The weeks of an open loop under given actions, from the baseline or from ``state``."""
    state = dynamics.start(rows, keys) if state is None else state
    outcomes = []
    for week in range(actions[0].shape[1]):
        state, outcome = dynamics.step(state, actions[0][:, week], actions[1][:, week], stream_keys(keys, week))
        outcomes.append(outcome)
    return outcomes
