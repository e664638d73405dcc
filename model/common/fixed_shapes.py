"""Objects of supports for the methods that are not yet told by maps and shots (``model/encode.py``)."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.ops import resize, to_cpu
from model.tensors.object_windows import (
    Positions,
    Rule,
    Window,
    computed_together,
    fixed_shapes,
    positions_of,
    shapes_are_fixed,
    spans_of,
    window_around,
)

Choice = Rule
Chosen = Positions
chosen = positions_of
__all__ = ["Choice", "Chosen", "Window", "chosen", "computed_together", "fixed_shapes", "shapes_are_fixed", "spans_of"]


def groups_of(count: int, x: Tensor) -> list[slice]:
    """Return which of ``count`` images, shots or episodes are computed in one call: all, or each by itself."""
    size = count if computed_together(x) else 1
    return [slice(i, i + size) for i in range(0, count, size)]


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
        return window_around(self.spans, self.mask.shape[-2:], before, after, stride)


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
