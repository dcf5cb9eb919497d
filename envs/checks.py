"""What the simulation refuses: actions nobody can be given, and numbers that are none. One line each, with its place."""

import math

import torch
from torch import Tensor

from core.errors import DataError, NumericalError
from core.signals import Signals, names
from core.treatments import CONTROL, MAX_INTENSITY, MIN_INTENSITY, TREATMENTS


def of_environment(place: int, num_envs: int) -> str:
    """Which environment of a batch is meant; nothing where there is only one."""
    return f" of environment {place}" if num_envs > 1 else ""


def first(bad: Tensor) -> int:
    """The first True of bool ``[B]``."""
    return int(torch.nonzero(bad)[0])


def check_action(treatment: Tensor, intensity: Tensor, num_envs: int) -> None:
    """Refuse what is not ``num_envs`` treatments (int64, 0..4) and intensities (0.1..1; Control's counts for nothing).

    Raises:
        DataError: wrong shape or type, not finite, or out of range.
    """
    expected = (num_envs,)
    if treatment.shape != expected or intensity.shape != expected:
        raise DataError(
            f"action: treatment has shape {tuple(treatment.shape)} and intensity {tuple(intensity.shape)}, expected {expected} both"
        )
    if treatment.dtype != torch.int64:
        raise DataError(
            f"action: treatment is of type {treatment.dtype}, expected torch.int64; convert it with .long()"
        )
    # Written so that NaN fails too; a hair of tolerance for float32's 0.1.
    given = (intensity >= MIN_INTENSITY - 1e-6) & (intensity <= MAX_INTENSITY + 1e-6) | (treatment == CONTROL)
    known = (treatment >= 0) & (treatment < len(TREATMENTS))
    if bool((given & known & torch.isfinite(intensity)).all()):
        return
    if not bool(known.all()):
        place = first(~known)
        raise DataError(
            f"action{of_environment(place, num_envs)}: treatment is {int(treatment[place])}, expected 0 to {len(TREATMENTS) - 1} ({', '.join(TREATMENTS)})"
        )
    place = first(~(given & torch.isfinite(intensity)))
    raise DataError(
        f"action{of_environment(place, num_envs)}: intensity is {float(intensity[place]):g}, expected {MIN_INTENSITY:g} to {MAX_INTENSITY:g}; clip it, or give Control (0) where nothing is meant"
    )


def check_finite(parts: dict[str, Tensor], patients: Tensor, week: Tensor, signals: Signals) -> None:
    """Refuse a step in which a number of any patient is NaN or infinite.

    Args:
        parts: tensors with the batch first, causes before what follows from them; those of integers are passed over.
            ``week`` ``[B, 7, C]`` is told apart by signal.
        patients, week: int64 ``[B]``, whose they are and in which week.

    Raises:
        NumericalError: the first part that has one, with its patient and week.
    """
    floats = {name: value for name, value in parts.items() if value.is_floating_point()}
    # One number tells: a sum of finite numbers of this size is finite, and NaN and infinity survive it.
    if math.isfinite(torch.stack([_as_it_lies(value).sum(dtype=torch.float32) for value in floats.values()]).sum()):
        return
    for name, value in floats.items():
        bad = ~torch.isfinite(value.reshape(len(value), -1))
        if not bool(bad.any()):
            continue
        place = first(bad.any(dim=1))
        got = float(value[place].flatten()[first(bad[place])])
        if name == "week":
            wrong = (~torch.isfinite(value[place])).any(dim=0).tolist()
            name = "days of " + ", ".join(
                signal for signal, is_bad in zip(names(signals), wrong, strict=True) if is_bad
            )
        raise NumericalError(
            f"patient {int(patients[place])}, week {int(week[place])}{of_environment(place, len(week))}: {name} became {got}, expected finite numbers; train anew the model that gave it"
        )


def _as_it_lies(value: Tensor) -> Tensor:
    """The same numbers in the order of their memory, in which a sum is fastest."""
    if value.is_contiguous():
        return value
    if value.ndim == 2:
        return value.T
    return value.permute(sorted(range(value.ndim), key=value.stride().__getitem__, reverse=True))
