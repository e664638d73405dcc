"""Reading of photos (RGB) and masks (class indices from palette or grey PNGs), upright; writing of masks.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from util.data.images.orientation import (
    TAG,
    UPRIGHT,
    fitted_mask,
    orientation_in,
    orientation_of,
    stated_orientation,
    turned,
)
from util.errors import UserError
from util.files import read_bytes, write_atomically

START = b"\xff\xd8"
SHRUNK = 8  # the least that libjpeg builds of a picture: an eighth of each side


def damage_in(content: bytes) -> str | None:
    """Return libjpeg's first error or warning about a JPEG file; None for a sound one and for other formats."""
    if not content.startswith(START):
        return None
    try:
        kind = simplejpeg.decode_jpeg_header(content, strict=True)[2]
        colours = "CMYK" if kind in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(content, colours, fastdct=True, min_height=1, min_width=1, min_factor=SHRUNK)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # none that Pillow hands to another program
BY_OPENCV = (b"\xff\xd8", b"\x89PNG")  # beginnings of files that it decodes faster; of TIFF it takes other colours
SIXTEEN_BIT, BYTE = "I;16", 256
WIDE_MODES = ("I", "F")  # Pillow's modes of 32-bit numbers
INDEX_MODES = ("P", "L")  # palette and 8-bit grey: the stored value is the class index
CLASS_CHANNEL = 3  # of a stacked image
STACKED_CHANNELS = 4  # OpenCV warps four channels in a third of the time that three take


def read_image(path: Path) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright as its EXIF data say.

    Raises:
        UserError: the file is missing, damaged or not an image.
    """
    stored, orientation = _read_stored(path)
    return turned(stored, orientation)


def _read_stored(path: Path) -> tuple[np.ndarray, int]:
    """Return a photo's stored pixels as RGB, (H, W, 3) uint8, and its orientation."""
    _check_present(path, "this image does not exist; restore it or take it out of the list")
    content = read_bytes(path, "this image", "restore it or take it out of the list")
    try:
        return pixels_of(content), orientation_in(content)
    except ValueError as error:
        raise UserError(
            f"{path}: this image is damaged or not an image ({error}); restore it or take it out of the list"
        ) from None


def pixels_of(content: bytes) -> np.ndarray:
    """Return the stored pixels of an image file as RGB, (H, W, 3) uint8.

    Raises:
        ValueError: the file is damaged, of an unknown format, or of 32-bit values.
    """
    if (damage := damage_in(content)) is not None:
        raise ValueError(damage)
    try:
        image = _decoded(content)
    except Exception as error:  # a damaged file can raise any exception
        raise ValueError(str(error)) from None
    if image is None:
        raise ValueError("no image can be decoded")
    return image


def _decoded(content: bytes) -> np.ndarray | None:
    """Return the pixels of an image file as RGB, (H, W, 3) uint8; None for none."""
    if content.startswith(BY_OPENCV):
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    with Image.open(io.BytesIO(content), formats=FORMATS) as photo:
        if photo.mode in WIDE_MODES:
            raise ValueError("32-bit values, whose white is unknown: save it with 8 or 16 bits")
        if photo.mode.startswith(SIXTEEN_BIT):
            return cv2.cvtColor((np.asarray(photo) // BYTE).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        return np.array(photo.convert("RGB"))


def _check_present(path: Path, message: str) -> None:
    if not path.exists():
        raise UserError(f"{path}: {message}")


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8; of a palette PNG the indices, not the colours.

    Raises:
        UserError: the file is missing, not an image, or stores colours instead of indices.
    """
    return _read_own(path)[0]


def _read_own(path: Path) -> tuple[np.ndarray, bool]:
    """Return a mask turned as its own EXIF data say, and whether they say anything."""
    with opened_mask(path) as image:
        if image.mode not in INDEX_MODES:
            raise UserError(
                f"{path}: this mask is stored as {image.mode}, not as class indices; "
                "convert it to a palette or 8-bit grey PNG whose values are class ids"
            )
        indices, orientation = np.asarray(image), stated_orientation(image)
    return turned(indices, orientation or UPRIGHT), orientation is not None


@contextmanager
def opened_mask(path: Path) -> Iterator[Image.Image]:
    """Open a mask; every error inside the context becomes one line.

    Raises:
        UserError: the file is missing, damaged, no image or a JPEG.
    """
    _check_present(path, "this mask does not exist; every listed image needs one")
    try:
        with Image.open(path) as image:
            refuse_lossy(image, path)
            yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: this mask is damaged or not an image ({error})") from None


def refuse_lossy(image: Image.Image, path: Path) -> None:
    """Refuse a mask in a format that changes its values.

    Raises:
        UserError: the mask is a JPEG.
    """
    if image.format == "JPEG":
        raise UserError(f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG")


def read_pair(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo, (H, W, 3) uint8, and its class indices, (H, W) uint8, both upright.

    Raises:
        UserError: one of the files is missing, damaged or of the wrong kind, or they do not fit each other.
    """
    (stored, orientation), (indices, tagged) = _read_stored(image), _read_own(mask)
    height, width = stored.shape[:2]
    return turned(stored, orientation), fitted_mask(indices, tagged, (height, width), orientation, mask)


def read_mask_of(image: Path, mask: Path) -> np.ndarray:
    """Return the class indices of a photo, (H, W) uint8, upright; of the photo only the header is read.

    Raises:
        UserError: as ``read_pair``.
    """
    indices, tagged = _read_own(mask)
    return fitted_mask(indices, tagged, *header_of(image), mask)


def read_stacked(image: Path, mask: Path) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8, upright.

    Raises:
        UserError: as ``read_pair``.
    """
    photo, classes = read_pair(image, mask)
    stacked = cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA)
    return cv2.insertChannel(classes, stacked, CLASS_CHANNEL)


def unstack(stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return photo (H, W, 3) and class indices (H, W), uint8, of a stacked image."""
    return cv2.cvtColor(stacked, cv2.COLOR_RGBA2RGB), cv2.extractChannel(stacked, CLASS_CHANNEL)


def voc_palette() -> list[int]:
    """Return VOC's palette, 256 x RGB: bits 0-2 of an index, then 3-5, ... are the top bits of its R, G, B."""
    return [sum((i >> (3 * b + c) & 1) << (7 - b) for b in range(3)) for i in range(256) for c in range(3)]


def write_mask(path: Path, mask: np.ndarray, stated: bool = False) -> None:
    """Write class indices (H, W) uint8 as a palette PNG, atomically.

    Args:
        stated: state in the file that the mask is upright; needed where its photo's orientation leaves that open.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    if not stated:
        write_atomically(path, image.save)
        return
    exif = Image.Exif()
    exif[TAG] = UPRIGHT
    write_atomically(path, lambda file: image.save(file, exif=exif))


def header_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return (height, width) of an image's stored pixels, and its orientation; only its header is read.

    Raises:
        UserError: the file is missing or not an image.
    """
    _check_present(path, "this image does not exist; restore it or take it out of the list")
    try:
        with Image.open(path) as image:
            return (image.height, image.width), orientation_of(image)
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: this image is damaged or not an image ({error})") from None
