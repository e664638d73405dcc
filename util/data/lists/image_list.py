"""Lists: the images that a fold trains or tests on, the classes in each, and the support candidates of each class."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from util.config.folds import LISTS, Fold
from util.config.settings import DataSettings
from util.data.lists.index import Index
from util.data.lists.list_files import Row, is_published, read_fold_list
from util.files.errors import UserError


@dataclass(frozen=True)
class ImageList:
    """The training or test part of a fold; images are rows of the index of the data set."""

    index: Index
    classes: tuple[int, ...]  # classes of the episodes (base classes in training, novel classes in testing)
    queries: np.ndarray  # rows of the images of the list, in the order of the list file
    candidates: dict[int, np.ndarray]  # class -> rows of the images in which it is present
    source: str = ""  # path of the list file; empty for a list made from the masks
    listed_pairs: tuple[tuple[int, int], ...] = ()  # (row, class) pairs of the list file, if it holds pairs
    rare: tuple[int, ...] = ()  # classes that were omitted for too few images (``data.rare_classes: skip``)
    note: str = ""  # in words, why the published list of a method or protocol was not used, or what was left out of it

    def __post_init__(self) -> None:
        if not len(self.queries):
            raise UserError(
                f"{self.source or self.index.listed}: the list of the fold is empty: no image shows enough of its "
                "classes, or no class has enough images",
                fix="lower data.min_pixels or data.shot, or check data.fold and the masks",
            )

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (row, class) pairs of the list: the pairs of its file, else every class present in each image."""
        if self.listed_pairs:
            return self.listed_pairs
        present = {c: set(rows.tolist()) for c, rows in self.candidates.items()}
        return tuple((row, c) for row in self.queries.tolist() for c in self.classes if row in present[c])

    def classes_in(self, row: int) -> list[int]:
        """Return the classes of the list that have at least one pixel in an image."""
        return [c for c in self.classes if self.index.areas[row, c] > 0]

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the list: its images, in order, and its candidates."""
        names = self.index.names
        lines = [" ".join(names[row] for row in self.queries)]
        for class_id, rows in sorted(self.candidates.items()):
            lines.append(f"{class_id}: " + " ".join(names[row] for row in rows))
        lines += [f"{names[row]} {class_id}" for row, class_id in self.listed_pairs]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def files_digest(self) -> str:
        """Hexadecimal SHA-256 of the names and contents of the list's photos and masks, wherever they lie."""
        text = "".join(f"{self.index.names[row]} {self.index.content(row)}\n" for row in self.queries)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def photos(self) -> frozenset[str]:
        """The digests of the contents of its photos."""
        return frozenset(self.index.photo_digest(row) for row in self.queries)


def train_list(index: Index, fold: Fold, data: DataSettings, list_file: str | None = None) -> ImageList:
    """Return the images to train on: a base class is present, and with ``exclude_novel`` no novel pixel.

    Args:
        index: the class areas of the data set's training part.
        fold: says which classes are base classes.
        data: with ``rare_classes: skip`` classes that have too few images for a query and K supports are left out.
        list_file: that is the list instead; a published one is taken if it fits the data.

    Raises:
        UserError: the list is empty, or a file that is not a published list does not fit the data.
    """
    return _make_list(index, data, list_file, classes=fold.base, exclude=left_out(fold, data))


def left_out(fold: Fold, data: DataSettings) -> tuple[int, ...]:
    """Return the classes of which no image of a training list that is made from the masks shows a pixel."""
    return fold.novel if data.exclude_novel and data.fold_rule != LISTS else ()


def test_list(index: Index, fold: Fold, data: DataSettings, list_file: str | None = None) -> ImageList:
    """Return the images to test on: a novel class is present; else as ``train_list``."""
    return _make_list(index, data, list_file, classes=fold.novel)


def base_validation_list(index: Index, classes: tuple[int, ...], data: DataSettings, shot: int = 0) -> ImageList | None:
    """Return the images of the classes that have more than ``shot`` images; None: no class has."""
    counts = (index.areas[:, classes] >= data.min_pixels).sum(0)
    enough = tuple(c for c, count in zip(classes, counts) if count > shot)
    return _by_pixels(index, data, enough) if enough else None


def whole_list(index: Index, fold: Fold) -> ImageList:
    """Return all images of a data set's list with the fold's base classes, for a base stage with ``images: all``.

    Images without any base class and images that show novel classes stay; what is no base class is background.
    """
    return ImageList(
        index, fold.base, np.arange(len(index)), candidates={c: np.flatnonzero(index.areas[:, c]) for c in fold.base}
    )


def _make_list(
    index: Index,
    data: DataSettings,
    list_file: str | None,
    *,
    classes: tuple[int, ...],
    exclude: tuple[int, ...] = (),
) -> ImageList:
    """Return the list of a file; by pixels without one, or with a note where a published one does not fit the data.

    ``exclude``: classes of which no image shows a pixel, where no file is the list.
    """
    if data.fold_rule == LISTS:  # lists part the classes
        classes = tuple(c for c in classes if (index.areas[:, c] > 0).any())
    if list_file is None:
        images = _by_pixels(index, data, classes, exclude)
    else:
        try:
            images = _list_of_file(index, classes, *read_fold_list(list_file, data))
        except UserError as error:
            if not is_published(list_file):
                raise
            images = replace(
                _by_pixels(index, data, classes, exclude),
                note=f"the published list is not used: {error}; "
                f"images and pairs are chosen by data.min_pixels = {data.min_pixels}",
            )
    return images if data.rare_classes == "refuse" else _without_rare_classes(images, data.shot)


def _without_rare_classes(images: ImageList, shots: int) -> ImageList:
    """Return a list without the classes that have too few images for a query and so many supports."""
    kept = tuple(c for c in images.classes if len(images.candidates[c]) > shots)
    shows_kept = np.asarray((images.index.areas[:, kept] > 0).any(1))
    return replace(
        images,
        classes=kept,
        queries=images.queries[shows_kept[images.queries]],
        candidates={c: images.candidates[c] for c in kept},
        listed_pairs=tuple((row, c) for row, c in images.listed_pairs if c in kept),
        rare=tuple(c for c in images.classes if c not in kept),
    )


def _by_pixels(index: Index, data: DataSettings, classes: tuple[int, ...], exclude: tuple[int, ...] = ()) -> ImageList:
    """Return the images in which one of ``classes`` covers ``data.min_pixels`` and ``exclude`` covers no pixel."""
    present = (index.areas[:, classes] >= data.min_pixels) & ~index.showing(exclude)[:, None]  # (images, classes)
    candidates = {c: np.flatnonzero(present[:, i]) for i, c in enumerate(classes)}
    return ImageList(index, classes, np.flatnonzero(present.any(1)), candidates)


def _list_of_file(index: Index, classes: tuple[int, ...], path: str, listed: list[Row]) -> ImageList:
    """Return the list of a file's (image, class) pairs; a note says of a published one how many masks show none of it.

    UserError: an image is not in the index, or a class is not one of the episodes' classes.
    """
    if unknown := [class_id for _, class_id in listed if class_id not in classes]:
        raise UserError(
            f"{path}: lists class {unknown[0]}, which is not of this fold: {classes}",
            fix="name the list of this fold, or set data.fold",
        )
    shown = []
    rows_by_class: dict[int, list[int]] = {c: [] for c in classes}
    for row, (_, class_id) in zip(_listed_rows(index, path, listed), listed, strict=True):
        if index.areas[row, class_id]:
            shown.append((row, class_id))
            rows_by_class[class_id].append(row)
    note = ""
    if hidden := len(listed) - len(shown):
        if not is_published(path):
            raise UserError(f"{path}: {hidden} masks show no pixel of the class that it names; remove their lines")
        note = f"{path}: left out {hidden} of {len(listed)} pairs, whose masks show no pixel of the class"
    queries = np.array(list(dict.fromkeys(row for row, _ in shown)))
    candidates = {c: np.array(rows, np.int64) for c, rows in rows_by_class.items()}
    return ImageList(index, classes, queries, candidates, path, listed_pairs=tuple(shown), note=note)


def _listed_rows(index: Index, path: str, listed: list[Row]) -> list[int]:
    """Return the rows of a file's images in the index; UserError if one is not there, or names are ambiguous."""
    rows = {PurePosixPath(name).name: row for row, name in enumerate(index.names)}
    if len(rows) < len(index.names):
        raise UserError(
            f"{path}: names no folders, but the data set has images with equal names in two folders; rename them"
        )
    stems = dict.fromkeys(stem for stem, _ in listed)
    if missing := [stem for stem in stems if stem not in rows]:
        raise UserError(
            f"{path}: {len(missing)} of its {len(stems)} images are not in the data set, such as {missing[0]}",
            fix="add these photos, or name a list of this data set",
        )
    return [rows[stem] for stem, _ in listed]


def rare_classes(images: ImageList, supports: int) -> dict[int, int]:
    """Return the classes in a list that have too few candidates for a query and its supports, and how many."""
    few = {c: len(rows) for c, rows in images.candidates.items() if len(rows) <= supports}
    return {c: count for c, count in few.items() if (images.index.areas[images.queries, c] > 0).any()}


def check_shots(images: ImageList, data: DataSettings, with_replacement: bool = False) -> None:
    """Refuse (UserError) a list with too few candidates of a class: a query and K supports (1 ``with_replacement``)."""
    supports = 1 if with_replacement else data.shot
    if rare := rare_classes(images, supports):
        names = ", ".join(f"{data.classes[c - 1]} ({count})" for c, count in rare.items())
        raise UserError(
            f"{images.source or images.index.listed}: fold {data.fold} has too few images of {names}; "
            f"{data.shot}-shot needs {supports + 1}",
            fix="lower data.shot or data.min_pixels, add images, or set data.rare_classes: skip",
        )
