"""Signals: what is measured each day, in which unit and range, and which direction is better."""

from dataclasses import dataclass
from typing import Literal

DAYS = 7
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WEEKEND = (5, 6)


@dataclass(frozen=True)
class Signal:
    """One daily measurement.

    ``low`` and ``high`` are the bounds of plausible values in ``unit``; ``better`` is +1 where a higher value is
    healthier and -1 where a lower one is.
    """

    name: str
    unit: str
    low: float
    high: float
    better: Literal[-1, 1]


Signals = tuple[Signal, ...]

DEFAULT_SIGNALS: Signals = (
    Signal("sleep_duration", "h", 0.0, 14.0, +1),
    Signal("sleep_quality", "1-10", 1.0, 10.0, +1),
    Signal("heart_rate", "bpm", 35.0, 130.0, -1),
    Signal("stress", "1-10", 1.0, 10.0, -1),
)


def names(signals: Signals) -> tuple[str, ...]:
    return tuple(signal.name for signal in signals)
