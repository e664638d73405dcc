"""Marks that a visitor draws on a photo: checked, then drawn as the label of a support or as a correction of a mask.

The browser sends strokes, boxes and points as JSON in pixels of the photo, not images:
``{"key": 3, "marks": [{"tool": "brush", "value": 1, "radius": 7.5, "points": [[10, 20], [12, 21]]}]}``. ``value`` is
the class, counted from 1; ``key`` tells which photo was marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from model.episode import IGNORE
from util.errors import UserError
from util.predict.regions import box_label, point_label

BRUSH, ERASER, BOX, POINT = TOOLS = ("brush", "eraser", "box", "point")
CORRECTING = (BRUSH, ERASER, BOX)  # the tools that change a predicted mask
CORNERS = 2  # of a box, opposite to each other
MAX_MARKS, MAX_POINTS = 1000, 50_000  # of one photo: marks, points of all marks
FAR = 2**15  # pixels beyond which no point of a photo lies, in any direction
UNREADABLE = "the marks cannot be read; load the page again"


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
    points: tuple[tuple[float, float], ...]


def read_marks(text: str | None, classes: int) -> tuple[int, list[Mark]]:
    """Return the key of the photo and the marks on it; (0, []) without any.

    Args:
        classes: the number of classes, the largest value of a mark.

    Raises:
        UserError: there are too many marks, or the text has another form.
    """
    if not text:
        return 0, []
    try:
        content = json.loads(text)
        key, entries = int(content["key"]), list(content["marks"])
        marks = [_mark(entry, classes) for entry in entries[: MAX_MARKS + 1]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise UserError(UNREADABLE) from None
    if len(marks) > MAX_MARKS or sum(len(mark.points) for mark in marks) > MAX_POINTS:
        raise UserError(
            f"more than {MAX_MARKS} marks or {MAX_POINTS} points on one photo; use fewer or shorter strokes"
        )
    return key, marks


def _mark(entry: dict, classes: int) -> Mark:
    """Return a mark."""
    points = tuple((float(x), float(y)) for x, y in entry["points"])
    tool, value, radius = entry["tool"], int(entry["value"]), float(entry["radius"])
    numbers = [radius, *(number for point in points for number in point)]
    if tool not in TOOLS or not 1 <= value <= classes or not points or (tool == BOX and len(points) != CORNERS):
        raise ValueError(tool)
    if not all(math.isfinite(number) and abs(number) < FAR for number in numbers) or radius <= 0:
        raise ValueError(radius)
    return Mark(tool, value, radius, points)


def text_of(key: int, marks: Sequence[Mark]) -> str:
    """Return marks as the browser sends them."""
    return json.dumps({"key": key, "marks": [asdict(mark) for mark in marks]})


def without_class(marks: Sequence[Mark], value: int) -> list[Mark]:
    """Return the marks after a class was removed: those of later classes move up by one."""
    kept = [mark for mark in marks if mark.value != value]
    return [replace(mark, value=mark.value - 1) if mark.value > value else mark for mark in kept]


def checked_corrections(marks: list[Mark], classes: int) -> list[Mark]:
    """Return marks that can correct a mask of some classes.

    Raises:
        UserError: a mark is a point, which says nothing about a mask, or of another class.
    """
    for mark in marks:
        if mark.tool not in CORRECTING:
            raise UserError(f"a mask is corrected with {', '.join(CORRECTING)}, not with a {mark.tool}")
        if mark.value > classes:
            raise UserError(UNREADABLE)
    return marks


def support_label(marks: Sequence[Mark], value: int, shape: tuple[int, int]) -> np.ndarray:
    """Return what the marks say about one class, (H, W) uint8: 1 object, 0 background, 255 unknown.

    Strokes and boxes cover the object. Around points the object's extent is unknown (``regions.py``). A later mark
    covers earlier ones, also those of other classes.

    Raises:
        UserError: a point is outside the photo.
    """
    label = np.zeros(shape, np.uint8)
    for mark in marks:
        if mark.tool == POINT:
            drawn = point_label(list(mark.points), shape, False, mark.radius, "a mark")
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
            mask[box_label((left, top, right, bottom), mask.shape[:2], "a mark") == 1] = value
        return
    cells = np.floor(points).astype(np.int32)
    radius = max(round(mark.radius * scale), 0)
    cv2.polylines(mask, [cells], False, value, thickness=max(2 * radius, 1))
    for end in (cells[0], cells[-1]):
        cv2.circle(mask, end.tolist(), radius, value, thickness=cv2.FILLED)
