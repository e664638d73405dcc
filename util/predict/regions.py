"""Turn a marked region of a support into a label: a mask image, outlines in JSON, a box, points or a scribble.

Labels are (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where the class is unknown.

- A mask image marks every value but 0, or one given value; then 255 is unknown, as in VOC's masks.
- A box ``x0,y0,x1,y1`` covers the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1.
- Points mark discs of a radius; a scribble also marks the lines between its points. The object extends further, so
  pixels up to ``UNKNOWN`` radii away are unknown, and only those beyond are background. Points near the object's
  edge, with a radius of the size of its parts, are the most informative.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.episode import IGNORE
from util.data import marks
from util.data.images.orientation import UPRIGHT, fitted_mask, stated_orientation, turned
from util.data.images.read import header_of, refuse_lossy
from util.data.marks import BOX, POINTS, SCRIBBLE
from util.errors import UserError
from util.predict.outlines import SUFFIX, read_outlines
from util.predict.photos import open_image

DRAWN_KINDS = (BOX, POINTS, SCRIBBLE)
BOX_NUMBERS, POINT_NUMBERS = 4, 2
INDEX_MODES = ("P", "L", "1")  # Pillow's modes with one 8-bit value per pixel
VALUE_MODES = (*INDEX_MODES, "I", "I;16", "F")  # Pillow's modes with one value per pixel
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Marking:
    """Settings of reading marks.

    Attributes:
        mask_value: the value of the object in mask images; None for every value but 0.
        radius: of points and scribbles in pixels; None for 2 % of the photo's longer side.
    """

    mask_value: int | None = None
    radius: float | None = None


def read_label(text: str, photo: Path, shape: tuple[int, int], name: str | None, marking: Marking) -> np.ndarray:
    """Return the label that the last part of a support's text describes, (H, W) uint8 in {0, 1, 255}.

    Args:
        text: the path of a mask or JSON file, or ``box=...``, ``points=...``, ``scribble=...``.
        shape: (height, width) of the upright photo.
        name: the class, which selects among the labels of a JSON file.

    Raises:
        UserError: the text or file is unreadable, does not fit the photo, or marks nothing.
    """
    kind, equals, numbers = text.partition("=")
    if equals and kind in DRAWN_KINDS:
        origin = f"{photo}:{text}"
        label = _drawn_label(kind, numbers, shape, marking.radius, origin)
    else:
        origin, path = text, Path(text)
        outlined = path.suffix.lower() == SUFFIX
        label = read_outlines(path, photo, shape, name) if outlined else _mask_of(path, photo, marking.mask_value)
    return check_label(label, shape, origin)


def check_label(label: np.ndarray, shape: tuple[int, int], origin: str) -> np.ndarray:
    """Return a label that has the photo's size and marks at least one pixel.

    Args:
        origin: the beginning of messages.

    Raises:
        UserError: the label is not like that.
    """
    if label.shape != tuple(shape):
        sizes = " x ".join(map(str, label.shape[::-1])), " x ".join(map(str, shape[::-1]))
        raise UserError(
            f"{origin}: {sizes[0]} pixels, its photo has {sizes[1]} (upright, by its EXIF data); they must be equal"
        )
    if not (label == 1).any():
        raise UserError(f"{origin}: marks no pixel of the photo; mark the object")
    return label


def _mask_of(path: Path, photo: Path, mask_value: int | None) -> np.ndarray:
    """Return the label of a mask image for the upright photo; one that does not fit is returned as it is."""
    stored, orientation = header_of(photo)
    label, stated = _mask_label(path, mask_value)
    label = turned(label, stated or UPRIGHT)
    if orientation == UPRIGHT or label.shape not in (stored, stored[::-1]):
        return label
    return fitted_mask(label, stated is not None, stored, orientation, path)


def marks_something(path: Path, marking: Marking) -> bool:
    """Return whether a mask image marks at least one pixel.

    Raises:
        UserError: the file is no mask that can be read.
    """
    return bool((_mask_label(path, marking.mask_value)[0] == 1).any())


def _mask_label(path: Path, mask_value: int | None) -> tuple[np.ndarray, int | None]:
    """Return a mask image's label, as stored, and the orientation that the file states.

    The label is 1 where a pixel is opaque and not 0 in any channel, or has ``mask_value``.
    """
    with open_image(path, "mask") as image:
        refuse_lossy(image, path)
        image.load()
        stated = stated_orientation(image)
        if mask_value is None:
            values = np.asarray(image if image.mode in VALUE_MODES else image.convert("RGBA"))
            if values.ndim == 3:
                return (values[..., :3].any(2) & (values[..., 3] > 0)).astype(np.uint8), stated
            if not np.isfinite(values).all():
                raise UserError(f"{path}: this mask holds values that are not finite; export it again")
            return (values != 0).astype(np.uint8), stated
        if image.mode not in INDEX_MODES:
            raise UserError(
                f"{path}: stored as {image.mode}, so it has no value {mask_value}; omit --mask-value, or convert it "
                "to a palette or 8-bit grey PNG"
            )
        values = np.asarray(image).astype(np.uint8)
    label = (values == mask_value).astype(np.uint8)
    label[(values == IGNORE) & (mask_value != IGNORE)] = IGNORE
    return label, stated


def _drawn_label(kind: str, text: str, shape: tuple[int, int], radius: float | None, origin: str) -> np.ndarray:
    """Return the label of a box, points or a scribble."""
    if kind == BOX:
        return box_label(_numbers(text, BOX_NUMBERS, origin), shape, origin)
    points = [_numbers(point, POINT_NUMBERS, origin) for point in text.split(";") if point.strip()]
    if not points:
        raise UserError(f"{origin}: names no points; write {kind}=x,y;x,y")
    return point_label(points, shape, kind == SCRIBBLE, radius, origin)


def box_label(corners: tuple[float, ...], shape: tuple[int, int], origin: str) -> np.ndarray:
    """Return the label of a box x0, y0, x1, y1.

    Raises:
        UserError: the box is empty or reaches beyond the photo.
    """
    (left, top, right, bottom), (height, width) = corners, shape
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UserError(f"{origin}: must be x0,y0,x1,y1 within 0,0,{width},{height}, with x0 < x1 and y0 < y1")
    label = np.zeros(shape, np.uint8)
    label[round(top) : round(bottom), round(left) : round(right)] = 1
    return label


def point_label(
    points: list[tuple[float, ...]], shape: tuple[int, int], joined: bool, radius: float | None, origin: str
) -> np.ndarray:
    """Return the label of points, or of the lines that join them: object, unknown pixels around it, background.

    Args:
        joined: whether the lines between the points are marked too.
        radius: in pixels; None for 2 % of the longer side.

    Raises:
        UserError: a point is outside the photo.
    """
    height, width = shape
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"{origin}: the point {x:g},{y:g} is outside the photo, {width} x {height} pixels")
    return marks.point_label(points, shape, joined, radius)


def _numbers(text: str, count: int, origin: str) -> tuple[float, ...]:
    """Return ``count`` finite numbers from a comma-separated list."""
    words = [word.strip() for word in text.split(",")]
    numbers = tuple(float(word) for word in words if NUMBER.fullmatch(word))
    if len(words) != count or len(numbers) != count or not np.isfinite(numbers).all():
        raise UserError(f"{origin}: '{text}' is not {count} numbers with commas between them")
    return numbers
