"""How masks store classes: by values that are class indices, with a palette or grey, or by colours."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from util.files.errors import UserError

IGNORE = 255  # pixels that no score counts, in files and in tensors (``model.episode``)
PHOTOMETRIC_TAG = 262  # of a page of TIFF: whether its lowest value is shown white
DARK = 64  # grey values below are black in masks
INVERTING = np.repeat(np.arange(256)[::-1], 3).reshape(-1, 3)  # a palette from white to black
Colours = Mapping[tuple[int, ...], int]  # red, green, blue in a mask -> class index


def values_in(image: Image.Image) -> np.ndarray:
    """Return the numbers that a file stores: of a TIFF in which 0 is white, Pillow decodes the opposite.

    (NumPy alone would take a TIFF's shape from before it is turned.)
    """
    image.load()
    decoded = np.asarray(image)
    if white_is_zero(image) and image.mode in ("1", "L"):
        return ~decoded
    return decoded


def white_is_zero(image: Image.Image) -> bool:
    """Return whether an image is a page of TIFF in which the value 0 is shown white."""
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC_TAG) == 0


def stored_indices(image: Image.Image, path: Path) -> np.ndarray:
    """Return the values of a mask with a palette or of grey, which are its class indices, (H, W) uint8.

    UserError: it stores something else, or values that are none.
    """
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if image.mode not in ("P", "L") and not is_deep:
        fix = "convert it to a palette or grey PNG of class ids, or name its colours in a labelmap.txt"
        kind = "black and white" if image.mode == "1" else image.mode
        raise UserError(f"{path}: this mask is stored as {kind}, not as class indices; {fix}")
    indices = values_in(image)
    if is_deep:
        return as_indices(indices, path)
    if image.mode == "P" and has_sorted_palette(image, indices[indices != IGNORE]):
        problem = "the palette of this mask is sorted, not by class ids: black is not its first colour"
        raise UserError(f"{path}: {problem}; save it with palette or grey values that are class ids")
    return indices


def refuse_few_bits(image: Image.Image, path: Path) -> None:
    """Refuse (UserError) grey of 2 or 4 bits, not decoded yet: Pillow would spread its values over 0 to 255."""
    tiles = getattr(image, "tile", ())
    raw_mode = str(tiles[0][3]) if image.mode == "L" and tiles else ""
    _, _, bits = raw_mode.partition("L;")
    if bits[:1] in ("2", "4"):
        problem = f"this mask has {bits[0]} bits a pixel, which programs read as different values"
        raise UserError(f"{path}: {problem}; save it with 8 bits")


def as_indices(values: np.ndarray, path: Path) -> np.ndarray:
    """Return whole numbers (H, W) from 0 to 255 as uint8; UserError: other forms, or others among them."""
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise UserError(f"{path}: holds {values.dtype} of the shape {values.shape}; save it with class ids (H, W)")
    if not ((values >= 0) & (values <= IGNORE) & (values % 1 == 0)).all():
        span = f"{values.min():g} to {values.max():g}"
        fix = "save it with class ids, whole numbers from 0 to 255; resize masks by nearest neighbour"
        raise UserError(f"{path}: holds numbers from {span}; {fix}")
    return values.astype(np.uint8)


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
        fix = "add them to the list, or, if edges are smooth, resize masks by nearest neighbour"
        raise UserError(f"{path}: {len(unknown)} colours of this mask have no class, such as {named}; {fix}")
    place_values = np.array([2**16, 2**8, 1])
    codes = np.asarray(rgb).astype(np.int32) @ place_values
    indices = np.zeros(codes.shape, np.uint8)
    for colour in shown:
        indices[codes == place_values @ colour] = colours[colour]
    return indices


def has_sorted_palette(image: Image.Image, indices: np.ndarray) -> bool:
    """Return whether a mask uses black, but not as the first colour of its palette: then its indices say nothing.

    Those of ImageJ's inverting table, from white to black in 256 steps, are the values that it stores.
    """
    if np.array_equal(palette_of(image), INVERTING):
        return False
    brightness = palette_of(image).max(1)
    counts = np.bincount(indices.reshape(-1), minlength=1)[: len(brightness)]
    used = np.flatnonzero(counts)
    is_dark = brightness[used] < DARK
    if is_dark.all() or not is_dark.any():
        return False
    is_first_black = used[0] == 0 and is_dark[0]
    return not is_first_black


def palette_of(image: Image.Image) -> np.ndarray:
    """Return the palette of an image, (colours, 3) uint8; none of an image without one."""
    return np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)


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
