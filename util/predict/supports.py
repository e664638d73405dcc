"""Read supports, given as text ``[class=]photo:marks`` or as arrays, into one form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.episode import IGNORE
from util.errors import UserError
from util.formats.annotations import Photo
from util.formats.painting import label_of
from util.predict.photos import read_photo
from util.predict.regions import DRAWN_KINDS, Marking, check_label, read_label

UNNAMED = "object"  # the name of a class without a name
FORM = (
    "write photo.jpg:mask.png, photo.jpg:outlines.json, photo.jpg:box=x0,y0,x1,y1, photo.jpg:points=x,y;x,y or "
    "photo.jpg:scribble=x,y;x,y"
)
MAX_NAME_LENGTH = 80


@dataclass(frozen=True)
class Support:
    """A marked photo.

    Attributes:
        image: the upright photo, (H, W, 3) uint8.
        label: (H, W) uint8 in {0, 1, 255}.
        source: the files or "array", for results and messages.
    """

    image: np.ndarray
    label: np.ndarray
    source: str


@dataclass(frozen=True)
class SupportText:
    """The parts of a support's text: class (None without one), photo, and marks; the object's value in a mask."""

    name: str | None
    photo: Path
    marks: str
    mask_value: int | None = None

    def read(self, name: str | None, marking: Marking) -> Support:
        """Return the marked photo; as ``read_support``."""
        image = read_photo(self.photo)
        chosen = marking if self.mask_value is None else replace(marking, mask_value=self.mask_value)
        label = read_label(self.marks, self.photo, image.shape[:2], name, chosen)
        return Support(image, label, f"{self.photo}:{self.marks}")


@dataclass(frozen=True)
class AnnotatedSupport:
    """A class on a photo of a file of annotations: name, the photo's file, its annotations, category, the file."""

    name: str
    photo: Path
    annotated: Photo
    category: int
    source: Path

    def read(self, name: str | None, marking: Marking) -> Support:
        """Return the marked photo; as ``read_support``."""
        image = read_photo(self.photo)
        label = label_of(self.annotated, self.photo, {self.category: 1}, self.source)
        origin = f"{self.photo}:{self.source}"
        return Support(image, check_label(label, image.shape[:2], origin), origin)


def parse_support(text: str) -> SupportText:
    """Split ``[class=]photo:marks``; the paths of existing photos may contain = and :.

    Raises:
        UserError: the text has another form.
    """
    path, colon, marks = text.rpartition(":")
    for kind in DRAWN_KINDS:  # their numbers contain no colon
        before, found, after = text.rpartition(f":{kind}=")
        if found:
            path, colon, marks = before, ":", f"{kind}={after}"
    if not colon or not path or not marks:
        raise UserError(f"--support {text}: {FORM}")
    name, equals, rest = path.partition("=")
    if not equals or Path(path).exists():
        return SupportText(None, Path(path), marks)
    if not name.strip() or not rest:
        raise UserError(f"--support {text}: names no class before '='; {FORM}")
    return SupportText(check_class_name(name), Path(rest), marks)


def check_class_name(name: str, origin: str = "--name") -> str:
    """Return a class name, stripped, that can be part of a file name and of a line.

    Raises:
        UserError: the name is empty, too long, starts with a dot, or has characters that file names cannot have.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.startswith(".") or {*name} & {*"/\\"}:
        raise UserError(f"{origin} {name!r}: a class name has 1 to {MAX_NAME_LENGTH} characters, none of them / or \\")
    return name


def group_by_class(
    supports: Iterable[str | SupportText | AnnotatedSupport], name: str | None
) -> dict[str | None, list[SupportText | AnnotatedSupport]]:
    """Return the supports of each class, in the order in which classes first appear.

    Args:
        name: the class of supports that name none.

    Raises:
        UserError: a text has another form, or every support names a class and ``name`` is another one.
    """
    groups: dict[str | None, list[SupportText | AnnotatedSupport]] = {}
    default = None if name is None else check_class_name(name)
    for given in supports:
        support = parse_support(given) if isinstance(given, str) else given
        groups.setdefault(support.name or default, []).append(support)
    if default is not None and groups and default not in groups:
        raise UserError(f"--name {default}: every support names its class itself; omit --name")
    return groups


def read_support(support: SupportText | AnnotatedSupport, name: str | None, marking: Marking) -> Support:
    """Read a support's photo and label.

    Raises:
        UserError: a file is unreadable, or photo and marks do not fit each other.
    """
    return support.read(name, marking)


def support_from_arrays(image: np.ndarray, mask: np.ndarray) -> Support:
    """Return a support made of arrays: RGB (H, W, 3) uint8, and (H, W) bool or in {0, 1, 255}.

    Raises:
        UserError: an array has another form, or the mask marks nothing.
    """
    image = check_image(image)
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.isin(mask, (0, 1, IGNORE)).all():
        raise UserError("a support's mask: must be an array (H, W) of 0, 1 and 255, or of booleans")
    return Support(image, check_label(mask.astype(np.uint8), image.shape[:2], "a support's mask"), "array")


def check_image(image: np.ndarray) -> np.ndarray:
    """Return an RGB image, (H, W, 3) uint8.

    Raises:
        UserError: the array has another form.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"an image: must be an array (H, W, 3) uint8, not {image.shape} {image.dtype}")
    return image
