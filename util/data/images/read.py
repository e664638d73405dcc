"""Reading of photos (RGB) and masks (class indices from palette or grey PNGs), upright; writing of masks.

Photos are turned upright as their EXIF data say, and masks with them. The orientation is 1 to 8, as EXIF numbers them;
1 is upright. A mask with EXIF data of its own is turned as those say. Any other mask is of the upright photo or of the
photo as stored, which its size tells. Where both sizes are equal and the mask differs from its turned self, nothing
tells how it was drawn, and it is refused. ``Frame`` is the one place that knows which decoders turn images themselves.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from model.episode import IGNORE
from util.errors import UserError
from util.files import stand_in, write_atomically

TAG, UPRIGHT = 0x0112, 1  # of the orientation in EXIF data
VALUE = 1  # of the class in a mask of one class
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # none that Pillow hands to another program
OF_JPEG = ("JPEG", "MPO")  # Pillow's names of JPEGs with one picture and with several
HEIF, NEEDS_HEIF = (".heic", ".heif"), "HEIC needs pip install pillow-heif"  # suffixes, and how to have them read
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # beginnings of files that OpenCV decodes faster; of TIFF it takes other colours
START_OF_SCAN, END_OF_IMAGE = 0xDA, b"\xff\xd9"  # markers of JPEG
STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9$")  # libjpeg's first complaint, at the end of all pixels
FEW_STRAY = 8  # bytes, beside those that libjpeg has in hand; more are damage, unless they fill a gap
FILLER = 0.9  # the share of one value in bytes that fill a gap
WIDTH_TAG, HEIGHT_TAG, BITS_TAG, KIND_TAG = 256, 257, 258, 254  # of a page of TIFF; its kind has bit 0 if it is reduced
DARK = 64  # grey values below are black in masks
SAID: set[tuple[Path, str]] = set()  # folders of photos, and kinds of remarks on them, each of which is printed once
CLASS_CHANNEL, STACKED_CHANNELS = 3, 4  # OpenCV warps four channels in a third of the time that three take
Colours = Mapping[tuple[int, ...], int]  # red, green, blue in a mask -> class index


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


def colours_in(image: Image.Image, most: int) -> dict[tuple[int, ...], int] | None:
    """Return the colours of an image and how many pixels have them; None if there are more than ``most``."""
    found = image.getcolors(most)
    return None if found is None else {cast(tuple[int, ...], colour): count for count, colour in found}


def frame_of(image: Image.Image) -> Frame:
    """Return the frame of an image whose pixels are not decoded yet: Pillow and OpenCV turn TIFFs while they decode."""
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and {WIDTH_TAG, HEIGHT_TAG} <= {*tags}:
        image.filename = ""  # type: ignore[attr-defined]  # else Pillow maps the file, and takes sideways rows for others
        return Frame((int(tags[HEIGHT_TAG]), int(tags[WIDTH_TAG])), _stated_orientation(image), turned=True)
    return Frame((image.height, image.width), _stated_orientation(image), turned=False)


def values_in(image: Image.Image) -> np.ndarray:
    """Return the values that Pillow decodes: NumPy alone would take a TIFF's shape from before it is turned."""
    image.load()
    return np.asarray(image)


def _stated_orientation(image: Image.Image) -> int | None:
    try:
        value = image.getexif().get(TAG)
    except Exception:  # damaged EXIF data can raise anything while the pixels are intact
        return None
    return value if value in range(1, 9) else None


@contextmanager
def opened(path: Path, what: str = "image") -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels; every error inside the context becomes one line.

    Of a TIFF with several pages it is the largest. UserError: the file is missing, damaged, too large or no image, or
    is a JPEG where it is to be a ``mask``.
    """
    try:
        if path.suffix.lower() in HEIF and find_spec("pillow_heif"):
            import_module("pillow_heif").register_heif_opener()
        Image.init()
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of images below the limit
        formats = [name for name in (*FORMATS, "HEIF") if name in Image.OPEN]
        with path.open("rb") as file, Image.open(file, formats=formats) as image:
            if what == "mask" and image.format in OF_JPEG:
                raise UserError(f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG")
            _turn_to_largest_page(image, path)
            yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path}: this {what} {_problem(path, error)}") from None


def _problem(path: Path, error: Exception) -> str:
    """Return in words why an image file cannot be read, and the fix."""
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which is too many; make it smaller"
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return "does not exist; restore it or leave it out"
    if reason := getattr(error, "strerror", None):  # of the system
        return f"cannot be read ({reason}); restore it or leave it out"
    if other := stand_in(path):
        return f"is {other}"
    needs_heif = path.suffix.lower() in HEIF and not find_spec("pillow_heif")
    fix = f"; {NEEDS_HEIF}" if needs_heif else ""
    return f"is damaged or not an image ({error}{fix}); restore it or leave it out"


def _turn_to_largest_page(image: Image.Image, path: Path) -> None:
    """Turn a TIFF to the first of its largest pages, and say so unless it is its first and the others are smaller.

    ValueError: it holds nothing but a preview.
    """
    if image.format != "TIFF":
        return
    sizes = []
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        is_preview = bool(int(image.tag_v2.get(KIND_TAG, 0)) & 1)  # type: ignore[attr-defined]
        sizes.append(0 if is_preview else image.width * image.height)
    if not max(sizes):
        raise ValueError("it contains only a preview: export the photo")
    best = sizes.index(max(sizes))
    image.seek(best)
    if best > 0 or sizes.count(max(sizes)) > 1:
        _say_once(path, "pages", f"page {best + 1} of {len(sizes)} is read")


def _say_once(path: Path, kind: str, line: str) -> None:
    """Print a note on a photo, once for all photos of its folder."""
    if (path.parent, kind) not in SAID:
        SAID.add((path.parent, kind))
        print(f"note: {path}: {line}, in photos like it too", file=sys.stderr)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) upright, contiguous; an upright one is returned as it is."""
    sideways, flip = divmod(orientation - 1, 4)
    upright = array.swapaxes(0, 1) if sideways else array
    return np.ascontiguousarray(upright[:: -1 if flip in (2, 3) else 1, :: -1 if flip in (1, 2) else 1])


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (height, width) of the upright image from those of the stored one."""
    return size if orientation < 5 else (size[1], size[0])


def read_image(path: Path) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright, white where it is transparent.

    UserError: it is missing, damaged, of 32-bit values, or transparent everywhere.
    """
    return _read_photo(path)[0]


def _read_photo(path: Path) -> tuple[np.ndarray, Frame]:
    """Return a photo as ``read_image``, and its frame."""
    with opened(path) as photo:
        frame, content = frame_of(photo), path.read_bytes()
        if content.startswith(JPEG):
            _check_jpeg(content)
        if content.startswith((JPEG, PNG)) or _is_of_deep_colours(photo):
            colours = over_white(_decoded(content, path, photo.tell()), photo, path)
        else:
            colours = colours_of(photo, path)
        return frame.upright(colours), frame


def _is_of_deep_colours(photo: Image.Image) -> bool:
    """Return whether a photo is a TIFF of colours of 16 bits, which Pillow would cut to 8."""
    return photo.mode == "RGB" and max(getattr(photo, "tag_v2", {}).get(BITS_TAG, (8,))) == 16


def _check_jpeg(content: bytes) -> None:
    """Refuse (ValueError) a JPEG that libjpeg complains about, at an eighth of each side, which is quick.

    It reports its first complaint. Bytes before the end marker that no pixel needs are none if they are few, or fill a
    gap: where pixels are damaged, a long rest of others' data may be left over there.
    """
    try:
        kind = simplejpeg.decode_jpeg_header(content, strict=True)[2]
        colours = "CMYK" if kind in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(content, colours, fastdct=True, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        stray = STRAY.search(str(error))
        if stray is None:
            raise
        count, end = int(stray[1]), content.index(END_OF_IMAGE, _start_of_scan(content))
        most = np.bincount(np.frombuffer(content[end - count : end], np.uint8)).max()
        if count > FEW_STRAY and most < FILLER * count:
            raise


def _start_of_scan(content: bytes) -> int:
    """Return the place of the first scan's marker in a JPEG that libjpeg has read."""
    place = 2
    while content[place + 1] != START_OF_SCAN:
        is_filler = content[place] != 0xFF or content[place + 1] in (0x00, 0xFF)
        place += 1 if is_filler else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return place


def _decoded(content: bytes, path: Path, page: int) -> np.ndarray:
    """Return what OpenCV decodes of a page, as RGB, (H, W, 3) uint8."""
    how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    data = np.frombuffer(content, np.uint8)
    if page == 0:
        stored = cv2.imdecode(data, how)
    else:
        _, pages = cv2.imdecodemulti(data, how, range=(page, page + 1))
        stored = next(iter(pages), None)
    if stored is None:
        raise ValueError("no pixels can be decoded")
    return cv2.cvtColor(stored if stored.dtype == np.uint8 else eight_bits(stored, path), cv2.COLOR_BGR2RGB)


def colours_of(image: Image.Image, path: Path) -> np.ndarray:
    """Return what Pillow decodes, as RGB, (H, W, 3) uint8, white where it is transparent.

    UserError: its values have 32 bits, or all of it is transparent.
    """
    if image.mode in ("I", "F"):
        raise UserError(f"{path}: has 32-bit values, whose white is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return cv2.cvtColor(eight_bits(values_in(image), path), cv2.COLOR_GRAY2RGB)
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA"))[..., :3], image, path)
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
    _say_once(path, "transparent", "is transparent in places, which are read as white")
    share = opacity.astype(np.uint16)
    return ((colours * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    """Return values of 16 bits in 8: the upper half; those of a camera of fewer bits are stretched, which is said."""
    low, high = np.percentile(values, (0.1, 99.9))
    if high >= 2**14 or high <= low:  # else the camera has fewer bits
        return (values // 256).astype(np.uint8)
    _say_once(path, "bits", f"16-bit values {low:.0f} to {high:.0f} are stretched to 0..255")
    return np.clip((values - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def header_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return (height, width) of a photo's stored pixels, and its orientation, by its header; errors as ``opened``."""
    with opened(path) as image:
        frame = frame_of(image)
        return frame.size, frame.orientation


def read_mask(path: Path, colours: Colours | None = None) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8, by its ``colours`` if it has them.

    UserError: it is missing, no image, or stores colours that have no class.
    """
    return _read_indices(path, colours)[0]


def _read_indices(path: Path, colours: Colours | None = None) -> tuple[np.ndarray, bool]:
    """Return a mask turned as its own EXIF data say, and whether they say anything."""
    with opened_mask(path) as image:
        frame = frame_of(image)
        indices = None if colours is None else _indices_of_colours(image, path, colours)
        if indices is None:
            indices = _stored_indices(image, path)
    return frame.upright(indices), frame.stated is not None


def _stored_indices(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values of a mask with a palette or of 8-bit grey, which are its class indices."""
    if image.mode not in ("P", "L"):
        fix = "convert it to a palette or grey PNG of class ids, or name its colours in a labelmap.txt"
        raise UserError(f"{path}: this mask is stored as {image.mode}, not as class indices; {fix}")
    indices = values_in(image)
    if image.mode == "P" and is_sorted(image, indices[indices != IGNORE]):
        problem = "the palette of this mask is sorted, and black is not its first colour: no indices of class ids"
        raise UserError(f"{path}: {problem}; save it with palette or grey values that are class ids")
    return indices


def _indices_of_colours(image: Image.Image, path: Path, colours: Colours) -> np.ndarray | None:
    """Return the class index of each colour of a mask, (H, W) uint8; None: it stores numbers, not these colours.

    UserError: a colour has no class.
    """
    if image.mode not in ("P", "RGB", "RGBA"):
        return None
    rgb = image.convert("RGB")
    shown = colours_in(rgb, rgb.width * rgb.height) or {}
    unknown = sorted(shown.keys() - colours.keys())
    if unknown and image.mode == "P":
        return None
    if unknown:
        named = ", ".join(map(str, unknown[:3]))
        raise UserError(f"{path}: {len(unknown)} colours of this mask have no class, such as {named}; add them")
    shares = np.array([2**16, 2**8, 1])
    codes, indices = np.asarray(rgb).astype(np.int32) @ shares, np.zeros((rgb.height, rgb.width), np.uint8)
    for colour in shown:
        indices[codes == shares @ colour] = colours[colour]
    return indices


opened_mask = partial(opened, what="mask")  # refuses a JPEG


def is_sorted(image: Image.Image, indices: np.ndarray) -> bool:
    """Return whether a mask uses black, but not as the first colour of its palette: then its indices say nothing."""
    brightness = np.array(image.getpalette(), np.uint8).reshape(-1, 3).max(1)
    used = np.flatnonzero(np.bincount(indices.reshape(-1), minlength=1)[: len(brightness)])
    dark = brightness[used] < DARK
    return bool(dark.any() and not dark.all() and not (used[0] == 0 and dark[0]))


def fitted_mask(mask: np.ndarray, tagged: bool, stored: tuple[int, int], orientation: int, path: Path) -> np.ndarray:
    """Return a photo's mask (H, W) for the upright photo, of its ``stored`` (height, width) and ``orientation``.

    ``tagged``: the mask has been turned as its own EXIF data say. UserError: the sizes differ, or nothing tells whether
    the mask was drawn on the upright photo.
    """
    upright = upright_size(stored, orientation)
    if mask.shape == upright and (tagged or orientation == UPRIGHT or upright != stored):
        return mask
    if tagged or mask.shape != stored:
        raise UserError(f"{path}: image and mask have different sizes (height, width): {upright} and {mask.shape}")
    other = turned(mask, orientation)
    if mask.shape == upright and not np.array_equal(other, mask):
        problem = f"its photo has EXIF orientation {orientation}, and this mask's size fits it stored and upright"
        fix = "save the photo upright without that entry (mogrify -auto-orient), and the mask too"
        raise UserError(f"{path}: {problem}; {fix}")
    return other


def read_mask_of(image: Path, mask: Path, colours: Colours | None = None) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8, upright; its header alone is read.

    Errors as ``read_mask`` and ``read_stacked``.
    """
    indices, tagged = _read_indices(mask, colours)
    stored, orientation = header_of(image)
    return fitted_mask(indices, tagged, stored, orientation, mask)


def read_stacked(image: Path, mask: Path, class_id: int = VALUE, below: Sequence[tuple[Path, int]] = ()) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8, upright.

    A mask of one class gives its pixels ``class_id``; they hide those of ``below``, further masks of the photo, each
    with its id, of which later ones hide earlier ones. UserError: one of the files is missing, damaged or of the wrong
    kind, or they do not fit each other.
    """
    photo, frame = _read_photo(image)

    def read(path: Path) -> np.ndarray:
        indices, tagged = _read_indices(path)
        return fitted_mask(indices, tagged, frame.size, frame.orientation, path)

    classes = own = read(mask)
    if class_id != VALUE or below:
        classes = np.where(own == IGNORE, own, 0)
        for path, other in below:
            classes[(read(path) == VALUE) & (own == 0)] = other
        classes[own == VALUE] = class_id
    return cv2.insertChannel(classes, cv2.cvtColor(photo, cv2.COLOR_RGB2RGBA), CLASS_CHANNEL)


def write_mask(path: Path, mask: np.ndarray, stated: bool = False) -> None:
    """Write class indices (H, W) uint8 as a palette PNG; errors as ``write_atomically``.

    ``stated``: the file states that the mask is upright, which its photo's orientation may leave open.
    """
    image, exif = Image.fromarray(mask), Image.Exif()
    # VOC's palette: bits 0-2 of an index, then 3-5, ... are the top bits of its red, green, blue.
    image.putpalette([sum((i >> (3 * b + c) & 1) << (7 - b) for b in range(3)) for i in range(256) for c in range(3)])
    if stated:
        exif[TAG] = UPRIGHT
    write_atomically(path, lambda file: image.save(file, exif=exif))
