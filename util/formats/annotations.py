"""Annotated photos and found objects in one form each, whatever format they are read from or written to."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError
from util.files import write_atomically
from util.formats.shapes import decoded, polygons_of

Shape = tuple[np.ndarray, ...] | dict[str, Any]


class Instance(NamedTuple):
    """One annotation.

    shape: polygons, each (2 x points,) float64; or a run-length encoding {"size", "counts"}.
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
    is_upright: bool = False  # the instances are of the upright photo, also where its size leaves that open


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


class PhotoFiles:
    """The photos of a folder and its sub-folders, in the order of their paths.

    Raises:
        UserError: the folder does not exist.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise UserError(f"{folder}: this folder of photos does not exist; check its name")
        self.folder = folder
        self.paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        self._by_name = defaultdict(list)
        for path in self.paths:
            for key in (path.name, path.stem):
                self._by_name[key].append(path)

    def __contains__(self, name: str) -> bool:
        """Return whether a photo has a file name or stem."""
        return name in self._by_name

    def named(self, name: str, source: Path) -> Path:
        """Return the only photo with a file name, or with a stem.

        Raises:
            UserError: there is none, or there are several; begins with the file that names it, ``source``.
        """
        found = self._by_name[name]
        if len(found) != 1:
            raise UserError(f"{source}: {len(found)} photos in {self.folder} are named '{name}'; name its --photos")
        return found[0]


class FoundObject(NamedTuple):
    """A class found on a photo, or one connected part of it.

    runs: its mask in COCO's text form {"size", "counts"}; box: x0, y0, x1, y1, which covers columns x0 .. x1 - 1 and
    rows y0 .. y1 - 1; score: mean probability over its pixels; area: in pixels.
    """

    name: str
    score: float
    area: int
    box: tuple[int, int, int, int]
    runs: dict[str, Any]

    def polygons(self) -> list[np.ndarray]:
        """Return the simplified outlines of the connected parts, each (corners, 2) float64 of x and y."""
        return polygons_of(decoded(self.runs))


class FoundPhoto(NamedTuple):
    """A photo, its name in files of annotations, its upright size, and the objects found on it.

    made: the time of its result (ns), which is that of its files until they are corrected; keep: corrected ones stay.
    """

    path: Path
    name: str
    height: int
    width: int
    objects: tuple[FoundObject, ...]
    made: int
    keep: bool = False

    def write(self, path: Path, text: str) -> None:
        """Write a file of the photo, unless it is to be kept."""
        if not (self.keep and path.is_file() and path.stat().st_mtime_ns > self.made):
            write_atomically(path, text)
            os.utime(path, ns=(self.made, self.made))


@dataclass(frozen=True)
class Found:
    """The results that a format is written from.

    Attributes:
        photos: to be passed through once.
        categories: all of them, id -> name by ascending id, whether found or not.
        model: its name, for people.
        polygons: write outlines in place of exact masks where a format has both.
    """

    photos: Iterable[FoundPhoto]
    categories: dict[int, str]
    model: str = ""
    polygons: bool = False


def reason_of(error: Exception) -> str:
    """Return an error of reading a file in words."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
