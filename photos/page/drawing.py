"""Edits of a mask as the browser sends them, strokes, boxes, points and outlines, and the masks that they give.

A mask of the page holds 0 for background, then the page's classes, and 255 where it is unknown.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict

import cv2
import numpy as np

from annotations.annotation import pixels_of
from annotations.shapes import point_label
from photos.examples import box_between
from util.files.errors import UserError
from util.files.palette import IGNORE
from util.files.sizes import MAX_LENGTH
from util.files.typecheck import Misfit, convert

# tools
BRUSH: Final = "brush"
ERASER: Final = "eraser"
BOX: Final = "box"
POINT: Final = "point"
OUTLINE: Final = "outline"
MAX_CLASS = 254  # a value of masks; 255 is unknown
MAX_RADIUS = 2**14  # OpenCV draws lines of twice this width
CRUMB = 0.02  # share of a part of a mask
FARTHEST = 2**17  # pixels between a place and the photo's corner


class Edit(TypedDict):
    """One stroke, box, point or outline that the user has drawn."""

    tool: Literal["brush", "eraser", "box", "point", "outline"]
    value: int  # the class, from 1; 0 makes pixels background
    radius: float  # of brush, eraser and point, in pixels of the photo
    points: list[list[float]]  # x, y in pixels of the photo; two opposite corners of a box


def checked_edits(edits: Any) -> list[Edit]:
    """Return the edits that a browser or a file states; UserError: one of them is none, or cannot be drawn."""
    try:
        edits = convert(list[Edit], edits, "edits")
    except Misfit as misfit:
        raise UserError(f"this edit cannot be drawn: {misfit}") from None
    for edit in edits:
        if problem := _problem_of(edit):
            raise UserError(f"this {edit['tool']} cannot be drawn: {problem}")
    return edits


def _problem_of(edit: Edit) -> str:
    """Return in words why an edit cannot be drawn, "" if it can."""
    if not 0 <= edit["value"] <= MAX_CLASS:
        return f"its class {edit['value']} is out of 0 to {MAX_CLASS}"
    if not 0 <= edit["radius"] <= MAX_RADIUS:  # NaN is in no range
        return f"its radius is out of 0 to {MAX_RADIUS} pixels"
    if not edit["points"] or any(len(point) != 2 for point in edit["points"]):
        return "its points are not pairs of numbers"
    if edit["tool"] == BOX and len(edit["points"]) != 2:
        return "a box has two corners"
    points = np.array(edit["points"], np.float64)
    if not (abs(points) <= FARTHEST).all():
        return "its points are no numbers, or far beyond the photo"
    if abs(np.diff(points, axis=0)).sum() > MAX_LENGTH:
        return f"its line is longer than {MAX_LENGTH} pixels"
    return ""


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


def without_crumbs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return a mask ``after`` edits, both (H, W) uint8, without what they left of a part of the mask ``before``.

    That is what has less than ``CRUMB`` of the part that was cut, and nothing that was drawn.
    """
    out = after.copy()
    for value in np.unique(before[before != after]):
        if value in (0, IGNORE):
            continue
        was = before == value
        whole = cv2.connectedComponents(was.astype(np.uint8))[1]
        count, left = cv2.connectedComponents((after == value).astype(np.uint8))
        whole_of_left = np.zeros(count, np.int64)
        whole_of_left[left[was]] = whole[was]
        whole_sizes = np.bincount(whole.ravel())[whole_of_left]
        sizes = np.bincount(left.ravel(), minlength=count)
        has_drawn = np.bincount(left[~was], minlength=count) > 0
        is_crumb = (whole_of_left > 0) & (sizes < CRUMB * whole_sizes) & ~has_drawn
        is_crumb[0] = False
        out[is_crumb[left]] = 0
    return out
