"""The index of a data set: for every listed image, the number of pixels of each class in its mask.

It is built once, in parallel, and cached. A fingerprint of the list and of every mask file's size and time of change
decides whether the cache is valid. Folds, lists, support candidates and base labels are computed from the index and
never stored, so they cannot become outdated.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from model.episode import IGNORE
from util.config.settings import BINARY, DataSettings
from util.data.images.read import read_mask_of, read_pair, read_stacked, unstack
from util.data.lists.class_masks import VALUE, Entries, OneClassAreas, read_entries
from util.errors import UserError
from util.files import fingerprint, read_text, write_atomically
from util.parallel import parallel_map

# Commands that prepare the built-in data sets; other data sets are made by `custom`.
PREPARE = {
    "pascal": "python prepare.py pascal --voc <VOCdevkit/VOC2012> --sbd <benchmark_RELEASE> --out {root}",
    "coco": "python prepare.py coco --root <folder of train2014, val2014, annotations> --out {root}",
    **{
        name: f"python prepare.py {name} --root <the unpacked download> --out {{root}}"
        for name in (
            "fss1000",
            "deepglobe",
            "isic",
            "chestxray",
            "suim",
            "lvis92i",
            "isaid5i",
            "pacopart",
            "pascalpart",
        )
    },
    "mini": "python prepare.py mini --out {root}",
}
PREPARE_OTHER = "python prepare.py custom --name {name} --out {root} --images <DIR> --masks <DIR> --classes <names.txt>"


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set."""
    return PREPARE.get(data.name, PREPARE_OTHER).format(root=data.root, name=data.name)


FORMAT = 3  # raise when the stored content changes
VALUES = 256  # of a uint8 mask


class DecodedImages(Protocol):
    """Stacked images by row that need no decoding (``util/data/images/decoded.py``)."""

    def __getitem__(self, row: int) -> np.ndarray:
        """Return a stacked image, (H, W, 4) uint8, read-only."""


@dataclass(frozen=True)
class Index:
    """Class areas of the images of one list, and the images by row.

    Attributes:
        names: image names, as in the list file.
        areas: (images, classes + 1) int64 pixels; column 0 is background, ignored pixels are in no column. Of masks of
            one class each a table that is read like it.
        images, masks: path of each image and mask.
        fingerprint: hexadecimal digest of the list and the mask files.
        sizes: (images, 2) int64 height and width.
        decoded: cache of decoded images, None without one.
    """

    names: tuple[str, ...]
    areas: np.ndarray | OneClassAreas
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    fingerprint: str
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    decoded: DecodedImages | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_class_masks(self) -> bool:
        """Whether each mask shows one class alone, and says nothing of the others."""
        return isinstance(self.areas, OneClassAreas)

    def value_of(self, class_id: int) -> int:
        """Return the value of a class in masks that show it."""
        return VALUE if self.one_class_masks else class_id

    def stacked(self, row: int) -> np.ndarray:
        """Return an image with its class indices as fourth channel, (H, W, 4) uint8, read-only."""
        if self.decoded is not None:
            return self.decoded[row]
        return read_stacked(self.images[row], self.masks[row])

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, 3) and its class indices (H, W), uint8."""
        if self.decoded is not None:
            return unstack(self.decoded[row])
        return read_pair(self.images[row], self.masks[row])


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names of an image-set file: the first word of each line that is not empty.

    Raises:
        UserError: the file is missing, empty, names an image twice, or one outside the data set's folders.
    """
    lines = read_text(path, "this list", "set data.train_list / data.test_list").splitlines()
    names = tuple(str(PurePosixPath(line.split()[0])) for line in lines if line.strip())  # ./a and a are one photo
    if not names:
        raise UserError(f"{path}: this list names no image; write one name per line")
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in set(names[:i]))
        raise UserError(f"{path}: this list names '{twice}' twice; keep one line")
    return names


def load_index(data: DataSettings, part: str, progress: bool = True) -> Index:
    """Return the index of ``part`` (as in ``list_of``), from the cache if that is valid, else built and cached.

    Raises:
        UserError: a folder, list, image or mask is missing, a list has two names of one photo, or a mask holds no class
            indices or has another size.
    """
    root, listed = Path(data.root), list_of(data, part)
    if not root.is_dir():
        raise UserError(f"{root}: this data folder does not exist; set data.root, or make it: {prepare_command(data)}")
    entries = read_entries(root / listed, len(data.classes)) if data.mask_form == BINARY else None
    names = read_names(root / listed) if entries is None else entries.names
    photos, values = (names, len(data.classes)) if entries is None else (entries.photos, VALUE)
    images = tuple(root / data.images / f"{n}{data.image_suffix}" for n in photos)
    masks = tuple(root / data.masks / f"{n}{data.mask_suffix}" for n in names)
    lacking = "this mask does not exist; every listed image needs one"
    lines = names if entries is None else entries.lines()
    made_from = fingerprint(masks, FORMAT, len(data.classes), *lines, lacking=lacking)
    cache = Path(data.cache) / f"{data.name}-{part}-{made_from[:16]}.npz"
    found = read_cache(cache, made_from, len(names), values)
    if found is None:
        if entries is None:
            _refuse_one_file_twice(images, root / listed)
        found = _build(images, masks, values, f"index {data.name} {part}", progress)
        write_cache(cache, made_from, *found)
    areas, sizes = found
    return Index(names, _of_classes(areas, entries, len(data.classes)), images, masks, made_from, sizes)


def list_of(data: DataSettings, part: str) -> str:
    """Return the list of a part of a data set, "train", "validation" or "test".

    Raises:
        UserError: the data set has no such part.
    """
    lists = {"train": data.train_list, "validation": data.validation_list or data.test_list, "test": data.test_list}
    listed = lists[part]
    if listed is None:
        does = {"train": "is for tests only", "test": "is for training only"}.get(part, "has no images to validate on")
        raise UserError(f"data set {data.name} {does}: data.{part}_list is null; name another data set")
    return listed


def _of_classes(areas: np.ndarray, entries: Entries | None, classes: int) -> np.ndarray | OneClassAreas:
    """Return the areas by class id, from those of each mask's own class if masks show one class each."""
    return areas if entries is None else OneClassAreas(areas, np.array(entries.class_ids), classes)


def measure(pair: tuple[Path, Path], classes: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return (classes + 1,) int64 pixels of each class in one mask, and (height, width), after checking both files.

    Raises:
        UserError: sizes differ, or the mask holds an id above ``classes`` that is not 255.
    """
    image, mask_path = pair
    mask = read_mask_of(image, mask_path)
    return count_classes(mask, mask_path, classes), (mask.shape[0], mask.shape[1])


def count_classes(mask: np.ndarray, mask_path: Path, classes: int) -> np.ndarray:
    """Return (classes + 1,) int64 pixels of each class in a mask (H, W) uint8, after checking its values.

    Raises:
        UserError: the mask holds an id above ``classes`` that is not 255.
    """
    counts = np.bincount(mask.ravel(), minlength=VALUES)
    wrong = [v for v in np.flatnonzero(counts) if classes < v != IGNORE]
    if wrong:
        raise UserError(
            f"{mask_path}: class id {wrong[0]} is out of range; allowed: 0..{classes} and 255 "
            "(was a palette mask saved as grey?)"
        )
    return counts[: classes + 1].astype(np.int64)


def _refuse_one_file_twice(images: tuple[Path, ...], listed: Path) -> None:
    """Refuse two names of one photo, which could be its own support."""
    known: dict[tuple[int, int], Path] = {}
    for image in images:
        if image.exists():
            stat = image.stat()
            if (other := known.setdefault((stat.st_dev, stat.st_ino), image)) is not image:
                raise UserError(f"{listed}: {other} and {image} are one file; keep one of them")


def _build(
    images: tuple[Path, ...], masks: tuple[Path, ...], classes: int, title: str, progress: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return areas (images, classes + 1) and sizes (images, 2), int64."""
    pairs = list(zip(images, masks, strict=True))
    measured = parallel_map(partial(measure, classes=classes), pairs, title, progress=progress)
    areas, sizes = zip(*measured)
    return np.stack(areas), np.array(sizes, np.int64)


def read_cache(path: Path, fingerprint: str, images: int, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return areas and sizes of a cache file, None if it is missing, damaged, of other files, or cannot be true."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != fingerprint:
                return None
            areas, sizes = stored["areas"], stored["sizes"]
    except Exception:  # a damaged file can raise any exception
        return None
    tables = ((areas, (images, classes + 1)), (sizes, (images, 2)))
    if any(table.shape != shape or table.dtype != np.int64 or (table < 0).any() for table, shape in tables):
        return None
    return (areas, sizes) if (areas.sum(1) <= sizes.prod(1)).all() else None


def write_cache(path: Path, fingerprint: str, areas: np.ndarray, sizes: np.ndarray) -> None:
    """Cache the index; if the folder cannot be written, the next run builds it again."""
    mark = np.array(fingerprint)
    with contextlib.suppress(UserError):
        write_atomically(path, lambda file: np.savez_compressed(file, fingerprint=mark, areas=areas, sizes=sizes))
