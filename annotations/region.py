"""Read one mask of a single class in any form: which pixels are the object, and whether several classes seem there."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotations.mask_formats import Colour, opened_mask
from annotations.pictures import frame_of, header_of, values_in
from util.files.errors import UserError
from util.files.images import UPRIGHT, Frame, check_image
from util.files.mask_images import fitted_mask
from util.files.palette import DARK, IGNORE, has_sorted_palette, palette_of

SMALL = 64  # values below are numbers of classes
VALUE_MODES = ("1", "L", "I", "F")  # of Pillow; also I;16
GREY_MODES = ("L", "I", "F")
PICTURE = 2**10  # colours, more than which a painted mask does not have
SHADE = 16  # levels by which a colour may differ from a shade of another
EDGES = 4  # levels; more are of soft edges
LEVEL = 0.05  # of the object, that each of few levels covers; others are of soft edges
SHOWN = 3  # values in a line
FIX = "and nothing names them; paint the object alone, or name the classes (predict.py --mask-value takes one value)"


def read_region(mask: Any) -> tuple[np.ndarray, bool]:
    """Return a mask of one class, {0, 1, 255} (H, W) uint8, upright, and whether its EXIF data or its form say so.

    The object is all but 0, black or what is transparent where that alone tells; of soft edges the brighter half. 255
    beside numbers below 64 is unknown. A palette counts by its colours where black is not the first.

    Args:
        mask: a file or its bytes, an image of Pillow, or an array or tensor (H, W).

    Raises:
        UserError: the mask is unreadable, of another form, or holds several values or colours that nothing names.
    """
    is_path = isinstance(mask, str | Path)
    source = str(mask) if is_path else getattr(mask, "filename", "") or "an example's mask"
    if is_path or isinstance(mask, bytes):
        with opened_mask(Path(source), content=None if is_path else mask) as image:
            return _region_in_image(image, source)
    if isinstance(mask, Image.Image):
        check_image(mask, Path(source))
        return _region_in_image(mask, source)
    return _region_in(np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask), source), True  # a tensor


def _region_in_image(image: Image.Image, source: str) -> tuple[np.ndarray, bool]:
    """Return ``read_region`` of an image of Pillow; ``source`` is its name in messages."""
    frame = frame_of(image)
    _colour_in(image, source)
    return frame.upright(_region_in(_painted(image), source)), frame.stated is not None


def _region_in(values: np.ndarray, source: str) -> np.ndarray:
    """Return {0, 1, 255} (H, W) uint8 of the values (H, W) of a mask; raises as ``read_region`` does."""
    _check_array(values, source)
    inside = values != 0
    void = values < 0  # torch has negative numbers
    shades = np.unique(values[inside])
    top = values.max()
    if len(shades) > 1 and top == IGNORE and shades[-2] < SMALL:
        void = values == top
        shades = shades[:-1]
    elif (top >= 2 * SMALL or values.dtype.kind == "f") and _has_soft_edges(values[inside]):  # of brightness
        inside = values >= top / 2
        shades = shades[-1:]
    if len(shades) > 1:
        raise UserError(f"{source}: holds the values {', '.join(f'{shade:g}' for shade in shades[:SHOWN])}, {FIX}")
    return np.where(void, IGNORE, inside).astype(np.uint8)


def _check_array(values: np.ndarray, source: str) -> None:
    """Refuse (UserError) values that are no map of finite numbers."""
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise UserError(f"{source}: must be an array (H, W) of 0, 1 and 255, or of booleans, like its photo")


def _has_soft_edges(brightness: np.ndarray) -> bool:
    """Return whether the values of an object fall off along edges: most are bright, and they are not of few levels.

    Those are two or three, each of which many pixels have.
    """
    levels, counts = np.unique(brightness, return_counts=True)
    are_levels = 2 <= len(levels) < EDGES and counts.min() >= LEVEL * counts.sum()
    return not are_levels and (brightness < 0.75 * brightness.max()).mean() < 0.5


def _painted(image: Image.Image) -> np.ndarray:
    """Return what a mask of one class shows, (H, W) of any numbers, 0 beside the object."""
    if image.mode in VALUE_MODES or image.mode.startswith("I;16"):
        return values_in(image)
    rgba = np.asarray(image.convert("RGBA"))
    opacity = rgba[..., 3]
    if opacity.min() < opacity.max():
        return opacity > opacity.max() // 2
    if _has_indices(image):
        return values_in(image)
    return rgba[..., :3].max(2)


def _has_indices(image: Image.Image) -> bool:
    """Return whether a mask has a palette and its values are indices of classes."""
    return image.mode == "P" and not has_sorted_palette(image, values_in(image))


def read_region_of(image: Path | str | np.ndarray, mask: Any) -> np.ndarray:
    """Return ``read_region`` of a photo's mask for the upright photo; raises as that and ``fitted_mask`` do."""
    frame = Frame(image.shape[:2], UPRIGHT, turned=True) if isinstance(image, np.ndarray) else header_of(Path(image))
    source = Path(mask if isinstance(mask, str | Path) else "an example's mask")
    return fitted_mask(*read_region(mask), frame, source)


def classes_in(mask: Path) -> set[Any]:
    """Return what may tell classes apart in a mask without a list of names; empty if nothing does.

    These are the small numbers of grey values, or the colours (red, green, blue) of a palette's indices or of objects.
    """
    with opened_mask(mask) as image:
        has_indices = _has_indices(image)
        if not (has_indices or image.mode in GREY_MODES or image.mode.startswith("I;16")):
            colour = _colour_in(image, str(mask))
            return {colour} if colour else set()
        numbers = {*np.unique(values_in(image)).tolist()} - {0, IGNORE}
        if has_indices:
            palette = palette_of(image)
            return {tuple(palette[index].tolist()) for index in numbers if index < len(palette)}
    return numbers if max(numbers, default=0) < SMALL else set()


def _colour_in(image: Image.Image, source: str) -> Colour | None:
    """Return the colour (red, green, blue) in which an object is painted; None if it is grey, numbers or a picture.

    UserError: there are several colours, and not shades of one, as soft edges have them.
    """
    if image.mode not in ("P", "RGB", "RGBA") or _has_indices(image):
        return None
    rgba = image.convert("RGBA")
    pixels = np.asarray(rgba).reshape(-1, 4)
    is_opaque = pixels[:, 3] >= pixels[:, 3].max() / 2
    colours = pixels[is_opaque, :3]
    brightness = colours.max(1)
    has_background = not is_opaque.all() or brightness.min() < DARK
    if has_background and rgba.getcolors(PICTURE) is None:  # a picture of the object alone
        return None
    brightest = colours[brightness.argmax()]
    shades = np.outer(brightness / max(brightness.max(), 1), brightest)
    is_other = np.abs(shades - colours).max(1) > SHADE
    if is_other.any():
        other = colours[is_other.argmax()]
        raise UserError(f"{source}: holds the colours {tuple(other.tolist())}, {tuple(brightest.tolist())}, {FIX}")
    return None if np.ptp(brightest) <= SHADE else tuple(brightest.tolist())
