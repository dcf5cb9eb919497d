"""Files written whole or not at all, and their SHA-256."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import NumericalError

PARTIAL = ".partial"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # on a full disk, half a file would keep it full
            partial.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON that every reader takes, which knows no NaN: what is undefined is None.

    Raises:
        NumericalError: a number is NaN or infinite.
    """
    try:
        text = json.dumps(value, indent=2, default=as_plain, allow_nan=False)
    except ValueError as error:
        raise NumericalError(
            f"{path.name}: '{_not_finite(value)}' is not a finite number, expected one, or null where it is undefined; "
            "bring more persons, and report it with the run's configuration"
        ) from error
    write_bytes(path, (text + "\n").encode())


def _not_finite(value: Any, key: str = "") -> str | None:
    """The dotted key of the first number that is NaN or infinite."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float | np.floating):
        return None if np.isfinite(value) else key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next(filter(None, (_not_finite(each, f"{key}.{name}".lstrip(".")) for name, each in items)), None)


def as_plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON numbers and lists."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
