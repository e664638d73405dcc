"""Masks of one class as grey values: 128 and more is the class. They are read, fitted to their photo and written.

A prepared folder holds ``images`` (links), ``masks/<name>.png`` (0 and 1) and ``lists/<part>.txt``, whose lines are as
in ``util/data/lists/class_masks.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from util.data.images.orientation import UPRIGHT, fitted_mask, upright_size
from util.data.images.read import header_of, opened_mask, read_image, write_mask
from util.errors import UserError
from util.files import link
from util.prepare.datasets.recipe import EMPTY, IMAGES, MASKS, RESIZED, Made, Plan

THRESHOLD = 128  # a grey value from which on a pixel is of the class, as published


@dataclass(frozen=True)
class Mask:
    """One mask of one class to prepare.

    Attributes:
        parts: the lists that it goes to.
        name: of the prepared mask, without suffix.
        class_id: 1-based.
        photo_name: name of the prepared photo.
        photo, source: the files given.
        counted: as what it is counted.
    """

    parts: tuple[str, ...]
    name: str
    class_id: int
    photo_name: str
    photo: Path
    source: Path
    counted: str = ""


def plan_of(masks: Sequence[Mask], classes: Sequence[str], **facts: Any) -> Plan:
    """Return the plan that writes all masks of a data set and links their photos."""
    sources = [path for mask in masks for path in (mask.photo, mask.source)]
    return Plan(lambda: masks, make_mask, sources, (*masks, *classes), **facts)


def line_of(name: str, class_id: int, photo: str) -> str:
    """Return a line of a list.

    Raises:
        UserError: a name has a space.
    """
    for word in (name, photo):
        if not word.isprintable() or len(word.split()) != 1:
            raise UserError(f"{word}: a list cannot hold a file name with a space or a line break; rename the file")
    return f"{name} {class_id} {photo}"


def make_mask(job: Mask, out: Path, since: int) -> Made:
    """Link a photo and write its mask unless it is up to date.

    Raises:
        UserError: photo or mask is missing or damaged, or the mask holds other values.
    """
    target, photo = out / MASKS / f"{job.name}.png", out / IMAGES / job.photo_name
    lines = tuple((part, line_of(job.name, job.class_id, job.photo_name)) for part in job.parts)
    if photo.exists() and target.exists() and target.stat().st_mtime_ns >= since:
        with open_mask(job.source, "L") as before, Image.open(photo) as linked:
            resized = before.size not in (linked.size, linked.size[::-1])
    else:
        read_image(job.photo)
        mask = read_grey(job.source) >= THRESHOLD
        if not mask.any():
            return Made(counted=(EMPTY,))
        resized = fit_and_write(job.photo, job.source, mask.astype(np.uint8), target)
        link(job.photo, photo)
    return Made(lines, (job.counted, *([RESIZED] if resized else [])))


def fit_and_write(photo: Path, source: Path, mask: np.ndarray, target: Path) -> bool:
    """Write a mask (H, W) uint8 in the size of its photo, upright; return whether it had another size."""
    stored, orientation = header_of(photo)
    upright = upright_size(stored, orientation)
    resized = mask.shape not in (stored, upright)
    if resized:
        mask = cv2.resize(mask, upright[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    else:
        mask = fitted_mask(mask, False, stored, orientation, source)
    write_mask(target, mask, stated=orientation != UPRIGHT)
    return resized


def read_grey(path: Path) -> np.ndarray:
    """Return a mask as grey values, (H, W) uint8.

    Raises:
        UserError: the file is missing, damaged, a JPEG, or holds small numbers as masks of class indices do.
    """
    grey = np.asarray(open_mask(path, "L"))
    if 0 < int(grey.max(initial=0)) < THRESHOLD:
        raise UserError(
            f"{path}: its largest value is {int(grey.max())}, a mask of one class holds 0 and 255; is it of class ids?"
        )
    return grey


def open_mask(path: Path, mode: str) -> Image.Image:
    """Return a mask in one of Pillow's modes.

    Raises:
        UserError: the file is missing, damaged or a JPEG.
    """
    with opened_mask(path) as image:
        return image.convert(mode)
