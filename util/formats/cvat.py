"""CVAT's XML format "CVAT for images 1.1": annotations are read.

The parser keeps no tree, so that memory depends on the shapes alone. It refuses a DOCTYPE, without which XML can define
no entities and name no other files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

import numpy as np

from util.errors import UserError
from util.formats.annotations import (
    Annotations,
    Collector,
    Shape,
    checked_size,
    corners_of,
    ellipse_of,
    name_inside,
    reason_of,
    rotated,
)
from util.formats.run_lengths import encoded
from util.read_files import read_bytes

ROOT, IMAGE, TRACK = "annotations", "image", "track"
LABEL_NAME = ("labels", "label", "name")  # the last elements above the text of a class name
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
IGNORED = ("tag",)  # of the photo as a whole
MAX_DEPTH = 40  # nested elements
MAX_NAME = 1000  # characters of a class name
Attributes = dict[str, str]


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations of an XML file.

    Args:
        folder: of the photos; default the file's own, or ``images`` in it, where CVAT puts them.

    Raises:
        UserError: the file is unreadable, cut short, not XML, has a DOCTYPE, or is in another format.
    """
    content = read_bytes(path, "these annotations", "check the file's name")
    handler = _Handler()
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = handler.start, handler.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = handler.text, _refuse_doctype
    try:
        parser.Parse(content, True)
        handler.check()
    except expat.ExpatError as error:
        raise UserError(f"{path}: cut short or not XML ({error}); export it again") from None
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        place = f"line {parser.CurrentLineNumber}: {reason_of(error)}"
        raise UserError(f"{path}: not in CVAT's format for images ({place}); export 'CVAT for images 1.1'") from None
    return handler.collector.annotations(folder or _default_folder(path))


def _default_folder(path: Path) -> Path:
    images = path.parent / "images"
    return images if images.is_dir() else path.parent


def _refuse_doctype(*_: Any) -> NoReturn:
    raise ValueError("it has a DOCTYPE, which no export of CVAT has")


class _Handler:
    """Collects the labels and images of a file, element by element."""

    def __init__(self):
        self.collector = Collector()
        self.open: list[str] = []  # names of the elements that are open
        self.words: list[str] = []  # of a class name
        self.image: tuple[str, tuple[int, int]] | None = None
        self.objects: list[tuple[str, Shape]] = []

    def start(self, name: str, attributes: Attributes) -> None:
        """Begin an element."""
        if not self.open and name != ROOT:
            raise ValueError(f"its first element is '{name[:80]}', not '{ROOT}'")
        if len(self.open) >= MAX_DEPTH:
            raise ValueError("nested too deeply")
        if self.open == [ROOT] and name == TRACK:
            raise ValueError("it has tracks, as CVAT's format for videos")
        self.open.append(name)
        if self.open == [ROOT, IMAGE]:
            named = name_inside(attributes["name"])
            size = checked_size(int(attributes["height"]), int(attributes["width"]), named)
            self.image, self.objects = (named, size), []
        elif self.image and len(self.open) == len((ROOT, IMAGE, name)) and name not in IGNORED:
            self.objects.append((attributes["label"], _shape(name, attributes, self.image[1])))

    def end(self, name: str) -> None:
        """End an element."""
        if tuple(self.open[-len(LABEL_NAME) :]) == LABEL_NAME:
            self.collector.category("".join(self.words).strip())
            self.words = []
        if self.open == [ROOT, IMAGE] and self.image:
            self.collector.add(*self.image, self.objects)
            self.image = None
        self.open.pop()

    def text(self, text: str) -> None:
        """Take the text of a class name."""
        if tuple(self.open[-len(LABEL_NAME) :]) == LABEL_NAME:
            self.words.append(text)
            if sum(map(len, self.words)) > MAX_NAME:
                raise ValueError(f"a class name has more than {MAX_NAME} characters")

    def check(self) -> None:
        """Refuse a file without images."""
        if not self.collector.photos:
            raise ValueError(f"it has no element '{IMAGE}'")


def _shape(kind: str, attributes: Attributes, size: tuple[int, int]) -> Shape:
    """Return the shape of an element of an image.

    Raises:
        ValueError: a number is none, or the kind is unknown.
        KeyError: an attribute is missing.
    """
    if kind in WITHOUT_AREA:
        return kind
    if kind == "polygon":
        points = [_numbers(pair, ",") for pair in attributes["points"].split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError("a polygon's points must be pairs of numbers")
        return (np.concatenate(points),)
    if kind == "box":
        left, top, right, bottom = (_number(attributes[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = corners_of(left, top, right, bottom).reshape(-1, 2)
        centre = (left + right) / 2, (top + bottom) / 2
        return (rotated(corners, centre, _number(attributes.get("rotation", "0"))).reshape(-1),)
    if kind == "ellipse":
        x, y, across, down = (_number(attributes[key]) for key in ("cx", "cy", "rx", "ry"))
        return (ellipse_of((x, y), (across, down), _number(attributes.get("rotation", "0"))),)
    if kind == "mask":
        return _mask(attributes, size)
    raise ValueError(f"a shape of type '{kind[:80]}' is unknown")


def _mask(attributes: Attributes, size: tuple[int, int]) -> dict[str, Any]:
    """Return the run lengths of a mask, which CVAT stores row by row in its box, beginning with background."""
    left, top, width, height = (int(attributes[key]) for key in ("left", "top", "width", "height"))
    if not (0 <= left < left + width <= size[1] and 0 <= top < top + height <= size[0]):
        raise ValueError("a mask reaches beyond its image")
    runs = [int(word) for word in attributes["rle"].split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise ValueError(f"the runs of a mask cover {sum(runs)} pixels, its box has {width * height}")
    mask = np.zeros(size, bool)
    values = np.arange(len(runs)) % 2 == 1
    mask[top : top + height, left : left + width] = np.repeat(values, runs).reshape(height, width)
    return encoded(mask)


def _numbers(text: str, separator: str) -> np.ndarray:
    return np.array([_number(word) for word in text.split(separator)])


def _number(text: str) -> float:
    """Return a finite number."""
    number = float(text)
    if not np.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
