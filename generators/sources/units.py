"""The unit a column is written in: told from its values where it is not the signal's, and converted where asked."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.errors import DataError

SCALE = "1-10"  # unit of a signal that is answered on a scale; conversions fill its range
_SUSPECT = 0.05  # share of values outside the range from which the unit is doubted, not the values
_FIT = 0.99  # share of values that must lie in the range once converted


@dataclass(frozen=True)
class Conversion:
    """``value`` in the signal's unit (one of ``units``) of what is written; its range's ends are the ends of a scale."""

    name: str
    units: tuple[str, ...]
    value: Callable[[np.ndarray, float, float], np.ndarray]


def _per(name: str, count: float, *units: str) -> Conversion:
    return Conversion(name, units, lambda written, low, high: written / count)


def _scale(start: int, end: int) -> Conversion:
    return Conversion(
        f"{start}-{end}", (SCALE,), lambda written, low, high: low + (written - start) / (end - start) * (high - low)
    )


# In the order in which they are suspected: the narrowest scale that holds the values comes first.
_CONVERSIONS = (
    _per("minutes", 60.0, "h", "hours"),
    _per("seconds", 3600.0, "h", "hours"),
    _per("milliseconds", 3.6e6, "h", "hours"),
    _per("beats per second", 1 / 60, "bpm"),
    _per("seconds", 1e-3, "ms"),
    _scale(0, 1),
    _scale(0, 10),
    _scale(0, 100),
)


def converted(values: np.ndarray, written: str, low: float, high: float, unit: str, column: str) -> np.ndarray:
    """``values``, in ``written``, in the signal's unit.

    Raises:
        DataError: no such conversion to this unit.
    """
    known = {each.name: each for each in _CONVERSIONS if unit in each.units}
    if written not in known:
        names = f"one of {', '.join(known)}" if known else "none, as nothing converts to this unit"
        raise DataError(
            f"convert: column '{column}' is said to be in '{written}', expected {names} for {unit}; correct it"
        )
    return known[written].value(values, low, high)


def suspected(values: np.ndarray, low: float, high: float, unit: str) -> str | None:
    """The conversion that would bring a column of ``unit`` into its range, where too many values for slips lie outside."""
    known = values[np.isfinite(values)]
    outside = (known < low) | (known > high)
    if not len(known) or outside.mean() < _SUSPECT:
        return None
    for each in _CONVERSIONS:
        if unit in each.units:
            read = each.value(known, low, high)
            if ((read >= low) & (read <= high)).mean() >= _FIT:
                return each.name
    return None


def evidence(values: np.ndarray) -> str:
    """What the values of a column are like."""
    known = values[np.isfinite(values)]
    return (
        f"observed {known.min():g} to {known.max():g}, median {np.median(known):g}" if len(known) else "nothing finite"
    )
