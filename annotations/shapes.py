"""Masks as the shapes of other programs: COCO's run lengths in their two forms, and outlines as polygons.

The corners of polygons lie within the object by its pixels' corners, so that an outline that is not simplified covers
exactly the pixels of its mask: by COCO's rule, which rounds to a fifth of a pixel, and where a program cuts coordinates
to whole pixels and paints the outline too (labelme, OpenCV). These polygons have no holes; a hole is joined to its
outline by a line that is walked both ways.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from annotations.mask_formats import opened_mask
from annotations.region import read_region
from util.files.errors import UserError, as_user_error
from util.files.palette import IGNORE
from util.files.sizes import check_size

TOLERANCE = 0.4  # pixels; turns the steps of a slanted edge into a line
ENLARGED = 3  # OpenCV's contours run through centres of pixels; those of a mask enlarged so give the corners
WITHIN = 0.05  # pixels
UNKNOWN = 3  # radii around a point within which other pixels are unknown
RUNS = re.compile("([P-o]{0,6}[0-O])+")  # COCO's text form: a character holds five bits of a number, the last below P
RIGHT = 0.03  # the cosine of a right angle, at most: corners are rounded
MIN_AREA = 1e-6  # square pixels; the smallest step of COCO's coordinates is 0.01


def ellipse_of(centre: np.ndarray, radius_x: float, radius_y: float) -> np.ndarray:
    """Return an ellipse about a point (2,) as a polygon, (720,) float64."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return (np.stack([radius_x * np.cos(angle), radius_y * np.sin(angle)], axis=1) + centre).reshape(-1)


def corners_of(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle as a polygon, (8,) float64."""
    return np.array([left, top, right, top, right, bottom, left, bottom], np.float64)


def turned_outline(outline: np.ndarray, degrees: float, pivot: np.ndarray) -> np.ndarray:
    """Return an outline (2 x points,) turned clockwise about a point (2,)."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return ((outline.reshape(-1, 2) - pivot) @ turn + pivot).reshape(-1)


def extent_of(shape: tuple[np.ndarray, ...] | dict[str, Any]) -> np.ndarray:
    """Return the left, upper, right and lower end of a shape of ``with_area``, (4,)."""
    if isinstance(shape, dict):
        left, top, width, height = rle.toBbox(shape)
        return np.array([left, top, left + width, top + height])
    points = np.concatenate(shape).reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0)])


def region_in(text: str, size: tuple[int, int]) -> np.ndarray:
    """Return the mask in the text of a PNG, in base64 or as an address of data, (H, W) bool.

    ValueError: it is damaged, or has more pixels than its photo of a size (height, width).
    """
    with (
        as_user_error(UserError, ValueError, before="a mask is damaged (", after=")", refusal=ValueError),
        opened_mask(Path("PNG"), content=base64.b64decode(text.rpartition(",")[2])) as image,
    ):
        if image.width * image.height > size[0] * size[1]:
            raise UserError(f"{image.width} x {image.height} pixels, its photo {size[1]} x {size[0]}")
        return read_region(image)[0] == 1


def with_area(shape: tuple[np.ndarray, ...] | dict[str, Any]) -> tuple[np.ndarray, ...] | dict[str, Any]:
    """Return what of a shape covers an area, () for nothing.

    It is run lengths with a pixel, or the polygons (2 x points,) that have three points that are not on a line.
    """
    if isinstance(shape, dict):
        return shape if rle.area(shape) else ()
    return tuple(polygon for polygon in shape if len(polygon) >= 6 and not _is_on_a_line(polygon))


def is_rectangle(outline: np.ndarray) -> bool:
    """Return whether an outline (2 x points,) has four corners at right angles, also of a rotated rectangle."""
    if len(outline) != 8:
        return False
    sides = np.diff(outline.reshape(4, 2), axis=0, append=outline[None, :2])
    lengths = np.linalg.norm(sides, axis=1)
    slants = np.abs((sides * np.roll(sides, -1, 0)).sum(1))
    return bool((slants <= RIGHT * lengths * np.roll(lengths, -1)).all() and lengths.all())


def end_of(shape: tuple[np.ndarray, ...] | dict[str, Any]) -> np.ndarray:
    """Return the right and lower end of outlines that have an area, or the width and height of run lengths, (2,)."""
    return np.array(shape["size"][::-1]) if isinstance(shape, dict) else extent_of(with_area(shape))[2:]


def _is_on_a_line(polygon: np.ndarray) -> bool:
    """Return whether all points of a polygon (2 x points,), at least three, are on a line."""
    x, y, x_1, y_1, x_2, y_2 = polygon[:6].tolist()
    if abs((x_1 - x) * (y_2 - y) - (x_2 - x) * (y_1 - y)) > 10 * MIN_AREA:  # most need no look at their other points
        return False
    points = polygon.reshape(-1, 2) - polygon[:2]
    longest_x, longest_y = points[(points**2).sum(1).argmax()]
    return bool((np.abs(points @ (longest_y, -longest_x)) <= MIN_AREA).all())


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) bool in COCO's text form: {"size": [H, W], "counts": text}."""
    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode()}


def decoded(runs: dict[str, Any]) -> np.ndarray:
    """Return the mask of a run-length encoding, (H, W) bool; ValueError: as ``compressed``."""
    return rle.decode(compressed(runs)).view(bool)


def compressed(runs: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length encoding, whose counts are text or a list of numbers, in COCO's text form, not decoded yet.

    pycocotools leaves pixels that no run covers to chance. ValueError: it is too large, its text is damaged, or there
    are such pixels.
    """
    height, width = map(int, runs["size"])
    check_size(height, width)
    counts = runs["counts"]
    if not isinstance(counts, str):
        counts = rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode()
    if not RUNS.fullmatch(counts):
        raise ValueError("its run lengths are damaged")
    lengths = _lengths(counts)
    if lengths.sum() != height * width or lengths.min() < 0 or not lengths[1:].all():
        raise ValueError(f"its run lengths do not cover its {height * width} pixels, or one is 0")
    return {"size": [height, width], "counts": counts}


def _lengths(counts: str) -> np.ndarray:
    """Return the lengths of the runs in COCO's text form, int64.

    A character holds five bits of a number, the lowest first, of which the last has a sign; from the fourth number on,
    it is what a length has more than the last but one.
    """
    digits = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - ord("0")
    is_last = digits < 32
    starts = np.flatnonzero(np.roll(is_last, 1))
    places = np.arange(len(digits)) - starts[is_last.cumsum() - is_last]
    lengths = np.add.reduceat((digits & 31) << (5 * places), starts)
    lengths -= (digits[is_last] & 16) << (5 * places[is_last] + 1)
    for parity in (1, 2):
        lengths[parity::2] = lengths[parity::2].cumsum()
    return lengths


def polygons_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of the connected parts of a mask (H, W) bool, each (corners, 2) float64 of x and y.

    They may leave the mask's by ``TOLERANCE``.
    """
    if not mask.any():
        return []
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    part = mask[top : top + height, left : left + width].astype(np.uint8)
    large = cv2.resize(part, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour, (_, _, hole, parent) in zip(contours, hierarchy[0], strict=True):  # next, previous, child, parent
        if parent >= 0:
            continue  # a hole, joined to its parent below
        ring = _corners(contour)
        while hole >= 0:
            ring = _with_hole(ring, _corners(contours[hole]))
            hole, *_ = hierarchy[0][hole]
        outlines.append(ring + np.array([left, top]))
    return outlines


def _with_hole(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return an outline that walks from its corner next to a hole to that, around it, and back, all (corners, 2)."""
    start = hole[:, 0].argmin()
    nearest = ((ring - hole[start]) ** 2).sum(1).argmin()
    return np.concatenate([ring[: nearest + 1], hole[start:], hole[: start + 1], ring[nearest:]])


def _corners(contour: np.ndarray) -> np.ndarray:
    """Return corners of the pixels along a contour of the enlarged mask, ``WITHIN`` them, (corners, 2) float64."""
    place = contour[:, 0]
    pixel = place // ENLARGED
    side = np.where(place % ENLARGED == ENLARGED - 1, 1, -1)  # of its pixel on which a point lies, by axis
    corner = pixel + (side > 0)
    is_new = (corner != np.roll(corner, 1, 0)).any(1)
    # while lines are simplified, corners lie half-way between a pixel's centre and its corner: of both rules' errors
    points = (pixel + 0.25 * side)[is_new]
    simple = cv2.approxPolyDP(points.astype(np.float32)[:, None], TOLERANCE, closed=True)[:, 0]
    if not cv2.contourArea(simple):  # nor have two corners an area
        simple = points
    pixel = simple.round()
    return (pixel + 0.5 + np.sign(simple - pixel) * (0.5 - WITHIN)).astype(np.float64).round(2)


def point_label(points: Sequence[tuple[float, ...]], shape: tuple[int, int], joined: bool) -> np.ndarray:
    """Return the label (H, W) uint8 of points (x, y) inside the photo: object, unknown pixels around it, background.

    Their radius is 2 % of the photo's longer side. ``joined``: the lines between them are of the object too.
    """
    cells = np.array([[int(x), int(y)] for x, y in points], np.int32)
    is_beside = np.ones(shape, np.uint8)
    if joined:
        cv2.polylines(is_beside, [cells], isClosed=False, color=0)
    is_beside[cells[:, 1], cells[:, 0]] = 0
    distance = cv2.distanceTransform(is_beside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    radius = max(0.02 * max(shape), 1)
    return np.select([distance <= radius, distance <= UNKNOWN * radius], [1, IGNORE], 0).astype(np.uint8)
