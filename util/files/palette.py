"""How masks store classes: by values that are class indices, with a palette or grey."""

from pathlib import Path

import numpy as np
from PIL import Image

from util.files.errors import UserError

IGNORE = 255  # pixels that no score counts, in files and in tensors (``model.episode``)
DARK = 64  # grey values below are black in masks
INVERTING = np.repeat(np.arange(256)[::-1], 3).reshape(-1, 3)  # a palette from white to black


def check_indices(image: Image.Image, indices: np.ndarray, path: Path) -> None:
    """Refuse (UserError) a mask whose stored values (H, W) are no class indices: colours, or a sorted palette."""
    if image.mode not in ("P", "L"):
        kind = "black and white" if image.mode == "1" else image.mode
        raise UserError(
            f"{path}: this mask is stored as {kind}, not as class indices",
            fix="convert it to a palette or grey PNG of class ids, or name its colours in a labelmap.txt",
        )
    if image.mode == "P" and has_sorted_palette(image, indices[indices != IGNORE]):
        raise UserError(
            f"{path}: the palette of this mask is sorted, not by class ids: black is not its first colour",
            fix="save it with palette or grey values that are class ids",
        )


def refuse_few_bits(image: Image.Image, path: Path) -> None:
    """Refuse (UserError) grey of 2 or 4 bits, not decoded yet: Pillow would spread its values over 0 to 255."""
    tiles = getattr(image, "tile", ())
    raw_mode = str(tiles[0][3]) if image.mode == "L" and tiles else ""
    _, _, bits = raw_mode.partition("L;")
    if bits[:1] in ("2", "4"):
        raise UserError(
            f"{path}: this mask has {bits[0]} bits a pixel, which programs read as different values",
            fix="save it with 8 bits",
        )


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
    is_mixed = is_dark.any() and not is_dark.all()
    return bool(is_mixed and not (used[0] == 0 and is_dark[0]))


def palette_of(image: Image.Image) -> np.ndarray:
    """Return the palette of an image, (colours, 3) uint8; none of an image without one."""
    return np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)


def voc_palette() -> list[int]:
    """Return red, green, blue of VOC's 256 colours: bits 0-2 of an index, then 3-5, ... are their top bits."""
    indices = np.arange(256, dtype="<u2").view(np.uint8).reshape(256, 2)
    bits = np.unpackbits(indices, axis=1, count=9, bitorder="little")
    return np.packbits(bits.reshape(256, 3, 3), axis=1).ravel().tolist()  # of index, place and channel
