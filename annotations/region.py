"""Masks of one class in any form: what of a mask is the object, and whether a mask seems to hold several classes."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotations.mask_images import colours_in, opened_mask
from annotations.pictures import frame_of, header_of, values_in
from util.files.errors import UserError
from util.files.images import UPRIGHT, check_image
from util.files.mask_images import fitted_mask
from util.files.palette import DARK, IGNORE, has_sorted_palette, palette_of

SMALL = 64  # values below are numbers of classes
VALUE_MODES = ("1", "L", "I", "F")  # of Pillow; also I;16
GREY_MODES = ("L", "I", "F")
PICTURE = 2**12  # colours, more than which a painted mask does not have
EDGES = 4  # levels; more are of soft edges
LEVEL = 0.05  # of the object, that each of few levels or colours covers; others are of soft edges
MOSTLY = 0.8  # of the object, that its colours cover together

SHOWN = 3  # values in a line
FIX = "and nothing names them; paint the object alone, or name the classes (predict.py --mask-value takes one value)"

Colour = tuple[int, ...]  # red, green, blue, sometimes opacity


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
    values = mask.cpu() if hasattr(mask, "cpu") else mask  # a tensor
    return _region_in(np.asarray(values), source), True


def _region_in_image(image: Image.Image, source: str) -> tuple[np.ndarray, bool]:
    """Return ``read_region`` of an image of Pillow; ``source`` is its name in messages."""
    frame = frame_of(image)
    colours = _main_colours(image)
    if len(colours) > 1:
        named = ", ".join(map(str, sorted(colours)[:SHOWN]))
        raise UserError(f"{source}: holds the colours {named}, {FIX}")
    region = _region_in(_painted(image, source), source)
    return frame.upright(region), frame.stated is not None


def _region_in(values: np.ndarray, source: str) -> np.ndarray:
    """Return {0, 1, 255} (H, W) uint8 of the values (H, W) of a mask; errors as ``read_region``."""
    _check_array(values, source)
    inside = values != 0
    void = values < 0  # torch has negative numbers
    shades = np.unique(values[inside])
    top = values.max()
    is_brightness = top >= 2 * SMALL or values.dtype.kind == "f"
    if len(shades) > 1 and top == IGNORE and shades[-2] < SMALL:
        void = values == top
        shades = shades[:-1]
    elif is_brightness and _has_soft_edges(values[inside]):
        inside = values >= top / 2
        shades = shades[-1:]
    if len(shades) > 1:
        named = ", ".join(f"{shade:g}" for shade in shades[:SHOWN])
        raise UserError(f"{source}: holds the values {named}, {FIX}")
    return np.where(void, IGNORE, inside).astype(np.uint8)


def _check_array(values: np.ndarray, source: str) -> None:
    """Refuse (UserError) values that are no map of finite numbers."""
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise UserError(f"{source}: must be an array (H, W) of 0, 1 and 255, or of booleans, like its photo")


def _has_soft_edges(brightness: np.ndarray) -> bool:
    """Return whether the values of an object fall off along edges: no few levels, and most of them bright."""
    return not _are_levels(brightness) and (brightness < 0.75 * brightness.max()).mean() < 0.5


def _painted(image: Image.Image, source: str) -> np.ndarray:
    """Return what a mask of one class shows, (H, W) of any numbers, 0 beside the object; errors as ``read_region``."""
    if image.mode in VALUE_MODES or image.mode.startswith("I;16"):
        return values_in(image)
    rgba = np.asarray(image.convert("RGBA"))
    opacity = rgba[..., 3]
    if opacity.min() < opacity.max():
        return opacity > opacity.max() // 2
    if _has_indices(image):
        return values_in(image)
    brightness = rgba[..., :3].max(2)
    if brightness.min() >= DARK and (rgba != rgba[0, 0]).any():
        raise UserError(f"{source}: this mask has several colours, and none is black; paint the background black")
    return brightness


def _has_indices(image: Image.Image) -> bool:
    """Return whether a mask has a palette and its values are indices of classes."""
    return image.mode == "P" and not has_sorted_palette(image, values_in(image))


def read_region_of(image: Path | str | np.ndarray, mask: Any) -> np.ndarray:
    """Return ``read_region`` of a photo's mask for the upright photo; errors as it and ``fitted_mask``."""
    if isinstance(image, np.ndarray):
        stored, orientation = image.shape[:2], UPRIGHT
    else:
        stored, orientation = header_of(Path(image))
    source = Path(mask if isinstance(mask, str | Path) else "an example's mask")
    region, is_upright = read_region(mask)
    return fitted_mask(region, is_upright, stored, orientation, source)


def classes_in(mask: Path) -> set[Any]:
    """Return what may tell classes apart in a mask, where nothing names them; empty if nothing does.

    It is the small numbers of grey values, or the colours (red, green, blue) of a palette's indices or of objects.
    """
    with opened_mask(mask) as image:
        if _has_indices(image):
            indices = {*np.unique(values_in(image)).tolist()} - {0, IGNORE}
            palette = palette_of(image)
            return {tuple(palette[index].tolist()) for index in indices if index < len(palette)}
        if image.mode not in GREY_MODES and not image.mode.startswith("I;16"):
            return _main_colours(image)
        numbers = {*np.unique(values_in(image)).tolist()} - {0, IGNORE}
    return numbers if max(numbers, default=0) < SMALL else set()


def _are_levels(values: np.ndarray) -> bool:
    """Return whether values that are no small numbers have two or three levels, each of which many pixels have."""
    levels, counts = np.unique(values, return_counts=True)
    are_few = 2 <= len(levels) < EDGES
    return bool(are_few and counts.min() >= LEVEL * counts.sum())


def _main_colours(image: Image.Image) -> set[Colour]:
    """Return the colours in which objects are painted; none if all is grey, or a picture."""
    if image.mode not in ("P", "RGB", "RGBA") or _has_indices(image):
        return set()
    painted = _painted_colours(colours_in(image.convert("RGBA"), PICTURE) or {})
    total = sum(painted.values())
    main = {colour: count for colour, count in painted.items() if count >= LEVEL * total}
    is_grey = all(len({*colour}) == 1 for colour in main)
    return set() if is_grey or sum(main.values()) < MOSTLY * total else {*main}


def _painted_colours(counts: dict[Colour, int]) -> dict[Colour, int]:
    """Return the counts of the colours (red, green, blue) that are opaque and not black."""
    half_opaque = max((colour[3] for colour in counts), default=0) // 2
    painted: dict[Colour, int] = {}
    for (red, green, blue, opacity), count in counts.items():
        if opacity > half_opaque and max(red, green, blue) >= DARK:
            painted[red, green, blue] = count
    return painted
