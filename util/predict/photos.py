"""Find and read photos: files, folders, images of Pillow, arrays and tensors.

Photos are upright as their EXIF data say, RGB, of bounded size.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from util.data.images.read import eight_bits, header_of, read_image
from util.data.lists.files import IMAGE_SUFFIXES, photos_below
from util.errors import UserError
from util.files import OF_SYSTEMS

OF_RESULTS = re.compile(r"(.+?)_(?:mask\.png|overlay\.jpg|probability_.+\.png)")  # pictures of a result beside its JSON
MAX_PIXELS = 2**26  # 67 million; a photo takes 32-bit numbers while it is resized
GivenPhoto = str | Path | Image.Image | np.ndarray | Tensor


def photos_in(paths: Iterable[Path], recursive: bool = False) -> list[Path]:
    """Return the photos among paths and in folders, each once, those of a folder by name, without pictures of results.

    Args:
        recursive: whether photos in sub-folders count.

    Raises:
        UserError: a folder holds no photo.
    """
    out: dict[Path, None] = {}
    for path in paths:
        found = [p for p in photos_below(path, recursive) if not _of_result(p)] if path.is_dir() else []
        if path.is_dir() and not found:
            raise UserError(f"{path}: this folder itself holds no photo ({', '.join(IMAGE_SUFFIXES)})")
        if not (found or path.exists() or path.is_symlink()):
            quotes = "; write a pattern without quotes" * bool({*"*?["} & {*str(path)})
            raise UserError(f"{path}: no such photo or folder{quotes}")
        of_system = path.name.startswith("._") or path.name.lower() in OF_SYSTEMS  # as a pattern of the shell names it
        out.update(dict.fromkeys(found or [path] * (not of_system)))
    return list(out)


def _of_result(path: Path) -> bool:
    """Return whether a file is a picture of a result."""
    match = OF_RESULTS.fullmatch(path.name)
    return match is not None and path.with_name(f"{match[1]}.json").exists()


def check_photo(path: Path) -> None:
    """Check a photo by its header alone.

    Raises:
        UserError: the file is missing, no image, or has more than ``MAX_PIXELS`` pixels.
    """
    (height, width), _ = header_of(path)
    if height * width > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels, the limit is {MAX_PIXELS}; make it smaller")


def read_photo(photo: GivenPhoto) -> np.ndarray:
    """Return a photo as viewers show it, upright and RGB, (H, W, 3) uint8.

    Args:
        photo: a file; an image of Pillow; an array of that form; or a tensor (3, H, W), uint8 or floats in 0..1.

    Raises:
        UserError: as ``check_photo``; the file is damaged or has 32-bit values; or the array has another form.
    """
    if isinstance(photo, str | Path):
        check_photo(Path(photo))
        return read_image(Path(photo))
    if isinstance(photo, Image.Image):
        if photo.mode.startswith("I;16"):
            photo = Image.fromarray(eight_bits(np.asarray(photo), Path("an image")))
        if photo.mode in ("I", "F"):
            raise UserError(f"an image: has values of mode {photo.mode}, whose white is unknown; give 8 bits")
        return np.array(ImageOps.exif_transpose(photo).convert("RGB"))
    if isinstance(photo, Tensor):
        floats = photo.is_floating_point()
        if photo.ndim != 3 or len(photo) != 3 or (floats and not 0 <= photo.min() <= photo.max() <= 1):
            raise UserError(f"an image: must be a tensor (3, H, W), uint8 or floats in 0..1, not {tuple(photo.shape)}")
        photo = (255 * photo).round().byte() if floats else photo
        photo = photo.permute(1, 2, 0).contiguous().cpu().numpy()
    if not isinstance(photo, np.ndarray):
        raise UserError(f"an image: must be a file, an image of Pillow, an array or a tensor, not {type(photo)}")
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        mend = {"u": "(image // 256).astype(np.uint8)", "f": "(255 * image).astype(np.uint8)"}.get(photo.dtype.kind, "")
        mend = "np.dstack([image] * 3)" if photo.ndim == 2 else mend
        given = f"not {photo.shape} {photo.dtype}{f'; try {mend}' if mend else ''}"
        raise UserError(f"an image: must be an array (H, W, 3) uint8, {given}")
    return photo
