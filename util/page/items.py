"""The items that a visit keeps: supports, the photo that is being marked, photos to segment."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from util.errors import UserError
from util.page.found import FoundPhoto
from util.page.marks import Mark, support_label
from util.page.rendering import PREVIEW, Scene, jpeg, reduced
from util.predict.photos import read_photo
from util.predict.results import NOT_IN_FILE_NAMES
from util.predict.supports import Support, check_class_name

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
