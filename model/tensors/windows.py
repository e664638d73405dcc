"""Windows around the objects of supports: what is 0 outside an object is computed only where it reaches.

And whether windows of attention or scans fill a grid: ``uneven_grid``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tensors.memory_format import memory_format_of
from model.tensors.ops import joined


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
        tall = self.rows * self.stride
        wide = self.columns * self.stride
        if padded.shape[-2:] == (tall, wide):
            return padded
        windows = []
        for x_1chw, (row, column) in zip(padded.split(1), self.corners):
            top = row * self.stride
            left = column * self.stride
            windows.append(x_1chw[..., top : top + tall, left : left + wide])
        return joined(windows)  # in the layout of the map

    def place(self, x: Tensor, background_c: Tensor, size: Sequence[int]) -> Tensor:
        """Return maps of all cells of a grid of ``size`` positions: ``x`` in the windows, ``background`` elsewhere.

        Cells are the third and fourth dimension; any dimensions may follow.
        """
        cells = [-(-side // self.stride) for side in size]
        if [self.rows, self.columns] == cells:
            return x
        batch, channels, _, _, *others = x.shape
        background = background_c.to(x.dtype).view(1, channels, 1, 1, *[1] * len(others))
        out = background.expand(batch, -1, *cells, *others).clone(memory_format=memory_format_of(x))
        for i, (top, left) in enumerate(self.corners):
            out[i, :, top : top + self.rows, left : left + self.columns] = x[i]
        return out


def known_spans(masks: Sequence[Tensor]) -> list[list[list[int]]]:
    """Return ``spans_of`` of masks on several grids, in one transfer."""
    return torch.stack([spans_of(mask) for mask in masks]).tolist()


def spans_of(mask_n1hw: Tensor) -> Tensor:
    """Return the first and the last row and column where a mask is not 0, (N, 4) int64; last < first for none."""
    occupied = mask_n1hw[:, 0] != 0
    out = []
    for line in (occupied.any(2), occupied.any(1)):
        position = torch.arange(line.shape[1], device=line.device)
        first = position.where(line, line.shape[1]).amin(1)
        last = position.where(line, -1).amax(1)
        out += [first, last]
    return torch.stack(out, dim=1)


def window_around(
    spans: Sequence[Sequence[int]], size: Sequence[int], before: int, after: int, stride: int = 1
) -> Window:
    """Return the windows of objects with these spans on a grid, with a margin before and after, up to its edges.

    All have the size of the largest; one cell for no object.
    """
    corners = []  # of rows, then of columns
    extents = []
    for axis, side in enumerate(size):
        ranges = []  # first cell of each object with its margins, and that after the last one
        for span in spans:
            first, last = span[2 * axis : 2 * axis + 2]
            begin = max(first - before, 0) // stride
            stop = min(last + after, side - 1) // stride + 1
            ranges.append((begin, stop) if last >= 0 else (0, 1))
        longest = max(stop - begin for begin, stop in ranges)
        last_corner = -(-side // stride) - longest
        corners.append([min(begin, last_corner) for begin, _ in ranges])
        extents.append(longest)
    return Window(list(zip(*corners)), extents[0], extents[1], stride)


def uneven_grid(grid: int, window: int) -> tuple[str, str] | None:
    """Return (key, problem and remedy) if windows do not fill a working grid, both given by their sides; else None."""
    below = grid // window * window
    if below == grid:
        return None
    return "grid", f"= {grid} is not a multiple of {window}; nearest: {below}, {below + window}"
