"""Reading and writing of photos (RGB) and masks (class indices from palette or grey PNGs).

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.errors import UserError
from util.files import write_atomically

JPEG_START, JPEG_END, JPEG_TAIL = b"\xff\xd8", b"\xff\xd9", 1024  # the end marker lies in the last bytes
INDEX_MODES = ("P", "L")  # palette and 8-bit grey: the stored value is the class index
CLASS_CHANNEL = 3  # of a stacked image
STACKED_CHANNELS = 4  # OpenCV warps four channels in a third of the time that three take


def read_image(path: Path) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, in its stored orientation (as its mask is).

    Raises:
        UserError: the file is missing or not an image.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise UserError(f"{path}: this image does not exist; restore it or take it out of the list") from None
    complete = not content.startswith(JPEG_START) or JPEG_END in content[-JPEG_TAIL:]  # OpenCV fills missing parts grey
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content and complete else None
    except cv2.error:  # more pixels than OpenCV accepts
        image = None
    if image is None:
        raise UserError(f"{path}: this image is damaged or not an image; restore it or take it out of the list")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8; of a palette PNG the indices, not the colours.

    Raises:
        UserError: the file is missing, not an image, or stores colours instead of indices.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in INDEX_MODES:
                raise UserError(
                    f"{path}: this mask is stored as {image.mode}, not as class indices; "
                    "convert it to a palette or 8-bit grey PNG whose values are class ids"
                )
            return np.asarray(image)
    except FileNotFoundError:
        raise UserError(f"{path}: this mask does not exist; every listed image needs one") from None
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: this mask is damaged or not an image ({error})") from None


def read_stacked(image: Path, mask: Path) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8.

    Raises:
        UserError: one of the files is missing, damaged or of the wrong kind, or their sizes differ.
    """
    photo, classes = read_image(image), read_mask(mask)
    if photo.shape[:2] != classes.shape:
        sizes = f"{photo.shape[:2]} and {classes.shape}"
        raise UserError(f"{mask}: image and mask have different sizes (height, width): {sizes}")
    stacked = cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA)
    return cv2.insertChannel(classes, stacked, CLASS_CHANNEL)


def unstack(stacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return photo (H, W, 3) and class indices (H, W), uint8, of a stacked image."""
    return cv2.cvtColor(stacked, cv2.COLOR_RGBA2RGB), cv2.extractChannel(stacked, CLASS_CHANNEL)


def voc_palette() -> list[int]:
    """Return VOC's palette, 256 x RGB: bits 0-2 of an index, then 3-5, ... are the top bits of its R, G, B."""
    return [sum((i >> (3 * b + c) & 1) << (7 - b) for b in range(3)) for i in range(256) for c in range(3)]


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write class indices (H, W) uint8 as a palette PNG, atomically.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    write_atomically(path, image.save)


def size_of(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image; only its header is read.

    Raises:
        UserError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise UserError(f"{path}: this image does not exist; restore it or take it out of the list") from None
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: this image is damaged or not an image ({error})") from None
