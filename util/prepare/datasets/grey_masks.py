"""Masks of one class as grey values: 128 and more is the class. They are read, fitted to their photo and written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.data.images.orientation import UPRIGHT, fitted_mask, upright_size
from util.data.images.read import header_of, opened_mask, read_image, write_mask
from util.errors import UserError
from util.files import link
from util.prepare.common import existing
from util.prepare.datasets.class_masks import IMAGES, MASKS, Facts, Made, Mask, make_all

THRESHOLD = 128  # a grey value from which on a pixel is of the class, as published


def prepare_masks(
    options: argparse.Namespace, masks: Sequence[Mask], classes: Sequence[str], notes: Sequence[str] = ()
) -> Facts:
    """Write all masks of a data set, link their photos, and write the lists; return the facts.

    Raises:
        UserError: as ``make_all``.
    """
    sources = existing(path for mask in masks for path in (mask.photo, mask.source))
    return make_all(options.out, masks, make_mask, sources, classes, notes, options.skip_bad)


def make_mask(job: Mask, out: Path, since: int) -> Made:
    """Link a photo and write its mask unless it is up to date.

    Raises:
        UserError: photo or mask is missing or damaged, or the mask holds other values.
    """
    target, line = out / MASKS / f"{job.name}.png", (job.part, job.name, job.class_id, job.photo_name)
    photo = out / IMAGES / job.photo_name
    if photo.exists() and target.exists() and target.stat().st_mtime_ns >= since:
        with open_mask(job.source, "L") as before, Image.open(photo) as linked:
            return Made((line,), resized=int(before.size not in (linked.size, linked.size[::-1])))
    read_image(job.photo)
    mask = read_grey(job.source) >= THRESHOLD
    if not mask.any():
        return Made(empty=1)
    resized = fit_and_write(job.photo, job.source, mask.astype(np.uint8), target)
    link(job.photo, photo)
    return Made((line,), resized=int(resized))


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
