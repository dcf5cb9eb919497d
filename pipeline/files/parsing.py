"""The bytes of a run's files as what they hold: tensors, arrays, tables, JSON. None of these formats can run code."""

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from core.errors import ArtifactError

# What the parsers raise on bytes that are not theirs, or that someone has put together to harm.
UNREADABLE = (
    ValueError, KeyError, TypeError, RuntimeError, OSError, EOFError, MemoryError,
    zipfile.BadZipFile, zlib.error, ArrowException, SafetensorError,
)  # fmt: skip


@contextmanager
def parsing(path: Path, remedy: str) -> Iterator[None]:
    """Turn what parsing stumbles over into one line.

    Raises:
        ArtifactError: the file is not of its format, or does not hold what this version expects there.
    """
    try:
        yield
    except UNREADABLE as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"{path}: cannot be read as {path.suffix.lstrip('.') or 'text'} of this version ({cause}); {remedy}"
        ) from error


def parse_json(data: bytes) -> Any:
    return json.loads(data)


def parse_tensors(data: bytes) -> dict[str, Tensor]:
    return load_tensors(data)


def parse_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file (never a pickle)."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("one array, expected an archive of named ones")
        found = {key: arrays[key] for key in arrays.files}
    for key, value in found.items():  # of any other member numpy hands out the bytes
        if not isinstance(value, np.ndarray):
            raise ValueError(f"'{key}' is no array")
    return found


def parse_frame(data: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(data))
