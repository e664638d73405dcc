"""Annotated photos and predictions in one form each, whatever their format, and the masks that they describe."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle
from typing_extensions import Self

from annotations.photo_files import PhotoFiles
from annotations.pictures import header_of
from annotations.shapes import compressed, decoded, polygons_of, with_area
from util.files.errors import UserError, note
from util.files.images import Frame
from util.files.mask_images import fitted_mask
from util.files.palette import IGNORE
from util.files.progress import ProgressBar
from util.files.sizes import check_outlines
from util.files.writing import write_atomically

Shape = tuple[np.ndarray, ...] | dict[str, Any]
PERSON = "person"  # whom a mask is by, as a result says of each class
UNCONFIRMED = "unconfirmed"  # the key of what a network made, in formats that have no other place for it
MANY = 0.2  # of the photos; more are a fault of the program that wrote them
UPRIGHT = "upright"  # the key by which what is written here says that it is of upright photos


class Instance(NamedTuple):
    """One annotation."""

    category: int
    shape: Shape = ()  # polygons, each (2 x points,) float64; or a run-length encoding {"size", "counts"}
    is_boxed: bool = False  # whether its shape is a box, in which the object is somewhere
    unknown: bool = False  # whether its pixels may be of its category or not, as in COCO's crowds
    confirmed: bool = True  # by a person; a network's result may not be


class AnnotatedPhoto(NamedTuple):
    """A photo's size and its instances, in the file's order."""

    name: str  # of its file, as ``PhotoFiles`` finds it
    height: int
    width: int
    instances: tuple[Instance, ...]
    is_upright: bool = False  # the instances are of the upright photo, also where its size leaves that open
    path: Path | None = None  # of its file, where that was found while annotations were read
    known: Mapping[int, bool] | None = None  # categories that are on it or not, whether by a person; None: all

    def knows(self, categories: Set[int]) -> bool:
        """Return whether it is known, for each of some categories, if the photo shows it."""
        return self.known is None or categories <= self.known.keys()

    @property
    def stated(self) -> set[int]:
        """The categories that the photo is known to show, or known not to show."""
        return {instance.category for instance in self.instances} if self.known is None else {*self.known}


@dataclass
class Annotations:
    """Annotated photos in the file's order, COCO's by ascending id, which a reader adds one after the other."""

    source: Path  # the file or folder that is read
    files: PhotoFiles  # the photos among which they are found
    photos: list[AnnotatedPhoto] = field(default_factory=list)
    categories: dict[int, str] = field(default_factory=dict)  # id -> name, by ascending id
    # what becomes of entries that are no objects, and which -> how many, by their photos or files
    remarks: dict[str, Counter[str]] = field(default_factory=partial(defaultdict, Counter))
    wrong: list[str] = field(default_factory=list)  # what is wrong with each photo that is left out

    @classmethod
    def begin(cls, source: Path, home: Path, folder: Path | None) -> Self:
        """Return no annotations yet; the photos lie in ``home`` unless the user has named their ``folder``."""
        return cls(source, PhotoFiles(folder or home, is_named=folder is not None))

    @property
    def annotated(self) -> list[AnnotatedPhoto]:
        """The photos that have at least one annotation."""
        return [photo for photo in self.photos if photo.instances]

    def path_of(self, photo: AnnotatedPhoto) -> Path:
        """Return the file of a photo; raises as ``PhotoFiles.find`` does."""
        return photo.path or self.files.find(photo.name, self.source)

    def each(self, files: list[Path]) -> Iterable[Path]:
        """Return the files of annotations, with a bar where they take long."""
        return ProgressBar(files, str(self.source), unit="file", leave=False, delay=1)

    @contextmanager
    def reading(self, before: str = "", after: str = "") -> Iterator[None]:
        """Read a photo's annotations: an error in them, as of ``content_errors``, leaves it out.

        Read without that entry, its object would be background.
        """
        try:
            with content_errors(before, after, kind=ValueError):
                yield
        except ValueError as error:
            self.wrong.append(str(error))

    def checked(self) -> Self:
        """Return the annotations; a line says how many photos are left out, and why. UserError: many are, or all."""
        if self.wrong:
            photos = len(self.wrong) + len(self.annotated)
            what = f"{len(self.wrong)} of {photos} annotated photos have an entry that is damaged or contradicts itself"
            if not self.annotated or len(self.wrong) > max(1, MANY * photos):
                raise UserError(f"{self.wrong[0]}; {what}")
            note(f"{self.wrong[0]}; {what} and are left out")
        return self

    def category(self, name: str) -> int:
        """Return the id of a category by its name without spaces around it; a new category gets the next id, from 1."""
        name = name.strip()
        if name not in self.categories.values():
            self.categories[len(self.categories) + 1] = name
        return next(number for number, known in self.categories.items() if known == name)

    def add(
        self,
        photo: Path,
        size: tuple[int, int],
        instances: Iterable[Instance],
        is_upright: bool = False,
        known: Mapping[int, bool] | None = None,
    ) -> None:
        """Add a photo with its instances and the other fields of an ``AnnotatedPhoto``.

        Instances are made after the stated ``size`` (height, width) was compared with the photo's: painting at it could
        take all memory. UserError: as ``check_stated``.
        """
        check_stated(photo, *size)
        self.photos.append(
            AnnotatedPhoto(os.path.relpath(photo, self.files.folder), *size, tuple(instances), is_upright, photo, known)
        )


def class_mask(photo: AnnotatedPhoto, table: Mapping[int, int], covered: Counter[int] | None = None) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8: 0 is background, 255 is unknown.

    What is not marked is unknown where it is not known of all categories whether they are on the photo. First unknown
    regions are painted, then instances from the largest to the smallest by the pixels of their own masks: of two
    overlapping instances the smaller is on top, of two equal ones the later in the file. Polygons of fewer than three
    points, or of points on one line, cover nothing.

    Args:
        table: category id -> class id; annotations of other categories are ignored, including crowd regions.
        covered: counts the objects of each class id that those of other classes cover wholly.

    Raises:
        UserError: an annotation does not fit the photo; the message names the photo.
    """
    size = [photo.height, photo.width]
    instances = [instance for instance in photo.instances if instance.category in table]
    objects: list[tuple[int, int, dict[str, Any]]] = []  # area, class id, run lengths
    with content_errors(f"{photo.name}: its annotations are damaged (", "); correct them"):
        check_outlines([outline for instance in instances for outline in outlines_of(instance.shape)], *size)
        mask = np.full(size, 0 if photo.knows(table.keys()) else IGNORE, np.uint8)
        for instance in instances:
            runs = runs_of(instance.shape, size)
            if instance.unknown:
                mask[rle.decode(runs).view(bool)] = IGNORE
            else:
                objects.append((int(rle.area(runs)), table[instance.category], runs))
    for _, class_id, runs in sorted(objects, key=itemgetter(0), reverse=True):
        mask[rle.decode(runs).view(bool)] = class_id
    if covered is not None:
        _count_covered(covered, objects, mask)
    return mask


def _count_covered(covered: Counter[int], objects: Iterable[tuple[int, int, dict[str, Any]]], mask: np.ndarray) -> None:
    """Count the objects (area, class id, run lengths) of which a mask (H, W) shows no pixel of their class."""
    for area, class_id, runs in objects:
        covered[class_id] += area > 0 and class_id not in mask[rle.decode(runs).view(bool)]


def outlines_of(shape: Shape) -> tuple[np.ndarray, ...]:
    """Return the outlines of a shape; none of run lengths."""
    return () if isinstance(shape, dict) else shape


def check_shape(shape: Shape, size: tuple[int, int]) -> None:
    """Refuse (ValueError) outlines as ``check_outlines``, and run lengths of another size, also of the turned photo."""
    check_outlines(outlines_of(shape), *size)
    if isinstance(shape, dict) and sorted(shape["size"]) != sorted(size):
        raise ValueError(f"its size is {shape['size']}, the image's {[*size]}")


def label_of(
    photo: AnnotatedPhoto, path: Path, table: Mapping[int, int], covered: Counter[int] | None = None
) -> np.ndarray:
    """Return the class indices of a photo's file, upright, (H, W) uint8: as ``class_mask``.

    Raises:
        UserError: as ``class_mask``; the file, stored or upright, has another size than its annotations; or nothing
            tells which of both they are of.
    """
    frame = check_stated(path, photo.height, photo.width)
    return fitted_mask(class_mask(photo, table, covered), photo.is_upright, frame, path)


def check_stated(path: Path, height: int, width: int) -> Frame:
    """Return the frame of a photo whose size annotations state; UserError: as ``header_of``, or it has another."""
    frame = header_of(path)
    stated = (height, width)
    if stated not in (frame.size, frame.upright_size):
        raise UserError(
            f"{path}: image and annotations have different sizes (height, width): {frame.size} and {stated}"
        )
    return frame


def pixels_of(shape: Shape, size: list[int]) -> np.ndarray:
    """Return the pixels of an annotation, (H, W) bool."""
    return rle.decode(runs_of(shape, size)).view(bool)


def runs_of(shape: Shape, size: list[int]) -> dict[str, Any]:
    """Return the pixels of an annotation in the run lengths of ``pycocotools``, after ``check_outlines``.

    ValueError: it has another size than the photo, or as ``decoded``.
    """
    if isinstance(shape, dict):
        if shape["size"] != size:
            raise ValueError(f"its size is {shape['size']}, the image's {size}")
        return compressed(shape)
    polygons = [*with_area(shape)]
    if not polygons:
        return rle.encode(np.zeros(size, np.uint8, order="F"))
    return rle.merge(rle.frPyObjects(polygons, *size))


class PredictedObject(NamedTuple):
    """A class on a photo as a network predicts it, or one connected part of it."""

    name: str
    score: float  # mean probability over its pixels
    runs: dict[str, Any]  # its mask in COCO's text form {"size", "counts"}
    by: str | None = None  # whom it is by, "network" or "person"

    @property
    def is_unconfirmed(self) -> bool:
        """Whether a network made it and no person confirmed it."""
        return self.by not in (None, PERSON)

    def polygons(self) -> list[np.ndarray]:
        """Return the simplified outlines of the connected parts, each (corners, 2) float64 of x and y."""
        return polygons_of(decoded(self.runs))


class PredictedPhoto(NamedTuple):
    """A photo and the objects predicted on it."""

    path: Path
    name: str  # its path from the folder of all photos
    height: int  # upright
    width: int
    objects: tuple[PredictedObject, ...]
    keep: bool = False  # whether a file of it that is there, which may have been corrected, stays


@dataclass(frozen=True)
class Predictions:
    """The predictions that a format is written from."""

    photos: Iterable[PredictedPhoto]  # to be passed through once
    folder: Path  # of all photos
    categories: dict[int, str]  # all of them, id -> name by ascending id, whether predicted or not
    model: str = ""  # its name, for people


def write_of_photo(photo: PredictedPhoto, path: Path, text: str) -> None:
    """Write the file of one photo in a format of a file for each, unless it exists and the photo says ``keep``."""
    if not (photo.keep and path.is_file()):
        write_atomically(path, text)


@contextmanager
def content_errors(
    before: str = "",
    after: str = "",
    expected: str = "a value is of another kind than expected",
    kind: type[Exception] = UserError,
) -> Iterator[None]:
    """Turn Python's errors about the content of a file into an error of a ``kind`` that users understand.

    Args:
        before: what the line says before the reason.
        after: what the line says after it.
        expected: the reason in place of a message of Python that says nothing to users.
        kind: the error that is raised.
    """
    try:
        yield
    except (
        KeyError,
        ValueError,
        RecursionError,
        OSError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
    ) as error:
        reason = expected
        if isinstance(error, KeyError):
            reason = f"{error} is missing"
        elif isinstance(error, (ValueError, RecursionError, OSError)):
            reason = str(error)
        raise kind(f"{before}{reason}{after}") from None
