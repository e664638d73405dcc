"""A user's photos: named one by one or by folder, upright as their EXIF data say, RGB, of bounded size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from util.data.images.read import header_of, read_image
from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError

MAX_PIXELS = 2**26  # 67 million; a photo takes 32-bit numbers while it is resized


def photos_in(paths: Iterable[Path], recursive: bool = False) -> list[Path]:
    """Return the photos among paths and in folders, each once, those of a folder sorted by name.

    Args:
        recursive: whether photos in sub-folders count.

    Raises:
        UserError: a folder holds no photo.
    """
    out: dict[Path, None] = {}
    for path in paths:
        inside = path.rglob("*") if recursive else path.glob("*")
        found = sorted(p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if path.is_dir() and not found:
            raise UserError(f"{path}: this folder holds no photo ({', '.join(IMAGE_SUFFIXES)}); see also --recursive")
        out.update(dict.fromkeys(found or [path]))
    return list(out)


def check_photo(path: Path) -> None:
    """Check a photo by its header alone.

    Raises:
        UserError: the file is missing, no image, or has more than ``MAX_PIXELS`` pixels.
    """
    (height, width), _ = header_of(path)
    if height * width > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels, the limit is {MAX_PIXELS}; make it smaller")


def read_photo(path: Path) -> np.ndarray:
    """Return a photo as viewers show it, upright and RGB, (H, W, 3) uint8.

    Raises:
        UserError: as ``check_photo``, or the photo is damaged or has 32-bit values.
    """
    check_photo(path)
    return read_image(path)
