"""Files with the names of the classes of masks, and their colours."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.episode import IGNORE
from util.data.images.palette import voc_palette
from util.data.images.read import Colours
from util.errors import UserError
from util.files import read_text
from util.formats.photo_files import name_key
from util.formats.remarks import BACKGROUND, IGNORED

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
LABEL_LINE = re.compile(r"[^#:][^:]*:(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?(:[^:]*){0,2}$")
BLACK = (0, 0, 0)  # the colour of background
VOID = (224, 224, 192)  # the colour of PASCAL VOC's unknown pixels


class MaskNames(NamedTuple):
    """The classes of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> class name, "" of unknown values
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them

    @property
    def classes(self) -> dict[int, str]:
        """The values that are of a class, and its name."""
        return {value: name for value, name in self.names.items() if name}


def names_beside(masks: Path) -> MaskNames | None:
    """Return the names in the file of names in a folder of masks or beside it; None without one; errors as it."""
    for folder in (masks, masks.parent):
        for name in (LABEL_MAP, *NAME_FILES):
            if (folder / name).is_file():
                return read_names(folder / name)
    return None


def read_names(path: Path) -> MaskNames:
    """Return the names in a file, one per line from value 1 on, or in a label map as CVAT writes it.

    First lines of ``IGNORED``, then of ``BACKGROUND``, do not count: labelme's -1 and 0, which masks hold as 255 and 0.
    UserError: the file cannot be read, or names a class twice.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    entries = [line for line in lines if not line.startswith("#")]
    if entries and all(LABEL_LINE.match(line) for line in entries):
        return _read_label_map(entries, path)
    for kinds in (IGNORED, BACKGROUND):
        if lines and lines[0].casefold() in kinds:
            lines = lines[1:]
    check_unique(lines, path)
    check_case(lines, path)
    return MaskNames({value: _known(name) for value, name in enumerate(lines, 1)}, path)


def _read_label_map(lines: list[str], path: Path) -> MaskNames:
    """Return the names and colours in lines ``name:red,green,blue:parts:actions``; a colour may lack.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. Where all colours lack, as Datumaro writes it, they are VOC's in the order of the lines. UserError: a name
    or a colour occurs twice.
    """
    entries = _with_colours([[text.strip() for text in f"{line}:".split(":")[:2]] for line in lines])
    classes = [name for name, _ in entries if name.casefold() not in BACKGROUND]
    check_unique(classes, path)
    check_case(classes, path)
    names = {value: _known(name) for value, name in enumerate(classes, 1)}
    values = {name: value if names[value] else IGNORE for value, name in enumerate(classes, 1)}
    colours: dict[tuple[int, ...], int] = {BLACK: 0, VOID: IGNORE}
    for name, text in entries:
        if not text:
            continue
        red, green, blue = (int(part) for part in text.split(","))
        value = values.get(name, 0)
        known = colours.get((red, green, blue), IGNORE)
        if known not in (value, IGNORE):
            raise UserError(f"{path}: '{name}' has the colour {text} of another class, or of the background; change it")
        colours[red, green, blue] = value
    return MaskNames(names, path, colours)


def _with_colours(entries: list[list[str]]) -> list[list[str]]:
    """Return names with their colours, those of VOC's palette if no name has one and the first is the background's."""
    if entries[0][0].casefold() not in BACKGROUND or any(colour for _, colour in entries):
        return entries
    palette = np.reshape(voc_palette(), (-1, 3)).tolist()
    return [[name, ",".join(map(str, colour))] for (name, _), colour in zip(entries, palette)]


def _known(name: str) -> str:
    """Return the name of a class, "" of what is unknown."""
    return "" if name.casefold() in IGNORED else name


def read_class_names(path: Path) -> dict[int, str]:
    """Return value -> class name of a file, "" of unknown values; as ``read_names``."""
    return read_names(path).names


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    for number, name in enumerate(names):
        if name in names[:number] or not name.isprintable():
            raise UserError(f"{path}: {name!r} is not a name, or is that of two classes; rename one")


def check_case(names: Iterable[str], path: Path) -> None:
    """Refuse (UserError) two class names that differ by case alone, or by how accents are composed."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name_key(name), name)
        if other != name:
            fix = "write one of both if they are one class, else rename one"
            raise UserError(f"{path}: the classes '{other}' and '{name}' differ by upper and lower case alone; {fix}")
