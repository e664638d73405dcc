"""The index of a data set: for every listed image, the number of pixels of each class in its mask.

It is built once, in parallel, and cached. A fingerprint of the list and of every mask file's size and time of change
decides whether the cache is valid. Folds, lists, support candidates and base labels are computed from the index and
never stored, so they cannot become outdated.

Where a data set has one mask per photo and class (``data.mask_form: binary``), a list has one line per mask: the mask's
name, its class id and its photo, such as ``melanoma/ISIC_0000030 1 ISIC_0000030.jpg``. The mask holds 0, 1 and, where
pixels are ignored, 255. A data set may have any number of classes, and classes of one photo may overlap. For methods
that learn from all classes of a photo, its masks are joined: an image's own class lies on top, then smaller ones.

A data set that yields arrays, not files, is an entry of ``ARRAYS`` here.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.episode import IGNORE
from util.config.folds import has_class_maps
from util.config.settings import BINARY, DataSettings
from util.data.images.read import CLASS_CHANNEL, VALUE, read_mask_of, read_stacked
from util.errors import UserError
from util.files import REPOSITORY, fingerprint, read_text, write_atomically
from util.parallel import parallel_map

FORMAT = 3  # raise when the stored content changes
# What `prepare.py <name>` needs for data sets that have a recipe; others are made by `prepare.py custom`.
PREPARE = {path.stem: "--root <the unpacked download> " for path in REPOSITORY.glob("util/prepare/datasets/[a-z]*.py")}
PREPARE |= {"pascal": "--voc <VOCdevkit/VOC2012> --sbd <benchmark_RELEASE> ", "mini": ""}
PREPARE |= {"coco": "--root <folder of train2014, val2014, annotations> "}
# Data sets without files: data.name -> function of the settings and "train", "validation" or "test" that returns names
# and stacked images of a part, the latter as anything that gives (H, W, 4) uint8 by row (util/data/images/read.py).
ARRAYS: dict[str, Callable[[DataSettings, str], tuple[Sequence[str], Any]]] = {}


def prepare_command(data: DataSettings) -> str:
    """Return the command that makes the folder of a data set."""
    if data.name in PREPARE:
        return f"python prepare.py {data.name} {PREPARE[data.name]}--out {data.root}"
    made = f"python prepare.py custom --name {data.name} --out {data.root}"
    return f"{made} --images <DIR> --masks <DIR> --classes <names.txt>"


class OneClassAreas:
    """The areas of masks of one class each, read like the table (images, classes + 1) int64 that they stand for.

    That table of LVIS would take gigabytes; this one has two columns. ``areas[row, c]``, ``areas[rows, c]``,
    ``areas[row, classes]``, ``areas[:, classes]`` and ``areas[rows]`` return what NumPy returns.

    ``pixels`` (images, 2) int64 are those of background and class, ``class_ids`` (images,) int64 say which it is.
    """

    def __init__(self, pixels: np.ndarray, class_ids: np.ndarray, classes: int):
        self.pixels, self.class_ids, self.shape = pixels, class_ids, (len(class_ids), classes + 1)

    def __getitem__(self, place: Any) -> Any:
        rows, columns = place if isinstance(place, tuple) else (place, slice(None))
        classes = np.arange(self.shape[1])[columns if isinstance(columns, slice) else np.asarray(columns, np.int64)]
        ids, pixels = self.class_ids[rows], self.pixels[rows]
        if ids.ndim and classes.ndim:  # every row with every class
            ids, pixels = ids[:, None], pixels[:, None]
        return np.where(classes == 0, pixels[..., 0], np.where(ids == classes, pixels[..., VALUE], 0))


@dataclass(frozen=True)
class Index:
    """Class areas of the images of one list, and the images by row."""

    names: tuple[str, ...]  # image names, as in the list file
    # (images, classes + 1) int64 pixels; column 0 is background, ignored pixels are in no column. Of masks of one class
    # each a table that is read like it
    areas: np.ndarray | OneClassAreas
    images: tuple[Path, ...]  # path of each image and mask; none of a data set of arrays
    masks: tuple[Path, ...]
    fingerprint: str  # hexadecimal digest of the list and the mask files
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))  # (images, 2) int64 height and width
    listed: Path = Path()  # the list file
    joined: bool = False  # whether masks of one class become maps of class ids, with the photo's other masks below
    # stacked images by row: arrays, or the cache of files (``util/data/images/decoded.py``); None without
    decoded: Any = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_class_masks(self) -> bool:
        """Whether each mask shows one class alone, and says nothing of the others."""
        return isinstance(self.areas, OneClassAreas)

    def value_of(self, class_id: int) -> int:
        """Return the value of a class in masks that show it."""
        return VALUE if self.one_class_masks and not self.joined else class_id

    @cached_property
    def of_photo(self) -> dict[Path, list[int]]:
        """The rows of each photo; one but with masks of one class each."""
        rows: dict[Path, list[int]] = {}
        for row, image in enumerate(self.images):
            rows.setdefault(image, []).append(row)
        return rows

    def showing(self, classes: Sequence[int]) -> np.ndarray:
        """Return whether an image shows a pixel of one of some classes in any of its photo's masks, (images,) bool."""
        shown = np.asarray((self.areas[:, classes] > 0).any(1))
        if not self.one_class_masks:
            return shown
        return np.array([shown[self.of_photo[image]].any() for image in self.images], bool)

    def files(self, row: int) -> tuple[Any, ...]:
        """Return the arguments of ``read_stacked`` for an image."""
        if not self.joined or not isinstance(self.areas, OneClassAreas):
            return self.images[row], self.masks[row]
        ids, pixels = self.areas.class_ids, self.areas.pixels[:, VALUE]
        others = sorted((r for r in self.of_photo[self.images[row]] if r != row), key=lambda r: -pixels[r])
        return self.images[row], self.masks[row], int(ids[row]), [(self.masks[r], int(ids[r])) for r in others]

    def content(self, row: int) -> Any:
        """Return what tells an image from its changed self: the sizes of its files in bytes; of an array its digest."""
        if not self.images:
            return hashlib.sha256(np.asarray(self.decoded[row]).tobytes()).hexdigest()
        return [path.stat().st_size for path in (self.images[row], self.masks[row])]

    def stacked(self, row: int) -> np.ndarray:
        """Return an image with its class indices as fourth channel, (H, W, 4) uint8, read-only."""
        return read_stacked(*self.files(row)) if self.decoded is None else self.decoded[row]

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, 3) and its class indices (H, W), uint8."""
        stacked = self.stacked(row)
        return cv2.cvtColor(stacked, cv2.COLOR_RGBA2RGB), cv2.extractChannel(stacked, CLASS_CHANNEL)


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names of an image-set file: the first word of each line; errors as ``read_rows``."""
    return tuple(name for (name,) in read_rows(path, 1))


def read_rows(path: Path, words: int) -> list[list[str]]:
    """Return the first words of each line of a list: a name, or with three words a mask, its class id and its photo.

    UserError: the file is missing or names no image, a line has fewer words, or a name occurs twice.
    """
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path, "this list", "set data.train_list / data.test_list").splitlines(), 1):
        row = line.split()[:words]
        if not row:
            continue
        if row[0] in rows or len(row) < words or "\0" in line or not all(word.isdecimal() for word in row[1:2]):
            form = "an image" if words == 1 else "a mask, its class id and its photo"
            raise UserError(f"{path}:{number}: {line[:80]!r} is not {form} that no other line names")
        rows[row[0]] = row
    if not rows:
        raise UserError(f"{path}: this list names no image; write one name per line")
    return list(rows.values())


def load_index(data: DataSettings, part: str, progress: bool = True) -> Index:
    """Return the index of ``part`` (as in ``list_of``), from the cache if that is valid, else built and cached.

    UserError: a folder, list, image or mask is missing, a mask holds no class indices or has another size, or two names
    are of one photo.
    """
    if data.name in ARRAYS:
        return _of_arrays(*ARRAYS[data.name](data, part), len(data.classes))
    root, listed, binary = Path(data.root), list_of(data, part), data.mask_form == BINARY
    if not root.is_dir():
        raise UserError(f"{root}: this data folder does not exist; set data.root, or make it: {prepare_command(data)}")
    rows = read_rows(root / listed, 3 if binary else 1)
    names = tuple(row[0] for row in rows)
    images = tuple(root / data.images / f"{row[-1]}{data.image_suffix}" for row in rows)
    masks = tuple(root / data.masks / f"{name}{data.mask_suffix}" for name in names)
    made_from = fingerprint(masks, FORMAT, len(data.classes), *map(" ".join, rows))
    cache = Path(data.cache) / f"{data.name}-{part}-{made_from[:16]}.npz"
    if (found := _read_cache(cache, made_from)) is None:
        count = partial(measure, classes=VALUE if binary else len(data.classes))
        pairs = list(zip(images, masks, strict=True))
        counted = list(parallel_map(count, pairs, f"index {data.name} {part}", progress=progress))
        known: dict[tuple[int, int], Path] = {}
        for image in () if binary else images:  # masks of one class share their photo
            stat = image.stat()
            if (other := known.setdefault((stat.st_dev, stat.st_ino), image)) is not image:
                raise UserError(f"{root / listed}: {other} and {image} are one file, which would support itself")
        found = np.stack([areas for areas, _ in counted]), np.stack([size for _, size in counted])
        save = partial(np.savez_compressed, areas=found[0], sizes=found[1], fingerprint=np.array(made_from))
        with contextlib.suppress(UserError):  # if the folder cannot be written, the next run builds it again
            write_atomically(cache, save)
    areas, sizes = found
    table = OneClassAreas(areas, np.array([int(row[1]) for row in rows]), len(data.classes)) if binary else areas
    return Index(names, table, images, masks, made_from, sizes, root / listed, binary and has_class_maps(vars(data)))


def _of_arrays(names: Sequence[str], stacked: Any, classes: int) -> Index:
    """Return the index of stacked images, each of which is read once for its areas and its digest."""
    sizes, areas = np.zeros((len(names), 2), np.int64), np.zeros((len(names), classes + 1), np.int64)
    for row, name in enumerate(names):
        ids = np.asarray(stacked[row])[..., CLASS_CHANNEL]
        areas[row], sizes[row] = count_classes(ids, Path(name), classes), ids.shape
    made_from = hashlib.sha256("\n".join(names).encode() + areas.tobytes()).hexdigest()
    return Index(tuple(names), areas, (), (), made_from, sizes, decoded=stacked)


def list_of(data: DataSettings, part: str) -> str:
    """Return the list of a part of a data set, "train", "validation" or "test"; UserError if it has none."""
    lists = {"train": data.train_list, "validation": data.validation_list or data.test_list, "test": data.test_list}
    if (listed := lists[part]) is None:
        raise UserError(f"data set {data.name} has no images for this: data.{part}_list is null; name another data set")
    return listed


def measure(pair: tuple[Path, Path], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``count_classes`` of a photo's mask, and its height and width; UserError if the photo's are others."""
    mask = read_mask_of(*pair)
    return count_classes(mask, pair[1], classes), np.array(mask.shape, np.int64)


def count_classes(mask: np.ndarray, mask_path: Path, classes: int) -> np.ndarray:
    """Return (classes + 1,) int64 pixels of each class in a mask (H, W) uint8; UserError for an id above, but 255."""
    counts = np.bincount(mask.ravel(), minlength=256)
    if wrong := [v for v in np.flatnonzero(counts) if classes < v != IGNORE]:
        allowed = f"allowed: 0..{classes} and 255 (was a palette mask saved as grey?)"
        raise UserError(f"{mask_path}: class id {wrong[0]} is out of range; {allowed}")
    return counts[: classes + 1].astype(np.int64)


def _read_cache(path: Path, made_from: str) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return (stored["areas"], stored["sizes"]) if str(stored["fingerprint"]) == made_from else None
    except Exception:  # a damaged file can raise any exception
        return None
