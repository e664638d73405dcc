"""Lists: the images that a fold trains or tests on, the classes in each, and the support candidates of each class."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from util.config.folds import LISTS, Fold
from util.config.settings import DataSettings
from util.data.lists.files import ListFile, match, read_fold_list
from util.data.lists.index import Index
from util.errors import UserError


@dataclass(frozen=True)
class ImageList:
    """A view of an index: the images and classes of the training or test part of a fold.

    Attributes:
        index: index of the data set; images are rows of it.
        classes: classes of the episodes (base classes in training, novel classes in testing).
        queries: rows of the images of the list, in the order of the list file.
        candidates: class -> rows of the images in which it is present.
        source: path of the list file; empty for a list made from the masks.
        listed_pairs: (row, class) pairs of the list file, if it holds pairs.
        left_out: classes that were omitted for too few images (``data.rare_classes: skip``).
        note: in words, why the published list of a method or protocol was not used, or what was left out of it.
    """

    index: Index
    classes: tuple[int, ...]
    queries: np.ndarray
    candidates: dict[int, np.ndarray]
    source: str = ""
    listed_pairs: tuple[tuple[int, int], ...] = ()
    left_out: tuple[int, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not len(self.queries):
            raise UserError(
                f"{self.source or self.index.listed}: a list is empty: no image shows enough of the fold's "
                "classes, or no class has enough images; check data.fold, data.min_pixels, data.shot and the masks"
            )

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (row, class) pairs of the list: the pairs of its file, else every class present in each image."""
        if self.listed_pairs:
            return self.listed_pairs
        present = {c: set(rows.tolist()) for c, rows in self.candidates.items()}
        return tuple((int(row), c) for row in self.queries for c in self.classes if int(row) in present[c])

    def classes_in(self, row: int) -> list[int]:
        """Return the classes of the list that have at least one pixel in an image."""
        return [c for c in self.classes if self.index.areas[row, c] > 0]

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the list: its images, in order, and its candidates."""
        text = [" ".join(self.index.names[r] for r in self.queries)]
        text += [f"{c}: " + " ".join(self.index.names[r] for r in rows) for c, rows in sorted(self.candidates.items())]
        text += [f"{self.index.names[r]} {c}" for r, c in self.listed_pairs]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()

    @cached_property
    def files_digest(self) -> str:
        """Hexadecimal SHA-256 of the names and sizes in bytes of the list's photos and masks, wherever they lie."""
        out = hashlib.sha256()
        for row in self.queries:
            sizes = [path.stat().st_size for path in (self.index.images[row], self.index.masks[row])]
            out.update(f"{self.index.names[row]} {sizes}\n".encode())
        return out.hexdigest()


def train_list(index: Index, fold: Fold, data: DataSettings, published: str | None = None) -> ImageList:
    """Return the images to train on: a base class is present, and with ``exclude_novel`` no novel pixel.

    ``published`` is the list file of a method, which is taken instead if it fits the data.

    Raises:
        UserError: the list is empty, or the file ``data.train_fold_list``, which comes first, does not fit the data.
    """
    exclude = fold.novel if data.exclude_novel and fold.rule != LISTS else ()
    return _without_rare(_of_fold(index, fold, data, fold.base, data.train_fold_list, published, exclude), data)


def test_list(index: Index, fold: Fold, data: DataSettings, published: str | None = None) -> ImageList:
    """Return the images to test on: a novel class is present.

    ``published`` is the list file of a protocol, which is taken instead if it fits the data.

    Raises:
        UserError: as ``train_list``, of ``data.test_fold_list``.
    """
    return _without_rare(_of_fold(index, fold, data, fold.novel, data.test_fold_list, published), data)


def base_validation_list(index: Index, classes: tuple[int, ...], data: DataSettings, shot: int = 0) -> ImageList | None:
    """Return the images that show one of some classes, without those of at most ``shot`` images; None: all are."""
    enough = tuple(c for c in classes if (index.areas[:, c] >= data.min_pixels).sum() > shot)
    return _by_pixels(index, data, enough) if enough else None


def whole_list(index: Index, fold: Fold) -> ImageList:
    """Return all images of a data set's list with the fold's base classes, for a base stage with ``images: all``.

    Images without any base class and images that show novel classes stay; what is no base class is background.
    """
    candidates = {c: np.flatnonzero(index.areas[:, c]) for c in fold.base}
    return ImageList(index, fold.base, np.arange(len(index)), candidates)


def _of_fold(
    index: Index,
    fold: Fold,
    data: DataSettings,
    classes: tuple[int, ...],
    own: str | None,
    published: str | None,
    exclude: tuple[int, ...] = (),
) -> ImageList:
    """Return the list of the user's ``own`` file, else of the ``published`` one if it fits, else by pixels."""
    if fold.rule == LISTS:
        classes = tuple(c for c in classes if (index.areas[:, c] > 0).any())
    if own is not None:
        return _of_file(index, data, classes, read_fold_list(own, fold))
    if published is None:
        return _by_pixels(index, data, classes, exclude)
    listed = read_fold_list(published, fold)
    try:
        return _of_file(index, data, classes, listed, drop_hidden=True)
    except UserError as error:
        note = f"the published list is not used: {error}; images and pairs by data.min_pixels = {data.min_pixels}"
        return replace(_by_pixels(index, data, classes, exclude), note=note)


def _by_pixels(index: Index, data: DataSettings, classes: tuple[int, ...], exclude: tuple[int, ...] = ()) -> ImageList:
    """Return the images in which one of ``classes`` covers ``data.min_pixels`` and ``exclude`` covers no pixel."""
    present = index.areas[:, classes] >= data.min_pixels  # (images, classes)
    allowed = ~index.showing(exclude)
    queries = np.flatnonzero(present.any(1) & allowed)
    candidates = {c: np.flatnonzero(present[:, i] & allowed) for i, c in enumerate(classes)}
    return ImageList(index, classes, queries, candidates)


def _of_file(
    index: Index, data: DataSettings, classes: tuple[int, ...], listed: ListFile, drop_hidden: bool = False
) -> ImageList:
    """Return the list of a file; its pairs are the candidates, without pairs ``data.min_pixels`` decides.

    ``drop_hidden`` leaves out pairs whose mask, made in another way, shows no pixel of the class.
    """
    rows, source, note = match(listed, index, classes), listed.path.as_posix(), ""
    of_row = [classes] * len(rows) if listed.classes is None else [(c,) for c in listed.classes]
    shown = np.array([index.areas[row, its].any() for row, its in zip(rows, of_row, strict=True)])
    if not shown.all() and (listed.classes is None or not drop_hidden):
        first = int(shown.argmin())
        raise UserError(f"{source}: the mask of {listed.stems[first]} shows no pixel of class {of_row[first]}")
    if listed.classes is None:
        queries = np.array(list(dict.fromkeys(rows)))
        candidates = {c: queries[index.areas[queries, c] >= data.min_pixels] for c in classes}
        return ImageList(index, classes, queries, candidates, source)
    if not shown.all():
        note = f"{source}: left out {(~shown).sum()} of {len(rows)} pairs, whose masks show no pixel of the class"
    pairs = tuple((row, c) for row, c, there in zip(rows, listed.classes, shown, strict=True) if there)
    queries = np.array(list(dict.fromkeys(row for row, _ in pairs)))
    candidates = {c: np.array([row for row, its in pairs if its == c], np.int64) for c in classes}
    return ImageList(index, classes, queries, candidates, source, pairs, note=note)


def _without_rare(images: ImageList, data: DataSettings) -> ImageList:
    """Return a list without classes that have too few images for a query and K supports (``rare_classes: skip``)."""
    kept = tuple(c for c in images.classes if len(images.candidates[c]) > data.shot)
    if data.rare_classes == "refuse" or kept == images.classes:
        return images
    areas = images.index.areas
    queries = np.array([row for row in images.queries if (areas[int(row), kept] > 0).any()], np.int64)
    return replace(
        images,
        classes=kept,
        queries=queries,
        candidates={c: images.candidates[c] for c in kept},
        listed_pairs=tuple(p for p in images.listed_pairs if p[1] in kept),
        left_out=tuple(c for c in images.classes if c not in kept),
    )


def rare_classes(images: ImageList, supports: int) -> dict[int, int]:
    """Return the classes in a list that have too few candidates for a query and its supports, and how many."""
    areas, rare = images.index.areas, {c: len(rows) for c, rows in images.candidates.items() if len(rows) <= supports}
    return {c: have for c, have in rare.items() if (areas[images.queries, c] > 0).any()}


def check_shots(images: ImageList, data: DataSettings, with_replacement: bool = False) -> None:
    """Refuse (UserError) a list with too few candidates of a class: a query and K supports (1 ``with_replacement``)."""
    supports = 1 if with_replacement else data.shot
    if rare := rare_classes(images, supports):
        named = ", ".join(f"{data.classes[c - 1]} ({have})" for c, have in rare.items())
        raise UserError(
            f"{images.source or images.index.listed}: fold {data.fold} has too few images of {named}; {data.shot}-shot "
            f"needs {supports + 1}: lower data.shot or data.min_pixels, add images, or set data.rare_classes: skip"
        )
