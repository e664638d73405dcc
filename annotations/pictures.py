"""Photos of any format read as RGB, upright: 16 bits, many pages, HEIC, transparency.

Trainings and tests read JPEG and PNG of 8 bits (``util/files/images.py``); ``prepare.py custom`` converts the rest.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from pi_heif import register_heif_opener
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PHOTOMETRIC_INTERPRETATION

from util.files.errors import UserError
from util.files.images import JPEG, PNG, Frame, check_image, decode, read_errors, stated_orientation

# none that Pillow hands to another program
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")
NARROW = 2**14  # a range of values of 16 bits, below which they are stretched


def frame_of(image: Image.Image) -> Frame:
    """Return the frame of an image whose pixels are not decoded yet: Pillow and OpenCV turn TIFFs while they decode."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and {IMAGEWIDTH, IMAGELENGTH} <= {*tags}:
        image.filename = ""  # type: ignore[attr-defined]  # else Pillow maps the file, and takes sideways rows for others
        return Frame((int(tags[IMAGELENGTH]), int(tags[IMAGEWIDTH])), stated_orientation(image), turned=True)
    return Frame((image.height, image.width), stated_orientation(image), turned=False)


@contextmanager
def opened(path: Path, what: str = "photo", content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels; every error inside the context becomes one line.

    Of a TIFF with several pages it is the largest. UserError: the file is missing, damaged, too large or no image.

    Args:
        path: the file; a name for messages where its ``content`` is given.
        what: the word for it in messages.
        content: of the file.
    """
    register_heif_opener()
    Image.init()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of images below the limit
    formats = [name for name in FORMATS if name in Image.OPEN]
    with (
        read_errors(path, what),
        path.open("rb") if content is None else BytesIO(content) as file,
        Image.open(file, formats=formats) as image,
    ):
        if image.format == "TIFF":  # to the first of its largest pages
            sizes = [page.width * page.height for page in ImageSequence.Iterator(image)]
            image.seek(sizes.index(max(sizes)))
        check_image(image, path)
        yield image


def header_of(path: Path) -> Frame:
    """Return a photo's frame; raises as ``opened`` does."""
    with opened(path) as image:
        return frame_of(image)


def read_image(path: Path, content: bytes | None = None) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright, white where it is transparent; ``content`` as ``opened``.

    UserError: it is missing, damaged, too large, or of 32-bit values.
    """
    with opened(path, content=content) as photo:
        frame = frame_of(photo)
        content = content or path.read_bytes()
        if content.startswith((JPEG, PNG)) or _has_colours_of_16_bits(photo):
            colours = over_white(eight_bits(decode(content, page=photo.tell())), photo)
        else:
            colours = colours_of(photo, path)
        return frame.upright(colours)


def _has_colours_of_16_bits(photo: Image.Image) -> bool:
    """Return whether a photo is a TIFF of colours of 16 bits, which Pillow would cut to 8."""
    return photo.mode == "RGB" and max(getattr(photo, "tag_v2", {}).get(BITSPERSAMPLE, (8,))) == 16


def colours_of(image: Image.Image, path: Path) -> np.ndarray:
    """Return what Pillow decodes, as RGB, (H, W, 3) uint8, white where it is transparent.

    UserError: its values have 32 bits or a sign.
    """
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path}: has values of 32 bits or more, or signed ones, whose white is unknown; save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        grey = eight_bits(values_in(image))
        return cv2.cvtColor(~grey if white_is_zero(image) else grey, cv2.COLOR_GRAY2RGB)
    return over_white(np.array(image.convert("RGB")), image)


def over_white(colours: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return the colours (H, W, 3) uint8 of an image as a white page shows them: colours that it hides do not count."""
    if not image.has_transparency_data:
        return colours
    weight = np.asarray(image.convert("RGBA"))[..., 3:].astype(np.uint16)
    blended = colours * weight + 255 * (255 - weight)
    return ((blended + 127) // 255).astype(np.uint8)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return values of 16 bits in 8: the upper half; those of a narrow range are stretched.

    Those of 8 bits are returned as they are.

    A camera of fewer bits has such a range, and one that measures temperatures. Its ends are of nearly all values.
    """
    if values.dtype == np.uint8:
        return values
    low, high = np.percentile(values, (0.1, 99.9))
    if not 0 < high - low < NARROW:
        return (values // 256).astype(np.uint8)
    return np.interp(values, (low, high), (0, 255)).round().astype(np.uint8)


def values_in(image: Image.Image) -> np.ndarray:
    """Return the numbers that a file stores: of a TIFF in which 0 is white, Pillow decodes the opposite.

    (NumPy alone would take a TIFF's shape from before it is turned.)
    """
    image.load()
    decoded = np.asarray(image)
    return ~decoded if white_is_zero(image) and image.mode in ("1", "L") else decoded


def white_is_zero(image: Image.Image) -> bool:
    """Return whether an image is a page of TIFF in which the value 0 is shown white."""
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
