"""Marks that the user draws on a photo, over nothing or over a mask, or lets the network draw.

The browser sends strokes, boxes, points and outlines in pixels of the photo, not images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as rle

from model.episode import IGNORE
from util.data.marks import point_label
from util.formats.shapes import polygons_of
from util.predict.labels import BOXED
from util.predict.segmenter import Segmenter
from util.predict.supports import Support

BRUSH, ERASER, BOX, POINT, OUTLINE = "brush", "eraser", "box", "point", "outline"


@dataclass(frozen=True)
class Mark:
    """One stroke, box, point or outline."""

    tool: str
    value: int  # the class, from 1; 0 makes pixels background
    radius: float  # of brush, eraser and point, in pixels of the photo
    points: list[list[float]]  # x, y; two opposite corners of a box


def drawn(label: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Return a label (H, W) uint8 with marks drawn over it: 0 background, then the classes, 255 unknown.

    Strokes, boxes and outlines cover the object. Around points the object's extent is unknown. A later mark wins.
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
            cells, radius = np.floor(np.array(mark.points)).astype(np.int32), max(round(mark.radius), 0)
            value = 0 if mark.tool == ERASER else mark.value
            cv2.polylines(out, [cells], False, value, thickness=max(2 * radius, 1))
            for end in (cells[0], cells[-1]):
                cv2.circle(out, end.tolist(), radius, value, thickness=cv2.FILLED)
    return out


def clicked(segmenter: Segmenter, image: np.ndarray, x: int, y: int) -> np.ndarray:
    """Return what the network finds about a place, (H, W) bool, by the rule that was best on VOC's training photos."""
    label, side = np.full(image.shape[:2], IGNORE, np.uint8), max(round(0.04 * max(image.shape)), 1)
    label[:side] = label[-side:] = label[:, :side] = label[:, -side:] = 0
    cv2.circle(label, (x, y), side, 1, cv2.FILLED)
    segmenter.add(None, [Support(image, label, "the click")])
    probability = segmenter(image).probability[-1]
    return probability >= probability[y, x] / 2


def boxed(segmenter: Segmenter, image: np.ndarray, corners: list[list[float]]) -> np.ndarray:
    """Return what the network finds in a box, (H, W) bool, as in one of ``predict.py``."""
    label = drawn(np.zeros(image.shape[:2], np.uint8), [Mark(BOX, BOXED, 0, corners)])
    return segmenter.unboxed(None, [Support(image, label, "the box")])[0].label == 1


def outlines_of(inside: np.ndarray, value: int) -> list[Mark]:
    """Return a mark about each part of a mask (H, W) bool."""
    return [Mark(OUTLINE, value, 0, outline.tolist()) for outline in polygons_of(inside)]
