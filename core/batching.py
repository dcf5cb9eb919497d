"""Batches whose rows do not depend on how many there are.

Matrix products take another path for a handful of rows, and the last bits differ; over twelve weeks that grows. Padded
to whole tiles, a row's result is the same in any batch.

A batch of few numbers each (``[B, 4]``, say) is fastest with its memory turned, number by number: every loop then runs
along the batch. Element-wise operations keep that layout; :func:`take` and :func:`product` begin it.
"""

import torch
from torch import Tensor

from core.signals import DAYS

# Rows from which a product no longer depends on their number (16, measured on x86-64 with one and two threads), and a whole
# number of what element-wise loops take at once (two vectors: 32 numbers with AVX-512, 16 with AVX2). What is left over goes
# another way, on which exp, say, is rounded differently.
TILE = 32


def whole_tiles(rows: Tensor) -> Tensor:
    """``rows`` ``[B, ...]`` with the last one repeated up to a multiple of ``TILE``."""
    missing = -len(rows) % TILE
    if missing == 0 or len(rows) == 0:
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def take(table: Tensor, rows: Tensor) -> Tensor:
    """``table[rows]`` ``[B, K]`` of a table ``[N, K]``, laid out number by number; best if the table is too."""
    return table.T.index_select(1, rows).T


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix`` ``[B, K]``, laid out number by number."""
    return (matrix.T @ x.T).T


def turned(table: Tensor) -> Tensor:
    """The same ``[N, K]``, laid out number by number."""
    return table.T.contiguous().T


def over_days(week: Tensor, factor: float) -> Tensor:
    """The sum over days of ``[7, C, B]``, times ``factor``: ``[C, B]``; as a product, whose order no batch changes."""
    return torch.mm(week.new_full((1, DAYS), factor), week.flatten(1)).view(week.shape[1:])
