"""A visit holds all that the user of the page has marked and found: classes, supports, photos to segment, predictions.

Photos lie in a folder, which is removed when the visit is cleared, and when the page ends.
"""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError
from util.page.found import MAX_CLASSES, PREVIEW, FoundPhoto, Scene, jpeg, reduced, threshold_of, thumbnail
from util.page.marks import Mark, checked_corrections, read_marks, support_label, without_class
from util.predict.photos import read_photo
from util.predict.prediction import EVEN
from util.predict.results import NOT_IN_FILE_NAMES
from util.predict.supports import UNNAMED, Support, check_class_name, support_from_arrays

SUPPORT_SIDE = 2048  # pixels of the longer side of a support; more are reduced, the network's input is smaller still
MAX_STEM = 60  # characters of a photo's name
NOT_IN_STEMS = re.compile(r"[^\w.-]+")


class KeptSupport(NamedTuple):
    """A marked photo of a class."""

    name: str
    support: Support


@dataclass
class OpenPhoto:
    """The photo that the visitor is marking, and the marks on it."""

    key: int
    name: str
    image: np.ndarray
    marks: list[Mark]

    @classmethod
    def read(cls, path: Path, key: int) -> OpenPhoto:
        """Return the photo of a file, reduced where it is large.

        Raises:
            UserError: it cannot be read.
        """
        image = read_photo(path)
        sides = image.shape[1::-1]
        if (factor := SUPPORT_SIDE / max(sides)) < 1:
            image = cv2.resize(image, [max(round(side * factor), 1) for side in sides], interpolation=cv2.INTER_AREA)
        return cls(key, path.name, image, [])

    def labels(self, classes: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the label of each class that is marked, (H, W) uint8 in {0, 1, 255}.

        Raises:
            UserError: a mark is outside the photo.
        """
        shape = (self.image.shape[0], self.image.shape[1])
        labels = {name: support_label(self.marks, value, shape) for value, name in enumerate(classes, 1)}
        return {name: label for name, label in labels.items() if (label == 1).any()}

    @functools.cached_property
    def scene(self) -> Scene:
        """The photo for the browser."""
        height, width = self.image.shape[:2]
        return Scene(self.key, (height, width), jpeg(reduced(self.image, -(-max(height, width) // PREVIEW))))


@dataclass
class Query:
    """A photo to segment: its file, a small picture of it, and what was found on it."""

    path: Path
    thumbnail: np.ndarray
    found: FoundPhoto | None = None


def checked_name(name: str | None, others: Sequence[str]) -> str:
    """Return a class name whose files differ from those of other classes.

    Raises:
        UserError: the name cannot be used.
    """
    name = check_class_name(name or "", "the class name")
    in_files = {NOT_IN_FILE_NAMES.sub("_", other).casefold(): other for other in others}
    if (same := in_files.get(NOT_IN_FILE_NAMES.sub("_", name).casefold())) is not None:
        raise UserError(f"the class name {name!r}: '{same}' has the same letters and digits; give another")
    return name


def free_stem(stem: str, taken: set[str]) -> str:
    """Return a stem for a file name that is not ``taken``, ignoring case, made of letters, digits, - . and _."""
    stem = NOT_IN_STEMS.sub("_", stem).strip(".")[:MAX_STEM] or "photo"
    candidates = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate.casefold() not in taken)


class Visit:
    """The uploads and results of one visitor.

    Attributes:
        classes: names, in the order of their values in masks.
        open: the photo that is being marked.
        queries: the photos to segment; ``shown`` is the index of the one that is shown.
        keys: numbers that identify the photos that are marked.
        level: of the slider of the threshold.
        facts: the entries of the JSON files of the predictions that are the same for all.
    """

    def __init__(self, root: Path):
        """``root``: the folder of the page, in which folders of visits are made."""
        self.root, self.lock = root, threading.RLock()
        self._folder: tempfile.TemporaryDirectory | None = None
        self.keys = itertools.count(1)
        self.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Visit:
        """Return a new visit: the page copies its first visit for each visitor."""
        return Visit(self.root)

    def clear(self) -> None:
        """Forget everything and remove the folder."""
        self.classes, self.supports = [UNNAMED], list[KeptSupport]()
        self.open: OpenPhoto | None = None
        self.queries, self.facts = list[Query](), dict[str, Any]()
        self.chosen_class, self.shown, self.level = 1, 0, 0.0
        self.chosen_support: int | None = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def folder(self) -> Path:
        """The folder of this visit, which is made when it is needed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="visit-", dir=self.root, ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def add_class(self, name: str) -> None:
        """Add a class.

        Raises:
            UserError: the name cannot be used, or there are too many classes.
        """
        if len(self.classes) >= MAX_CLASSES:
            raise UserError(f"a page has at most {MAX_CLASSES} classes; remove one")
        self.classes.append(checked_name(name, self.classes))
        self.chosen_class = len(self.classes)

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class, and its supports.

        Raises:
            UserError: the name cannot be used, or there is no such class.
        """
        old = self._class_of(value)
        new = checked_name(name, [known for known in self.classes if known != old])
        self.classes[value - 1], self.chosen_class = new, value
        self.supports = [kept._replace(name=new) if kept.name == old else kept for kept in self.supports]
        for photo in self.found:
            photo.rename(old, new)

    def remove_class(self, value: int) -> None:
        """Remove a class with its supports and its marks on the open photo.

        Raises:
            UserError: there is no such class, or no other.
        """
        name = self._class_of(value)
        if len(self.classes) == 1:
            raise UserError("this is the only class; rename it, or add another first")
        self.classes.remove(name)
        self.chosen_class = 1
        self.supports = [kept for kept in self.supports if kept.name != name]
        if self.open is not None:
            self.open.marks = without_class(self.open.marks, value)

    def _class_of(self, value: int | None) -> str:
        if value is None or not 1 <= value <= len(self.classes):
            raise UserError("no class is chosen; choose one in the list")
        return self.classes[value - 1]

    def open_photo(self, path: Path) -> None:
        """Open a photo to mark objects on it.

        Raises:
            UserError: it cannot be read.
        """
        self.open = OpenPhoto.read(path, next(self.keys))

    def mark(self, text: str | None) -> None:
        """Take over the marks on the open photo; those on another one are late and ignored.

        Raises:
            UserError: they cannot be read.
        """
        key, marks = read_marks(text, len(self.classes))
        if self.open is not None and key == self.open.key:
            self.open.marks = marks

    def keep_marks(self) -> int:
        """Make the marks on the open photo supports, one for each marked class; return how many.

        Raises:
            UserError: there is no photo, or nothing is marked.
        """
        if self.open is None:
            raise UserError("no photo to mark: upload one, or load the example")
        marked = self.open.labels(self.classes)
        if not marked:
            raise UserError(f"{self.open.name}: nothing is marked; paint over the object, or draw a box or points")
        for name, label in marked.items():
            self.keep(name, self.open.image, label, self.open.name)
        self.open = None
        return len(marked)

    def keep(self, name: str, image: np.ndarray, label: np.ndarray, source: str) -> None:
        """Keep a support.

        Args:
            label: (H, W) in {0, 1, 255}.
        """
        self.supports.append(KeptSupport(name, replace(support_from_arrays(image, label), source=source)))

    def remove_support(self) -> None:
        """Remove the chosen support.

        Raises:
            UserError: none is chosen.
        """
        if self.chosen_support is None or not 0 <= self.chosen_support < len(self.supports):
            raise UserError("no support is chosen; choose one among the supports")
        del self.supports[self.chosen_support]
        self.chosen_support = None

    def add_queries(self, paths: Sequence[Path]) -> None:
        """Copy photos into the visit.

        Raises:
            UserError: one cannot be read; those before it are added.
        """
        for path in paths:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise UserError(f"{path.name}: its name is not a photo's ({', '.join(IMAGE_SUFFIXES)}); rename it")
            picture = thumbnail(read_photo(path))
            taken = {query.path.stem.casefold() for query in self.queries}
            target = self.folder / "photos" / (free_stem(path.stem, taken) + path.suffix.lower())
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            self.queries.append(Query(target, picture))

    def remove_query(self) -> None:
        """Remove the photo that is shown, and its prediction.

        Raises:
            UserError: there is none.
        """
        if not 0 <= self.shown < len(self.queries):
            raise UserError("no photo is chosen; choose one among the photos to segment")
        self.queries.pop(self.shown).path.unlink(missing_ok=True)
        self.shown = max(min(self.shown, len(self.queries) - 1), 0)

    @property
    def found(self) -> list[FoundPhoto]:
        """The photos that were segmented."""
        return [query.found for query in self.queries if query.found is not None]

    def shown_photo(self) -> FoundPhoto | None:
        """Return the prediction that is shown."""
        return self.queries[self.shown].found if 0 <= self.shown < len(self.queries) else None

    def correct(self, text: str | None) -> None:
        """Take over the corrections of a photo; those of one that is no longer here are ignored.

        Raises:
            UserError: they cannot be read, or cannot correct a mask.
        """
        key, marks = read_marks(text, MAX_CLASSES)
        for photo in self.found:
            if photo.key == key:
                photo.marks = checked_corrections(marks, len(photo.names))

    @property
    def threshold(self) -> float:
        """The threshold of all predictions, which ``level`` sets in units of their spread."""
        found = self.found
        if not found:
            return EVEN
        return threshold_of(self.level, sum(photo.spread for photo in found) / len(found), found[0].own_threshold)
