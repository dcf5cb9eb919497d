"""What the parts ask of each other. A part depends on these shapes, never on another part's class."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

T = TypeVar("T")
State = dict[str, Tensor]  # every tensor has the batch as its first dimension


class Tracker(Protocol):
    """Where a loop reports: scalars for TensorBoard, progress for a person."""

    def scalar(self, tag: str, value: float, step: int) -> None: ...

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` while showing a progress bar with rate and time left."""
        ...

    def note(self, message: str) -> None:
        """One line a person should read (something was filled, mapped or skipped, and how often)."""
        ...


class NullTracker:
    """A tracker that reports nowhere."""

    def scalar(self, tag: str, value: float, step: int) -> None:
        pass

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        yield from items

    def note(self, message: str) -> None:
        pass


class ProfileGenerator(Protocol):
    """Draws synthetic profiles."""

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame: ...


class RhythmGenerator(Protocol):
    """Draws one week for each given profile: float32 ``[N, 7, C]``, physical units."""

    def sample(self, profiles: pd.DataFrame, rng: np.random.Generator) -> np.ndarray: ...


class RiskModel(Protocol):
    """Class probabilities of patients' weeks."""

    def probabilities(self, features: Tensor, week: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, 3]`` from encoded profiles ``[B, P]``, weeks ``[B, 7, C]`` in physical units and, optionally,
        what was observed (bool ``[B, 7, C]``)."""
        ...


def risk_score(probabilities: Tensor) -> Tensor:
    """P(Medium)/2 + P(High), in [0, 1]: ``[..., 3]`` -> ``[...]``."""
    return 0.5 * probabilities[..., 1] + probabilities[..., 2]


@dataclass(frozen=True)
class Outcome:
    """What one week brought to a batch of patients.

    Attributes:
        week: float32 ``[B, 7, C]`` days in physical units.
        adverse: bool ``[B]``, an adverse event happened.
        level: float32 ``[B, C]``, the true weekly level in physical units where the dynamics know it (Trial), the
            expected one elsewhere.
        spread: float32 ``[B]``, disagreement between models in between-person sd (0 for a single truth).
    """

    week: Tensor
    adverse: Tensor
    level: Tensor
    spread: Tensor


class Dynamics(Protocol):
    """How patients change from week to week. Pure: the same arguments give the same result.

    ``rows`` (int64 ``[B]``) are rows of the ``Patients`` the dynamics were built with; ``keys`` (int64 ``[B]``) are
    stream keys (``core.random``) for the randomness of this call.
    """

    def start(self, rows: Tensor, keys: Tensor) -> State:
        """The state after the baseline week."""
        ...

    def step(self, state: State, treatment: Tensor, intensity: Tensor, keys: Tensor) -> tuple[State, Outcome]:
        """One week under ``treatment`` (int64 ``[B]``) at ``intensity`` (float32 ``[B]``, 0.1..1; Control's is ignored)."""
        ...
