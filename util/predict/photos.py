"""Read a user's photo: upright as its EXIF data says, RGB, of bounded size, with one clear line for every failure."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.images.orientation import orientation_in, turned
from util.data.images.read import FORMATS, WIDE_MODES, pixels_of
from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError

MAX_PIXELS = 2**26  # 67 million; a photo takes 32-bit numbers while it is resized


@contextlib.contextmanager
def open_image(path: Path, what: str = "photo") -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels; every error inside the context becomes one line.

    Args:
        what: the word for the file in messages.

    Raises:
        UserError: the file is missing, no image, damaged, or has more than ``MAX_PIXELS`` pixels.
    """
    if not path.exists():
        raise UserError(f"{path}: this {what} does not exist; check its name")
    try:
        Image.init()  # loads the readers of all formats, once
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd headers, which do not matter, and sizes, checked below
            image = Image.open(path, formats=FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{path}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS}; make it smaller"
                )
            yield image
    except UserError:
        raise
    except Exception as error:  # a malicious file can raise anything
        formats = ", ".join(FORMATS)
        raise UserError(
            f"{path}: not a {what} that can be read ({error or type(error).__name__}); use {formats}"
        ) from None


def photos_in(paths: Iterable[Path], recursive: bool = False) -> list[Path]:
    """Return the photos among paths and in folders, each once, those of a folder sorted by name.

    Args:
        recursive: whether photos in sub-folders count.

    Raises:
        UserError: a folder holds no photo.
    """
    out: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            out[path] = None
            continue
        inside = path.rglob("*") if recursive else path.iterdir()
        found = sorted(p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            mend = "" if recursive else ", or add --recursive"
            raise UserError(f"{path}: this folder holds no photo ({', '.join(IMAGE_SUFFIXES)}); name another{mend}")
        out.update(dict.fromkeys(found))
    return list(out)


def check_photo(path: Path) -> None:
    """Check a photo by its header alone.

    Raises:
        UserError: as ``open_image``.
    """
    with open_image(path):
        pass


def read_photo(path: Path) -> np.ndarray:
    """Return a photo as viewers show it, upright and RGB, (H, W, 3) uint8.

    Raises:
        UserError: as ``open_image``.
    """
    with open_image(path) as image:
        if image.mode in WIDE_MODES:
            raise UserError(f"{path}: this photo has 32-bit values, whose white is unknown; save it with 8 or 16 bits")
        content = path.read_bytes()
        try:
            return turned(pixels_of(content), orientation_in(content))
        except ValueError as error:
            raise UserError(f"{path}: not a photo that can be read, it is damaged ({error}); restore it") from None
