"""Examples of a class, photos and their annotations, and the supports that the network gets of them.

An example is a text ``[class=]photo:annotation``, a pair of files or arrays, or of a file (``example_files.py``).

Labels are (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where the class is unknown, 253 in a
box about the object.

- A mask image marks what ``read_region`` says, or one given value; then 255 is unknown, as in VOC's masks.
- A box ``x0,y0,x1,y1`` covers the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1; ``;`` separates several. The object
  is somewhere in it: its pixels are ``BOXED`` until the network has looked for it (``Segmenter.boxes_to_masks``).
- Points mark discs with a radius of 2 % of the photo's longer side; a scribble also marks the lines between its points.
  The object extends further, so pixels up to ``UNKNOWN`` radii away are unknown, and only those beyond are background.
  Points near the object's edge are the most informative.
- ``not=x,y`` marks discs that do not belong to the object, whatever other annotations say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from annotations.annotation import AnnotatedPhoto, label_of
from annotations.mask_formats import Colours, read_mask_of
from annotations.region import read_region_of
from annotations.shapes import point_label
from photos.drawn import BOX, POINTS, SCRIBBLE
from photos.read_photos import BETWEEN, GivenPhoto, read_photo
from util.files.errors import UserError, check_known, nearest
from util.files.palette import IGNORE

NOT = "not"  # the kind of points beside the object
DRAWN_KINDS = (BOX, POINTS, SCRIBBLE, NOT)
FILES_OF_OUTLINES = (".json", ".xml", ".txt", ".yaml")  # suffixes
BETWEEN_KINDS = re.compile(r"\s+(?=\w+=)")
DRAWN_EXAMPLE = re.compile(rf"(.*):\s*((?:{'|'.join(DRAWN_KINDS)})=.*)", re.DOTALL)  # photo, drawn annotation
BOXED, DENIED = 253, 254  # in a label: in a box about the object, not of the object
UNNAMED = "object"  # the name of a class without a name
MAX_NAME_LENGTH = 80


@dataclass(frozen=True)
class LoadedExample:
    """An example that has been read: what the network gets of it."""

    image: np.ndarray  # the upright photo, (H, W, 3) uint8
    label: np.ndarray  # (H, W) uint8 in {0, 1, 253, 255}, as said above
    source: str  # the files or "array", for results and messages


@dataclass(frozen=True)
class Example:
    """A photo and an annotation of a class on it, neither of which has been read."""

    name: str | None  # of the class; None where the annotation names none
    photo: Any  # as ``read_photo`` takes it; a path if it is a file
    annotation: Any  # a text of ``DRAWN_KINDS`` with spaces between them, the file of annotations, or a mask
    mask_value: int | None = None  # the object's value in a mask; None for what ``read_region`` says
    unknown: tuple[int, ...] = ()  # values of a mask beside 255 that are unknown where ``mask_value`` is given
    annotated: AnnotatedPhoto | None = None  # the class's instances, where a file of annotations has been read
    colours: Colours | None = None  # of a mask -> value, where a file of names has them
    others: tuple[Example, ...] = ()  # further annotations of the class on the photo

    @property
    def is_drawn(self) -> bool:
        """Whether its annotation is a text of ``DRAWN_KINDS``."""
        return isinstance(self.annotation, str) and self.annotation.partition("=")[0] in DRAWN_KINDS

    @property
    def source(self) -> str:
        """Its files as ``photo:annotation``, or "array" if one of them is in memory."""
        are_files = all(isinstance(part, str | Path) for part in (self.photo, self.annotation))
        return f"{self.photo}:{self.annotation}" if are_files else "array"

    def read(self) -> LoadedExample:
        """Return the photo and its label; UserError: photo and annotation do not fit."""
        image = read_photo(self.photo)
        labels = chain.from_iterable(example._labels(image) for example in (self, *self.others))
        sources = [self.source, *(str(other.annotation) for other in self.others)]
        return LoadedExample(image, merged(labels), BETWEEN.join(sources))

    def _labels(self, image: np.ndarray) -> Iterable[np.ndarray]:
        """Return the labels of its annotation, without ``others``, on its photo, which has been read."""
        if self.annotated is not None:
            return labels_of(self.annotated, self.photo)
        if self.is_drawn:
            return drawn_labels(self.annotation, image.shape[:2], origin=self.source)
        if self.mask_value is None:
            stored = self.photo if isinstance(self.photo, Path) else image  # a file states how its mask is turned
            return [read_region_of(stored, self.annotation)]
        unknown = (IGNORE, *self.unknown)
        values = read_mask_of(self.photo, Path(self.annotation), self.colours)
        return [np.where(np.isin(values, unknown), IGNORE, values == self.mask_value).astype(np.uint8)]


GivenExample = str | Example | tuple[GivenPhoto, GivenPhoto]


def parse_example(text: str, mask_value: int | None = None) -> Example:
    """Split ``[class=]photo:annotation``, or raise a UserError; the paths of existing photos may contain = and :."""
    drawn = DRAWN_EXAMPLE.fullmatch(text)
    class_and_photo, annotation = drawn.groups() if drawn else text.rpartition(":")[::2]
    class_and_photo, annotation = class_and_photo.strip(), annotation.strip()
    if not class_and_photo or not annotation:
        raise UserError(
            f"{text}: the photo has no annotation",
            fix="write PHOTO:mask.png or PHOTO:box=x0,y0,x1,y1 (other forms: predict.py --help)",
        )
    if annotation.lower().endswith(FILES_OF_OUTLINES):
        raise UserError(
            f"{text}: outlines in a file are read by --supports {annotation}",
            fix="export those of other formats, such as VOC's XML, as COCO first",
        )
    kind, equals, _ = annotation.partition("=")
    if equals and kind not in DRAWN_KINDS and not Path(annotation).exists():
        raise UserError(
            f"{text}: '{kind}' is no kind of annotation, and no such mask exists{nearest(kind, DRAWN_KINDS)}"
        )
    name, equals, photo = class_and_photo.partition("=")
    if not equals or Path(class_and_photo).exists():
        return Example(None, Path(class_and_photo), annotation, mask_value)
    return Example(check_class_name(name, f"{text}: the class"), Path(photo.strip()), annotation, mask_value)


def check_class_name(name: str, origin: str = "the class") -> str:
    """Return a class name, stripped, or a UserError if it cannot be part of a file name and of a line."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.startswith(".") or {*name} & {*"/\\"}:
        raise UserError(
            f"{origin} {name!r}: a class name has 1 to {MAX_NAME_LENGTH} characters, none of them / or \\",
            fix="rename it",
        )
    return name


def by_class(examples: Iterable[Example], name: str | None = None) -> dict[str | None, list[Example]]:
    """Return the examples by class, ``name`` for those without one, in order; a class has one example a photo."""
    classes: dict[str | None, dict[Any, Example]] = {}
    for example in examples:
        photos = classes.setdefault(example.name or name, {})
        key = example.photo.resolve() if isinstance(example.photo, Path) else id(example)
        first = photos.setdefault(key, example)
        if first is not example:
            photos[key] = replace(first, others=(*first.others, example))
    return {class_name: list(photos.values()) for class_name, photos in classes.items()}


def as_examples(given: Iterable[GivenExample]) -> Iterator[Example]:
    """Yield examples from any form of ``GivenExample``; UserError: they are no list, or one has another form."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(
            f"examples: give a list of pairs (photo, annotation), not {given!r}",
            fix="name weights by checkpoint=, as in Segmenter(examples, checkpoint=FILE)",
        )
    for example in given:
        match example:
            case (photo, annotation):
                yield Example(None, Path(photo) if isinstance(photo, str) else photo, annotation)
            case Example():
                yield example
            case str():
                yield parse_example(example)
            case _:
                raise UserError(f"examples: give a list of pairs (photo, annotation), not {type(example)}")


def labels_of(annotated: AnnotatedPhoto, path: Path) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 255} of what is outlined on a photo, and {0, 253, 255} of the boxes."""
    for is_boxed, value in ((False, 1), (True, BOXED)):
        instances = tuple(instance for instance in annotated.instances if instance.is_boxed == is_boxed)
        table = {instance.category: value for instance in instances}
        yield label_of(annotated._replace(instances=instances), path, table)


def merged(labels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the label of all annotations of an object on one photo, {0, 1, 253, 255}, from those of each.

    A pixel is of the object if one says so and none denies it, else in a box, else unknown if one leaves it open.
    """
    stack = np.stack([*labels])
    is_labelled = [(stack == value).any(0) for value in (DENIED, 1, BOXED, IGNORE)]
    return np.select(is_labelled, [0, 1, BOXED, IGNORE]).astype(np.uint8)


def drawn_labels(text: str, shape: tuple[int, int], origin: str) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 253 .. 255} of each of ``DRAWN_KINDS``, kind=numbers, on a photo of a shape (H, W).

    Spaces separate them. UserError: the text has another form, or reaches beyond the photo; begins with ``origin``.
    """
    for drawn in BETWEEN_KINDS.split(text):
        kind, _, numbers = drawn.partition("=")
        check_known(kind, DRAWN_KINDS, f"{origin}: '{kind}' is no kind of annotation")
        points = _points_on_photo(kind, numbers, shape, origin)
        if kind == BOX:
            label = np.zeros(shape, np.uint8)
            for left, top, right, bottom in points:
                label[box_between([(left, top), (right, bottom)], shape)] = BOXED
            yield label
        else:
            label = point_label(points, shape, joined=kind == SCRIBBLE)
            yield np.where(label == 1, DENIED, 0).astype(np.uint8) if kind == NOT else label


def _points_on_photo(kind: str, numbers: str, shape: tuple[int, int], origin: str) -> list[tuple[float, ...]]:
    """Return points (x, y), or boxes (x0, y0, x1, y1), from a text; raises as ``drawn_labels`` does."""
    height, width = shape
    try:
        points = [tuple(map(float, point.split(","))) for point in numbers.split(";")]
        if kind == BOX:
            is_inside = all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in points)
        else:
            is_inside = all(0 <= x < width and 0 <= y < height for x, y in points)
        are_shares = all(n <= 1 for point in points for n in point) and any(n % 1 for point in points for n in point)
    except ValueError:
        is_inside = are_shares = False
    if is_inside and not are_shares:
        return points
    form = "x0,y0,x1,y1;... with x0 < x1 and y0 < y1" if kind == BOX else "x,y;x,y"
    raise UserError(f"{origin}: write {kind}={form}, in pixels of the photo, which is {width} x {height}")


def box_between(corners: ArrayLike, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of the box between two opposite corners (x, y), cut at the edges of a photo (H, W)."""
    limits = np.array(shape[1::-1])
    left, top = np.clip(np.min(corners, axis=0), 0, limits)
    right, bottom = np.clip(np.max(corners, axis=0), 0, limits)
    return slice(round(top), round(bottom)), slice(round(left), round(right))
