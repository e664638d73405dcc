"""How masks store classes: by values that are class indices, with a palette or grey, or by colours."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from model.episode import IGNORE
from util.errors import UserError

DARK = 64  # grey values below are black in masks
Colours = Mapping[tuple[int, ...], int]  # red, green, blue in a mask -> class index


def values_in(image: Image.Image) -> np.ndarray:
    """Return the values that Pillow decodes: NumPy alone would take a TIFF's shape from before it is turned."""
    image.load()
    return np.asarray(image)


def stored_indices(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values of a mask with a palette or of 8-bit grey, which are its class indices."""
    if image.mode not in ("P", "L"):
        fix = "convert it to a palette or grey PNG of class ids, or name its colours in a labelmap.txt"
        raise UserError(f"{path}: this mask is stored as {image.mode}, not as class indices; {fix}")
    indices = values_in(image)
    if image.mode == "P" and has_sorted_palette(image, indices[indices != IGNORE]):
        problem = "the palette of this mask is sorted, and black is not its first colour: no indices of class ids"
        raise UserError(f"{path}: {problem}; save it with palette or grey values that are class ids")
    return indices


def indices_of_colours(image: Image.Image, path: Path, colours: Colours) -> np.ndarray | None:
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
    place_values = np.array([2**16, 2**8, 1])
    codes = np.asarray(rgb).astype(np.int32) @ place_values
    indices = np.zeros(codes.shape, np.uint8)
    for colour in shown:
        indices[codes == place_values @ colour] = colours[colour]
    return indices


def has_sorted_palette(image: Image.Image, indices: np.ndarray) -> bool:
    """Return whether a mask uses black, but not as the first colour of its palette: then its indices say nothing."""
    brightness = np.array(image.getpalette(), np.uint8).reshape(-1, 3).max(1)
    counts = np.bincount(indices.reshape(-1), minlength=1)[: len(brightness)]
    used = np.flatnonzero(counts)
    is_dark = brightness[used] < DARK
    if is_dark.all() or not is_dark.any():
        return False
    is_first_black = used[0] == 0 and is_dark[0]
    return not is_first_black


def colours_in(image: Image.Image, most: int) -> dict[tuple[int, ...], int] | None:
    """Return the colours of an image and how many pixels have them; None if there are more than ``most``."""
    counted = image.getcolors(most)
    if counted is None:
        return None
    return {cast(tuple[int, ...], colour): count for count, colour in counted}


def voc_palette() -> list[int]:
    """Return red, green, blue of VOC's 256 colours: bits 0-2 of an index, then 3-5, ... are their top bits."""
    palette = []
    for index in range(256):
        for channel in range(3):
            first, second, third = (index >> (3 * place + channel) & 1 for place in range(3))
            palette.append(first << 7 | second << 6 | third << 5)
    return palette
