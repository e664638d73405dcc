"""Masks as class indices, from palette or grey PNGs, for the upright photo; masks written; photos stacked with theirs.

A mask with EXIF data of its own is turned as those say. Any other mask is of the upright photo or of the photo as
stored, which its size tells. Where both sizes are equal and the mask differs from its turned self, nothing tells how it
was drawn, and it is refused.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.files import write_atomically
from util.files.errors import UserError
from util.files.images import (
    JPEG_FORMATS,
    TAG,
    UPRIGHT,
    Frame,
    frame_of,
    header_of,
    opened,
    read_with_frame,
    say_once,
    turned,
    upright_size,
)
from util.files.palette import (
    IGNORE,
    Colours,
    indices_of_colours,
    refuse_few_bits,
    stored_indices,
    voc_palette,
    white_is_zero,
)

VALUE = 1  # of the class in a mask of one class
SOFTWARE_TAG = 305
CLASS_CHANNEL = 3
STACKED_CHANNELS = 4  # OpenCV warps four channels in a third of the time that three take


@contextmanager
def opened_mask(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a mask as ``opened`` does a photo; UserError also for a JPEG and for a TIFF that leaves its object open."""
    with opened(path, "mask", content) as image:
        _check_kind_of_mask(image, path)
        yield image


def _check_kind_of_mask(image: Image.Image, path: Path) -> None:
    """Refuse (UserError) a mask whose kind of file leaves its numbers open; say where they are not those shown."""
    if image.format in JPEG_FORMATS:
        raise UserError(f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG")
    if not white_is_zero(image):
        return
    software = str(image.tag_v2.get(SOFTWARE_TAG, ""))  # type: ignore[attr-defined]
    if image.mode == "1" and not software.startswith("tifffile"):
        problem = "a TIFF of one bit in which 0 is white, where programs differ in what the object is"
        raise UserError(f"{path}: is {problem}; save it as PNG, the object white")
    say_once(path, "inverted", "0 is white in this TIFF; its stored numbers are read, not the colours shown")


def check_header(mask: Path) -> None:
    """Refuse (UserError) a file that is no mask by its header, which says how it is read where that is unusual."""
    with opened_mask(mask):
        pass


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8.

    UserError: it is missing, no image, or stores colours that have no class.
    """
    return _read_indices(path)[0]


def _read_indices(path: Path, colours: Colours | None = None) -> tuple[np.ndarray, bool]:
    """Return a mask turned as its own EXIF data say, and whether they say anything."""
    with opened_mask(path) as image:
        refuse_few_bits(image, path)
        frame = frame_of(image)
        indices = indices_of(image, path, colours)
    return frame.upright(indices), frame.stated is not None


def indices_of(image: Image.Image, path: Path, colours: Colours | None) -> np.ndarray:
    """Return the class indices in a mask that is opened, (H, W) uint8, by its ``colours`` if it has them."""
    by_colours = None if colours is None else indices_of_colours(image, path, colours)
    return stored_indices(image, path) if by_colours is None else by_colours


def fitted_mask(mask: np.ndarray, tagged: bool, stored: tuple[int, int], orientation: int, path: Path) -> np.ndarray:
    """Return a photo's mask (H, W) for the upright photo.

    Args:
        mask: (H, W), drawn on the upright photo or on the stored one.
        tagged: whether it has been turned as its own EXIF data say.
        stored: height and width of the photo in its file.
        orientation: of the photo, 1 to 8 as in EXIF.
        path: of the mask, for messages.

    Raises:
        UserError: the sizes differ, or nothing tells whether the mask was drawn on the upright photo.
    """
    upright = upright_size(stored, orientation)
    fits_upright = mask.shape == upright
    fits_stored = mask.shape == stored
    if fits_upright and (tagged or orientation == UPRIGHT or not fits_stored):
        return mask
    if tagged or not fits_stored:
        raise UserError(f"{path}: image and mask have different sizes (height, width): {upright} and {mask.shape}")
    turned_mask = turned(mask, orientation)
    if fits_upright and not np.array_equal(turned_mask, mask):
        problem = f"its photo has EXIF orientation {orientation}, and this mask fits it as stored and upright alike"
        fix = "save the photo upright without that entry (mogrify -auto-orient), and the mask too"
        raise UserError(f"{path}: {problem}; {fix}")
    return turned_mask


def read_mask_of(image: Path, mask: Path, colours: Colours | None = None) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8, upright; its header alone is read.

    Errors as ``read_mask`` and ``read_stacked``.
    """
    indices, tagged = _read_indices(mask, colours)
    return fitted_mask(indices, tagged, *header_of(image), mask)


def read_stacked(image: Path, mask: Path, class_id: int = VALUE, below: Sequence[tuple[Path, int]] = ()) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8, upright.

    A mask of one class gives its pixels ``class_id``; they hide those of ``below``, further masks of the photo, each
    with its id, of which later ones hide earlier ones. UserError: one of the files is missing, damaged or of the wrong
    kind, or they do not fit each other.
    """
    photo, frame = read_with_frame(image)
    classes = _read_fitted_mask(mask, frame)
    if class_id != VALUE or below:
        top = classes
        classes = np.where(top == IGNORE, top, 0)
        for path, lower_id in below:
            lower = _read_fitted_mask(path, frame)
            classes[(lower == VALUE) & (top == 0)] = lower_id
        classes[top == VALUE] = class_id
    four_channels = cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA)
    return cv2.insertChannel(classes, four_channels, CLASS_CHANNEL)


def _read_fitted_mask(path: Path, frame: Frame) -> np.ndarray:
    """Return the mask of a photo with that frame, (H, W) uint8, upright; errors as ``fitted_mask``."""
    indices, tagged = _read_indices(path)
    return fitted_mask(indices, tagged, frame.size, frame.orientation, path)


def write_mask(path: Path, mask: np.ndarray, stated: bool = False) -> None:
    """Write class indices (H, W) uint8 as a palette PNG; errors as ``write_atomically``.

    ``stated``: the file states that the mask is upright, which its photo's orientation may leave open.
    """
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    exif = Image.Exif()
    if stated:
        exif[TAG] = UPRIGHT
    write_atomically(path, lambda file: image.save(file, exif=exif))
