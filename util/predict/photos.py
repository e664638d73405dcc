"""Read any photo, from anywhere: upright as its EXIF data says, RGB, within a bound of pixels, or one clear line."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from util.errors import UserError

MAX_PIXELS = 2**26  # 67 million; a photo is held as 32-bit numbers while it is resized
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # none that Pillow hands to another program
SIXTEEN_BIT, BYTE = "I;16", 256
Image.init()  # Pillow knows five of these formats before


@contextlib.contextmanager
def opened(path: Path, what: str = "photo") -> Iterator[Image.Image]:
    """Open an image whose pixels are not read yet; whatever goes wrong with it inside is one line.

    Raises:
        UserError: missing, not an image, damaged, or more than ``MAX_PIXELS``.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the files in it, as in {path}/*.jpg")
    if not path.is_file():
        raise UserError(f"{path}: this {what} does not exist; check its name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers and of sizes: what matters is said here
            image = Image.open(path, formats=FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{path}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS}; make it smaller"
                )
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than {MAX_PIXELS} pixels, which is the limit; make it smaller") from None
    except Exception as error:  # a hostile file can raise anything
        kinds = ", ".join(FORMATS)
        raise UserError(
            f"{path}: not a {what} that can be read ({error or type(error).__name__}); use {kinds}"
        ) from None


def check_photo(path: Path) -> None:
    """Look at a photo's header alone.

    Raises:
        UserError: as ``opened``.
    """
    with opened(path):
        pass


def read_photo(path: Path) -> np.ndarray:
    """Return a photo as people see it, upright and RGB, (H, W, 3) uint8.

    Raises:
        UserError: as ``opened``.
    """
    with opened(path) as image:
        image.load()
        upright = _upright(image)
        if upright.mode.startswith(SIXTEEN_BIT):
            upright = Image.fromarray((np.asarray(upright) // BYTE).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF data says; as it is where those are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the data of a hostile file can raise anything, and its pixels be sound
        return image
