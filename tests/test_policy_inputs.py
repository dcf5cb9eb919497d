"""What the policy's networks read: a week as its mean, change and spread, and nothing else of its days."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.random import torch_generator
from intervention.week_summary import WeekSummary

DAY_NAMES = tuple(f"{day}.{signal}" for day in range(7) for signal in ("sleep", "stress"))
NAMES = (
    *(f"week.{n}" for n in DAY_NAMES),
    *(f"baseline.{n}" for n in DAY_NAMES),
    "profile.age",
    "weeks_on.app",
    "risk",
)


def summary_of(names: tuple[str, ...]) -> WeekSummary:
    return WeekSummary(spaces.Box(-10, 10, (len(names),), np.float32), names)


def observations(batch: int) -> torch.Tensor:
    return torch.randn(batch, len(NAMES), generator=torch_generator(0, "observations"))


def test_mean_change_and_spread_take_the_place_of_the_days() -> None:
    seen = observations(5)
    read = summary_of(NAMES)(seen)
    week, before = seen[:, :14].reshape(5, 7, 2).numpy(), seen[:, 14:28].reshape(5, 7, 2).numpy()
    parts: list[Any] = [week.mean(1), week.mean(1) - before.mean(1), week.std(1), before.std(1)]
    np.testing.assert_allclose(read[:, :8].numpy(), np.concatenate(parts, axis=1), atol=1e-6)
    assert torch.equal(read[:, 8:], seen[:, 28:])
    assert summary_of(NAMES).features_dim == read.shape[1] == 11


def test_parts_are_found_by_name_wherever_they_lie() -> None:
    blocks = [*range(28, 31), *range(14, 28), *range(14)]  # baseline before week, both after the rest
    seen = observations(4)
    moved = summary_of(tuple(NAMES[i] for i in blocks))(seen[:, blocks])
    assert torch.equal(moved, summary_of(NAMES)(seen))


@pytest.mark.parametrize("part", ["week", "baseline"])
def test_the_order_of_the_days_is_not_read(part: str) -> None:
    seen = observations(3)
    start = 0 if part == "week" else 14
    turned = seen.clone()
    turned[:, start : start + 14] = seen[:, start : start + 14].reshape(3, 7, 2).flip(1).reshape(3, 14)
    torch.testing.assert_close(summary_of(NAMES)(turned), summary_of(NAMES)(seen))


def test_what_has_no_days_stays_as_it_is() -> None:
    seen = torch.randn(3, 2)
    assert summary_of(("context", "noise"))(seen) is seen
    assert not summary_of(NAMES).state_dict()  # nothing learned, nothing to store
