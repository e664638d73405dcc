"""Lists: the images that a fold trains or tests on, the classes in each, and the support candidates of each class."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from util.config.folds import LISTS, Fold
from util.config.settings import DataSettings, ProtocolSettings
from util.data.lists.files import ListFile, missing_fold_list, read_fold_list
from util.data.lists.index import Index
from util.errors import UserError


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
            problem = "a list is empty: no image shows enough of the fold's classes, or no class has enough images"
            fix = "check data.fold, data.min_pixels, data.shot and the masks"
            raise UserError(f"{self.source or self.index.listed}: {problem}; {fix}")

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The (row, class) pairs of the list: the pairs of its file, else every class present in each image."""
        present = {c: set(rows.tolist()) for c, rows in self.candidates.items()}
        made = ((row, c) for row in self.queries.tolist() for c in self.classes if row in present[c])
        return self.listed_pairs or tuple(made)

    def classes_in(self, row: int) -> list[int]:
        """Return the classes of the list that have at least one pixel in an image."""
        return [c for c in self.classes if self.index.areas[row, c] > 0]

    def alone(self, rows: list[int]) -> list[int]:
        """Return the images of some that show one class of the list; one pixel of a second is enough to refuse them."""
        return [row for row in rows if len(self.classes_in(row)) == 1]

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the list: its images, in order, and its candidates."""
        names = self.index.names
        text = [" ".join(names[r] for r in self.queries)]
        text += [f"{c}: " + " ".join(names[r] for r in rows) for c, rows in sorted(self.candidates.items())]
        text += [f"{names[r]} {c}" for r, c in self.listed_pairs]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()

    @cached_property
    def files_digest(self) -> str:
        """Hexadecimal SHA-256 of the names and contents of the list's photos and masks, wherever they lie."""
        text = "".join(f"{self.index.names[row]} {self.index.content(row)}\n" for row in self.queries)
        return hashlib.sha256(text.encode()).hexdigest()


def train_list(index: Index, fold: Fold, data: DataSettings, published: str | None = None) -> ImageList:
    """Return the images to train on: a base class is present, and with ``exclude_novel`` no novel pixel.

    ``published`` is the list file of a method or protocol, which is taken instead if it fits the data. UserError: the
    list is empty, or the file ``data.train_fold_list``, which comes first, does not fit the data.
    """
    return _of_fold(index, fold, data, published, True)


def test_list(index: Index, fold: Fold, data: DataSettings, published: str | None = None) -> ImageList:
    """Return the images to test on: a novel class is present; else as ``train_list``, of ``data.test_fold_list``."""
    return _of_fold(index, fold, data, published, False)


def base_validation_list(index: Index, classes: tuple[int, ...], data: DataSettings, shot: int = 0) -> ImageList | None:
    """Return the images that show one of some classes, without those of at most ``shot`` images; None: all are."""
    enough = tuple(c for c in classes if (index.areas[:, c] >= data.min_pixels).sum() > shot)
    return _by_pixels(index, data, enough) if enough else None


def whole_list(index: Index, fold: Fold) -> ImageList:
    """Return all images of a data set's list with the fold's base classes, for a base stage with ``images: all``.

    Images without any base class and images that show novel classes stay; what is no base class is background.
    """
    return ImageList(index, fold.base, np.arange(len(index)), {c: np.flatnonzero(index.areas[:, c]) for c in fold.base})


def whole_test_list(index: Index, fold: Fold, data: DataSettings, protocol: ProtocolSettings) -> ImageList:
    """Return all images with a pixel of any class; the candidates of a novel class have ``support_pixels`` of it.

    UserError if no candidate of a novel class shows it alone among the novel ones.
    """
    areas, least = index.areas, protocol.support_pixels or data.min_pixels
    candidates = {c: np.flatnonzero(areas[:, c] >= least) for c in fold.novel}
    images = ImageList(index, fold.novel, np.flatnonzero((areas[:, 1:] > 0).any(1)), candidates)
    if bare := [data.classes[c - 1] for c, rows in candidates.items() if not images.alone(rows.tolist())]:
        problem = f"no image shows at least {least} pixels of it and no other novel class"
        fix = "lower support_pixels of the protocol, or add images"
        raise UserError(f"{index.listed}: no support for {', '.join(bare)}: {problem}; {fix}")
    return images


def _of_fold(index: Index, fold: Fold, data: DataSettings, published: str | None, train: bool) -> ImageList:
    """Return the list of the user's file, else of the published one if it fits; without either by pixels.

    With ``rare_classes: skip`` classes that have too few images for a query and K supports are left out.
    """
    own, classes = (data.train_fold_list, fold.base) if train else (data.test_fold_list, fold.novel)
    exclude = fold.novel if train and data.exclude_novel and fold.rule != LISTS else ()
    if fold.rule == LISTS:
        classes = tuple(c for c in classes if (index.areas[:, c] > 0).any())
    if own is not None:
        images = _of_file(index, data, classes, read_fold_list(own, fold), drop_hidden=False)
    elif published is not None:
        images = _of_published(index, fold, data, classes, exclude, published)
    else:
        images = _by_pixels(index, data, classes, exclude)
    kept = tuple(c for c in images.classes if len(images.candidates[c]) > data.shot)
    if data.rare_classes == "refuse" or kept == images.classes:
        return images
    return replace(
        images,
        classes=kept,
        queries=images.queries[np.asarray((index.areas[:, kept] > 0).any(1))[images.queries]],
        candidates={c: images.candidates[c] for c in kept},
        listed_pairs=tuple(p for p in images.listed_pairs if p[1] in kept),
        rare=tuple(c for c in images.classes if c not in kept),
    )


def _of_published(
    index: Index, fold: Fold, data: DataSettings, classes: tuple[int, ...], exclude: tuple[int, ...], published: str
) -> ImageList:
    """Return the published list if it is there and fits the data, else the list by pixels with a note of the reason."""
    if missing := missing_fold_list(published, fold):
        reason = f"{missing}: this list does not exist"
    else:
        listed = read_fold_list(published, fold)
        try:
            return _of_file(index, data, classes, listed, drop_hidden=True)
        except UserError as error:
            reason = str(error)
    note = f"the published list is not used: {reason}; images and pairs by data.min_pixels = {data.min_pixels}"
    return replace(_by_pixels(index, data, classes, exclude), note=note)


def _by_pixels(index: Index, data: DataSettings, classes: tuple[int, ...], exclude: tuple[int, ...] = ()) -> ImageList:
    """Return the images in which one of ``classes`` covers ``data.min_pixels`` and ``exclude`` covers no pixel."""
    present = (index.areas[:, classes] >= data.min_pixels) & ~index.showing(exclude)[:, None]  # (images, classes)
    candidates = {c: np.flatnonzero(present[:, i]) for i, c in enumerate(classes)}
    return ImageList(index, classes, np.flatnonzero(present.any(1)), candidates)


def _of_file(
    index: Index, data: DataSettings, classes: tuple[int, ...], listed: ListFile, drop_hidden: bool
) -> ImageList:
    """Return the list of a file; its pairs are the candidates, without pairs ``data.min_pixels`` decides.

    ``drop_hidden`` omits pairs whose mask, made in another way, shows no pixel of the class. UserError: an image is not
    in the index, or a class is not one of ``classes``.
    """
    where, stems = {PurePosixPath(name).name: row for row, name in enumerate(index.names)}, dict.fromkeys(listed.stems)
    if len(where) < len(index.names):
        raise UserError(f"{listed.path}: ambiguous, the data set has images of one name in two folders; rename them")
    if missing := [stem for stem in stems if stem not in where]:
        lost = f"{len(missing)} of its {len(stems)} images are not in the data set, such as {missing[0]}"
        raise UserError(f"{listed.path}: {lost}")
    if odd := [c for c in listed.classes or () if c not in classes]:
        raise UserError(f"{listed.path}: lists class {odd[0]}, which is not of this fold: {classes}")
    rows, source, note = [where[stem] for stem in listed.stems], listed.path.as_posix(), ""
    of_row = [classes] * len(rows) if listed.classes is None else [(c,) for c in listed.classes]
    hidden = [place for place, row in enumerate(rows) if not index.areas[row, of_row[place]].any()]
    if hidden and (listed.classes is None or not drop_hidden):
        first = hidden[0]
        raise UserError(f"{source}: the mask of {listed.stems[first]} shows no pixel of class {of_row[first]}")
    if listed.classes is None:
        queries = np.array(list(dict.fromkeys(rows)))
        candidates = {c: queries[index.areas[queries, c] >= data.min_pixels] for c in classes}
        return ImageList(index, classes, queries, candidates, source)
    if hidden:
        note = f"{source}: left out {len(hidden)} of {len(rows)} pairs, whose masks show no pixel of the class"
    pairs = tuple((row, c) for row, c in zip(rows, listed.classes) if index.areas[row, c])
    queries = np.array(list(dict.fromkeys(row for row, _ in pairs)))
    candidates = {c: np.array([row for row, its in pairs if its == c], np.int64) for c in classes}
    return ImageList(index, classes, queries, candidates, source, pairs, note=note)


def rare_classes(images: ImageList, supports: int) -> dict[int, int]:
    """Return the classes in a list that have too few candidates for a query and its supports, and how many."""
    shown, counts = images.index.areas, {c: len(rows) for c, rows in images.candidates.items()}
    return {c: n for c, n in counts.items() if n <= supports and (shown[images.queries, c] > 0).any()}


def check_shots(images: ImageList, data: DataSettings, with_replacement: bool = False) -> None:
    """Refuse (UserError) a list with too few candidates of a class: a query and K supports (1 ``with_replacement``)."""
    supports = 1 if with_replacement else data.shot
    if named := [f"{data.classes[c - 1]} ({have})" for c, have in rare_classes(images, supports).items()]:
        problem = f"{images.source or images.index.listed}: fold {data.fold} has too few images of {', '.join(named)}"
        fix = "lower data.shot or data.min_pixels, add images, or set data.rare_classes: skip"
        raise UserError(f"{problem}; {data.shot}-shot needs {supports + 1}: {fix}")
