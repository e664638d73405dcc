"""Split very large photos into overlapping square tiles, and blend the maps of the tiles."""

import numpy as np
from torch import Tensor

from util.evaluate.edges import refined

OVERLAP = 0.25  # of a tile's side, between neighbours
MIN_TILE = 32  # pixels

Window = tuple[slice, slice]  # rows, columns


class TiledPhoto:
    """A photo, its windows, and the sum of the maps that the network returned for them.

    Attributes:
        image: (H, W, 3) uint8.
        windows: the parts of the photo that the network sees; one without tiles.
        missing: number of windows without maps so far.
        evidence: the model's own numbers on the presence of each class (classes, E) in each window, if it has any.
    """

    def __init__(self, image: np.ndarray, classes: int, tile: int | None):
        self.image, self.windows = image, windows(image.shape[:2], tile)
        self.missing = len(self.windows)
        self.evidence: list[Tensor] = []
        self._sum = np.zeros((classes, *image.shape[:2]), np.float32)
        self._weight = np.zeros(image.shape[:2], np.float32)

    def add(self, window: Window, maps: list[np.ndarray]) -> None:
        """Add the maps of one window, one (H', W') float32 for each class."""
        self.missing -= 1
        if len(self.windows) == 1:
            self._sum[:] = maps
            return
        weight = blend_weight(maps[0].shape)
        self._weight[window] += weight
        for total, values in zip(self._sum, maps, strict=True):
            total[window] += weight * values

    def blended(self) -> np.ndarray:
        """Return the weighted mean of all maps, (classes, H, W) float32."""
        return self._sum if len(self.windows) == 1 else self._sum / self._weight

    def refine(self, first: int = 0) -> np.ndarray:
        """Move the edges of the maps from the ``first`` on to the photo's, in each window; return as ``blended``."""
        maps, self.missing = self.blended(), len(self.windows)
        self._sum, self._weight = np.zeros(maps.shape, np.float32), np.zeros(maps.shape[1:], np.float32)
        for rows, columns in self.windows:
            of_window = maps[:, rows, columns]
            self.add((rows, columns), [*of_window[:first], *refined(self.image[rows, columns], of_window[first:])])
        return self.blended()


def windows(shape: tuple[int, ...], tile: int | None) -> list[Window]:
    """Return the tiles that cover a photo of ``shape`` (H, W), evenly spread; neighbours overlap by at least a quarter.

    A photo that is no larger than a tile has one.
    """
    rows, columns = (_spans(length, tile or length) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _spans(length: int, tile: int) -> list[slice]:
    """Return the tiles' extents along one side."""
    tile = min(tile, length)
    count = int(np.ceil((length - tile) / (tile * (1 - OVERLAP)))) + 1
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [slice(start, start + tile) for start in starts]


def blend_weight(shape: tuple[int, ...]) -> np.ndarray:
    """Return the weight of each pixel of a tile of ``shape`` (H, W), float32; it falls towards the edges."""
    ramps = []
    for length in shape:
        from_edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
        ramps.append(np.minimum(from_edge / max(length * OVERLAP, 1), 1))
    return np.outer(*ramps).astype(np.float32)
