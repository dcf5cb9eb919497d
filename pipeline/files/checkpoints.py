"""Where a training stands, as bytes: the SHA-256 of all that follows, a line of JSON, and safetensors.

One file, since two beside each other could not be replaced in one piece.
"""

import hashlib
import json

from safetensors.torch import save as save_tensors

from core.artifact import Artifact
from pipeline.files.parsing import parse_json, parse_tensors


def pack(belongs_to: str, artifact: Artifact) -> bytes:
    """The checkpoint of what ``belongs_to`` names."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in artifact.tensors.items()}
    facts = json.dumps({"belongs_to": belongs_to, "meta": artifact.meta})
    rest = facts.encode() + b"\n" + save_tensors(tensors)
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def unpack(data: bytes, belongs_to: str) -> Artifact | None:
    """What :func:`pack` made, or None where it belongs to something else.

    Raises:
        ValueError: the bytes are not those that were written.
    """
    digest, _, rest = data.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise ValueError("its SHA-256 is not the one it begins with: altered or truncated")
    line, _, tensors = rest.partition(b"\n")
    facts = parse_json(line)
    return Artifact(parse_tensors(tensors), facts["meta"]) if facts["belongs_to"] == belongs_to else None
