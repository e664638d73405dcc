"""Image files opened by their header, and photos read as RGB, upright.

Photos are turned upright as their EXIF data say. The orientation is 1 to 8, as EXIF numbers them; 1 is upright.
``Frame`` is the one place that knows which decoders turn images themselves.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from util.files import stand_in
from util.files.errors import TooLarge, UserError, closest, note
from util.files.jpeg import END_OF_IMAGE, check_jpeg
from util.files.palette import (
    values_in,
    white_is_zero,
)
from util.files.sizes import FIX, MAX_PIXELS, check_size

TAG = 0x0112  # of the orientation in EXIF data
UPRIGHT = 1  # an orientation
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # none that Pillow hands to another program
JPEG_FORMATS = ("JPEG", "MPO")  # Pillow's names of JPEGs with one picture and with several
HEIF_START = re.compile(rb"(?s).{4}ftyp(hei|hev|mif1|msf1)")  # the beginning of a file
ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")  # of an object in memory
NAMES_OF_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIC"  # of photos
HEIF = (".heic", ".heif")
NEEDS_HEIF = "HEIC needs pip install pillow-heif"
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # beginnings of files that OpenCV decodes faster; of TIFF it takes other colours
# Tags of a page of TIFF; its kind has bit 0 if it is reduced.
KIND_TAG = 254
WIDTH_TAG = 256
HEIGHT_TAG = 257
BITS_TAG = 258
TILE_WIDTH_TAG = 322
TILE_HEIGHT_TAG = 323
NODATA_TAG, NODATA = 42113, "nodata"  # of a GeoTIFF: a number as text; its name in ``info`` of an image of numbers
END_OF_PNG = b"IEND\xaeB`\x82"
MAX_BYTES = 2**29  # of an open file: ``MAX_PIXELS`` of 16 bits fit
HEADER = 16  # bytes that tell a kind of file
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # beginnings of files
NARROW = 2**14  # a range of values of 16 bits, below which they are stretched
SAID: set[tuple[Path, str]] = set()  # folders of photos, and kinds of remarks on them, each of which is printed once


class Frame(NamedTuple):
    """The size of an image's stored pixels and its orientation, by its header."""

    size: tuple[int, int]  # height and width of the stored pixels
    stated: int | None  # the orientation of its EXIF data; None where they state none or are damaged
    turned: bool  # whether its decoder returns upright pixels

    @property
    def orientation(self) -> int:
        """The orientation of the stored pixels."""
        return self.stated or UPRIGHT

    def upright(self, decoded: np.ndarray) -> np.ndarray:
        """Return upright pixels (H, W) or (H, W, C) from those that the decoder returns."""
        return decoded if self.turned else turned(decoded, self.orientation)


def frame_of(image: Image.Image) -> Frame:
    """Return the frame of an image whose pixels are not decoded yet: Pillow and OpenCV turn TIFFs while they decode."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and {WIDTH_TAG, HEIGHT_TAG} <= {*tags}:
        image.filename = ""  # type: ignore[attr-defined]  # else Pillow maps the file, and takes sideways rows for others
        stored_size = (int(tags[HEIGHT_TAG]), int(tags[WIDTH_TAG]))
        return Frame(stored_size, _stated_orientation(image), turned=True)
    return Frame((image.height, image.width), _stated_orientation(image), turned=False)


def _stated_orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(TAG)
    except Exception:  # damaged EXIF data can raise anything while the pixels are intact
        return None
    return value if value in range(1, 9) else None


@contextmanager
def opened(path: Path, what: str = "photo", content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels; every error inside the context becomes one line.

    Of a TIFF with several pages it is the largest. UserError: the file is missing, damaged, too large or no image.

    Args:
        path: the file; a name for messages where its ``content`` is given.
        what: the word for it in messages.
        content: of the file.
    """
    with (
        read_errors(path, what),
        path.open("rb") if content is None else BytesIO(content) as file,
        _identified(file, path) as image,
    ):
        _turn_to_largest_page(image, path)
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
        raise TooLarge(f"{path}: has more than {MAX_PIXELS} pixels; {FIX}") from None
    except Exception as error:  # a damaged file can raise any exception
        if isinstance(error, UnidentifiedImageError) and not stand_in(path):
            fix = "convert it to one of these, or leave it out"
            raise UserError(f"{path}: is no {what} ({NAMES_OF_FORMATS}); {fix}") from None
        raise UserError(f"{path}: this {what} {_problem(path, error)}") from None


def check_image(image: Image.Image, path: Path) -> None:
    """Refuse (TooLarge) an image that is too large to be decoded, by its header: in all, or in a tile of a TIFF."""
    tags = getattr(image, "tag_v2", {})
    tile = (tags.get(TILE_HEIGHT_TAG, 1), tags.get(TILE_WIDTH_TAG, 1))
    try:
        for height, width in ((image.height, image.width), tile):
            check_size(height, width)
    except ValueError as error:
        raise TooLarge(f"{path}: {error}") from None


def _identified(file: BinaryIO, path: Path) -> Image.Image:
    """Return the image in a file, not decoded yet; of a TIFF that Pillow does not know its numbers in 32 bits.

    UserError: such a TIFF holds no numbers (H, W).
    """
    start = file.read(HEADER)
    file.seek(0)
    if HEIF_START.match(start):
        if not find_spec("pillow_heif"):
            raise ValueError(NEEDS_HEIF)
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of images below the limit
    formats = [name for name in (*FORMATS, "HEIF") if name in Image.OPEN]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        if not start.startswith(TIFFS):
            raise
    file.seek(0)
    return _image_of_numbers(file, path)


def _image_of_numbers(file: BinaryIO, path: Path) -> Image.Image:
    """Return the numbers (H, W) in a TIFF as an image of 32 bits; UserError: it holds something else."""
    import tifffile  # takes a while, and few need it

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors are one line, ours
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        kind = np.dtype(page.dtype)
        if len(page.shape) != 2 or kind.kind not in "iuf":
            raise UserError(f"{path}: a TIFF of {kind} of the shape {page.shape} is not read here; save it with 8 bits")
        for height, width in (page.shape, page.chunks):
            check_size(height, width)
        values = page.asarray()
        nodata = page.tags.get(NODATA_TAG)
    if values.dtype.kind == "f":
        image = Image.fromarray(values.astype(np.float32))
    else:
        limits = np.iinfo(np.int32)
        image = Image.fromarray(np.clip(values, limits.min, limits.max).astype(np.int32))
    image.info[NODATA] = None if nodata is None else nodata.value
    return image


def nodata_of(image: Image.Image) -> float | None:
    """Return the value of pixels without data that a GeoTIFF states; None of another file."""
    text = getattr(image, "tag_v2", {}).get(NODATA_TAG, image.info.get(NODATA))
    try:
        return None if text is None else float(text)
    except (TypeError, ValueError):
        return None


def _problem(path: Path, error: Exception) -> str:
    """Return in words why an image file cannot be read, and the fix."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        beside = (other.name for other in path.parent.glob("*"))
        return f"does not exist{closest(path.name, beside) or '; restore it or leave it out'}"
    if cause := getattr(error, "strerror", None):  # of the system
        return f"cannot be read ({cause}); restore it or leave it out"
    if other := stand_in(path):
        return f"is {other}"
    return f"is damaged ({ADDRESS.sub('', str(error))}); restore it or leave it out"


def _turn_to_largest_page(image: Image.Image, path: Path) -> None:
    """Turn a TIFF to the first of its largest pages, and say so unless it is its first and the others are smaller.

    ValueError: it holds nothing but a preview.
    """
    if image.format != "TIFF":
        return
    sizes = []
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        kind = int(image.tag_v2.get(KIND_TAG, 0))  # type: ignore[attr-defined]
        is_preview = bool(kind & 1)
        sizes.append(0 if is_preview else image.width * image.height)
    largest = max(sizes)
    if largest == 0:
        raise ValueError("it contains only a preview: export the photo")
    best = sizes.index(largest)
    image.seek(best)
    if best > 0 or sizes.count(largest) > 1:
        say_once(path, "pages", f"page {best + 1} of {len(sizes)} is read")


def say_once(path: Path, kind: str, line: str) -> None:
    """Print a note on a photo, once for all photos of its folder."""
    if (path.parent, kind) not in SAID:
        SAID.add((path.parent, kind))
        note(f"{path}: {line}, in files like it too")


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) upright, contiguous; an upright one is returned as it is."""
    is_sideways, flip = divmod(orientation - 1, 4)
    if is_sideways:
        array = array.swapaxes(0, 1)
    row_step = -1 if flip in (2, 3) else 1
    column_step = -1 if flip in (1, 2) else 1
    return np.ascontiguousarray(array[::row_step, ::column_step])


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (height, width) of the upright image from those of the stored one."""
    return size if orientation < 5 else (size[1], size[0])


def check_whole(path: Path) -> None:
    """Refuse (UserError) a JPEG or PNG that is cut off: one that lacks its end is decoded."""
    with read_errors(path), path.open("rb") as file:
        start = file.read(HEADER)
        file.seek(-min(HEADER, path.stat().st_size), SEEK_END)
        end = file.read()
    for kind, last in ((JPEG, END_OF_IMAGE), (PNG, END_OF_PNG)):
        if start.startswith(kind) and not end.endswith(last):
            read_image(path)
            with opened(path) as photo:
                photo.load()  # a PNG of which OpenCV decodes a part


def read_image(path: Path, content: bytes | None = None) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright, white where it is transparent; ``content`` as ``opened``.

    UserError: it is missing, damaged, too large, of 32-bit values, or transparent everywhere.
    """
    return read_with_frame(path, content)[0]


def read_with_frame(path: Path, content: bytes | None = None) -> tuple[np.ndarray, Frame]:
    """Return a photo as ``read_image``, and its frame."""
    with opened(path, content=content) as photo:
        frame = frame_of(photo)
        content = content or path.read_bytes()
        if content.startswith(JPEG):
            check_jpeg(content)
        if content.startswith((JPEG, PNG)) or _has_colours_of_16_bits(photo):
            decoded = _decode_page(content, path, page=photo.tell())
            colours = over_white(decoded, photo, path)
        else:
            colours = colours_of(photo, path)
        return frame.upright(colours), frame


def _has_colours_of_16_bits(photo: Image.Image) -> bool:
    """Return whether a photo is a TIFF of colours of 16 bits, which Pillow would cut to 8."""
    if photo.mode != "RGB":
        return False
    tags = getattr(photo, "tag_v2", {})
    return max(tags.get(BITS_TAG, (8,))) == 16


def _decode_page(content: bytes, path: Path, page: int) -> np.ndarray:
    """Return what OpenCV decodes of a page, as RGB, (H, W, 3) uint8."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    encoded = np.frombuffer(content, np.uint8)
    if page == 0:
        colours = cv2.imdecode(encoded, flags)
    else:
        _, pages = cv2.imdecodemulti(encoded, flags, range=(page, page + 1))
        colours = next(iter(pages), None)
    if colours is None:
        raise ValueError("no pixels can be decoded")
    if colours.dtype != np.uint8:
        colours = eight_bits(colours, path)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)


def colours_of(image: Image.Image, path: Path) -> np.ndarray:
    """Return what Pillow decodes, as RGB, (H, W, 3) uint8, white where it is transparent.

    UserError: its values have 32 bits or a sign, or all of it is transparent.
    """
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path}: has values of 32 bits or more, or signed ones, whose white is unknown; save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        grey = eight_bits(values_in(image), path)
        if white_is_zero(image):
            grey = ~grey
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return over_white(rgba[..., :3], image, path)
    return np.array(image.convert("RGB"))


def over_white(colours: np.ndarray, image: Image.Image, path: Path) -> np.ndarray:
    """Return the colours (H, W, 3) uint8 of an image as a white page shows them: colours that it hides do not count.

    UserError: all of it is transparent.
    """
    if not image.has_transparency_data:
        return colours
    opacity = np.asarray(image.convert("RGBA"))[..., 3:]
    if opacity.min() == 255:
        return np.ascontiguousarray(colours)
    if not opacity.any():
        raise UserError(f"{path}: is transparent everywhere; save it without transparency")
    say_once(path, "transparent", "is transparent in places, which are read as white")
    weight = opacity.astype(np.uint16)
    blended = colours * weight + 255 * (255 - weight)
    return ((blended + 127) // 255).astype(np.uint8)


def eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    """Return values of 16 bits in 8: the upper half; those of a narrow range are stretched, which is said.

    A camera of fewer bits has such a range, and one that measures temperatures. Its ends are those of nearly all values
    but 0 and 65535, which are often no measurements.
    """
    measured = values[(values > 0) & (values < 2**16 - 1)]
    low, high = np.percentile(measured, (0.1, 99.9)) if measured.size else (0, 0)
    if not 0 < high - low < NARROW:
        return (values // 256).astype(np.uint8)
    say_once(path, "bits", f"16-bit values {low:.0f} to {high:.0f} are stretched to 0..255")
    stretched = (values - low) * (255 / (high - low))
    return np.clip(stretched, 0, 255).round().astype(np.uint8)


def content_of(given: object) -> bytes | None:
    """Return the content of a file that is given as bytes or as an open file; None of anything else.

    UserError: it is open as text. TooLarge: it has more than ``MAX_BYTES``.
    """
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    read = getattr(given, "read", None)
    if read is None:
        return None
    content = read(MAX_BYTES + 1)
    if not isinstance(content, bytes):
        raise UserError("a file that is open as text is no picture; open it with mode 'rb'")
    if len(content) > MAX_BYTES:
        raise TooLarge(f"a file of more than {MAX_BYTES} bytes; {FIX}")
    return content


def header_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return (height, width) of a photo's stored pixels, and its orientation, by its header; errors as ``opened``."""
    with opened(path) as image:
        frame = frame_of(image)
        return frame.size, frame.orientation


opened_mask = partial(opened, what="mask")  # refuses a JPEG
