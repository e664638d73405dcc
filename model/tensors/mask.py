"""The masks of supports on any grid, and the positions that they choose: what lies outside an object is not computed.

Such tensors have sizes that depend on values, which the host must know, and each time it asks a GPU it waits until the
GPU has done all earlier work: the sizes of all supports come in one transfer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.tensors.ops import background_mask, foreground_mask, resize

Rule = Callable[[Tensor], Tensor]  # from masks on a grid, (N, 1, h, w) in 0..1, to positions (N, h, w) bool
INSIDE = 1 - 1e-6  # resized mask value from which a position lies entirely inside the object


@dataclass
class Positions:
    """Positions on N grids of L positions each, such as those of objects."""

    inside: Tensor  # (N, L) bool
    counts: list[int]  # of every grid

    def __getitem__(self, which: slice) -> "Positions":
        return Positions(self.inside[which], self.counts[which])

    @cached_property
    def places(self) -> Tensor:
        """The positions of every grid, (N, m) int64, ascending, m the largest number; others fill up the shorter."""
        order = self.inside.byte().argsort(dim=1, descending=True, stable=True)
        return order[:, : max(self.counts)]

    @cached_property
    def row_of(self) -> Tensor:
        """The number of each position's row in ``padded``, from 1, (N, L) int64; 0: it has none."""
        return self.inside.cumsum(1) * self.inside

    @property
    def index(self) -> list[Tensor]:
        """The positions chosen on every grid, N of (n,) int64, ascending."""
        return [places[:count] for places, count in zip(self.places, self.counts)]

    @property
    def flat(self) -> Tensor:
        """The positions of all grids after each other, as numbers below N L."""
        positions = self.inside.shape[1]
        return torch.cat([index + i * positions for i, index in enumerate(self.index)])

    def is_row(self) -> Tensor | None:
        """Return whether each of the ``padded`` rows is of a chosen position, (N, m) bool; None: all are."""
        return None if min(self.counts) == max(self.counts) else self.inside.gather(1, self.places)

    def padded(self, x_nl: Tensor) -> Tensor:
        """Return the rows (N, m, ...) of the positions of every grid, 0 where there are fewer."""
        grid = torch.arange(len(x_nl), device=x_nl.device).unsqueeze(1)
        rows = x_nl[grid, self.places]
        is_row = self.is_row()
        if is_row is None:
            return rows
        further = [1] * (rows.ndim - 2)
        return rows * is_row.view(*is_row.shape, *further).to(rows.dtype)


def positions_of(*inside_nl: Tensor) -> list[Positions]:
    """Return several choices of positions, (N, L) bool each, whose counts come in one transfer."""
    counts = torch.stack([inside.sum(1) for inside in inside_nl]).tolist()
    return [Positions(inside, numbers) for inside, numbers in zip(inside_nl, counts)]


class Mask:
    """The objects of n supports on the grids that a network has; ignored pixels belong to neither object nor ground."""

    def __init__(self, label_nhw: Tensor, modalities: Mapping[str, Tensor] | None = None):
        self.label = label_nhw
        self.modalities = modalities or {}  # of the supports, by name, (n, C, H, W); those that the method reads
        self.foreground = foreground_mask(label_nhw)  # the pixels of the objects, (n, 1, H, W) float32
        self._positions: dict[tuple[tuple[int, ...], Rule], Positions] = {}

    @property
    def background(self) -> Tensor:
        """The pixels of the objects' background, (n, 1, H, W) float32."""
        return background_mask(self.label)

    def on(self, size: Sequence[int]) -> Tensor:
        """Return the share of the object at every position of a grid, (n, 1, h, w); resized bilinearly."""
        return resize(self.foreground, size)

    def positions(self, size: Sequence[int], rule: Rule) -> Positions:
        """Return the positions of a grid that a rule takes, ``touched`` or ``inside``; found once."""
        key = tuple(size), rule
        if key not in self._positions:
            [self._positions[key]] = positions_of(rule(self.on(size)).flatten(1))
        return self._positions[key]


def touched(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (n, h, w) of a mask that see something of the object."""
    return mask_n1hw[:, 0] > 0


def inside(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (n, h, w) of a mask that lie entirely inside the object."""
    return mask_n1hw[:, 0] >= INSIDE
