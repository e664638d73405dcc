"""The index of a data set: for every listed image, how many pixels of its mask each class covers.

Built once, in parallel, and cached; a fingerprint of the list and of every mask file's size and time tells when to
build it anew. Folds, lists, support candidates and base labels are views of it, never files that can go stale.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.contract import IGNORE
from util.data.images import read_mask, size_of
from util.errors import UserError
from util.files import fingerprint, write_atomically
from util.parallel import parallel_map
from util.settings import DataSettings

FORMAT = 1  # raise when what is stored changes
VALUES = 256


@dataclass(frozen=True)
class Index:
    """Class areas of the images of one list.

    Attributes:
        names: image names, as in the list file.
        areas: (images, classes + 1) int64 pixels; column 0 is background, ignored pixels are in none.
        images, masks: path of each image and mask.
        fingerprint: hexadecimal digest of what the index was built from.
    """

    names: tuple[str, ...]
    areas: np.ndarray
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names of an image-set file: the first word of each line that is not empty.

    Raises:
        UserError: the file is missing, empty, or names an image twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read this list ({error}); set data.train_list / data.test_list") from None
    names = tuple(line.split()[0] for line in lines if line.strip())
    if not names:
        raise UserError(f"{path}: this list names no image; write one name per line")
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in set(names[:i]))
        raise UserError(f"{path}: this list names '{twice}' twice; keep one line")
    return names


def load_index(data: DataSettings, part: str, progress: bool = True) -> Index:
    """Return the index of ``part`` ("train" or "test"), from the cache if it is still true, else built and cached.

    Raises:
        UserError: missing folder, list, image or mask; a mask that is not class indices or of another size.
    """
    root = Path(data.root)
    if not root.is_dir():
        raise UserError(f"{root}: this data folder does not exist; set data.root, or link your {data.name} data there")
    names = read_names(root / (data.train_list if part == "train" else data.test_list))
    images = tuple(root / data.images / f"{n}{data.image_suffix}" for n in names)
    masks = tuple(root / data.masks / f"{n}{data.mask_suffix}" for n in names)
    lacking = "this mask does not exist; every listed image needs one"
    made_from = fingerprint(masks, FORMAT, len(data.classes), *names, lacking=lacking)
    cache = Path(data.cache) / f"{data.name}-{part}-{made_from[:16]}.npz"
    areas = _read_cache(cache, made_from, len(names))
    if areas is None:
        areas = _build(images, masks, len(data.classes), f"index {data.name} {part}", progress)
        _write_cache(cache, made_from, areas)
    return Index(names, areas, images, masks, made_from)


def count_pixels(pair: tuple[Path, Path], classes: int) -> np.ndarray:
    """Return (classes + 1,) int64 pixels of each class in one mask, after checking mask and image against each other.

    Raises:
        UserError: sizes differ, or the mask holds an id above ``classes`` that is not 255.
    """
    image, mask_path = pair
    mask = read_mask(mask_path)
    return count_classes(mask, mask_path, size_of(image), classes)


def count_classes(mask: np.ndarray, mask_path: Path, image_size: tuple[int, int], classes: int) -> np.ndarray:
    """Return (classes + 1,) int64 pixels of each class in a mask (H, W) uint8, after checking it against its image.

    Raises:
        UserError: sizes differ, or the mask holds an id above ``classes`` that is not 255.
    """
    if image_size != mask.shape:
        sizes = f"{image_size} and {mask.shape}"
        raise UserError(f"{mask_path}: image and mask have different sizes (height, width): {sizes}")
    counts = np.bincount(mask.ravel(), minlength=VALUES)
    wrong = [v for v in np.flatnonzero(counts) if classes < v != IGNORE]
    if wrong:
        raise UserError(
            f"{mask_path}: class id {wrong[0]} is out of range; allowed: 0..{classes} and 255 "
            "(was a palette mask saved as grey?)"
        )
    return counts[: classes + 1].astype(np.int64)


def _build(images: tuple[Path, ...], masks: tuple[Path, ...], classes: int, title: str, progress: bool) -> np.ndarray:
    pairs = list(zip(images, masks, strict=True))
    return np.stack(list(parallel_map(partial(count_pixels, classes=classes), pairs, title, progress=progress)))


def _read_cache(path: Path, fingerprint: str, images: int) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) == fingerprint and len(stored["areas"]) == images:
                return stored["areas"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def _write_cache(path: Path, fingerprint: str, areas: np.ndarray) -> None:
    """Keep the index; a folder that cannot be written only costs building it again."""
    with contextlib.suppress(UserError):
        write_atomically(path, lambda file: np.savez_compressed(file, fingerprint=np.array(fingerprint), areas=areas))
