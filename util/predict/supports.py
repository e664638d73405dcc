"""Supports as a person names them, ``[class=]photo:marks``, and as arrays: one form for both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.contract import IGNORE
from util.errors import UserError
from util.predict.photos import read_photo
from util.predict.regions import DRAWN, Marking, checked, read_label

UNNAMED = "object"  # what a class without a name is called
FORM = "write photo.jpg:mask.png, photo.jpg:outlines.json, photo.jpg:box=x0,y0,x1,y1 or photo.jpg:points=x,y;x,y"
LONGEST_NAME = 80


@dataclass(frozen=True)
class Support:
    """A photo (H, W, 3) uint8 and what is marked on it, (H, W) uint8 in {0, 1, 255}; ``source`` says whence."""

    image: np.ndarray
    label: np.ndarray
    source: str


@dataclass(frozen=True)
class Named:
    """A support's text, taken apart: class (None where it names none), photo, and what marks the object."""

    name: str | None
    photo: Path
    marks: str


def parse(text: str) -> Named:
    """Take ``[class=]photo:marks`` apart; photos may have = and : in their paths where they exist.

    Raises:
        UserError: it has another form.
    """
    path, colon, marks = text.rpartition(":")
    for kind in DRAWN:  # no colon is part of these
        before, found, after = text.rpartition(f":{kind}=")
        if found:
            path, colon, marks = before, ":", f"{kind}={after}"
    if not colon or not path or not marks:
        raise UserError(f"--support {text}: {FORM}")
    name, equals, rest = path.partition("=")
    if not equals or Path(path).exists():
        return Named(None, Path(path), marks)
    if not name.strip() or not rest:
        raise UserError(f"--support {text}: names no class before '='; {FORM}")
    return Named(checked_name(name), Path(rest), marks)


def checked_name(name: str) -> str:
    """Return a class name that can be part of a file's name and of a line.

    Raises:
        UserError: it cannot.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name.startswith(".") or {*name} & {*"/\\"}:
        raise UserError(f"--name {name!r}: a class is called by 1 to {LONGEST_NAME} letters, no / or \\ among them")
    return name


def by_class(texts: Iterable[str], name: str | None) -> dict[str | None, list[Named]]:
    """Return supports by class, in the order the classes are first named; ``name`` is that of supports without one.

    Raises:
        UserError: a support of another form, or a name that no support needs.
    """
    out: dict[str | None, list[Named]] = {}
    own = None if name is None else checked_name(name)
    texts = list(texts)
    for text in texts:
        support = parse(text)
        out.setdefault(support.name or own, []).append(support)
    if own is not None and texts and own not in out:
        raise UserError(f"--name {own}: every support names its class itself; leave --name away")
    return out


def read_support(support: Named, name: str | None, marking: Marking) -> Support:
    """Return a support's photo and label.

    Raises:
        UserError: one of its files cannot be read, or they do not fit together.
    """
    image = read_photo(support.photo)
    label = read_label(support.marks, support.photo, image.shape[:2], name, marking)
    return Support(image, label, f"{support.photo}:{support.marks}")


def from_arrays(image: np.ndarray, mask: np.ndarray) -> Support:
    """Return a support made of arrays: RGB (H, W, 3) uint8, and (H, W) bool or in {0, 1, 255}.

    Raises:
        UserError: arrays of another form, or a mask that marks nothing.
    """
    image = checked_image(image)
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.isin(mask, (0, 1, IGNORE)).all():
        raise UserError("a support's mask: must be an array (H, W) of 0, 1 and 255, or of booleans")
    return Support(image, checked(mask.astype(np.uint8), image.shape[:2], "a support's mask"), "array")


def checked_image(image: np.ndarray) -> np.ndarray:
    """Return an image if it is RGB, (H, W, 3) uint8.

    Raises:
        UserError: it is not.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"an image: must be an array (H, W, 3) uint8, not {image.shape} {image.dtype}")
    return image
