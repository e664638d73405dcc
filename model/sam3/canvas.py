"""The canvas of FSS-SAM3: where each photo lies, the boxes around the supports' objects, and the way back.

Rectangles and boxes are x, y, width, height in pixels.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

Rectangle = tuple[int, int, int, int]
MOST = 5  # supports on a canvas
PUBLISHED_SEVERAL = 5  # shots of the published layout of several


def rectangles(shots: int, side: int, layout: str, ratio: float, swap: bool) -> list[Rectangle]:
    """Return the rectangles of K supports and, last, of the query.

    Args:
        side: S of the canvas.
        layout: vertical or horizontal for one support; l_shape (five), horizontal_strip or vertical_strip for several.
        ratio: share of the canvas that the supports take.
        swap: the query comes first; with one support.
    """
    if layout in ("vertical", "horizontal"):
        a = int(side * ratio)
        support, query = (0, 0, side, a), (0, a, side, side - a)
        if swap:
            support, query = (0, side - a, side, a), (0, 0, side, side - a)
        return [support, query] if layout == "vertical" else [_across(support), _across(query)]
    a = round(side * ratio)
    rest = side - a
    if layout == "l_shape":
        w, h = side // 3, rest // 2
        top = [(0, 0, w, a), (w, 0, w, a), (2 * w, 0, side - 2 * w, a)]
        return [*top, (0, a, a, h), (0, a + h, a, rest - h), (a, a, rest, rest)]
    u = side // shots
    strip = [(i * u, 0, u if i < shots - 1 else side - u * i, a) for i in range(shots)]
    out: list[Rectangle] = [*strip, (0, a, side, rest)]
    return out if layout == "horizontal_strip" else [_across(one) for one in out]


def _across(rectangle: Rectangle) -> Rectangle:
    x, y, width, height = rectangle
    return y, x, height, width


def paste(photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the canvas (S, S, 3) uint8 of photos (H, W, 3) uint8, each stretched to its rectangle, averaging."""
    out = np.zeros((side, side, 3), np.uint8)
    for photo, (x, y, width, height) in zip(photos, places, strict=True):
        stretched = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        out[y : y + height, x : x + width] = np.asarray(stretched)
    return out


def box_of(mask_hw: np.ndarray) -> np.ndarray | None:
    """Return the box (4,) float64 of the largest 8-connected component of the pixels 1; None for an empty mask."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask_hw == 1).astype(np.uint8), connectivity=8)
    if len(stats) == 1:  # the background alone
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return stats[largest, :4].astype(np.float64)


def on_canvas(boxes_k4: np.ndarray, photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the boxes of K supports on the canvas: centre x, centre y, width, height in 0..1, (K, 4) float32."""
    sizes = np.array([(photo.shape[1], photo.shape[0]) for photo in photos])
    start, extent = np.array([p[:2] for p in places]), np.array([p[2:] for p in places])
    low, size = boxes_k4[:, :2], boxes_k4[:, 2:]
    out = np.concatenate([start + (low + size / 2) * extent / sizes, size * extent / sizes], 1) / side
    return out.astype(np.float32)


def cut_out(map_ss: np.ndarray, place: Rectangle, size: tuple[int, int]) -> np.ndarray:
    """Return a rectangle of a map (S, S) float32 at a photo's size (H, W), nearest pixels."""
    x, y, width, height = place
    part = Image.fromarray(np.ascontiguousarray(map_ss[y : y + height, x : x + width]))
    return np.asarray(part.resize((size[1], size[0]), Image.Resampling.NEAREST))


def groups(shots: int) -> list[range]:
    """Return the supports of each canvas, at most ``MOST`` in order, of sizes as equal as possible."""
    count = -(-shots // MOST)
    edges = [i * shots // count for i in range(count + 1)]
    return [range(low, high) for low, high in pairwise(edges)]
