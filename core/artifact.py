"""What a learned part leaves behind: named tensors and a JSON-able description. The pipeline alone writes files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.errors import ArtifactError


@dataclass(frozen=True)
class Artifact:
    """``tensors`` go to a safetensors file, ``meta`` (plain JSON types only) to a JSON file beside it."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


@contextmanager
def reading(what: str, stage: str) -> Iterator[None]:
    """Turn what reading another version's artifact stumbles over into one line.

    Raises:
        ArtifactError: a tensor or an entry is missing, or does not fit.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(
            f"{what}: made by another version, or incomplete ({cause}); make it again with stage={stage} force=true"
        ) from error
