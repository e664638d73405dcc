"""Very large photos in overlapping square tiles: where they lie, and how what they say is blended."""

from __future__ import annotations

import numpy as np

from util.errors import UserError

OVERLAP = 0.25  # of a tile's side, between neighbours
MIN_TILE = 32

Window = tuple[slice, slice]  # rows, columns


def windows(shape: tuple[int, int], tile: int | None) -> list[Window]:
    """Return the tiles that cover a photo of ``shape`` (H, W); one for all of it where it is no larger than a tile."""
    if tile is None:
        return [(slice(0, shape[0]), slice(0, shape[1]))]
    rows, columns = (_spans(length, tile) for length in shape)
    return [(row, column) for row in rows for column in columns]


def check_tile(tile: int | None) -> None:
    """Refuse a tile that is too small to show anything.

    Raises:
        UserError: it is.
    """
    if tile is not None and tile < MIN_TILE:
        raise UserError(f"--tile {tile}: must be at least {MIN_TILE} pixels of the photo")


def _spans(length: int, tile: int) -> list[slice]:
    """Return spans of one length, evenly spread, neighbours overlapping by at least ``OVERLAP`` of it."""
    if length <= tile:
        return [slice(0, length)]
    count = int(np.ceil((length - tile) / (tile * (1 - OVERLAP)))) + 1
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [slice(start, start + tile) for start in starts]


def blend_weight(shape: tuple[int, int]) -> np.ndarray:
    """Return how much each pixel of a tile counts, (H, W) float32: less and less within the overlap at its edges."""
    return np.outer(*(_ramp(length) for length in shape)).astype(np.float32)


def _ramp(length: int) -> np.ndarray:
    from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(from_edge / max(length * OVERLAP, 1), 1)
