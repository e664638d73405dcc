"""Marks that the user draws on a photo, over nothing or over a mask.

The browser sends strokes, boxes, points and outlines in pixels of the photo, not images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as rle

from model.episode import IGNORE
from util.data.marks import point_label
from util.errors import UserError
from util.formats.shapes import polygons_of

BRUSH, ERASER, BOX, POINT, OUTLINE = TOOLS = ("brush", "eraser", "box", "point", "outline")


@dataclass(frozen=True)
class Mark:
    """One stroke, box, point or outline.

    Attributes:
        tool: one of ``TOOLS``.
        value: the class, from 1; 0 makes pixels background.
        radius: of brush, eraser and point, in pixels of the photo.
        points: x, y; two opposite corners of a box.
    """

    tool: str
    value: int
    radius: float
    points: list[list[float]]


def drawn(label: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Return a label (H, W) uint8 with marks drawn over it: 0 background, then the classes, 255 unknown.

    Strokes, boxes and outlines cover the object. Around points the object's extent is unknown (``regions.py``). A later
    mark covers earlier ones.
    """
    out = label.copy()
    for mark in marks:
        if mark.tool == POINT:
            near = point_label([(x, y) for x, y in mark.points], out.shape, False, mark.radius)
            out[(near == IGNORE) & (out == 0)] = IGNORE
            out[near == 1] = mark.value
        elif mark.tool == OUTLINE:
            inside = rle.decode(rle.frPyObjects([np.ravel(mark.points).astype(np.float64)], *out.shape))[..., 0]
            out[inside > 0] = mark.value
        elif mark.tool == BOX:
            points, limits = np.array(mark.points), np.array(out.shape[::-1])
            (left, top), (right, bottom) = np.clip(points.min(0), 0, limits), np.clip(points.max(0), 0, limits)
            out[round(top) : round(bottom), round(left) : round(right)] = mark.value
        else:
            _stroke(out, mark, 0 if mark.tool == ERASER else mark.value)
    return out


def outline_of_part(inside: np.ndarray, x: int, y: int) -> list[list[float]]:
    """Return the outline of the part of a mask (H, W) bool that holds a pixel; UserError if none does."""
    if not inside[y, x]:
        raise UserError("nothing is marked there")
    parts = cv2.connectedComponents(inside.astype(np.uint8))[1]
    return max(polygons_of(parts == parts[y, x]), key=len).tolist()


def _stroke(label: np.ndarray, mark: Mark, value: int) -> None:
    """Set the pixels of a stroke to a value, in place."""
    cells, radius = np.floor(np.array(mark.points)).astype(np.int32), max(round(mark.radius), 0)
    cv2.polylines(label, [cells], False, value, thickness=max(2 * radius, 1))
    for end in (cells[0], cells[-1]):
        cv2.circle(label, end.tolist(), radius, value, thickness=cv2.FILLED)
