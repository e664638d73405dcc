"""Reading of photos (RGB) and masks (class indices from palette or grey PNGs), upright; writing of masks.

Photos are turned upright as their EXIF data say, and masks with them. The orientation is 1 to 8, as EXIF numbers them;
1 is upright. A mask with EXIF data of its own is turned as those say. Any other mask is of the upright photo or of the
photo as stored, which its size tells. Where both sizes are equal and the mask differs from its turned self, nothing
tells how it was drawn, and it is refused. ``Frame`` is the one place that knows which decoders turn images themselves.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from util.files import stand_in, write_atomically
from util.files.errors import TooLarge, UserError, closest, note
from util.files.jpeg import check_jpeg
from util.files.palette import (
    IGNORE,
    Colours,
    indices_of_colours,
    refuse_few_bits,
    stored_indices,
    values_in,
    voc_palette,
    white_is_zero,
)
from util.files.sizes import FIX, MAX_PIXELS, check_size

TAG = 0x0112  # of the orientation in EXIF data
UPRIGHT = 1  # an orientation
VALUE = 1  # of the class in a mask of one class
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
SOFTWARE_TAG = 305
NODATA_TAG, NODATA = 42113, "nodata"  # of a GeoTIFF: a number as text; its name in ``info`` of an image of numbers
MAX_BYTES = 2**29  # of an open file: ``MAX_PIXELS`` of 16 bits fit
HEADER = 16  # bytes that tell a kind of file
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # beginnings of files
NARROW = 2**14  # a range of values of 16 bits, below which they are stretched
SAID: set[tuple[Path, str]] = set()  # folders of photos, and kinds of remarks on them, each of which is printed once
CLASS_CHANNEL = 3
STACKED_CHANNELS = 4  # OpenCV warps four channels in a third of the time that three take


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

    Of a TIFF with several pages it is the largest. UserError: the file is missing, damaged, too large or no image, or
    is a JPEG where it is to be a ``mask``.

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
        if what == "mask":
            _check_kind_of_mask(image, path)
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
            raise UserError(f"{path}: is no {what} ({NAMES_OF_FORMATS}); restore it or leave it out") from None
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


def read_image(path: Path, content: bytes | None = None) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright, white where it is transparent; ``content`` as ``opened``.

    UserError: it is missing, damaged, too large, of 32-bit values, or transparent everywhere.
    """
    return _read_photo(path, content)[0]


def _read_photo(path: Path, content: bytes | None = None) -> tuple[np.ndarray, Frame]:
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


opened_mask = partial(opened, what="mask")  # refuses a JPEG


def check_header(mask: Path) -> None:
    """Refuse (UserError) a file that is no mask by its header, which says how it is read where that is unusual."""
    with opened_mask(mask):
        pass


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
    photo, frame = _read_photo(image)
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
