"""Windows: a grid of tokens cut into squares for attention; every second block shifts them."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

WINDOW = 8  # side of a window in tokens
SHIFT = WINDOW // 2  # rows and columns of zeros around a shifted grid, which then has one more window per axis


def to_windows(x_bggc: Tensor, shifted: bool) -> Tensor:
    """Return a grid's windows, row by row, with their tokens, row by row: (B, N, T, C).

    The side of the grid is a multiple of ``WINDOW``. A shifted grid is padded with zeros instead of wrapped around, and
    the tokens of the padding take part like the others.
    """
    if shifted:
        x_bggc = F.pad(x_bggc, (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
    windows = x_bggc.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))  # (B, rows, WINDOW, columns, WINDOW, C)
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x_bntc: Tensor, shifted: bool) -> Tensor:
    """Return the grid (B, G, G, C) from its windows, without the padding: the inverse of ``to_windows``."""
    rows = math.isqrt(x_bntc.shape[1])
    grid = x_bntc.unflatten(2, (WINDOW, WINDOW)).unflatten(1, (rows, rows)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return grid[:, SHIFT:-SHIFT, SHIFT:-SHIFT] if shifted else grid
