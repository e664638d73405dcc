"""The orientation of image files: photos are turned upright as their EXIF data say, and masks with them.

The orientation is 1 to 8, as EXIF numbers them; 1 is upright. A mask with EXIF data of its own is turned as those say.
Any other mask is of the upright photo or of the photo as stored, which its size tells. Where both sizes are equal and
the mask differs from its turned self, nothing tells how it was drawn, and it is refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from util.errors import UserError

TAG = 0x0112  # of EXIF
UPRIGHT, TURNED_HALF = 1, 3
JPEG_START = b"\xff\xd8"
MAY_TELL = (b"xif", b"rientation")  # a JPEG without these words has no orientation; opening a file takes longer


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an open image; that of an image without EXIF data, or with damaged ones, is 1."""
    return stated_orientation(image) or UPRIGHT


def stated_orientation(image: Image.Image) -> int | None:
    """Return the orientation that an image's EXIF data state, None where they state none."""
    try:
        value = image.getexif().get(TAG)
    except Exception:  # damaged EXIF data can raise anything while the pixels are intact
        return None
    return value if value in range(1, 9) else None


def orientation_in(content: bytes) -> int:
    """Return the orientation of the content of an image file; 1 where it has none or is no image."""
    if content.startswith(JPEG_START) and not any(word in content for word in MAY_TELL):
        return UPRIGHT
    try:
        with Image.open(io.BytesIO(content)) as image:
            return orientation_of(image)
    except Exception:  # a damaged file can raise any exception
        return UPRIGHT


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) upright, contiguous; an upright one is returned as it is."""
    ways = {
        2: lambda a: a[:, ::-1],
        TURNED_HALF: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    return np.ascontiguousarray(ways[orientation](array)) if orientation in ways else array


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (height, width) of the upright image from those of the stored one."""
    return size if orientation < 5 else (size[1], size[0])


def fitted_mask(mask: np.ndarray, tagged: bool, stored: tuple[int, int], orientation: int, path: Path) -> np.ndarray:
    """Return a photo's mask (H, W) for the upright photo.

    Args:
        tagged: whether the mask has been turned as its own EXIF data say.
        stored: (height, width) of the photo's stored pixels.
        orientation: of the photo.

    Raises:
        UserError: the sizes differ, or nothing tells whether the mask was drawn on the upright photo.
    """
    upright = upright_size(stored, orientation)
    if mask.shape == upright and (tagged or orientation == UPRIGHT or upright != stored):
        return mask
    if not tagged and mask.shape == stored:
        other = turned(mask, orientation)
        if mask.shape != upright or np.array_equal(other, mask):
            return other
        raise UserError(
            f"{path}: its photo has EXIF orientation {orientation}, and by its size this mask may be of the stored or "
            "of the upright photo; save the photo upright without that entry (mogrify -auto-orient), and the mask like "
            "it"
        )
    raise UserError(f"{path}: image and mask have different sizes (height, width): {upright} and {mask.shape}")
