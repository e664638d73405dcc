"""Reading of photos (RGB) and masks (class indices from palette or grey PNGs), upright; writing of masks.

Photos are turned upright as their EXIF data say, and masks with them. The orientation is 1 to 8, as EXIF numbers them;
1 is upright. A mask with EXIF data of its own is turned as those say. Any other mask is of the upright photo or of the
photo as stored, which its size tells. Where both sizes are equal and the mask differs from its turned self, nothing
tells how it was drawn, and it is refused.

A stacked image is a photo with its mask as fourth channel, (H, W, 4) uint8: red, green, blue, class index.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from torch import Tensor

from model.episode import IGNORE
from util.errors import UserError
from util.files import write_atomically

TAG, UPRIGHT = 0x0112, 1  # of the orientation in EXIF data
VALUE = 1  # of the class in a mask of one class
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")  # none that Pillow hands to another program
HEIF, NEEDS_HEIF = (".heic", ".heif"), "HEIC needs pip install pillow-heif"  # suffixes, and how to have them read
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # beginnings of files that OpenCV decodes faster; of TIFF it takes other colours
DARK, SMALL = 64, 64  # grey values below are black in masks; values below are numbers of classes
STRETCHED: set[Path] = set()  # folders of photos with few bits, which are printed once
CLASS_CHANNEL, STACKED_CHANNELS = 3, 4  # OpenCV warps four channels in a third of the time that three take


@contextmanager
def opened(path: Path, what: str = "image") -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels; every error inside the context becomes one line.

    UserError: the file is missing, damaged or no image, or is a JPEG where it is to be a ``mask``.
    """
    try:
        if (is_heif := path.suffix.lower() in HEIF) and find_spec("pillow_heif"):
            import_module("pillow_heif").register_heif_opener()
        Image.init()
        with Image.open(path, formats=[name for name in (*FORMATS, "HEIF") if name in Image.OPEN]) as image:
            if what == "mask" and image.format == "JPEG":
                raise UserError(f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG")
            yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        missing = isinstance(error, FileNotFoundError)
        mend = f"; {NEEDS_HEIF}" if is_heif and not find_spec("pillow_heif") else ""
        problem = f"is damaged or not an image ({error}{mend})"
        if seen := getattr(error, "strerror", None):  # by the system
            problem = "does not exist" if missing and not path.is_symlink() else f"cannot be read ({seen})"
        raise UserError(f"{path}: this {what} {problem}; restore it or leave it out") from None


def stated_orientation(image: Image.Image) -> int | None:
    """Return the orientation that an image's EXIF data state, None where they state none or are damaged."""
    try:
        value = image.getexif().get(TAG)
    except Exception:  # damaged EXIF data can raise anything while the pixels are intact
        return None
    return value if value in range(1, 9) else None


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image (H, W) or (H, W, C) upright, contiguous; an upright one is returned as it is."""
    sideways, flip = divmod(orientation - 1, 4)
    upright = array.swapaxes(0, 1) if sideways else array
    return np.ascontiguousarray(upright[:: -1 if flip in (2, 3) else 1, :: -1 if flip in (1, 2) else 1])


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (height, width) of the upright image from those of the stored one."""
    return size if orientation < 5 else (size[1], size[0])


def read_image(path: Path) -> np.ndarray:
    """Return a photo as RGB, (H, W, 3) uint8, upright; UserError if it is missing, damaged or of 32-bit values."""
    return turned(*_read_stored(path))


def _read_stored(path: Path) -> tuple[np.ndarray, int]:
    """Return a photo's stored pixels as RGB, (H, W, 3) uint8, and its orientation."""
    with opened(path) as photo:
        orientation, content = stated_orientation(photo) or UPRIGHT, path.read_bytes()
        if content.startswith((JPEG, PNG)):
            if content.startswith(JPEG):  # libjpeg reads it to its end, at an eighth of each side: warnings are errors
                kind = simplejpeg.decode_jpeg_header(content, strict=True)[2]
                colours = "CMYK" if kind in ("CMYK", "YCCK") else "GRAY"
                simplejpeg.decode_jpeg(content, colours, fastdct=True, min_height=1, min_width=1, min_factor=8)
            return _decoded(content, path), orientation
        if photo.mode in ("I", "F"):
            raise ValueError("32-bit values, whose white is unknown: save it with 8 or 16 bits")
        if photo.mode.startswith("I;16"):
            return cv2.cvtColor(eight_bits(np.asarray(photo), path), cv2.COLOR_GRAY2RGB), orientation
        if photo.mode == "RGB" and max(getattr(photo, "tag_v2", {}).get(258, (8,))) == 16:  # TIFF's bits
            return _decoded(content, path), orientation
        return np.array(photo.convert("RGB")), orientation


def _decoded(content: bytes, path: Path) -> np.ndarray:
    """Return what OpenCV decodes, as RGB, (H, W, 3) uint8."""
    how = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), how)
    if stored is None:
        raise ValueError("no pixels can be decoded")
    return cv2.cvtColor(stored if stored.dtype == np.uint8 else eight_bits(stored, path), cv2.COLOR_BGR2RGB)


def eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    """Return values of 16 bits in 8: the upper half; those of a camera of fewer bits are stretched, which is said."""
    low, high = np.percentile(values, (0.1, 99.9))
    if high >= 2**14 or high <= low:  # else the camera has fewer bits
        return (values // 256).astype(np.uint8)
    if path.parent not in STRETCHED:
        STRETCHED.add(path.parent)
        what = f"16-bit values {low:.0f} to {high:.0f} are stretched to 0..255, in photos like it too"
        print(f"note: {path}: {what}", file=sys.stderr)
    return np.clip((values - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


def header_of(path: Path) -> tuple[tuple[int, int], int]:
    """Return (height, width) of a photo's stored pixels, and its orientation, by its header; errors as ``opened``."""
    with opened(path) as image:
        return (image.height, image.width), stated_orientation(image) or UPRIGHT


def read_mask(path: Path) -> np.ndarray:
    """Return a mask as class indices, (H, W) uint8; UserError if it is missing, no image, or stores colours."""
    return _read_own(path)[0]


def _read_own(path: Path) -> tuple[np.ndarray, bool]:
    """Return a mask turned as its own EXIF data say, and whether they say anything."""
    with opened_mask(path) as image:
        if image.mode not in ("P", "L"):  # palette and 8-bit grey: the stored value is the class index
            mend = "convert it to a palette or 8-bit grey PNG whose values are class ids"
            raise UserError(f"{path}: this mask is stored as {image.mode}, not as class indices; {mend}")
        indices, orientation = np.asarray(image), stated_orientation(image)
        if image.mode == "P" and _is_sorted(image, indices[indices != IGNORE]):
            problem = "the palette of this mask is sorted, and black is not its first colour: no indices of class ids"
            raise UserError(f"{path}: {problem}; save it with palette or grey values that are class ids")
    return turned(indices, orientation or UPRIGHT), orientation is not None


opened_mask = partial(opened, what="mask")  # refuses a JPEG


def _is_sorted(image: Image.Image, indices: np.ndarray) -> bool:
    """Return whether a mask uses black, but not as the first colour of its palette: then its indices say nothing."""
    brightness = np.array(image.getpalette(), np.uint8).reshape(-1, 3).max(1)
    used = np.flatnonzero(np.bincount(indices.reshape(-1), minlength=1)[: len(brightness)])
    dark = brightness[used] < DARK
    return bool(dark.any() and not dark.all() and not (used[0] == 0 and dark[0]))


def read_region(
    mask: Any, value: int | None = None, unknown: Sequence[int] = (IGNORE,), several: bool = True
) -> tuple[np.ndarray, bool]:
    """Return a mask of one class, {0, 1, 255} (H, W) uint8, upright, and whether its EXIF data or its form say so.

    The object is ``value``, else all but 0, black or what is transparent where that alone tells; of soft edges the
    brighter half. 255 beside numbers below 64 is unknown. A palette counts by its colours where black is not the first.

    Args:
        mask: a file, an image of Pillow, an array or tensor (H, W), (1, H, W) or with 3 or 4 channels.
        unknown: values that are unknown beside ``value``.
        several: whether several small numbers are one object.

    UserError: the mask is unreadable, of another form, or says nothing of an object.
    """
    if isinstance(mask, str | Path):
        with opened_mask(Path(mask)) as image:
            return read_region(image, value, unknown, several)
    source, tag = getattr(mask, "filename", "") or "a support's mask", None
    if isinstance(mask, Image.Image):
        if value is not None and not mask.mode.startswith(("P", "L", "1", "I")):
            raise UserError(f"{source}: this mask is stored as {mask.mode}, so it has no value {value}")
        tag, values = stated_orientation(mask), _painted(mask, source) if value is None else np.asarray(mask)
    else:
        values, tag = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask), UPRIGHT
        values = np.moveaxis(values, 0, -1) if values.ndim == 3 and len(values) in (1, 3, 4) else values
        if values.dtype == np.uint8 and values.shape[2:] in ((3,), (4,)):
            values = _painted(Image.fromarray(values), source)
        values = values[..., 0] if values.shape[2:] == (1,) else values
    if values.ndim != 2 or values.dtype.kind not in "buif" or not values.size or not np.isfinite(values).all():
        raise UserError(f"{source}: must be an array (H, W) of 0, 1 and 255, or of booleans, like its photo")
    inside, top = (values != 0) if value is None else values == value, values.max()
    shades = np.unique(values[inside])
    void = (values < 0) | np.isin(values, () if value is None else unknown)  # torch has negative numbers
    if value is None and len(shades) > 1:
        if top in (IGNORE, 2**16 - 1) and shades[-2] < SMALL:
            void, shades = values == top, shades[:-1]
        elif (top >= 2 * SMALL or values.dtype.kind == "f") and (
            not several or (len(shades) > 3 and (values[inside] < 0.75 * top).mean() < 0.5)
        ):  # soft edges: several values, most of them bright
            inside, shades = values >= top / 2, shades[-1:]
        if not several and len(shades) > 1:
            raise UserError(f"{source}: holds the values {shades[:5].tolist()} beside 0; is it of class ids?")
    return turned(np.where(void & ~(values == value), IGNORE, inside).astype(np.uint8), tag or UPRIGHT), tag is not None


def _painted(image: Image.Image, source: str) -> np.ndarray:
    """Return what a mask of one class shows, (H, W) of any numbers, 0 beside the object; errors as ``read_region``."""
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    rgba = np.asarray(image.convert("RGBA"))
    opacity, brightness = rgba[..., 3], rgba[..., :3].max(2)
    if opacity.min() < opacity.max():
        inside = opacity > opacity.max() // 2
        colours = np.unique(rgba[inside].view(np.uint32)).view(np.uint8).reshape(-1, 4)
        shades = colours[:, :3].max(1)  # two, one of them black, are a drawing; more are of a cut-out
        return np.where(inside, brightness, 0) if len(shades) == 2 and min(shades) < DARK <= max(shades) else inside
    if image.mode == "P" and not _is_sorted(image, np.asarray(image)):
        return np.asarray(image)
    if brightness.min() >= DARK and (rgba != rgba[0, 0]).any():
        raise UserError(f"{source}: this mask has several colours, and none is black; paint the background black")
    return brightness


def read_region_of(image: Path | str | np.ndarray, mask: Any, *arguments: Any) -> np.ndarray:
    """Return ``read_region`` of a photo's mask for the upright photo; errors as it and ``fitted_mask``."""
    if isinstance(image, np.ndarray):
        height, width = image.shape[:2]
        stored, orientation = (height, width), UPRIGHT
    else:
        stored, orientation = header_of(Path(image))
    source = Path(mask if isinstance(mask, str | Path) else "a support's mask")
    region, tagged = read_region(mask, *arguments)
    return fitted_mask(region, tagged, stored, orientation, source)


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
        mend = "save the photo upright without that entry (mogrify -auto-orient), and the mask too"
        raise UserError(f"{path}: {problem}; {mend}")
    return other


def read_mask_of(image: Path, mask: Path) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8, upright; its header alone is read. Errors as ``read_stacked``."""
    indices, tagged = _read_own(mask)
    return fitted_mask(indices, tagged, *header_of(image), mask)


def read_stacked(image: Path, mask: Path, class_id: int = VALUE, below: Sequence[tuple[Path, int]] = ()) -> np.ndarray:
    """Return a photo and its mask as a stacked image, (H, W, 4) uint8, upright.

    A mask of one class gives its pixels ``class_id``; they hide those of ``below``, further masks of the photo, each
    with its id, of which later ones hide earlier ones. UserError: one of the files is missing, damaged or of the wrong
    kind, or they do not fit each other.
    """
    stored, orientation = _read_stored(image)

    def read(path: Path) -> np.ndarray:
        indices, tagged = _read_own(path)
        return fitted_mask(indices, tagged, (stored.shape[0], stored.shape[1]), orientation, path)

    classes = own = read(mask)
    if class_id != VALUE or below:
        classes = np.where(own == IGNORE, own, 0)
        for path, other in below:
            classes[(read(path) == VALUE) & (own == 0)] = other
        classes[own == VALUE] = class_id
    return cv2.insertChannel(classes, cv2.cvtColor(turned(stored, orientation), cv2.COLOR_RGB2RGBA), CLASS_CHANNEL)


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
