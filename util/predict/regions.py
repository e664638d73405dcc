"""What a support marks as its object, however it is marked: a mask, outlines in JSON, a box, points or a scribble.

All become one label (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where nobody knows.

- A mask image marks with every value but 0, or with one value, and then 255 is unknown (as in VOC's masks).
- A box ``x0,y0,x1,y1`` holds the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1.
- Points mark discs of a radius, a scribble the same along the lines between its points. The object reaches further, but
  not everywhere: up to ``UNKNOWN`` radii nobody knows, beyond is background. Points close to the object's edge and a
  radius of the size of its parts say most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from model.contract import IGNORE
from util.errors import UserError
from util.predict.outlines import read_outlines
from util.predict.photos import opened

BOX, POINTS, SCRIBBLE = DRAWN = ("box", "points", "scribble")
BOX_NUMBERS, POINT_NUMBERS = 4, 2
UNKNOWN = 3  # radii around a point within which what is not marked is unknown
RADIUS_SHARE = 0.02  # of the longer side: the radius where none is given
INDEX_MODES = ("P", "L", "1")
JSON = ".json"


@dataclass(frozen=True)
class Marking:
    """How marks are read: the one value of masks that counts (None: all but 0), the radius of points in pixels."""

    mask_value: int | None = None
    radius: float | None = None

    def __post_init__(self):
        if self.mask_value is not None and not 0 < self.mask_value <= IGNORE:
            raise UserError(f"--mask-value {self.mask_value}: a mask's values are 1..{IGNORE}")
        if self.radius is not None and not self.radius > 0:
            raise UserError(f"--radius {self.radius:g}: must be more than 0 pixels")


def read_label(text: str, photo: Path, shape: tuple[int, int], name: str | None, marking: Marking) -> np.ndarray:
    """Return what the part of a support behind its photo marks, (H, W) uint8 in {0, 1, 255}.

    Args:
        text: the path of a mask or JSON file, or ``box=...``, ``points=...``, ``scribble=...``.
        shape: (height, width) of the upright photo.
        name: the class, which picks among the labels of a JSON file.

    Raises:
        UserError: it cannot be read, does not fit the photo, or marks nothing.
    """
    kind, equals, numbers = text.partition("=")
    if equals and kind in DRAWN:
        where = f"{photo}:{text}"
        label = _drawn(kind, numbers, shape, marking.radius, where)
    else:
        where = text
        path = Path(text)
        label = read_outlines(path, photo, shape, name) if path.suffix.lower() == JSON else _mask(path, marking)
    return checked(label, shape, where)


def checked(label: np.ndarray, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return a label if it is of the photo's size and marks something.

    Raises:
        UserError: it is not.
    """
    if label.shape != tuple(shape):
        sizes = " x ".join(map(str, label.shape[::-1])), " x ".join(map(str, shape[::-1]))
        raise UserError(
            f"{where}: {sizes[0]} pixels, its photo has {sizes[1]} (upright, as its EXIF data says); they must be equal"
        )
    if not (label == 1).any():
        raise UserError(f"{where}: marks no pixel of the photo; mark the object")
    return label


def _mask(path: Path, marking: Marking) -> np.ndarray:
    """Return the label of a mask image: any value but 0, in any channel that is not transparency, or one value."""
    with opened(path, "mask") as image:
        image.load()
        if marking.mask_value is None:
            colours = image if image.mode in (*INDEX_MODES, "I", "I;16", "F") else image.convert("RGBA")
            values = np.asarray(colours)
            if values.ndim == 3:
                return (values[..., :3].any(2) & (values[..., 3] > 0)).astype(np.uint8)
            return (values != 0).astype(np.uint8)
        if image.mode not in INDEX_MODES:
            raise UserError(
                f"{path}: stored as {image.mode}, so it has no value {marking.mask_value}; leave --mask-value away, "
                "or convert it to a palette or 8-bit grey PNG"
            )
        values = np.asarray(image).astype(np.uint8)
    label = (values == marking.mask_value).astype(np.uint8)
    label[(values == IGNORE) & (marking.mask_value != IGNORE)] = IGNORE
    return label


def _drawn(kind: str, text: str, shape: tuple[int, int], radius: float | None, where: str) -> np.ndarray:
    if kind == BOX:
        left, top, right, bottom = _numbers(text, BOX_NUMBERS, where)
        height, width = shape
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise UserError(f"{where}: must be x0,y0,x1,y1 within 0,0,{width},{height}, with x0 < x1 and y0 < y1")
        label = np.zeros(shape, np.uint8)
        label[round(top) : round(bottom), round(left) : round(right)] = 1
        return label
    points = [_numbers(point, POINT_NUMBERS, where) for point in text.split(";") if point.strip()]
    if not points:
        raise UserError(f"{where}: names no points; write {kind}=x,y;x,y")
    return around(points, shape, kind == SCRIBBLE, radius, where)


def around(
    points: list[tuple[float, ...]], shape: tuple[int, int], joined: bool, radius: float | None, where: str
) -> np.ndarray:
    """Return the label of points, or of the lines that join them: the object, what is unknown around it, background.

    Raises:
        UserError: a point lies outside the photo.
    """
    height, width = shape
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"{where}: the point {x:g},{y:g} is outside the photo, {width} x {height} pixels")
    cells = np.array([[int(x), int(y)] for x, y in points], np.int32)
    empty = np.ones(shape, np.uint8)
    if joined:
        cv2.polylines(empty, [cells], isClosed=False, color=0)
    empty[cells[:, 1], cells[:, 0]] = 0
    distance = cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    radius = radius or max(RADIUS_SHARE * max(shape), 1)
    label = np.where(distance <= UNKNOWN * radius, IGNORE, 0).astype(np.uint8)
    label[distance <= radius] = 1
    return label


def _numbers(text: str, count: int, where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UserError(f"{where}: '{text}' is not {count} numbers with commas between them")
    return numbers
