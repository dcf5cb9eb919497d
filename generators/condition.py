"""What a week model sees of the profile: as much as the number of persons can bear.

Among thousands of persons a profile is a description. Among fifteen it is a name: a network that is given it learns
those persons by heart. With ten persons or more for each degree of freedom of the profile the networks see all of it.
With fewer they see what ridge regressions predict from it of the week's levels and spreads, each only as far as it holds
for left-out persons; and in training each person's prediction is the *others'*. Where nothing holds they see nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generators.person_regression import PERSONS_PER_DEGREE, regress_persons


@dataclass(frozen=True)
class Condition:
    """``profile @ matrix + offset``: float32 ``[P, K]`` and ``[K]``."""

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Encoded profiles ``[N, P]`` -> conditions ``[N, K]``."""
        return features @ self.matrix + self.offset

    @property
    def size(self) -> int:
        return self.matrix.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        return {"condition.matrix": torch.from_numpy(self.matrix), "condition.offset": torch.from_numpy(self.offset)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Condition":
        return cls(tensors["condition.matrix"].numpy(), tensors["condition.offset"].numpy())


def fit_condition(
    scores: np.ndarray, mask: np.ndarray, features: np.ndarray, person: np.ndarray
) -> tuple[Condition, np.ndarray]:
    """The condition, and the values ``[N, K]`` to train with.

    Args:
        scores: ``[N, 7, C]``; ``mask``: what was observed; ``features``: encoded profiles ``[N, P]``; ``person``: ``[N]``.
    """
    _, first = np.unique(person, return_index=True)
    rank = np.linalg.matrix_rank(features[first] - features[first].mean(0), tol=1e-4) if features.shape[1] else 0
    if rank and len(first) >= PERSONS_PER_DEGREE * rank:
        return Condition(np.eye(features.shape[1], dtype=np.float32), np.zeros(features.shape[1], np.float32)), features
    seen = mask.astype(float)
    days = seen.sum(1)  # (N, C)
    level = (scores * seen).sum(1) / np.maximum(days, 1)
    spread = np.sqrt((((scores - level[:, None]) * seen) ** 2).sum(1) / np.maximum(days - 1, 1))
    values, weight = np.hstack([level, spread]), np.hstack([days, np.where(days > 2, days, 0.0)])
    found = regress_persons(features, values, weight, person)
    kept = found.gain > 0
    if not kept.any():  # nothing about a week can be told from the profile: the networks get a constant
        size = features.shape[1]
        return Condition(np.zeros((size, 1), np.float32), np.zeros(1, np.float32)), np.zeros(
            (len(features), 1), np.float32
        )
    scale = np.maximum(values.std(0), 1e-6)[kept]
    centre = np.average(values, axis=0)[kept]
    matrix = (found.slope[:, kept] / scale).astype(np.float32)
    offset = ((found.intercept[kept] - centre) / scale).astype(np.float32)
    return Condition(matrix, offset), ((found.left_out[:, kept] - centre) / scale).astype(np.float32)
