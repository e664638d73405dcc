"""Positions chosen by a mask, and windows around them: what is 0 outside an object is computed only where it reaches.

Such tensors have sizes that depend on values, which the host must know, and each time it asks a GPU it waits until the
GPU has done all earlier work. So the sizes of all shots and episodes come in one transfer.

An exported graph has fixed sizes: while a network is traced, rows of positions outside the mask are zeros, which leave
sums over positions and the greatest of clamped cosines as they are, and a window is the whole grid.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import joined, layout_of, resize, to_cpu

Choice = Callable[[Tensor], Tensor]  # from masks on a grid, (N, 1, h, w) in 0..1, to positions (N, h, w) bool

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


def computed_together(x: Tensor) -> bool:
    """Return whether images, shots and episodes beside ``x`` are computed in one call, as one tensor.

    A GPU is then asked for one kernel where it would be asked for many. A CPU gains nothing: it takes them one by one,
    with less memory and without padding, unless the shapes are fixed.
    """
    return shapes_are_fixed() or torch.compiler.is_compiling() or not x.is_cpu


def groups_of(count: int, x: Tensor) -> list[slice]:
    """Return which of ``count`` images, shots or episodes are computed in one call: all, or each by itself."""
    size = count if computed_together(x) else 1
    return [slice(i, i + size) for i in range(0, count, size)]


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
        if padded.shape[-2:] == (tall, wide):
            return padded
        windows = []
        for x_1chw, (row, column) in zip(padded.split(1), self.corners):
            top, left = row * self.stride, column * self.stride
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
        out = background.expand(batch, -1, *cells, *others).clone(memory_format=layout_of(x))
        for i, (top, left) in enumerate(self.corners):
            out[i, :, top : top + self.rows, left : left + self.columns] = x[i]
        return out


@dataclass
class Chosen:
    """Positions chosen on N grids of L positions each."""

    inside: Tensor  # (N, L) bool
    counts: list[int]  # of every grid; with fixed shapes L
    _places: Tensor | None = None
    _amounts: Tensor | None = None

    def __getitem__(self, which: slice) -> "Chosen":
        return Chosen(self.inside[which], self.counts[which])

    @property
    def index(self) -> list[Tensor]:
        """The positions chosen on every grid, N of (n,) int64, ascending."""
        return [places[:count] for places, count in zip(self.places, self.counts)]

    def amounts(self) -> Tensor:
        """Return how many positions are chosen on every grid, at least 1, (N,) int64."""
        if self._amounts is None:
            self._amounts = self.inside.sum(1).clamp(min=1)
        return self._amounts

    @property
    def flat(self) -> Tensor:
        """The positions of all grids after each other, as numbers below N L; with fixed shapes all."""
        positions = self.inside.shape[1]
        return torch.cat([index + i * positions for i, index in enumerate(self.index)])

    @property
    def places(self) -> Tensor:
        """The positions of every grid, (N, m) int64, ascending, m the largest number; others fill up the shorter."""
        if self._places is None and shapes_are_fixed():
            self._places = torch.arange(self.inside.shape[1], device=self.inside.device).expand_as(self.inside)
        elif self._places is None:
            order = self.inside.byte().argsort(dim=1, descending=True, stable=True)
            self._places = order[:, : max(self.counts)]
        return self._places

    def is_row(self) -> Tensor | None:
        """Return whether each of the ``padded`` rows is of a chosen position, (N, m) bool; None: all are."""
        if shapes_are_fixed():
            return self.inside
        return None if min(self.counts) == max(self.counts) else self.inside.gather(1, self.places)

    def padded(self, x_nl: Tensor) -> Tensor:
        """Return the rows (N, m, ...) of the positions of every grid, 0 where there are fewer."""
        rows = x_nl
        is_row = self.is_row()
        if not shapes_are_fixed():
            grid = torch.arange(len(self.places), device=x_nl.device).unsqueeze(1)
            rows = x_nl[grid, self.places]
        if is_row is None:
            return rows
        return rows * is_row.view(*is_row.shape, *[1] * (rows.ndim - 2)).to(rows.dtype)

    def rows(self, x_nl: Tensor) -> list[Tensor]:
        """Return the rows (n, ...) of the positions of every grid, from (N, L, ...); with fixed shapes L, 0 outside."""
        if shapes_are_fixed():
            return list(self.padded(x_nl).unbind())
        return [x.index_select(0, index) for x, index in zip(x_nl, self.index)]


def chosen(*inside_nl: Tensor) -> list[Chosen]:
    """Return several choices of positions, (N, L) bool each, whose counts come in one transfer."""
    if shapes_are_fixed():
        return [Chosen(inside, [inside.shape[1]] * len(inside)) for inside in inside_nl]
    counts = torch.stack([inside.sum(1) for inside in inside_nl]).tolist()
    return [Chosen(inside, numbers) for inside, numbers in zip(inside_nl, counts)]


@dataclass
class OnGrid:
    """The objects of N supports on a grid."""

    mask: Tensor  # (N, 1, h, w) in 0..1
    chosen: dict[str, Chosen]  # of the names that a method asked for
    spans: list[list[int]]  # of each object: first row, last row, first column and last column

    def __getitem__(self, which: slice) -> "OnGrid":
        return OnGrid(self.mask[which], {k: c[which] for k, c in self.chosen.items()}, self.spans[which])

    def window(self, before: int, after: int, stride: int = 1) -> Window:
        """Return the windows of the objects with a margin before and after, which ends at the grid's edges.

        All have the size of the largest; one cell for no object.
        """
        corners = []  # of rows, then of columns
        extents = []
        for axis, side in enumerate(self.mask.shape[-2:]):
            begins = []
            longest = 0
            for span in self.spans:
                first, last = span[2 * axis : 2 * axis + 2]
                begin = max(first - before, 0) // stride if last >= 0 else 0
                stop = min(last + after, side - 1) // stride + 1 if last >= 0 else 1
                begins.append(begin)
                longest = max(longest, stop - begin)
            cells = -(-side // stride)
            corners.append([min(begin, cells - longest) for begin in begins])
            extents.append(longest)
        return Window(list(zip(*corners)), extents[0], extents[1], stride)


class Objects:
    """The objects of N supports on the grids that a network has; their sizes come in one transfer for each grid."""

    def __init__(self, mask_n1ss: Tensor, **choices: Choice):
        self.mask = self._whole = mask_n1ss
        self._choices, self._which = choices, slice(None)
        self._grids: dict[tuple[int, ...], OnGrid] = {}

    def __getitem__(self, which: slice) -> "Objects":
        """Return some of the objects; a transfer serves them all."""
        rows = range(len(self._whole))[self._which][which]
        if len(rows) == len(self._whole):
            return self  # whose choices keep what is computed of them
        part = copy(self)
        part.mask, part._which = self.mask[which], slice(rows.start, rows.stop)
        return part

    def on(self, size: Sequence[int]) -> OnGrid:
        """Return the objects on a grid; masks are resized bilinearly."""
        return self.on_all([size])[0]

    @torch.no_grad()
    def on_all(self, sizes: Sequence[Sequence[int]]) -> list[OnGrid]:
        """Return the objects on several grids, in one transfer."""
        new = [size for size in dict.fromkeys(map(tuple, sizes)) if size not in self._grids]
        masks = [resize(self._whole, size) for size in new]
        choices = [self._choose(mask) for mask in masks]
        extents = self._full_extents(new) if shapes_are_fixed() else _extents(masks, choices)
        for size, mask, chosen_of_size, rows in zip(new, masks, choices, extents):
            spans = [row[:4] for row in rows]
            by_name = {}
            for column, (name, inside_nl) in enumerate(chosen_of_size.items(), start=4):
                by_name[name] = Chosen(inside_nl, [row[column] for row in rows])
            self._grids[size] = OnGrid(mask, by_name, spans)
        grids = [self._grids[tuple(size)] for size in sizes]
        return grids if self._which == slice(None) else [grid[self._which] for grid in grids]

    def _choose(self, mask_n1hw: Tensor) -> dict[str, Tensor]:
        """Return for each name of a choice which positions it takes, (N, L)."""
        return {name: choose(mask_n1hw).flatten(1) for name, choose in self._choices.items()}

    def _full_extents(self, sizes: Sequence[Sequence[int]]) -> list[list[list[int]]]:
        """Return what ``_extents`` does for objects that are as large as the grid."""
        out = []
        for height, width in sizes:
            row = [0, height - 1, 0, width - 1] + [height * width] * len(self._choices)
            out.append([row] * len(self._whole))
        return out


def _extents(masks: Sequence[Tensor], choices: Sequence[dict[str, Tensor]]) -> list[list[list[int]]]:
    """Return for each grid the rows of its objects: their spans, then the counts of each choice."""
    facts = []
    for mask, by_name in zip(masks, choices):
        counts = [inside_nl.sum(1, keepdim=True) for inside_nl in by_name.values()]
        facts.append(torch.cat([spans_of(mask), *counts], dim=1))
    return [rows.tolist() for rows in to_cpu(facts)]


def objects_of_shots(mask_bk1ss: Tensor, **choices: Choice) -> Callable[[slice], Objects]:
    """Return a function that gives the objects of a group of n shots, n B of them, shot after shot."""
    batch = len(mask_bk1ss)
    whole = Objects(mask_bk1ss.transpose(0, 1).flatten(0, 1), **choices)
    return lambda group: whole[group.start * batch : group.stop * batch]


def spans_of(mask_n1hw: Tensor) -> Tensor:
    """Return the first and the last row and column where a mask is not 0, (N, 4) int64; last < first for none."""
    occupied = mask_n1hw[:, 0] != 0
    out = []
    for line in (occupied.any(2), occupied.any(1)):
        position = torch.arange(line.shape[1], device=line.device)
        out += [position.where(line, line.shape[1]).amin(1), position.where(line, -1).amax(1)]
    return torch.stack(out, dim=1)
