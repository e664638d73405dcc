"""Marks as the browser sends them, strokes, boxes, points and outlines in pixels of the photo, and the masks they give.

A mask of the page holds 0 for background, then the page's classes, and 255 where it is unknown.
"""

from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
from pycocotools import mask as rle

from annotations.marks import point_label
from util.files.palette import IGNORE

# tools
BRUSH = "brush"
ERASER = "eraser"
BOX = "box"
POINT = "point"
OUTLINE = "outline"


class Mark(TypedDict):
    """One stroke, box, point or outline."""

    tool: str
    value: int  # the class, from 1; 0 makes pixels background
    radius: float  # of brush, eraser and point, in pixels of the photo
    points: list[list[float]]  # x, y; two opposite corners of a box


def draw_marks(label: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Return a label (H, W) uint8 with marks drawn over it.

    Strokes, boxes and outlines cover the object. Around points the object's extent is unknown. A later mark wins.
    """
    drawers = {POINT: _draw_point, OUTLINE: _fill_outline, BOX: _fill_box}
    label = label.copy()
    for mark in marks:
        draw = drawers.get(mark["tool"], _draw_stroke)
        draw(label, mark)
    return label


def _draw_point(label: np.ndarray, mark: Mark) -> None:
    places = [(x, y) for x, y in mark["points"]]
    near = point_label(places, label.shape, joined=False, radius=mark["radius"])
    label[(near == IGNORE) & (label == 0)] = IGNORE
    label[near == 1] = mark["value"]


def _fill_outline(label: np.ndarray, mark: Mark) -> None:
    outline = np.ravel(mark["points"]).astype(np.float64)
    inside = rle.decode(rle.frPyObjects([outline], *label.shape))[..., 0]
    label[inside > 0] = mark["value"]


def _fill_box(label: np.ndarray, mark: Mark) -> None:
    corners = np.array(mark["points"])
    limits = np.array(label.shape[::-1])
    left, top = np.clip(corners.min(0), 0, limits)
    right, bottom = np.clip(corners.max(0), 0, limits)
    label[round(top) : round(bottom), round(left) : round(right)] = mark["value"]


def _draw_stroke(label: np.ndarray, mark: Mark) -> None:
    cells = np.floor(np.array(mark["points"])).astype(np.int32)
    radius = max(round(mark["radius"]), 0)
    value = 0 if mark["tool"] == ERASER else mark["value"]
    cv2.polylines(label, [cells], False, value, thickness=max(2 * radius, 1))
    for end in (cells[0], cells[-1]):
        cv2.circle(label, end.tolist(), radius, value, thickness=cv2.FILLED)


def marks_without(value: int, marks: Sequence[Mark]) -> list[Mark]:
    """Return marks without those of a class, the values above it one less; what the eraser did remains."""
    remaining: list[Mark] = []
    for mark in marks:
        if mark["tool"] == ERASER or mark["value"] != value:
            remaining.append({**mark, "value": mark["value"] - (mark["value"] > value)})
    return remaining


def is_empty(label: np.ndarray) -> bool:
    """Return whether a mask shows no class."""
    return bool(np.isin(label, (0, IGNORE)).all())
