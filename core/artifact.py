"""What a learned part leaves behind: named tensors and a JSON-able description. The pipeline alone writes files."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Artifact:
    """``tensors`` go to a safetensors file, ``meta`` (plain JSON types only) to a JSON file beside it."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
