"""The canvas of FSS-SAM3: where each photo lies, the boxes around the supports' objects, and the way back.

Rectangles and boxes are x, y, width, height in pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

Rectangle = tuple[int, int, int, int]


def rectangles(shots: int, side: int, layout: str, ratio: float, swap: bool = False) -> list[Rectangle]:
    """Return the rectangles of K supports and, last, of the query on a canvas of ``side``.

    Layouts are vertical or horizontal for one support (``swap``: the query first), l_shape (five), horizontal_strip or
    vertical_strip for several; the supports take ``ratio``.
    """
    a = int(side * ratio) if layout in ("vertical", "horizontal") else round(side * ratio)
    rest, u = side - a, side // shots
    if layout == "l_shape":
        w, h = side // 3, rest // 2
        top = [(0, 0, w, a), (w, 0, w, a), (2 * w, 0, side - 2 * w, a)]
        return [*top, (0, a, a, h), (0, a + h, a, rest - h), (a, a, rest, rest)]
    if layout in ("vertical", "horizontal"):
        places = [(0, rest, side, a), (0, 0, side, rest)] if swap else [(0, 0, side, a), (0, a, side, rest)]
    else:
        places = [(i * u, 0, u if i < shots - 1 else side - u * i, a) for i in range(shots)] + [(0, a, side, rest)]
    return places if layout in ("vertical", "horizontal_strip") else [(y, x, h, w) for x, y, w, h in places]


def paste(photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the canvas (S, S, 3) uint8 of photos (H, W, 3) uint8, each stretched to its rectangle, averaging."""
    out = np.zeros((side, side, 3), np.uint8)
    for photo, (x, y, w, h) in zip(photos, places, strict=True):
        out[y : y + h, x : x + w] = np.asarray(Image.fromarray(photo).resize((w, h), Image.Resampling.BILINEAR))
    return out


def box_of(mask_hw: np.ndarray) -> np.ndarray | None:
    """Return the box (4,) float64 of the largest 8-connected component of the pixels 1; None for an empty mask."""
    *_, stats, _ = cv2.connectedComponentsWithStats((mask_hw == 1).astype(np.uint8), connectivity=8)
    objects = stats[1:]  # after the background
    return objects[objects[:, cv2.CC_STAT_AREA].argmax(), :4].astype(np.float64) if len(objects) else None


def on_canvas(boxes_k4: np.ndarray, photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the boxes of K supports on the canvas: centre x, centre y, width, height in 0..1, (K, 4) float32."""
    low, extent, at = boxes_k4[:, :2], boxes_k4[:, 2:], np.array(places, float)
    scale = at[:, 2:] / [photo.shape[1::-1] for photo in photos]
    return (np.concatenate([at[:, :2] + (low + extent / 2) * scale, extent * scale], 1) / side).astype(np.float32)


def cut_out(map_ss: np.ndarray, place: Rectangle, size: tuple[int, int]) -> np.ndarray:
    """Return a rectangle of a map (S, S) float32 at a photo's size (H, W), nearest pixels."""
    x, y, w, h = place
    part = Image.fromarray(np.ascontiguousarray(map_ss[y : y + h, x : x + w]))
    return np.array(part.resize(size[::-1], Image.Resampling.NEAREST))
