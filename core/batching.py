"""Batches whose rows do not depend on how many there are.

Matrix products take another path for a handful of rows, and the last bits differ; over twelve weeks that grows. Padded
to whole tiles, a row's result is the same in any batch.
"""

import torch
from torch import Tensor

TILE = 16  # rows from which the products no longer depend on their number (measured on x86-64, one and two threads)


def whole_tiles(rows: Tensor) -> Tensor:
    """``rows`` ``[B, ...]`` with the last one repeated up to a multiple of ``TILE``."""
    missing = -len(rows) % TILE
    if missing == 0 or len(rows) == 0:
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
