"""Files with the names of the classes of masks, and their colours."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from annotations.mask_images import Colours
from annotations.photo_files import name_key
from annotations.remarks import is_nothing, is_unknown
from util.files import read_text
from util.files.errors import UserError, note
from util.files.palette import IGNORE, voc_palette

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
LABEL_LINE = re.compile(r"[^#:][^:]*:(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?(:[^:]*){0,2}$")
# Lines of a file of names that state the value; the beginnings of those, and of JSON
VALUE_AND_NAME = re.compile(r"[\"']?(?P<value>-?\d+)[\"']?\s*([:=,;|\t]|[.)](?=\s)|\s-(?=\s))\s*(?P<name>[^:=,;|\t]*)")
NAME_AND_VALUE = re.compile(r"(?P<name>[^:=,;|\t]*[^:=,;|\t\s])\s*[:=,;|\t]\s*(?P<value>-?\d+)")
VALUE_SPACE_NAME = re.compile(r"(?P<value>\d+)\s+(?P<name>\D.*)")
# Red, green and blue of a name in a line without further spaces
RGB = r"[(\[]? ?\d{1,3}(?: ?[,;] ?| )\d{1,3}(?: ?[,;] ?| )\d{1,3} ?[)\]]?"
NAME_AND_COLOUR = re.compile(rf"(?!\W*\d+\W)(?P<name>.*?[^ :=,;|(\[])(?: ?[:=,;|] ?| |(?=[(\[]))(?P<colour>{RGB})")
COLOUR_AND_NAME = re.compile(rf"(?P<colour>{RGB})(?: ?[:=,;|] ?| )(?P<name>[^\d :=,;|].*)")
COLOUR_END = re.compile(rf"[:=,;| ]{RGB}$")
COUNT = re.compile(r"\d+")
BETWEEN_NAMES = re.compile(r"[,;|\t]")  # in a line of several
VALUE_START = re.compile(r"[\"']?-?\d+[\"']?\s*[:=,;|\t]")
JSON_START = re.compile(r"\{|\[\s*([\"'{\[]|$)")
NUMBERED = re.compile(r"(.*[^\W\d])[\W_]*\d+")  # a name and a number
SHOWN = 4  # names in a line
BLACK = (0, 0, 0)  # the colour of background
VOID = (224, 224, 192)  # the colour of PASCAL VOC's unknown pixels


class MaskNames(NamedTuple):
    """The names of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> name, by ascending value
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them
    states_values: bool = False  # whether the file says which values the names have, or that its first line is of 0
    skipped: str = ""  # its first line, where that is of unknown pixels and counts as labelme's -1

    @property
    def classes(self) -> dict[int, str]:
        """The values that are of a class, and its name."""
        return {value: name for value, name in self.names.items() if not is_unknown(name)}

    @property
    def unknown(self) -> dict[int, str]:
        """The values that are of unknown pixels, and their name."""
        return {value: name for value, name in self.names.items() if is_unknown(name)}


def names_beside(masks: Path) -> MaskNames | None:
    """Return the names in the file of names in a folder of masks or beside it; None without one; errors as it."""
    for folder in (masks, masks.parent):
        for name in (LABEL_MAP, *NAME_FILES):
            if (folder / name).is_file():
                return read_names(folder / name)
    return None


def names_in(given: Path) -> MaskNames:
    """Return the names that an option gives: those of a file, or the words themselves with commas, from value 1 on.

    UserError: as ``read_names``, or a name is there twice.
    """
    if given.exists() or given.suffix:
        return read_names(given)
    names = [name.strip() for name in str(given).split(",") if name.strip()]
    return MaskNames(_names_of_values([*enumerate(names, 1)], given), given)


def read_names(path: Path) -> MaskNames:
    """Return the names in a file: one per line from value 1 on, or each with its value or colour, or CVAT's label map.

    Comments do not count: lines of # and a space, and those of # before the first name. A first line of unknown pixels,
    then one of nothing (``is_nothing``), do not either: labelme's -1 and 0, which masks hold as 255 and 0. UserError:
    the file cannot be read, is a table, JSON or one line of several names, or as ``_names_of_values``.
    """
    entries = _entries(path)
    colour_lines = [line for line in entries if not _is_comment(line)]
    if colour_lines and all(LABEL_LINE.match(line) for line in colour_lines):
        return _read_label_map([_parts_of(line) for line in colour_lines], path)
    if coloured := _coloured_names(colour_lines):
        return _read_label_map(coloured, path)
    stated = _stated_values(entries)
    if stated and not any(COLOUR_END.search(name) for _, name in stated):
        return MaskNames(_names_of_values(stated, path), path, states_values=True)
    _refuse_table(entries, path)
    check_lines(entries, path)
    return _counted_names(entries, path)


def _entries(path: Path) -> list[str]:
    """Return the lines of a file that are no comments, without spaces around them."""
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    return [line for line in dropwhile(_is_comment, lines) if not line.startswith("# ")]


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _parts_of(line: str) -> tuple[str, str]:
    """Return name and colour, which may be "", of a line of a label map."""
    name, colour = f"{line}:".split(":")[:2]
    return name.strip(), colour.strip()


def _coloured_names(lines: list[str]) -> list[tuple[str, str]]:
    """Return the name and the colour ``red,green,blue`` in each line, but for a heading; none where a line lacks it."""
    lines = [" ".join(line.split()) for line in lines]
    for form in (NAME_AND_COLOUR, COLOUR_AND_NAME):
        for rows in (lines, lines[1:]):
            matches = [match for line in rows if (match := form.fullmatch(line))]
            if matches and len(matches) == len(rows):
                return [(match["name"].strip("\"' "), ",".join(COUNT.findall(match["colour"]))) for match in matches]
    return []


def _counted_names(entries: list[str], path: Path) -> MaskNames:
    """Return names that count from 1 on, after lines of unknown pixels and of nothing."""
    skipped = ""
    if entries and is_unknown(entries[0]) and not is_nothing(entries[0]):
        skipped, *entries = entries
    has_line_of_0 = bool(entries) and is_nothing(entries[0])
    if has_line_of_0:
        entries = entries[1:]
    names = _names_of_values([*enumerate(entries, 1)], path)
    return MaskNames(names, path, states_values=has_line_of_0, skipped=skipped)


def check_lines(names: list[str], path: Path) -> None:
    """Refuse (UserError) a file whose only line seems to hold several names."""
    if len(names) == 1 and BETWEEN_NAMES.search(names[0]):
        raise UserError(f"{path}: its only line, '{names[0]}', seems to hold several names; write one name per line")


def _refuse_table(entries: list[str], path: Path) -> None:
    """Refuse (UserError) JSON and tables of more than values and names, whose lines are no names."""
    is_json = any(JSON_START.match(line) for line in entries[:1])
    is_table = bool(entries) and all(_is_row(line) for line in entries[1:] or entries)
    if is_json or is_table:
        kind = "JSON" if is_json else "a table of several columns"
        fix = "write one name per line, or with its value, 1: cat, or with its colour, cat:128,0,0::"
        raise UserError(f"{path}: is {kind}, not a file of names; {fix}")


def _is_row(line: str) -> bool:
    """Return whether a line begins with a value, ends with a colour, or has several columns, one of them a number."""
    if VALUE_START.match(line) or COLOUR_END.search(line):
        return True
    columns = [column.strip() for column in re.split(r"[,;|\t]", line)]
    return len(columns) > 2 and any(column.isdecimal() for column in columns)


def _stated_values(entries: list[str]) -> list[tuple[int, str]]:
    """Return the value and the name in each line, but for a heading; none where lines do not state values.

    A mark parts both, in either order, or a space where the values count from 0 or 1 on.
    """
    for form in (VALUE_AND_NAME, NAME_AND_VALUE, VALUE_SPACE_NAME):
        for rows in (entries, entries[1:]):
            matches = [match for line in rows if (match := form.fullmatch(line))]
            if not matches or len(matches) < len(rows):
                continue
            stated = [(int(match["value"]), match["name"].strip("\"' ")) for match in matches]
            if form is not VALUE_SPACE_NAME or _counts_up(stated):
                return stated
    return []


def _counts_up(stated: list[tuple[int, str]]) -> bool:
    """Return whether the values of lines count from 0 or 1 on."""
    values = [value for value, _ in stated]
    first = values[0]
    return first in (0, 1) and values == [*range(first, first + len(values))]


def _names_of_values(entries: list[tuple[int, str]], path: Path) -> dict[int, str]:
    """Return the names by ascending value, without those of nothing or unknown pixels that 0 and 255 may have.

    UserError: a value or a name of a class occurs twice, 0 or 255 is of a class, or another value is of nothing.
    """
    names: dict[int, str] = {}
    for value, name in entries:
        if value in (-1, 0, IGNORE) and (is_unknown(name) or is_nothing(name)):
            continue
        _check_value(value, name, path)
        if value in names:
            raise UserError(f"{path}: '{name}' has the value {value}, which is that of another class; change it")
        names[value] = name
    classes = [name for name in names.values() if not is_unknown(name)]
    check_unique(classes, path)
    check_alike(classes, path)
    return dict(sorted(names.items()))


def _check_value(value: int, name: str, path: Path) -> None:
    """Refuse (UserError) a value that cannot be of a class, or the name of nothing for one."""
    if value == 0:
        fix = f"write 'background' there if '{name}' is none, else raise all values by 1, in the masks too"
        raise UserError(f"{path}: calls the value 0 '{name}', but 0 is the background; {fix}")
    if is_nothing(name) and not is_unknown(name):
        fix = "write 'void' there if such pixels are unknown, else give them the value 0 and leave the name out"
        raise UserError(f"{path}: calls the value {value} '{name}', but 0 is the background; {fix}")
    if not 0 < value < IGNORE:
        raise UserError(f"{path}: '{name}' has the value {value}, which is not one of 1 to 254; change it")


def _read_label_map(lines: list[tuple[str, str]], path: Path) -> MaskNames:
    """Return the names and colours in lines of a name and a colour ``red,green,blue``, which may lack.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. Where all colours lack, as Datumaro writes it, they are VOC's in the order of the lines. UserError: a name
    or a colour occurs twice.
    """
    entries = _with_colours(lines)
    names = dict(enumerate((name for name, _ in entries if not is_nothing(name)), 1))
    check_unique([*names.values()], path)
    check_alike(names.values(), path)
    return MaskNames(names, path, _indices_of_colours(entries, names, path))


def _indices_of_colours(entries: list[tuple[str, str]], names: Mapping[int, str], path: Path) -> Colours:
    """Return the index in masks of the colour of each name; UserError: a colour is of two."""
    value_of_name = {name: IGNORE if is_unknown(name) else value for value, name in names.items()}
    stated: dict[tuple[int, ...], int] = {}
    for name, text in entries:
        if not text:
            continue
        colour = tuple(int(part) for part in text.split(","))
        value = value_of_name.get(name, 0)
        is_black_class = colour == BLACK and value not in (0, IGNORE)
        if stated.setdefault(colour, value) != value or is_black_class:
            raise UserError(f"{path}: '{name}' has the colour {text} of another class, or of the background; change it")
    return {BLACK: 0, VOID: IGNORE} | stated


def _with_colours(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return names with their colours, those of VOC's palette if no name has one and the first is the background's."""
    if not is_nothing(entries[0][0]) or any(colour for _, colour in entries):
        return entries
    palette = np.reshape(voc_palette(), (-1, 3)).tolist()
    return [(name, ",".join(map(str, colour))) for (name, _), colour in zip(entries, palette)]


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    known = set[str]()
    for name in names:
        if name in known or not name.isprintable():
            raise UserError(f"{path}: {name!r} names two classes, or has characters that cannot be printed; rename it")
        known.add(name)


def check_alike(names: Iterable[str], path: Path, say: Callable[[str], None] = note) -> None:
    """Refuse (UserError) two class names that differ by case alone, or by how accents are composed.

    A line says which differ by a number alone, as the objects of one class do where each has a label of its own.
    """
    known: dict[str, str] = {}
    numbered: dict[str, list[str]] = {}  # by the name without its number
    for name in names:
        other = known.setdefault(name_key(name), name)
        if other != name:
            fix = "write one of both if they are one class, else rename one"
            raise UserError(f"{path}: the classes '{other}' and '{name}' differ by upper and lower case alone; {fix}")
        if match := NUMBERED.fullmatch(name):
            numbered.setdefault(match[1], []).append(name)
    for stem, alike in numbered.items():
        if len(alike) > 1:
            fix = f"if they are one class, name all '{stem}'"
            say(f"{path}: {', '.join(alike[:SHOWN])} differ by a number alone; they are separate classes: {fix}")
