"""Positions chosen by a mask, and windows around them: what is 0 outside an object is computed only where it reaches.

Such tensors have sizes that depend on values. An exported graph has fixed sizes: while a network is traced, rows of
positions outside the mask are zeros, which leave sums over positions and the greatest of clamped cosines as they are,
and a window is the whole grid.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_FIXED: ContextVar[bool] = ContextVar("fixed_shapes", default=False)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Let no shape depend on the values of a tensor while this lasts."""
    token = _FIXED.set(True)
    try:
        yield
    finally:
        _FIXED.reset(token)


def shapes_are_fixed() -> bool:
    """Return whether no shape may depend on the values of a tensor."""
    return _FIXED.get()


def rows_inside(rows: Tensor, inside_l: Tensor) -> Tensor:
    """Return the rows (L, ...) inside a mask (L,) bool, (n, ...); with fixed shapes all L, 0 outside."""
    if shapes_are_fixed():
        return rows * inside_l.view(-1, *[1] * (rows.ndim - 1)).to(rows.dtype)
    return rows[inside_l]


@dataclass(frozen=True)
class Window:
    """One window for each of B maps, one size for all, in cells of ``stride`` x ``stride`` positions."""

    corners: list[tuple[int, int]]  # top, left of each map's window, in cells
    rows: int  # in cells
    columns: int
    stride: int

    def crop(self, x_bchw: Tensor) -> Tensor:
        """Return each map's window, (B, C, rows * stride, columns * stride); beyond the grid it is 0."""
        below, right = (-side % self.stride for side in x_bchw.shape[-2:])
        padded = F.pad(x_bchw, (0, right, 0, below)) if below or right else x_bchw
        tall, wide = self.rows * self.stride, self.columns * self.stride
        places = [(top * self.stride, left * self.stride) for top, left in self.corners]
        return torch.stack([x[:, top : top + tall, left : left + wide] for x, (top, left) in zip(padded, places)])

    def place(self, x: Tensor, background_c: Tensor, size: Sequence[int]) -> Tensor:
        """Return maps of all cells of a grid of ``size`` positions: ``x`` in the windows, ``background`` elsewhere.

        Cells are the third and fourth dimension of ``x`` and of the result; any dimensions may follow.
        """
        cells = [-(-side // self.stride) for side in size]
        if [self.rows, self.columns] == cells:
            return x
        batch, channels, _, _, *others = x.shape
        background = background_c.to(x.dtype).view(1, channels, 1, 1, *[1] * len(others))
        out = background.repeat(batch, 1, *cells, *others)
        for i, (top, left) in enumerate(self.corners):
            out[i, :, top : top + self.rows, left : left + self.columns] = x[i]
        return out


def window_around(mask_b1hw: Tensor, before: int, after: int, stride: int = 1) -> Window:
    """Return the windows of the positions where a mask is not 0, with a margin of positions on both sides.

    The margin ends at the edges of the grid. All windows have the size of the largest; one cell if there is no object.
    """
    cells = [-(-side // stride) for side in mask_b1hw.shape[-2:]]
    if shapes_are_fixed():
        return Window([(0, 0)] * len(mask_b1hw), cells[0], cells[1], stride)
    occupied = mask_b1hw[:, 0] != 0
    spans = [[_span(line, before, after, stride) for line in occupied.any(other)] for other in (2, 1)]
    rows, columns = (max(end - begin for begin, end in of_all) for of_all in spans)
    limits = cells[0] - rows, cells[1] - columns
    tops, lefts = ([min(begin, limit) for begin, _ in of_all] for of_all, limit in zip(spans, limits))
    return Window(list(zip(tops, lefts)), rows, columns, stride)


def _span(occupied: Tensor, before: int, after: int, stride: int) -> tuple[int, int]:
    """Return the first cell and the one after the last along one dimension."""
    positions = occupied.nonzero()[:, 0].tolist()
    if not positions:
        return 0, 1
    first, last = max(positions[0] - before, 0), min(positions[-1] + after, len(occupied) - 1)
    return first // stride, last // stride + 1
