"""Annotations that are drawn in place of an object's mask: a box, points, a scribble."""

import cv2
import numpy as np

from annotations.shapes import point_label

MASK = "mask"
BOX = "box"
POINTS = "points"
SCRIBBLE = "scribble"
KINDS = (MASK, BOX, POINTS, SCRIBBLE)
DRAWN = 3  # points that stand for an object


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
