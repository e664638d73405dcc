"""Masks of one class in any form: what of a mask is the object, and whether a mask seems to hold several classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from model.episode import IGNORE
from util.data.images.read import (
    DARK,
    UPRIGHT,
    colours_in,
    fitted_mask,
    frame_of,
    header_of,
    is_sorted,
    opened_mask,
    values_in,
)
from util.errors import UserError

SMALL = 64  # values below are numbers of classes
VALUE_MODES, GREY_MODES = ("1", "L", "I", "F"), ("L", "I", "F")  # of Pillow; also I;16
FREQUENT, MOSTLY = 0.01, 0.8  # shares of an object that a colour covers at least, and that all such colours cover
PICTURE = 2**12  # colours, more than which a painted mask does not have
EDGES = 4  # colours or levels; more are of soft edges
LEVEL = 0.05  # of the object, that each of few levels covers
STEPS = 4  # of the share of red, green and blue in a colour, which soft edges keep
GREY = (STEPS, STEPS, STEPS)


def read_region(
    mask: Any, value: int | None = None, unknown: Sequence[int] = (IGNORE,), several: bool = True
) -> tuple[np.ndarray, bool]:
    """Return a mask of one class, {0, 1, 255} (H, W) uint8, upright, and whether its EXIF data or its form say so.

    The object is ``value``, else all but 0, black or what is transparent where that alone tells; of soft edges the
    brighter half. 255 beside numbers below 64 is unknown. A palette counts by its colours where black is not the first.

    Args:
        mask: a file, an image of Pillow, an array or tensor (H, W), (1, H, W) or with 3 or 4 channels.
        unknown: values that are unknown beside ``value``.
        several: whether several small numbers, or several colours, are one object.

    UserError: the mask is unreadable, of another form, or says nothing of an object.
    """
    if isinstance(mask, str | Path):
        with opened_mask(Path(mask)) as image:
            return _region_in(image, value, unknown, several, str(mask))
    return _region_in(mask, value, unknown, several, getattr(mask, "filename", "") or "a support's mask")


def _region_in(
    mask: Any, value: int | None, unknown: Sequence[int], several: bool, source: str
) -> tuple[np.ndarray, bool]:
    """Return ``read_region`` of a mask that is an image or an array; ``source`` is its name in messages."""
    if not isinstance(mask, Image.Image):
        values = _values_of_array(mask, source)
        return _object_in(values, value, unknown, several, source), True
    frame = frame_of(mask)
    if not several and len(colours := _main_colours(mask)) > 1:
        named = ", ".join(map(str, sorted(colours)[:3]))
        raise UserError(f"{source}: has the colours {named} (red, green, blue); a mask of one class has one")
    if value is None:
        values = _painted(mask, source)
    elif mask.mode.startswith(("P", "L", "1", "I")):
        values = values_in(mask)
    else:
        raise UserError(f"{source}: this mask is stored as {mask.mode}, so it has no value {value}")
    return frame.upright(_object_in(values, value, unknown, several, source)), frame.stated is not None


def _values_of_array(mask: Any, source: str) -> np.ndarray:
    """Return an array or tensor as values (H, W); those of red, green and blue as the colours of an image."""
    values = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
    if values.ndim == 3 and len(values) in (1, 3, 4):
        values = np.moveaxis(values, 0, -1)
    if values.dtype == np.uint8 and values.shape[2:] in ((3,), (4,)):
        return _painted(Image.fromarray(values), source)
    return values[..., 0] if values.shape[2:] == (1,) else values


def _object_in(values: np.ndarray, value: int | None, unknown: Sequence[int], several: bool, source: str) -> np.ndarray:
    """Return {0, 1, 255} (H, W) uint8 of the values (H, W) of a mask; arguments and errors as ``read_region``."""
    if values.ndim != 2 or values.dtype.kind not in "buif" or not values.size or not np.isfinite(values).all():
        raise UserError(f"{source}: must be an array (H, W) of 0, 1 and 255, or of booleans, like its photo")
    if value is not None:
        inside = values == value
        void = ((values < 0) | np.isin(values, unknown)) & ~inside
        return np.where(void, IGNORE, inside).astype(np.uint8)
    inside, void = values != 0, values < 0  # torch has negative numbers
    shades, top = np.unique(values[inside]), values.max()
    if len(shades) > 1 and top in (IGNORE, 2**16 - 1) and shades[-2] < SMALL:
        void, shades = values == top, shades[:-1]
    elif len(shades) > 1 and _has_soft_edges(values, inside, len(shades), several):
        inside, shades = values >= top / 2, shades[-1:]
    if not several and len(shades) > 1:
        raise UserError(f"{source}: holds the values {shades[:5].tolist()} beside 0; is it of class ids?")
    return np.where(void, IGNORE, inside).astype(np.uint8)


def _has_soft_edges(values: np.ndarray, inside: np.ndarray, shades: int, several: bool) -> bool:
    """Return whether values are brightness that falls off along edges: several values, most of them bright."""
    top = values.max()
    if not (top >= 2 * SMALL or values.dtype.kind == "f"):
        return False
    return not several or (shades > 3 and (values[inside] < 0.75 * top).mean() < 0.5)


def _painted(image: Image.Image, source: str) -> np.ndarray:
    """Return what a mask of one class shows, (H, W) of any numbers, 0 beside the object; errors as ``read_region``."""
    if image.mode in VALUE_MODES or image.mode.startswith("I;16"):
        return values_in(image)
    rgba = np.asarray(image.convert("RGBA"))
    opacity, brightness = rgba[..., 3], rgba[..., :3].max(2)
    if opacity.min() < opacity.max():
        inside = opacity > opacity.max() // 2
        colours = np.unique(rgba[inside].view(np.uint32)).view(np.uint8).reshape(-1, 4)
        shades = colours[:, :3].max(1)  # two, one of them black, are a drawing; more are of a cut-out
        return np.where(inside, brightness, 0) if len(shades) == 2 and min(shades) < DARK <= max(shades) else inside
    if image.mode == "P" and not is_sorted(image, values_in(image)):
        return values_in(image)
    if brightness.min() >= DARK and (rgba != rgba[0, 0]).any():
        raise UserError(f"{source}: this mask has several colours, and none is black; paint the background black")
    return brightness


def read_region_of(image: Path | str | np.ndarray, mask: Any, *arguments: Any) -> np.ndarray:
    """Return ``read_region`` of a photo's mask for the upright photo; errors as it and ``fitted_mask``."""
    stored, orientation = (image.shape[:2], UPRIGHT) if isinstance(image, np.ndarray) else header_of(Path(image))
    source = Path(mask if isinstance(mask, str | Path) else "a support's mask")
    region, is_upright = read_region(mask, *arguments)
    return fitted_mask(region, is_upright, stored, orientation, source)


def classes_in(mask: Path) -> set[Any]:
    """Return what may tell several classes apart in a mask, where nothing names them; empty if nothing does.

    It is the indices of a palette, the small numbers or the few levels of grey values, or the colours (red, green,
    blue) of objects that are painted in few. Soft edges and pictures tell nothing.
    """
    with opened_mask(mask) as image:
        if image.mode in GREY_MODES or image.mode.startswith("I;16"):
            return _main_levels(values_in(image))
        if image.mode == "P" and not is_sorted(image, values_in(image)):
            return {*np.unique(values_in(image)).tolist()} - {0, IGNORE}
        return _main_colours(image)


def _main_levels(values: np.ndarray) -> set[float]:
    """Return the small numbers in grey values (H, W), else their levels if they are several but few."""
    levels, counts = np.unique(values[values != 0], return_counts=True)
    numbers = {*levels.tolist()} - {IGNORE}
    if not numbers or max(numbers) < SMALL:
        return numbers
    is_of_levels = 2 <= len(levels) < EDGES and counts.min() >= LEVEL * counts.sum()
    return {*levels.tolist()} if is_of_levels else set()


def _main_colours(image: Image.Image) -> set[tuple[int, ...]]:
    """Return the colours in which objects are painted, the most frequent shade of each; none if all is grey."""
    if image.mode not in ("P", "RGB", "RGBA") or (image.mode == "P" and not is_sorted(image, values_in(image))):
        return set()
    colours = colours_in(image.convert("RGBA"), PICTURE)
    if colours is None:
        return set()  # a picture
    opaque = max(colour[3] for colour in colours) // 2
    inside = [colour for colour in colours if colour[3] > opaque and max(colour[:3]) >= DARK]
    shown = [(colours[colour], colour[:3]) for colour in inside]
    total = sum(count for count, _ in shown)
    frequent = sorted(((count, colour) for count, colour in shown if count >= FREQUENT * total), reverse=True)
    if sum(count for count, _ in frequent) < MOSTLY * total or len(frequent) > SMALL:
        return set()
    out: dict[tuple[int, ...], tuple[int, ...]] = {}
    for _, colour in frequent:
        brightest = max(colour)
        hue = tuple(round(STEPS * part / brightest) for part in colour)
        shade = brightest if len(shown) <= EDGES and hue != GREY else 0
        out.setdefault((*hue, shade), colour)
    return {*out.values()} if {*out} != {(*GREY, 0)} else set()
