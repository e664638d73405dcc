"""Read one mask of any format as class indices: PNG, TIFF, BMP or GIF, of numbers, a palette or colours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from annotations.pictures import frame_of, header_of, opened, values_in, white_is_zero
from util.files.errors import UserError, note
from util.files.images import JPEG_FORMATS
from util.files.mask_images import fitted_mask
from util.files.palette import IGNORE, check_indices, refuse_few_bits

Colour = tuple[int, ...]  # red, green, blue
Colours = Mapping[Colour, int]  # in a mask -> class index
note_once = cache(note)


@contextmanager
def opened_mask(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a mask as ``opened`` does a photo; a line says where its numbers are not those shown.

    UserError also for a JPEG, and for grey of 2 or 4 bits.
    """
    with opened(path, "mask", content) as image:
        refuse_few_bits(image, path)
        if image.format in JPEG_FORMATS:
            raise UserError(
                f"{path}: this mask is a JPEG, which changes values along edges; export it as PNG, or name "
                "the photo before the mask"
            )
        if white_is_zero(image):
            note_once(f"{path.parent}: 0 is white in TIFFs here; their stored numbers are read, not the colours shown")
        yield image


def read_mask_of(image: Path, mask: Path, colours: Colours | None = None) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8, upright; its header alone is read.

    UserError: a file is missing or damaged, the mask stores colours that have no class, or does not fit its photo.
    """
    return fitted_mask(*read_indices(mask, colours), header_of(image), mask)


def read_indices(path: Path, colours: Colours | None = None) -> tuple[np.ndarray, bool]:
    """Return a mask as class indices, (H, W) uint8, turned as its own EXIF data say, and whether they say anything.

    Raises as ``read_mask_of`` does.
    """
    with opened_mask(path) as image:
        frame = frame_of(image)
        return frame.upright(indices_of(image, path, colours)), frame.stated is not None


def indices_of(image: Image.Image, path: Path, colours: Colours | None) -> np.ndarray:
    """Return the class indices in a mask that is opened, (H, W) uint8: by its ``colours``, else as it stores them.

    UserError: a colour has no class, or the stored values are no class indices.
    """
    if colours is not None and image.mode in ("P", "RGB", "RGBA"):
        rgb = image.convert("RGB")
        shown = {cast(tuple[int, ...], colour) for _, colour in rgb.getcolors(rgb.width * rgb.height) or []}
        unknown = sorted(shown - colours.keys())
        if not unknown:
            return _indices_of_colours(np.asarray(rgb), {colour: colours[colour] for colour in shown})
        if image.mode != "P":
            raise UserError(
                f"{path}: {len(unknown)} colours of this mask have no class, such as "
                f"{', '.join(map(str, unknown[:3]))}",
                fix="add them to the list, or, if edges are smooth, resize masks by nearest neighbour",
            )
    indices = values_in(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return as_indices(indices, path)
    check_indices(image, indices, path)
    return indices


def as_indices(values: np.ndarray, path: Path) -> np.ndarray:
    """Return whole numbers (H, W) from 0 to 255 as uint8; UserError: there are others among them."""
    if not ((values >= 0) & (values <= IGNORE) & (values % 1 == 0)).all():
        raise UserError(
            f"{path}: holds numbers from {values.min():g} to {values.max():g}",
            fix="save it with class ids, whole numbers from 0 to 255; resize masks by nearest neighbour",
        )
    return values.astype(np.uint8)


def _indices_of_colours(rgb: np.ndarray, colours: Colours) -> np.ndarray:
    """Return the class index of each colour of a mask (H, W, 3), (H, W) uint8."""
    place_values = np.array([2**16, 2**8, 1], np.int32)
    index_of_code = np.zeros(2**24, np.uint8)
    index_of_code[np.array([*colours]) @ place_values] = [*colours.values()]
    return index_of_code[rgb @ place_values]
