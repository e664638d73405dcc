"""Masks as the shapes of other programs: COCO's run lengths in their two forms, and outlines as polygons.

The corners of polygons lie within the object by its pixels' corners, so that an outline that is not simplified covers
exactly the pixels of its mask: by COCO's rule, which rounds to a fifth of a pixel, and where a program cuts coordinates
to whole pixels and paints the outline too (labelme, OpenCV). These polygons have no holes; a hole is joined to its
outline by a line that is walked both ways.
"""

import base64
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

from util.data.images.region import read_region
from util.errors import UserError

TOLERANCE = 0.4  # pixels; turns the steps of a slanted edge into a line
ENLARGED = 3  # OpenCV's contours run through centres of pixels; those of a mask enlarged so give the corners
WITHIN = 0.05  # pixels
MIN_AREA = 1e-6  # square pixels; the smallest step of COCO's coordinates is 0.01
FIRST_CHILD, PARENT = 2, 3  # columns of OpenCV's hierarchy of contours


def ellipse_of(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """Return an ellipse about a point as a polygon, (720,) float64."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1).reshape(-1)


def corners_of(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle as a polygon, (8,) float64."""
    return np.array([left, top, right, top, right, bottom, left, bottom], np.float64)


def region_in(text: str) -> np.ndarray:
    """Return the mask in the text of a PNG, in base64 or as an address of data, (H, W) bool; ValueError: damaged."""
    try:
        with Image.open(BytesIO(base64.b64decode(text.rpartition(",")[2])), formats=("PNG",)) as image:
            return read_region(image)[0] == 1
    except (OSError, SyntaxError, ValueError, UserError) as error:
        raise ValueError(f"a mask is damaged ({error if isinstance(error, UserError) else 'no PNG'})") from None


def has_area(shape: tuple[np.ndarray, ...] | dict[str, Any]) -> bool:
    """Return whether run lengths cover a pixel, or a polygon (2 x points,) has three points that are not on a line."""
    if isinstance(shape, dict):
        counts, pixels = shape["counts"], shape["size"][0] * shape["size"][1]
        return bool(rle.area(shape)) if isinstance(counts, str) else len(counts) > 1 or counts.sum() != pixels
    for polygon in shape:
        if len(polygon) >= 6:  # three points
            a, b, c, d, e, f = polygon[:6].tolist()
            if abs((c - a) * (f - b) - (d - b) * (e - a)) > MIN_AREA:  # the first three, which is quick
                return True
            points = polygon[: len(polygon) // 2 * 2].reshape(-1, 2) - polygon[:2]
            longest = points[(points**2).sum(1).argmax()]
            if not (np.abs(points[:, 0] * longest[1] - points[:, 1] * longest[0]) <= MIN_AREA).all():
                return True
    return False


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) bool in COCO's text form: {"size": [H, W], "counts": text}."""
    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def decoded(runs: dict[str, Any]) -> np.ndarray:
    """Return the mask of a run-length encoding, (H, W) bool; its counts are text or an array of numbers.

    ValueError: the encoding is damaged: pycocotools leaves pixels that no run covers to chance.
    """
    (height, width), counts = runs["size"], runs["counts"]
    covered = _covered(counts) if isinstance(counts, str) else int(counts.sum(dtype=np.int64))
    if covered != height * width:
        raise ValueError(f"its runs cover {covered} pixels, the image has {height * width}")
    return rle.decode(runs if isinstance(counts, str) else rle.frPyObjects(runs, height, width)).view(bool)


def _covered(counts: str) -> int:
    """Return the number of pixels that the runs of COCO's text form cover.

    Each character holds five bits of a number, the lowest first, and a bit that says whether more follow. From the
    fourth run on, the numbers are differences from the run before the last.
    """
    runs, value, shift = list[int](), 0, 0
    for group in (character - ord("0") for character in counts.encode()):
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            sign = (group & 16) << (shift - 4)
            runs.append(value - sign + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs)


def polygons_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of the connected parts of a mask (H, W) bool, each (corners, 2) float64 of x and y.

    They may leave the mask's by ``TOLERANCE``.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        return []
    top, left = rows[0], columns[0]
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    large = cv2.resize(part, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    out = []
    for contour, links in zip(contours, hierarchy[0], strict=True):
        if links[PARENT] >= 0:
            continue  # a hole, joined to its parent below
        ring, hole = _corners(contour), links[FIRST_CHILD]
        while hole >= 0:
            inner = _corners(contours[hole])  # from the corner next to the hole to it, around it, and back
            start = inner[:, 0].argmin()
            at = ((ring - inner[start]) ** 2).sum(1).argmin()
            ring = np.concatenate([ring[: at + 1], inner[start:], inner[: start + 1], ring[at:]])
            hole = hierarchy[0][hole][0]
        out.append(ring + np.array([left, top]))
    return out


def _corners(contour: np.ndarray) -> np.ndarray:
    """Return corners of the pixels along a contour of the enlarged mask, ``WITHIN`` them, (corners, 2) float64."""
    pixel, side = contour[:, 0] // ENLARGED, np.where(contour[:, 0] % ENLARGED == ENLARGED - 1, 1, -1)
    corner = pixel + (side > 0)
    # while lines are simplified, corners lie half-way between a pixel's centre and its corner: of both rules' errors
    points = (pixel + 0.25 * side)[(corner != np.roll(corner, 1, 0)).any(1)]
    simple = cv2.approxPolyDP(points.astype(np.float32)[:, None], TOLERANCE, closed=True)[:, 0]
    simple = simple if cv2.contourArea(simple) else points  # nor have two corners an area
    pixel = simple.round()
    simple = (pixel + 0.5 + np.sign(simple - pixel) * (0.5 - WITHIN)).astype(np.float64).round(2)
    before, after = simple - np.roll(simple, 1, 0), np.roll(simple, -1, 0) - simple
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return simple[turns | ((before * after).sum(1) < 0)]
