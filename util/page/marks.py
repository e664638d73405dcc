"""Marks that the user draws on a photo, as a support's label or a correction of a mask.

The browser sends strokes, boxes and points in pixels of the photo, not images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from model.episode import IGNORE
from util.data.marks import point_label

BRUSH, ERASER, BOX, POINT = TOOLS = ("brush", "eraser", "box", "point")


@dataclass(frozen=True)
class Mark:
    """One stroke, box or point.

    Attributes:
        tool: one of ``TOOLS``.
        value: the class, from 1.
        radius: of brush, eraser and point, in pixels of the photo.
        points: x, y; two opposite corners of a box.
    """

    tool: str
    value: int
    radius: float
    points: list[list[float]]


def support_label(marks: Sequence[Mark], value: int, shape: tuple[int, int]) -> np.ndarray:
    """Return what the marks say about one class, (H, W) uint8: 1 object, 0 background, 255 unknown.

    Strokes and boxes cover the object. Around points the object's extent is unknown (``regions.py``). A later mark
    covers earlier ones, also those of other classes.
    """
    label = np.zeros(shape, np.uint8)
    for mark in marks:
        if mark.tool == POINT:
            drawn = point_label([(x, y) for x, y in mark.points], shape, False, mark.radius)
            if mark.value == value:
                label[(drawn == IGNORE) & (label == 0)] = IGNORE
            label[drawn == 1] = mark.value == value
        else:
            _draw(label, mark, int(mark.value == value and mark.tool != ERASER), 1.0)
    return label


def corrected(mask: np.ndarray, marks: Sequence[Mark], scale: float = 1.0) -> np.ndarray:
    """Return a mask (H, W) uint8 with the marks drawn into it; the eraser makes pixels background.

    Args:
        scale: side of a pixel of the photo in pixels of ``mask``.
    """
    out = mask.copy()
    for mark in marks:
        _draw(out, mark, 0 if mark.tool == ERASER else mark.value, scale)
    return out


def _draw(mask: np.ndarray, mark: Mark, value: int, scale: float) -> None:
    """Set the pixels of a stroke or box to a value, in place."""
    points = np.array(mark.points) * scale
    if mark.tool == BOX:
        limits = np.array(mask.shape[::-1])
        (left, top), (right, bottom) = np.clip(points.min(0), 0, limits), np.clip(points.max(0), 0, limits)
        if min(right - left, bottom - top) >= 1:
            mask[round(top) : round(bottom), round(left) : round(right)] = value
        return
    cells = np.floor(points).astype(np.int32)
    radius = max(round(mark.radius * scale), 0)
    cv2.polylines(mask, [cells], False, value, thickness=max(2 * radius, 1))
    for end in (cells[0], cells[-1]):
        cv2.circle(mask, end.tolist(), radius, value, thickness=cv2.FILLED)
