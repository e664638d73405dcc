"""Annotated photos in one form, whatever format they were read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[np.ndarray, ...] | dict[str, Any] | str


class Instance(NamedTuple):
    """One annotation.

    shape: polygons, each (2 x points,) float64; or a run-length encoding {"size", "counts"}; or the name of a kind of
    shape that has no area, such as a line.
    """

    image: int
    category: int
    crowd: bool
    shape: Shape


class Photo(NamedTuple):
    """One annotated photo and its instances, in the file's order."""

    id: int
    name: str  # of its file, relative to the folder of photos
    height: int
    width: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Annotations:
    """Annotated photos by ascending id, category id -> name by ascending id, and the folder of the photos."""

    photos: tuple[Photo, ...]
    categories: dict[int, str]
    folder: Path = Path()

    @property
    def annotated(self) -> tuple[Photo, ...]:
        """The photos that have at least one annotation."""
        return tuple(p for p in self.photos if p.instances)

    def path_of(self, photo: Photo) -> Path:
        """Return the path of a photo's file."""
        return self.folder / photo.name


class Collector:
    """Collects the photos of a format that names classes by text; ids count from 1 in the order of the names.

    Args:
        names: classes that the format declares; others follow in the order in which they appear.
    """

    def __init__(self, names: Iterable[str] = ()):
        self.ids: dict[str, int] = {}
        self.photos: list[Photo] = []
        for name in names:
            self.category(name)

    def category(self, name: str) -> int:
        """Return the id of a class."""
        return self.ids.setdefault(checked_text(name), len(self.ids) + 1)

    def add(self, name: str, size: tuple[int, int], objects: Iterable[tuple[str, Shape]]) -> None:
        """Add a photo of a size (height, width) with its labelled objects."""
        number = len(self.photos) + 1
        instances = tuple(Instance(number, self.category(label), False, shape) for label, shape in objects)
        self.photos.append(Photo(number, name, *size, instances))

    def annotations(self, folder: Path) -> Annotations:
        """Return all photos."""
        return Annotations(tuple(self.photos), {number: name for name, number in self.ids.items()}, folder)


def checked_text(value: Any) -> str:
    """Return a text without control characters.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"a {type(value).__name__} is not a name")  # as text, nested aliases of YAML fill the memory
    if not str(value).isprintable() or not str(value).strip():
        raise ValueError(f"{str(value)[:80]!r} is not a name")
    return str(value)


def whole(value: Any) -> int:
    """Return a whole number, which some programs write as 3.0, "3" or true.

    Raises:
        ValueError: it is none.
    """
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(f"{value} is not a whole number")
    return number


def name_inside(value: Any) -> str:
    """Return the name of a file that lies in the folder of photos.

    Raises:
        ValueError: it is none, or would lie elsewhere.
    """
    name = PurePosixPath(checked_text(value))
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ValueError(f"file_name '{name}' is not the name of a file in a folder of photos")
    return str(name)


def corners_of(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle as a polygon, (8,) float64."""
    return np.array([left, top, right, top, right, bottom, left, bottom], np.float64)


def circle_of(centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a circle as a polygon of 360 corners, (720,) float64."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return (centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)).reshape(-1)


def reason_of(error: Exception) -> str:
    """Return an error of reading a file in words."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__
