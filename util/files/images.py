"""JPEGs and PNGs opened by their header, and photos read as RGB, upright, as trainings and tests read them.

Photos are turned upright as their EXIF data say. The orientation is 1 to 8, as EXIF numbers them; 1 is upright. Other
formats, 16 bits and transparency are read by ``annotations/pictures.py``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

from util.files import sizes
from util.files.errors import TooLarge, UserError, as_user_error, closest
from util.files.jpeg import END_OF_IMAGE, check_jpeg
from util.files.reading import stand_in
from util.files.sizes import FIX, check_size

UPRIGHT = 1  # an orientation
FORMATS = ("JPEG", "PNG")
JPEG_FORMATS = ("JPEG", "MPO")  # Pillow's names of JPEGs with one picture and with several
NAMES_OF_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC"  # of photos
CONVERT = "trainings and tests read JPEG and PNG of 8 bits: python prepare.py custom converts other files"
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # beginnings of files
BITS_PLACE, BITS = 24, 8  # of the number of bits in a PNG
OPAQUE = 255
END_OF_PNG = b"IEND\xaeB`\x82"
HEADER = 32  # bytes of a file that tell its kind


class Frame(NamedTuple):
    """The size of an image's stored pixels and its orientation, by its header."""

    size: tuple[int, int]  # height and width of the stored pixels
    stated: int | None  # the orientation of its EXIF data; None where they state none or are damaged
    turned: bool  # whether its decoder returns upright pixels

    @property
    def orientation(self) -> int:
        """The orientation of the stored pixels."""
        return self.stated or UPRIGHT

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        return self.size if self.orientation < 5 else (self.size[1], self.size[0])

    def upright(self, decoded: np.ndarray) -> np.ndarray:
        """Return upright pixels (H, W) or (H, W, C) from those that the decoder returns."""
        return decoded if self.turned else turned(decoded, self.orientation)


def stated_orientation(image: Image.Image) -> int | None:
    """Return the orientation that an image's EXIF data state; None if they state none, or are damaged."""
    try:
        value = image.getexif().get(Tag.Orientation)
    except Exception:  # damaged EXIF data can raise anything while the pixels are intact
        return None
    return value if value in range(1, 9) else None


def frame_of(image: Image.Image) -> Frame:
    """Return the frame of a JPEG or PNG whose pixels are not decoded yet."""
    return Frame((image.height, image.width), stated_orientation(image), turned=False)


@contextmanager
def opened(path: Path, what: str = "photo") -> Iterator[Image.Image]:
    """Open a JPEG or PNG without decoding its pixels; every error inside the context becomes one line.

    UserError: the file is missing, damaged, too large, or of another kind; ``what`` is the word for it.
    """
    with read_errors(path, what), path.open("rb") as file:
        start = file.read(HEADER)
        file.seek(0)
        is_known = start.startswith((JPEG, PNG))
        is_deep = start.startswith(PNG) and len(start) > BITS_PLACE and start[BITS_PLACE] > BITS
        if not is_known and not stand_in(path):
            raise UserError(f"{path}: is no JPEG or PNG; {CONVERT}")
        if is_deep:
            raise UserError(f"{path}: has {start[BITS_PLACE]} bits for each value; {CONVERT}")
        with Image.open(file, formats=FORMATS) as image:
            check_image(image, path)
            yield image


@contextmanager
def read_errors(path: Path, what: str = "photo") -> Iterator[None]:
    """Turn every error of the block, which reads an image file, into one line (UserError)."""
    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise TooLarge(f"{path}: has more than {sizes.MAX_PIXELS} pixels; {FIX}") from None
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: {_problem(path, what, error)}") from None


def check_image(image: Image.Image, path: Path) -> None:
    """Refuse (TooLarge) an image that is too large to be decoded, by its header: in all, or in a tile of a TIFF."""
    tags = getattr(image, "tag_v2", {})
    tile = (tags.get(Tag.TileLength, 1), tags.get(Tag.TileWidth, 1))
    with as_user_error(ValueError, before=f"{path}: ", refusal=TooLarge):
        for height, width in ((image.height, image.width), tile):
            check_size(height, width)


def _problem(path: Path, what: str, error: Exception) -> str:
    """Explain why an image file cannot be read, and the fix."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        beside = (other.name for other in path.parent.glob("*"))
        return f"this {what} does not exist{closest(path.name, beside) or '; restore it or name another'}"
    if cause := getattr(error, "strerror", None):  # of the system
        return f"this {what} cannot be read ({cause}); restore it or leave it out"
    if other := stand_in(path):
        return f"this {what} is {other}"
    if isinstance(error, UnidentifiedImageError):
        return f"is no {what} ({NAMES_OF_FORMATS}); convert it to one of these, or leave it out"
    return f"this {what} is damaged ({error}); restore it or leave it out"


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) upright, contiguous; an upright one is returned as it is."""
    is_sideways, flip = divmod(orientation - 1, 4)
    if is_sideways:
        array = array.swapaxes(0, 1)
    backwards = ((), (1,), (0, 1), (0,))[flip]  # axes: none, columns, both, rows
    return np.ascontiguousarray(np.flip(array, backwards))


def check_photo(path: Path) -> None:
    """Refuse (UserError) a photo that ``read_image`` refuses, as far as its header and its end tell.

    One that lacks its end, or may be transparent, is decoded.
    """
    with opened(path) as photo, path.open("rb") as file:
        file.seek(-min(HEADER, path.stat().st_size), SEEK_END)
        last = END_OF_PNG if photo.format == "PNG" else END_OF_IMAGE
        is_cut_off = not file.read().endswith(last)
        if is_cut_off or photo.has_transparency_data:
            read_image(path)


def read_image(path: Path) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright; UserError: as ``opened``, or it is transparent in places."""
    return read_with_frame(path)[0]


def read_with_frame(path: Path) -> tuple[np.ndarray, Frame]:
    """Return a photo as ``read_image``, and its frame."""
    with opened(path) as photo:
        frame = frame_of(photo)
        colours = decode(path.read_bytes())
        if photo.has_transparency_data and photo.convert("RGBA").getchannel("A").getextrema() != (OPAQUE, OPAQUE):
            raise UserError(f"{path}: is transparent in places; {CONVERT}")
        return frame.upright(colours), frame


def decode(content: bytes, page: int = 0) -> np.ndarray:
    """Return what OpenCV decodes of a page of an image file, as RGB as it is stored, (H, W, 3) uint8 or of 16 bits.

    ValueError: a JPEG is damaged, a PNG cut off, or nothing can be decoded.
    """
    if content.startswith(JPEG):
        check_jpeg(content)
    if content.startswith(PNG) and END_OF_PNG not in content:  # OpenCV decodes a part
        raise ValueError("it is cut off")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    encoded = np.frombuffer(content, np.uint8)
    if page == 0:
        colours = cv2.imdecode(encoded, flags)
    else:
        _, pages = cv2.imdecodemulti(encoded, flags, range=(page, page + 1))
        colours = next(iter(pages), None)
    if colours is None:
        raise ValueError("no pixels can be decoded")
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)


def header_of(path: Path) -> Frame:
    """Return a photo's frame; raises as ``opened`` does."""
    with opened(path) as image:
        return frame_of(image)
