"""Edits of a mask as the browser sends them, strokes, boxes, points and outlines, and the masks that they give.

A mask of the page holds 0 for background, then the page's classes, and 255 where it is unknown.
"""

from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np

from annotations.annotation import pixels_of
from annotations.drawn import point_label
from photos.examples import box_between
from util.files.palette import IGNORE

# tools
BRUSH = "brush"
ERASER = "eraser"
BOX = "box"
POINT = "point"
OUTLINE = "outline"


class Edit(TypedDict):
    """One stroke, box, point or outline that the user has drawn."""

    tool: str
    value: int  # the class, from 1; 0 makes pixels background
    radius: float  # of brush, eraser and point, in pixels of the photo
    points: list[list[float]]  # x, y in pixels of the photo; two opposite corners of a box


def with_edits(label: np.ndarray, edits: Sequence[Edit]) -> np.ndarray:
    """Return a label (H, W) uint8 with edits drawn over it.

    Strokes, boxes and outlines cover the object. Around points the object's extent is unknown. A later edit wins.
    """
    drawers = {POINT: _draw_point, OUTLINE: _fill_outline, BOX: _fill_box}
    label = label.copy()
    for edit in edits:
        draw = drawers.get(edit["tool"], _draw_stroke)
        draw(label, edit)
    return label


def _draw_point(label: np.ndarray, edit: Edit) -> None:
    places = [(x, y) for x, y in edit["points"]]
    near = point_label(places, label.shape, joined=False, radius=edit["radius"])
    label[(near == IGNORE) & (label == 0)] = IGNORE
    label[near == 1] = edit["value"]


def _fill_outline(label: np.ndarray, edit: Edit) -> None:
    outline = np.ravel(edit["points"]).astype(np.float64)
    inside = pixels_of((outline,), [*label.shape])
    label[inside] = edit["value"]


def _fill_box(label: np.ndarray, edit: Edit) -> None:
    label[box_between(edit["points"], label.shape)] = edit["value"]


def _draw_stroke(label: np.ndarray, edit: Edit) -> None:
    cells = np.floor(np.array(edit["points"])).astype(np.int32)
    radius = max(round(edit["radius"]), 0)
    value = 0 if edit["tool"] == ERASER else edit["value"]
    cv2.polylines(label, [cells], False, value, thickness=max(2 * radius, 1))
    for end in (cells[0], cells[-1]):
        cv2.circle(label, end.tolist(), radius, value, thickness=cv2.FILLED)


def edits_without(value: int, edits: Sequence[Edit]) -> list[Edit]:
    """Return edits without those of a class, the values above it one less; what the eraser did remains."""
    remaining: list[Edit] = []
    for edit in edits:
        if edit["tool"] == ERASER or edit["value"] != value:
            remaining.append({**edit, "value": edit["value"] - (edit["value"] > value)})
    return remaining


def is_empty(label: np.ndarray) -> bool:
    """Return whether a mask shows no class."""
    return bool(np.isin(label, (0, IGNORE)).all())
