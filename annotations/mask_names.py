"""Read the file that names the classes of masks: which value, or which colour, stands for which class."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any, NamedTuple

from annotations.mask_formats import Colours
from annotations.words import is_nothing, is_unknown, name_key
from util.files.errors import UserError, note
from util.files.palette import IGNORE
from util.files.reading import read_text

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
VALUES = "_classes.csv"  # Roboflow's, in the folder of each part
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
# Lines of a file of names: a colour or a value beside the name
RGB = r"[(\[]?(?P<red>\d{1,3})[\s,;]+(?P<green>\d{1,3})[\s,;]+(?P<blue>\d{1,3})[)\]]?"
NAME_AND_COLOUR = re.compile(rf"(?P<name>[^\d\s].*?)[\s:=,;|]+{RGB}(:[^:]*)?(:[^:]*)?")
VALUE_AND_NAME = re.compile(r"[\"']?(?P<value>-?\d+)[\"']?\s*[:=,;|.)\t]\s*(?P<name>.*)")
NUMBERED = re.compile(r"(.*[^\W\d])[\W_]*\d+")  # a name and a number
SHOWN = 4  # names in a line
VOID = (224, 224, 192)  # the colour of PASCAL VOC's unknown pixels


class MaskNames(NamedTuple):
    """The names of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> name, by ascending value
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them
    states_values: bool = False  # whether the file says which values the names have, or that its first line is of 0

    @property
    def classes(self) -> dict[int, str]:
        """The values that are of a class, and its name."""
        return {value: name for value, name in self.names.items() if not is_unknown(name)}

    @property
    def unknown(self) -> dict[int, str]:
        """The values that are of unknown pixels, and their name."""
        return {value: name for value, name in self.names.items() if is_unknown(name)}


def names_beside(masks: Path) -> MaskNames | None:
    """Return the names in the file of names in a folder of masks or beside it; None without one."""
    files = [folder / name for folder in (masks, masks.parent) for name in (LABEL_MAP, *NAME_FILES)]
    found = next(filter(Path.is_file, chain(files, masks.glob(f"**/{VALUES}"))), None)
    return None if found is None else read_names(found)


def photos_of_masks(masks: Path) -> dict[str, Any]:
    """Return what the first line of the file of names says of the photos of persons' masks, by stems.

    {} for masks of other programs.
    """
    with suppress(OSError, ValueError, TypeError, RecursionError):
        first = (masks / NAME_FILES[0]).read_text(encoding="utf-8").partition("\n")[0]
        return dict(json.loads(first.removeprefix("# ")))
    return {}


def names_in(given: Path) -> MaskNames:
    """Return the names that an option gives: those of a file, or the words themselves with commas, from value 1 on.

    UserError: as ``read_names``, or a name is there twice.
    """
    if given.exists() or given.suffix:
        return read_names(given)
    names = [name.strip() for name in str(given).split(",") if name.strip()]
    return MaskNames(_names_of_values([*enumerate(names, 1)], given), given)


def read_names(path: Path) -> MaskNames:
    """Return the names in a file: one per line from value 1 on, or each with its value or colour.

    Comments do not count: lines of # and a space, and those of # before the first name. A first line of unknown pixels,
    then one of nothing (``is_nothing``), do not either: labelme's -1 and 0, which masks hold as 255 and 0. UserError:
    the file cannot be read, or as ``_names_of_values``.
    """
    lines = [line.strip() for line in read_text(path, "the class names", "write one name per line").splitlines()]
    from_first_name = dropwhile(lambda line: line.startswith("#"), filter(None, lines))
    lines = [line for line in from_first_name if not line.startswith("# ")]
    if matches := _matches(NAME_AND_COLOUR, [line for line in lines if not line.startswith("#")]):
        return _coloured_names(matches, path)
    if matches := _matches(VALUE_AND_NAME, lines):
        stated = [(int(match["value"]), match["name"].strip("\"' ")) for match in matches]
        return MaskNames(_names_of_values(stated, path), path, states_values=True)
    return _counted_names(lines, path)


def _matches(form: re.Pattern[str], lines: list[str]) -> list[re.Match[str]]:
    """Return the match of each line, but for a heading; none where a line has another form."""
    for rows in (lines, lines[1:]):
        matches = [match for line in rows if (match := form.fullmatch(line))]
        if len(matches) == len(rows):
            return matches
    return []


def _coloured_names(matches: list[re.Match[str]], path: Path) -> MaskNames:
    """Return names and their colours, as in CVAT's label map.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. UserError: as ``_names_of_values``, or a colour occurs twice.
    """
    entries = [match["name"].strip("\"' ") for match in matches]
    names = _names_of_values([*enumerate((name for name in entries if not is_nothing(name)), 1)], path)
    value_of_name = {name: IGNORE if is_unknown(name) else value for value, name in names.items()}
    colours: dict[tuple[int, ...], int] = {(0, 0, 0): 0}  # black is the background
    for name, match in zip(entries, matches, strict=True):
        colour = int(match["red"]), int(match["green"]), int(match["blue"])
        value = value_of_name.get(name, 0)
        if colours.setdefault(colour, value) != value and value != IGNORE:
            raise UserError(
                f"{path}: '{name}' has the colour {colour} of another class, or of the background; change it"
            )
    return MaskNames(names, path, {VOID: IGNORE} | colours)


def _counted_names(lines: list[str], path: Path) -> MaskNames:
    """Return names that count from 1 on, after lines of unknown pixels and of nothing."""
    if lines and is_unknown(lines[0]) and not is_nothing(lines[0]):
        lines = lines[1:]
    has_line_of_0 = bool(lines) and is_nothing(lines[0])
    return MaskNames(_names_of_values([*enumerate(lines[has_line_of_0:], 1)], path), path, states_values=has_line_of_0)


def _names_of_values(entries: list[tuple[int, str]], path: Path) -> dict[int, str]:
    """Return the names by ascending value, without those of nothing or unknown pixels that 0 and 255 may have.

    UserError: a value or a name of a class occurs twice, 0 or 255 is of a class, or another value is of nothing.
    """
    names: dict[int, str] = {}
    for value, name in entries:
        if value in (-1, 0, IGNORE) and (is_unknown(name) or is_nothing(name)):
            continue
        if value in names or not 0 < value < IGNORE or (is_nothing(name) and not is_unknown(name)):
            others = f", as '{names[value]}'" if value in names else ""
            raise UserError(
                f"{path}: '{name}' has the value {value}{others}",
                fix="0 is the background, 255 is unknown, classes have 1 to 254, each another, in the masks too",
            )
        names[value] = name
    check_names([name for name in names.values() if not is_unknown(name)], path)
    return dict(sorted(names.items()))


def check_names(names: Iterable[str], path: Path) -> None:
    """Refuse (UserError) class names that are equal but for case and how accents are composed, or cannot be printed.

    A line says which differ by a number alone, as the objects of one class do where each has a label of its own.
    """
    known: dict[str, str] = {}
    numbered: dict[str, list[str]] = {}  # by the name without its number
    for name in names:
        key = name_key(name)
        if key in known or not name.isprintable():
            raise UserError(
                f"{path}: the class names {known.get(key, name)!r} and {name!r} are alike, or cannot be printed",
                fix="write one of both if they are one class, else rename one",
            )
        known[key] = name
        if match := NUMBERED.fullmatch(name):
            numbered.setdefault(match[1], []).append(name)
    for stem, alike in numbered.items():
        if len(alike) > 1:
            note(
                f"{path}: {', '.join(alike[:SHOWN])} differ by a number alone; they are separate classes: if they are "
                f"one class, name all '{stem}'"
            )
