"""Annotations that are drawn in place of an object's mask: a box, points, a scribble."""

from collections.abc import Sequence

import cv2
import numpy as np

from util.files.palette import IGNORE

MASK = "mask"
BOX = "box"
POINTS = "points"
SCRIBBLE = "scribble"
KINDS = (MASK, BOX, POINTS, SCRIBBLE)
UNKNOWN = 3  # radii around a point within which other pixels are unknown
DRAWN = 3  # points that stand for an object


def point_label(
    points: Sequence[tuple[float, ...]], shape: tuple[int, int], joined: bool, radius: float | None = None
) -> np.ndarray:
    """Return the label (H, W) uint8 of points (x, y) inside the photo: object, unknown pixels around it, background.

    ``joined``: the lines between them are of the object too; ``radius`` is in pixels, None for 2 % of the longer side.
    """
    cells = np.array([[int(x), int(y)] for x, y in points], np.int32)
    is_beside = np.ones(shape, np.uint8)
    if joined:
        cv2.polylines(is_beside, [cells], isClosed=False, color=0)
    is_beside[cells[:, 1], cells[:, 0]] = 0
    distance = cv2.distanceTransform(is_beside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    radius = radius or max(0.02 * max(shape), 1)
    label = np.where(distance <= UNKNOWN * radius, IGNORE, 0).astype(np.uint8)
    label[distance <= radius] = 1
    return label


def drawn_label(label_hw: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    """Return the label that an annotation of a kind gives in place of a mask {0, 1, 255} uint8 with an object.

    Points lie well inside the object, as people click; a scribble joins them from left to right.
    """
    inside = (label_hw == 1).astype(np.uint8)
    if kind == MASK or not inside.any():
        return label_hw
    if kind == BOX:
        x, y, width, height = cv2.boundingRect(inside)
        label = label_hw.copy()
        label[y : y + height, x : x + width] = 1
        return label
    depth = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.nonzero(depth > 0.5 * depth.max())
    places = random.choice(len(rows), DRAWN)
    points = sorted(zip(columns[places].tolist(), rows[places].tolist()))
    return point_label(points, inside.shape, joined=kind == SCRIBBLE)
