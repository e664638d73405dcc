"""The masks of supports on any grid: positions of their objects and windows around them.

What is 0 outside an object is computed only where it reaches. Such tensors have sizes that depend on values, which the
host must know, and each time it asks a GPU it waits until the GPU has done all earlier work: the sizes of all supports
come in one transfer.

An exported graph has fixed sizes: while a network is traced, rows of positions outside the mask are zeros, which leave
sums over positions and the greatest of clamped cosines as they are, and a window is the whole grid.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tensors.ops import background_mask, foreground_mask, joined, layout_of, resize, to_cpu

Rule = Callable[[Tensor], Tensor]  # from masks on a grid, (N, 1, h, w) in 0..1, to positions (N, h, w) bool
INSIDE = 1 - 1e-6  # resized mask value from which a position lies entirely inside the object

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
class Positions:
    """Positions on N grids of L positions each, such as those of objects."""

    inside: Tensor  # (N, L) bool
    counts: list[int]  # of every grid; with fixed shapes L
    _places: Tensor | None = None
    _amounts: Tensor | None = None

    def __getitem__(self, which: slice) -> "Positions":
        return Positions(self.inside[which], self.counts[which])

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

    def in_window(self, rows_nmc: Tensor, window: Window, size: Sequence[int]) -> Tensor:
        """Return rows of ``padded`` at every position of the windows, (N, r r', C), 0 where there is no object."""
        if rows_nmc.shape[1] == self.inside.shape[1]:  # of all positions of the grid
            return window.crop(rows_nmc.transpose(1, 2).unflatten(2, tuple(size))).flatten(2).transpose(1, 2)
        number = (self.inside.cumsum(1) * self.inside).unflatten(1, tuple(size)).unsqueeze(1)  # from 1; 0: no object
        row_of_each = window.crop(number).flatten(1)  # (N, r r')
        grid = torch.arange(len(rows_nmc), device=rows_nmc.device).unsqueeze(1)
        return F.pad(rows_nmc, (0, 0, 1, 0))[grid, row_of_each]


def positions_of(*inside_nl: Tensor) -> list[Positions]:
    """Return several choices of positions, (N, L) bool each, whose counts come in one transfer."""
    if shapes_are_fixed():
        return [Positions(inside, [inside.shape[1]] * len(inside)) for inside in inside_nl]
    counts = torch.stack([inside.sum(1) for inside in inside_nl]).tolist()
    return [Positions(inside, numbers) for inside, numbers in zip(inside_nl, counts)]


class Mask:
    """The objects of n supports on the grids that a network has; ignored pixels belong to neither object nor ground."""

    def __init__(self, label_nhw: Tensor):
        self.label = label_nhw
        self.foreground = foreground_mask(label_nhw)  # the pixels of the objects, (n, 1, H, W) float32
        self._positions: dict[tuple[tuple[int, ...], Rule], Positions] = {}
        self._spans: dict[tuple[int, ...], list[list[int]]] = {}  # of each object: see ``spans_of``

    @property
    def background(self) -> Tensor:
        """The pixels of the objects' background, (n, 1, H, W) float32."""
        return background_mask(self.label)

    def on(self, size: Sequence[int]) -> Tensor:
        """Return the share of the object at every position of a grid, (n, 1, h, w); resized bilinearly."""
        return resize(self.foreground, size)

    def positions(self, size: Sequence[int], rule: Rule) -> Positions:
        """Return the positions of a grid that a rule takes, such as ``touched`` or ``inside``."""
        self.measure([size], rule)
        return self._positions[tuple(size), rule]

    def window(self, size: Sequence[int], before: int, after: int, stride: int = 1) -> Window:
        """Return the windows of the objects on a grid, with a margin before and after, which ends at its edges.

        All have the size of the largest; one cell for no object.
        """
        self.measure([size])
        return window_around(self._spans[tuple(size)], size, before, after, stride)

    def measure(self, sizes: Iterable[Sequence[int]], *further: Rule) -> None:
        """Measure the objects on grids, once and in one transfer: their spans, and their positions by every rule."""
        new = []
        for size in dict.fromkeys(tuple(size) for size in sizes):
            rules = [rule for rule in (touched, inside, *further) if (size, rule) not in self._positions]
            if rules or size not in self._spans:
                mask = self.on(size)
                new.append(OnGrid(size, mask, {rule: rule(mask).flatten(1) for rule in rules}))
        if shapes_are_fixed():
            facts = [grid.facts_of_whole() for grid in new]
        else:
            facts = [rows.tolist() for rows in to_cpu([grid.facts() for grid in new])]
        for grid, rows in zip(new, facts, strict=True):
            self._spans[grid.size] = [row[:4] for row in rows]
            for column, (rule, taken) in enumerate(grid.taken.items(), start=4):
                self._positions[grid.size, rule] = Positions(taken, [row[column] for row in rows])


@dataclass
class OnGrid:
    """The objects of n supports on a grid, and the positions that rules take."""

    size: tuple[int, ...]
    mask: Tensor  # (n, 1, h, w)
    taken: dict[Rule, Tensor]  # (n, L) bool of each rule

    def facts(self) -> Tensor:
        """Return the spans of the objects and the numbers of positions by every rule, (n, 4 + rules)."""
        counts = [taken.sum(1, keepdim=True) for taken in self.taken.values()]
        return torch.cat([spans_of(self.mask), *counts], dim=1)

    def facts_of_whole(self) -> list[list[int]]:
        """Return ``facts`` of objects that are as large as the grid."""
        height, width = self.size
        return [[0, height - 1, 0, width - 1] + [height * width] * len(self.taken)] * len(self.mask)


def touched(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (n, h, w) of a mask that see something of the object."""
    return mask_n1hw[:, 0] > 0


def inside(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (n, h, w) of a mask that lie entirely inside the object."""
    return mask_n1hw[:, 0] >= INSIDE


def window_around(
    spans: Sequence[Sequence[int]], size: Sequence[int], before: int, after: int, stride: int = 1
) -> Window:
    """Return the windows of objects, of each of which ``spans`` has first row, last row, first and last column."""
    corners = []  # of rows, then of columns
    extents = []
    for axis, side in enumerate(size):
        begins = []
        longest = 0
        for span in spans:
            first, last = span[2 * axis : 2 * axis + 2]
            begin = max(first - before, 0) // stride if last >= 0 else 0
            stop = min(last + after, side - 1) // stride + 1 if last >= 0 else 1
            begins.append(begin)
            longest = max(longest, stop - begin)
        cells = -(-side // stride)
        corners.append([min(begin, cells - longest) for begin in begins])
        extents.append(longest)
    return Window(list(zip(*corners)), extents[0], extents[1], stride)


def spans_of(mask_n1hw: Tensor) -> Tensor:
    """Return the first and the last row and column where a mask is not 0, (N, 4) int64; last < first for none."""
    occupied = mask_n1hw[:, 0] != 0
    out = []
    for line in (occupied.any(2), occupied.any(1)):
        position = torch.arange(line.shape[1], device=line.device)
        out += [position.where(line, line.shape[1]).amin(1), position.where(line, -1).amax(1)]
    return torch.stack(out, dim=1)
