"""Files with the names of the classes of masks, and their colours."""

import re
from collections.abc import Iterable
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from annotations.photo_files import name_key
from annotations.remarks import IGNORED, is_nothing
from util.errors import UserError
from util.files import read_text
from util.files.images import Colours
from util.files.palette import IGNORE, voc_palette

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
LABEL_LINE = re.compile(r"[^#:][^:]*:(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?(:[^:]*){0,2}$")
# Lines of a file of names that state the value; the beginnings of those, and of JSON
VALUE_AND_NAME = re.compile(r"[\"']?(?P<value>-?\d+)[\"']?\s*([:=,;|\t]|[.)](?=\s)|\s-(?=\s))\s*(?P<name>[^:=,;|\t]*)")
NAME_AND_VALUE = re.compile(r"(?P<name>[^:=,;|\t]*[^:=,;|\t\s])\s*[:=,;|\t]\s*(?P<value>-?\d+)")
VALUE_SPACE_NAME = re.compile(r"(?P<value>\d+)\s+(?P<name>\D.*)")
VALUE_START = re.compile(r"[\"']?-?\d+[\"']?\s*[:=,;|\t]")
JSON_START = re.compile(r"\{|\[\s*([\"'{\[]|$)")
BLACK = (0, 0, 0)  # the colour of background
VOID = (224, 224, 192)  # the colour of PASCAL VOC's unknown pixels


class MaskNames(NamedTuple):
    """The classes of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> class name, "" of unknown values
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them
    states_values: bool = False  # whether the file says which values the names have, or that its first line is of 0

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
    """Return the names in a file: one per line from value 1 on, or each with its value, or a label map as CVAT's.

    Comments do not count: lines of # and a space, and those of # before the first name. First lines of ``IGNORED``,
    then of nothing (``is_nothing``), do not either: labelme's -1 and 0, which masks hold as 255 and 0. UserError: the
    file cannot be read, is a table or JSON, or as ``_names_of_values``.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    entries = [line for line in dropwhile(_is_comment, lines) if not line.startswith("# ")]
    colour_lines = [line for line in entries if not _is_comment(line)]
    if colour_lines and all(LABEL_LINE.match(line) for line in colour_lines):
        return _read_label_map(colour_lines, path)
    if stated := _stated_values(entries):
        return MaskNames(_names_of_values(stated, path), path, states_values=True)
    _refuse_table(entries, path)
    if entries and entries[0].casefold() in IGNORED:
        entries = entries[1:]
    has_line_of_0 = bool(entries) and is_nothing(entries[0])
    if has_line_of_0:
        entries = entries[1:]
    return MaskNames(_names_of_values([*enumerate(entries, 1)], path), path, states_values=has_line_of_0)


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _refuse_table(entries: list[str], path: Path) -> None:
    """Refuse (UserError) JSON and tables of more than values and names, whose lines are no names."""
    is_json = any(JSON_START.match(line) for line in entries[:1])
    is_table = bool(entries) and all(_is_row(line) for line in entries[1:] or entries)
    if is_json or is_table:
        kind = "JSON" if is_json else "a table of several columns"
        fix = "write one name per line, or with its value, 1: cat, or with its colour, cat:128,0,0::"
        raise UserError(f"{path}: is {kind}, not a file of names; {fix}")


def _is_row(line: str) -> bool:
    """Return whether a line begins with a value, or has several columns, one of them a number."""
    columns = [column.strip() for column in re.split(r"[,;|\t]", line)]
    has_number = any(column.isdecimal() for column in columns)
    return bool(VALUE_START.match(line)) or (has_number and len(columns) > 2)


def _stated_values(entries: list[str]) -> list[tuple[int, str]]:
    """Return the value and the name in each line, but for a heading; none where lines do not state values.

    A mark parts both, in either order, or a space where the values count from 0 or 1 on.
    """
    for form in (VALUE_AND_NAME, NAME_AND_VALUE, VALUE_SPACE_NAME):
        for rows in (entries, entries[1:]):
            matches = [form.fullmatch(line) for line in rows]
            values = [(int(match["value"]), match["name"].strip("\"' ")) for match in matches if match]
            counted = [value for value, _ in values]
            first = counted[0] if counted else 0
            counts_up = first in (0, 1) and counted == [*range(first, first + len(counted))]
            if values and len(values) == len(rows) and (counts_up or form is not VALUE_SPACE_NAME):
                return values
    return []


def _names_of_values(entries: list[tuple[int, str]], path: Path) -> dict[int, str]:
    """Return the names by ascending value, "" of unknown ones, without those of nothing that 0 and 255 may have.

    UserError: a value or a name occurs twice, 0 or 255 is of a class, or another value is of nothing.
    """
    names: dict[int, str] = {}
    for value, name in entries:
        is_unknown = name.casefold() in IGNORED
        if value in (-1, 0, IGNORE) and (is_unknown or is_nothing(name)):
            continue
        if value == 0:
            fix = f"write 'background' there if '{name}' is none, else raise all values by 1, in the masks too"
            raise UserError(f"{path}: calls the value 0 '{name}', but 0 is the background; {fix}")
        if is_nothing(name):
            fix = "write 'void' there if such pixels are unknown, else give them the value 0 and leave the name out"
            raise UserError(f"{path}: calls the value {value} '{name}', but 0 is the background; {fix}")
        if value in names or not 0 < value < IGNORE:
            problem = "is that of another class, or not one of 1 to 254"
            raise UserError(f"{path}: '{name}' has the value {value}, which {problem}; change it")
        names[value] = "" if is_unknown else name
    check_unique([name for name in names.values() if name], path)
    check_case([name for name in names.values() if name], path)
    return dict(sorted(names.items()))


def _read_label_map(lines: list[str], path: Path) -> MaskNames:
    """Return the names and colours in lines ``name:red,green,blue:parts:actions``; a colour may lack.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. Where all colours lack, as Datumaro writes it, they are VOC's in the order of the lines. UserError: a name
    or a colour occurs twice.
    """
    entries = _with_colours([[text.strip() for text in f"{line}:".split(":")[:2]] for line in lines])
    classes = [name for name, _ in entries if not is_nothing(name)]
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
    if not is_nothing(entries[0][0]) or any(colour for _, colour in entries):
        return entries
    palette = np.reshape(voc_palette(), (-1, 3)).tolist()
    return [[name, ",".join(map(str, colour))] for (name, _), colour in zip(entries, palette)]


def _known(name: str) -> str:
    """Return the name of a class, "" of what is unknown."""
    return "" if name.casefold() in IGNORED else name


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    for number, name in enumerate(names):
        if name in names[:number] or not name.isprintable():
            raise UserError(f"{path}: {name!r} names two classes, or has characters that cannot be printed; rename it")


def check_case(names: Iterable[str], path: Path) -> None:
    """Refuse (UserError) two class names that differ by case alone, or by how accents are composed."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name_key(name), name)
        if other != name:
            fix = "write one of both if they are one class, else rename one"
            raise UserError(f"{path}: the classes '{other}' and '{name}' differ by upper and lower case alone; {fix}")
