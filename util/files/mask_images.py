"""Masks as class indices, from palette or grey PNGs, for the upright photo; masks written; photos stacked with theirs.

A mask with EXIF data of its own is turned as those say. Any other mask is of the upright photo or of the photo as
stored, which its size tells. Where both sizes are equal and the mask differs from its turned self, nothing tells how it
was drawn, and it is refused.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import Base as Tag

from util.files.errors import UserError
from util.files.images import (
    JPEG_FORMATS,
    UPRIGHT,
    Frame,
    frame_of,
    header_of,
    opened,
    read_with_frame,
    turned,
)
from util.files.palette import IGNORE, check_indices, refuse_few_bits, voc_palette
from util.files.writing import write_atomically

VALUE = 1  # of the class in a mask of one class
CLASS_CHANNEL = 3  # of four, which OpenCV warps in a third of the time that three take


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8.

    UserError: it is missing, no PNG, or stores what are no class indices.
    """
    return _read_indices(path)[0]


def _read_indices(path: Path) -> tuple[np.ndarray, bool]:
    """Return a mask turned as its own EXIF data say, and whether they say anything."""
    with opened(path, "mask") as image:
        if image.format in JPEG_FORMATS:
            raise UserError(f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG")
        refuse_few_bits(image, path)
        frame = frame_of(image)
        indices = np.asarray(image)
        check_indices(image, indices, path)
    return frame.upright(indices), frame.stated is not None


def fitted_mask(mask: np.ndarray, tagged: bool, photo: Frame, path: Path) -> np.ndarray:
    """Return a photo's mask (H, W) for the upright photo.

    Args:
        mask: (H, W), drawn on the upright photo or on the stored one.
        tagged: whether it has been turned as its own EXIF data say.
        photo: its frame.
        path: of the mask, for messages.

    Raises:
        UserError: the sizes differ, or nothing tells whether the mask was drawn on the upright photo.
    """
    fits_upright = mask.shape == photo.upright_size
    fits_stored = mask.shape == photo.size
    if fits_upright and (tagged or photo.orientation == UPRIGHT or not fits_stored):
        return mask
    if tagged or not fits_stored:
        raise UserError(
            f"{path}: image and mask have different sizes (height, width): {photo.upright_size} and {mask.shape}",
            fix="give the mask the photo's size, pixel by pixel",
        )
    turned_mask = turned(mask, photo.orientation)
    if fits_upright and not np.array_equal(turned_mask, mask):
        raise UserError(
            f"{path}: its photo has EXIF orientation {photo.orientation}, and this mask fits it as stored and upright "
            "alike",
            fix="save the photo upright without that entry (mogrify -auto-orient), and the mask too",
        )
    return turned_mask


def read_mask_of(image: Path, mask: Path) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8, upright; its header alone is read.

    Raises as ``read_mask`` and ``read_stacked`` do.
    """
    frame = header_of(image)
    return fitted_mask(*_read_indices(mask), frame, mask)


def read_stacked(image: Path, mask: Path, class_id: int = VALUE, below: Sequence[tuple[Path, int]] = ()) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8, upright.

    A mask of one class gives its pixels ``class_id``; they hide those of ``below``, further masks of the photo, each
    with its id, of which later ones hide earlier ones. UserError: one of the files is missing, damaged or of the wrong
    kind, or they do not fit each other.
    """
    photo, frame = read_with_frame(image)
    classes = fitted_mask(*_read_indices(mask), frame, mask)
    if class_id != VALUE or below:
        top = classes
        classes = np.where(top == IGNORE, top, 0)
        for path, lower_id in below:
            lower = fitted_mask(*_read_indices(path), frame, path)
            classes[(lower == VALUE) & (top == 0)] = lower_id
        classes[top == VALUE] = class_id
    return cv2.insertChannel(classes, cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA), CLASS_CHANNEL)


def write_mask(path: Path, mask: np.ndarray, stated: bool = False) -> None:
    """Write class indices (H, W) uint8 as a palette PNG; raises as ``write_atomically`` does.

    ``stated``: the file states that the mask is upright, which its photo's orientation may leave open.
    """
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    exif = Image.Exif()
    if stated:
        exif[Tag.Orientation] = UPRIGHT
    write_atomically(path, lambda file: image.save(file, exif=exif))
