"""The index of a data set: for every listed image, the number of pixels of each class in its mask.

It is built once, in parallel, and cached, together with a digest of the content of every photo and mask. If a file has
another size, time of change or inode than the cache states, all are read again. Folds, lists, support candidates and
base labels are computed from the index and never stored, so they cannot become outdated.

Where a data set has one mask per photo and class (``data.mask_form: binary``), a list has one line per mask: the mask's
name, its class id and its photo, such as ``melanoma/ISIC_0000030 1 ISIC_0000030.jpg``. The mask holds 0, 1 and, where
pixels are ignored, 255. A data set may have any number of classes, and classes of one photo may overlap. For methods
that learn from all classes of a photo, its masks are joined: an image's own class lies on top, then smaller ones.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.episode import IGNORE
from util.config.folds import has_class_maps
from util.config.settings import BINARY, DataSettings
from util.data.lists.listed import Listed, list_of, read_list
from util.files.digests import DIGEST_BYTES, PHOTO_DIGITS, content_digest, state_of
from util.files.errors import UserError, as_user_error, note
from util.files.images import check_photo
from util.files.mask_images import CLASS_CHANNEL, VALUE, read_mask_of, read_stacked
from util.files.parallel import grouped, parallel_map
from util.files.writing import write_atomically

FORMAT = 4  # raise when the stored content changes
FILES = 2  # of an image: photo and mask
MOST, MANY = 0.5, 0.2  # of the masks that show a class
MOST_KNOWN = 0.75  # of all pixels, below which masks without background are noted
note_once = cache(note)


class OneClassAreas:
    """The areas of masks of one class each, read like the table (images, classes + 1) int64 that they stand for.

    That table of LVIS would take gigabytes; this one has two columns. ``areas[row, c]``, ``areas[rows, c]``,
    ``areas[row, classes]``, ``areas[:, classes]`` and ``areas[rows]`` return what NumPy returns.

    ``pixels`` (images, 2) int64 are those of background and class, ``class_ids`` (images,) int64 say which it is.
    """

    def __init__(self, pixels: np.ndarray, class_ids: np.ndarray, classes: int):
        self.pixels = pixels
        self.class_ids = class_ids
        self.shape = (len(class_ids), classes + 1)

    def __getitem__(self, place: Any) -> Any:
        rows, columns = place if isinstance(place, tuple) else (place, slice(None))
        if not isinstance(columns, slice):
            columns = np.asarray(columns, np.int64)
        classes = np.arange(self.shape[1])[columns]
        ids = self.class_ids[rows]
        pixels = self.pixels[rows]
        if ids.ndim and classes.ndim:  # every row with every class
            ids = ids[:, None]
            pixels = pixels[:, None]
        return np.where(classes == 0, pixels[..., 0], np.where(ids == classes, pixels[..., VALUE], 0))


@dataclass(frozen=True)
class Index:
    """Class areas of the images of one list, and the images by row."""

    names: tuple[str, ...]  # image names, as in the list file
    # (images, classes + 1) int64 pixels; column 0 is background, ignored pixels are in no column. Of masks of one class
    # each a table that is read like it
    areas: np.ndarray | OneClassAreas
    images: tuple[Path, ...]  # path of each image and mask
    masks: tuple[Path, ...]
    fingerprint: str  # hexadecimal digest of the list and of the content of all photos and masks
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))  # (images, 2) int64 height and width
    # (images, 2, 16) uint8 digests of the content of photo and mask
    digests: np.ndarray = field(default_factory=lambda: np.zeros((0, FILES, DIGEST_BYTES), np.uint8))
    listed: Path = Path()  # the list file
    joined: bool = False  # whether masks of one class become maps of class ids, with the photo's other masks below

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
    def rows_by_photo(self) -> dict[Path, list[int]]:
        """The rows of each photo; one but with masks of one class each."""
        return grouped(range(len(self)), self.images.__getitem__)

    def showing(self, classes: Sequence[int]) -> np.ndarray:
        """Return whether an image shows a pixel of one of some classes in any of its photo's masks, (images,) bool."""
        shown = np.asarray((self.areas[:, classes] > 0).any(1))
        if not self.one_class_masks:
            return shown
        return np.array([shown[self.rows_by_photo[image]].any() for image in self.images], bool)

    def files(self, row: int) -> tuple[Any, ...]:
        """Return the arguments of ``read_stacked`` for an image."""
        if not self.joined or not isinstance(self.areas, OneClassAreas):
            return self.images[row], self.masks[row]
        class_ids = self.areas.class_ids
        pixels = self.areas.pixels[:, VALUE]
        others = sorted(self.rows_by_photo[self.images[row]], key=lambda other: -pixels[other])
        below = [(self.masks[other], int(class_ids[other])) for other in others if other != row]
        return self.images[row], self.masks[row], int(class_ids[row]), below

    def content(self, row: int) -> str:
        """Return the hexadecimal digest of an image: of its photo and all its masks."""
        rows = self.rows_by_photo[self.images[row]] if self.joined else [row]
        return "".join(self.digests[r].tobytes().hex() for r in rows)

    def photo_digest(self, row: int) -> str:
        """Return the first ``PHOTO_DIGITS`` digits of the digest of a photo's content."""
        return self.digests[row, 0].tobytes().hex()[:PHOTO_DIGITS]

    @cached_property
    def list_digest(self) -> str:
        """Hexadecimal SHA-256 of the names of all images, in any order."""
        return hashlib.sha256("\n".join(sorted(self.names)).encode()).hexdigest()

    @cached_property
    def content_digest(self) -> str:
        """The same of their names and contents."""
        contents = (f"{name} {files.tobytes().hex()}" for name, files in zip(self.names, self.digests, strict=True))
        return hashlib.sha256("\n".join(sorted(contents)).encode()).hexdigest()

    def stacked(self, row: int) -> np.ndarray:
        """Return an image with its class indices as fourth channel, (H, W, 4) uint8, read-only."""
        return read_stacked(*self.files(row))

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, 3) and its class indices (H, W), uint8."""
        stacked = self.stacked(row)
        return cv2.cvtColor(stacked, cv2.COLOR_RGBA2RGB), cv2.extractChannel(stacked, CLASS_CHANNEL)


def load_index(data: DataSettings, part: str, progress: bool = True) -> Index:
    """Return the index of ``part`` (as in ``list_of``), from the cache if that is valid, else built and cached.

    UserError: a folder, list, image or mask is missing, a photo is cut off, or a mask holds no class indices, has
    another size or no background.
    """
    listed = read_list(data, part)
    is_binary = data.mask_form == BINARY
    highest = VALUE if is_binary else len(data.classes)  # value in masks, but 255
    table = _measure_list(listed, data, part, highest, progress)
    content = f"{FORMAT} {highest}\n{listed.text}".encode() + table["digests"].tobytes()
    areas = table["areas"]
    if is_binary:
        areas = OneClassAreas(areas, np.array([int(class_id) for _, class_id, _ in listed.rows]), len(data.classes))
    index = Index(
        names=tuple(row[0] for row in listed.rows),
        areas=areas,
        images=listed.images,
        masks=listed.masks,
        fingerprint=hashlib.sha256(content).hexdigest(),
        sizes=table["sizes"],
        digests=table["digests"],
        listed=listed.path,
        joined=is_binary and has_class_maps(data),
    )
    _check_background(index, data, part, progress)
    return index


def _check_background(index: Index, data: DataSettings, part: str, progress: bool) -> None:
    """Refuse (UserError) masks most of which know one class and nothing beside it; note masks that know few pixels.

    Unknown pixels (255) are in no score: a prediction of the whole photo would be right.
    """
    known = index.areas.pixels if isinstance(index.areas, OneClassAreas) else index.areas
    pixels = index.sizes.prod(1)
    shows_class = (known[:, 1:] > 0).any(1)
    known_pixels = known.sum(1)
    is_alone = shows_class & ((known > 0).sum(1) == 1) & (known_pixels < pixels)
    is_bare = shows_class & (known[:, 0] == 0) & (known_pixels < pixels)
    if is_bare.sum() <= MOST * shows_class.sum():
        return
    place = f"{data.name}: {data.masks}, {list_of(data, part)}"
    count = f"in {is_bare.sum()} of {shows_class.sum()} masks nothing is background, {is_alone.sum()} know one class"
    unknown = f"{1 - known_pixels.sum() / pixels.sum():.0%} of the pixels are unknown (255), which no score counts"
    fix = "background has the value 0, and classes count from 1; prepare.py custom --unknown-is-background makes it so"
    if is_alone.sum() > MANY * shows_class.sum():
        raise UserError(f"{place}: {count}; {unknown}, so that a mask of the whole photo would be right; {fix}")
    if progress and known_pixels.sum() < MOST_KNOWN * pixels.sum():
        note_once(f"{place}: nothing is background; {unknown}: a class is tested against other classes alone; {fix}")


def _measure_list(listed: Listed, data: DataSettings, part: str, classes: int, progress: bool) -> dict[str, Any]:
    """Return areas, sizes, digests and states of the files of all images, from the cache if these are as it says.

    ``classes`` is the highest value in masks. Raises as ``_read_files`` does.
    """
    asked = hashlib.sha256(f"{FORMAT} whole {classes} {Path(data.root).resolve()}\n{listed.text}".encode()).hexdigest()
    cache = Path(data.cache) / f"{data.name}-{part}-{asked[:16]}.npz"
    pairs = list(zip(listed.images, listed.masks, strict=True))
    with as_user_error(UserError, before=f"{listed.path}: "):
        states = np.array([list(map(state_of, pair)) for pair in pairs], np.int64)  # before anything is read
    table = _read_cache(cache, asked, states)
    if table is not None:
        return table
    read = partial(_read_files, classes=classes)
    areas, sizes, digests = zip(*parallel_map(read, pairs, f"index {data.name} {part}", progress=progress))
    table = {"areas": np.stack(areas), "sizes": np.stack(sizes), "digests": np.stack(digests), "states": states}
    save = partial(np.savez_compressed, **table, asked=np.array(asked))
    with contextlib.suppress(UserError):  # if the folder cannot be written, the next run reads all again
        write_atomically(cache, save)
    return table


def _read_files(pair: tuple[Path, Path], classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``count_classes`` of a photo's mask, its height and width, and the digests of both files, (2, 16) uint8.

    UserError: the photo is damaged or of another size, or as ``count_classes``.
    """
    photo, mask = pair
    indices = read_mask_of(photo, mask)
    areas = count_classes(indices, mask, classes)
    check_photo(photo)
    content_digests = np.frombuffer(content_digest(photo) + content_digest(mask), np.uint8)
    return areas, np.array(indices.shape, np.int64), content_digests.reshape(FILES, DIGEST_BYTES)


def count_classes(mask: np.ndarray, mask_path: Path, classes: int) -> np.ndarray:
    """Return (classes + 1,) int64 pixels of each class in a mask (H, W) uint8; UserError for an id above, but 255."""
    counts = np.bincount(mask.ravel(), minlength=256)
    if others := np.flatnonzero(counts[classes + 1 : IGNORE]).tolist():
        raise UserError(
            f"{mask_path}: holds the value {classes + 1 + others[0]}; class ids are 0 to {classes}, and 255 is unknown "
            "(was a palette mask saved as grey, or are objects numbered?)"
        )
    return counts[: classes + 1].astype(np.int64)


def _read_cache(path: Path, asked: str, states: np.ndarray) -> dict[str, Any] | None:
    """Return the arrays of a cache of this list, whose files have these states; None if there is none, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            table = {key: stored[key] for key in ("areas", "sizes", "digests", "states")}
            return table if str(stored["asked"]) == asked and np.array_equal(table["states"], states) else None
    except Exception:  # a damaged file can raise any exception
        return None
