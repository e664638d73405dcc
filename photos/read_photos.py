"""Photos, upright as their EXIF data say, RGB, of bounded size: find and read."""

import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from annotations.photo_files import file_facts
from annotations.pictures import colours_of, frame_of, read_image
from util.files.errors import UserError
from util.files.images import check_image, read_errors
from util.files.names import SYSTEM_FILES
from util.files.photos import IMAGE_SUFFIXES, photos_below

BETWEEN = " + "  # several annotations of a photo in the source of an example
QUERY_FILE = "query_file"  # key of a result: the facts of its photo's file
GIVEN = Path("the photo")  # in messages, where a file has no name
GivenPhoto = str | Path | bytes | Image.Image | np.ndarray | Tensor


def photos_in(paths: Iterable[Path], recursive: bool = False, examples: Iterable[str] = ()) -> list[Path]:
    """Return the photos among paths and in folders, each once, those of a folder by name, without pictures of results.

    Nor are the masks of ``examples``, which their sources name. UserError: a path is nowhere, or a folder holds no
    photo (``recursive``: nor do its sub-folders).
    """
    photos = dict.fromkeys(chain.from_iterable(_photos_at(path, recursive) for path in paths))
    masks = {Path(mask).resolve() for source in examples for mask in source.rpartition(":")[2].split(BETWEEN)}
    return [photo for photo in photos if photo.resolve() not in masks]


def _photos_at(path: Path, recursive: bool) -> list[Path]:
    """Return a photo, or those in a folder; UserError: there is none."""
    if not path.is_dir():
        if not path.exists() and not path.is_symlink():
            quotes = "; write a pattern without quotes" if re.search(r"[*?[]", str(path)) else ""
            raise UserError(f"{path}: no such photo or folder{quotes}")
        is_of_system = path.name.startswith("._") or path.name.lower() in SYSTEM_FILES  # which a shell's pattern has
        return [] if is_of_system else [path]
    photos = [photo for photo in photos_below(path, recursive) if not _is_picture_of_result(photo)]
    if not photos:
        raise UserError(
            f"{path}: this folder itself holds no photo ({', '.join(IMAGE_SUFFIXES)})",
            fix="name another folder" if recursive else "--recursive takes those of its sub-folders",
        )
    return photos


def _is_picture_of_result(path: Path) -> bool:
    picture = re.fullmatch(r"(.+?)_(?:mask\.png|overlay\.jpg|probability_.+\.png)", path.name)
    return picture is not None and path.with_name(f"{picture[1]}.json").exists()


def read_photo(photo: GivenPhoto) -> np.ndarray:
    """Return a photo as viewers show it, upright and RGB, (H, W, 3) uint8.

    It is a file: its path or its bytes; an image of Pillow; an array of that form; or a tensor (3, H, W), uint8 or
    floats in 0..1. Size and kind of a file are known by its header before it is decoded.

    Raises:
        UserError: the file is missing, no image, too large (``check_size``), damaged or of 32-bit values, or the array
            has another form.
    """
    match photo:
        case str() | Path():
            return read_image(Path(photo))
        case Image.Image():
            return _colours_of_image(photo)
        case bytes():
            return read_image(GIVEN, photo)
        case _:
            return _checked_array(photo)


def read_with_facts(photo: GivenPhoto) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a photo as ``read_photo``, and the entry of its result with its file's facts.

    They are taken before it is read: a photo that is replaced meanwhile is not the file that they are of.
    """
    of_file = file_facts(Path(photo)) if isinstance(photo, str | Path) and Path(photo).is_file() else None
    return read_photo(photo), {QUERY_FILE: of_file}


def _checked_array(photo: object) -> np.ndarray:
    """Return an array as it is, and a tensor (3, H, W) as an array; raises as ``read_photo`` does."""
    if isinstance(photo, Tensor) and photo.ndim == 3 and len(photo) == 3:
        if photo.is_floating_point() and 0 <= photo.min() <= photo.max() <= 1:
            photo = (255 * photo).round().byte()
        photo = photo.permute(1, 2, 0).contiguous().cpu().numpy()
    if isinstance(photo, np.ndarray) and photo.shape[2:] == (3,) and photo.dtype == np.uint8 and photo.size:
        return photo
    kind = f"{type(photo).__name__} {getattr(photo, 'shape', '')} {getattr(photo, 'dtype', '')}".rstrip()
    raise UserError(
        f"{GIVEN}: must be a path, a file's bytes, an image of Pillow, an array (H, W, 3) uint8 "
        f"or a tensor (3, H, W), not {kind}"
    )


def _colours_of_image(photo: Image.Image) -> np.ndarray:
    """Return an image of Pillow as ``read_photo``; a damaged one raises UserError while it is decoded, too."""
    with read_errors(GIVEN):
        check_image(photo, GIVEN)
        return frame_of(photo).upright(colours_of(photo, GIVEN))
