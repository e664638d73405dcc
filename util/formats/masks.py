"""Masks with the same stems as their photos, in the photos' folder or in one of their own, class names and colours."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from model.episode import IGNORE
from util.data.images.read import Colours
from util.data.lists.files import photos_below
from util.errors import UserError
from util.files import read_text, visible
from util.formats.photo_files import PhotoFiles, name_key
from util.formats.remarks import BACKGROUND, IGNORED, is_nothing

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
LABEL_LINE = re.compile(r"[^#:][^:]*:(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?(:[^:]*){0,2}$")
# Lines of a file of names that state the value; the beginnings of those, and of JSON
VALUE_AND_NAME = re.compile(r"[\"']?(?P<value>-?\d+)[\"']?\s*([:=,;|\t]|[.)](?=\s)|\s-(?=\s))\s*(?P<name>[^:=,;|\t]*)")
NAME_AND_VALUE = re.compile(r"(?P<name>[^:=,;|\t]*[^:=,;|\t\s])\s*[:=,;|\t]\s*(?P<value>-?\d+)")
VALUE_SPACE_NAME = re.compile(r"(?P<value>\d+)\s+(?P<name>\D.*)")
VALUE_START = re.compile(r"[\"']?-?\d+[\"']?\s*[:=,;|\t]")
JSON_START = re.compile(r"\{|\[\s*([\"'{\[]|$)")
BRUSH_TO_PNG = re.compile(r"task-\d+-annotation-\d+-by-")  # names of masks that Label Studio writes, in lower case
BLACK = (0, 0, 0)  # the colour of background
VOID = (224, 224, 192)  # the colour of PASCAL VOC's unknown pixels
LOSSLESS = (".tif", ".tiff", ".bmp", ".gif")  # suffixes of masks beside PNG
PHOTO_FOLDERS = ("images", "photos", "jpegimages")  # in lower case
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationclassaug")


class MaskNames(NamedTuple):
    """The classes of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> class name, "" of unknown values
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them
    states_values: bool = False  # whether the file says which value is whose, so that its order does not

    @property
    def classes(self) -> dict[int, str]:
        """The values that are of a class, and its name."""
        return {value: name for value, name in self.names.items() if name}


def folders_in(path: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Return the folders of photos and of masks that a folder stands for: two of usual names in it, else itself.

    With a folder of ``photos``, ``path`` is that of the masks, or of one of a usual name.
    """
    entries = visible(path.iterdir(), path) if path.is_dir() else []
    folders = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    photo_folders = [folders[name] for name in PHOTO_FOLDERS if name in folders]
    mask_folders = [folders[name] for name in MASK_FOLDERS if name in folders]
    if photos:
        photo_folders = [photos]
    if photo_folders and mask_folders:
        return photo_folders[0], mask_folders[0]
    return photos or path, path


def names_beside(masks: Path) -> MaskNames | None:
    """Return the names in the file of names in a folder of masks or beside it; None without one; errors as it."""
    for folder in (masks, masks.parent):
        for name in (LABEL_MAP, *NAME_FILES):
            if (folder / name).is_file():
                return read_names(folder / name)
    return None


def masks_in(folder: Path) -> list[Path]:
    """Return the PNGs of a folder; where it holds none, the pictures of other formats that keep values."""
    pictures = photos_below(folder, recursive=False)
    pngs = [path for path in pictures if path.suffix.lower() == ".png"]
    return pngs or [path for path in pictures if path.suffix.lower() in LOSSLESS]


def class_folders(masks: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of photos and of masks of each class, by its name, the folder's; none if it holds masks."""
    if not masks.is_dir() or masks_in(masks):
        return {}
    classes = {}
    for path in visible(masks.iterdir(), masks):
        if path.is_dir() and path.name.lower() not in BACKGROUND:
            photo_folder, mask_folder = folders_in(path)
            if masks_in(mask_folder):
                classes[path.name] = (photo_folder, mask_folder)
    return classes


def pairs(photos: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return photos with their masks, in the order of the photos' paths; what has no partner is left out.

    A line says how many masks that are.

    Raises:
        UserError: a folder does not exist, no photo has a mask, or two photos have the same stem.
    """
    mask_files = masks_in(masks) if masks.is_dir() else []
    mask_of_stem = {name_key(path.stem): path for path in mask_files}
    no_photos = {*mask_of_stem.values()}
    pair_of_stem: dict[str, tuple[Path, Path]] = {}
    for photo in PhotoFiles(photos).paths:
        stem = name_key(photo.stem)
        if stem not in mask_of_stem or photo in no_photos:
            continue
        if stem in pair_of_stem:
            raise UserError(f"{photo} and {pair_of_stem[stem][0]} have the same name; rename one")
        pair_of_stem[stem] = (photo, mask_of_stem[stem])
    if not pair_of_stem:
        raise UserError(f"{masks}: {_why_no_pairs(photos, mask_of_stem)}")
    without_photo = [mask for stem, mask in mask_of_stem.items() if stem not in pair_of_stem]
    if photos != masks and without_photo:
        count = f"{len(without_photo)} masks, such as {without_photo[0].name}"
        print(f"note: {masks}: left out, without a photo: {count}", file=sys.stderr)
    return list(pair_of_stem.values())


def _why_no_pairs(photos: Path, mask_of_stem: dict[str, Path]) -> str:
    """Return why none of the masks has a photo, and what to do."""
    for stem, mask in mask_of_stem.items():
        if BRUSH_TO_PNG.match(stem):
            fix = f"export JSON; or name each with its photo, photo.jpg:{mask.name}, where --supports takes a mask"
            return f"Label Studio's BRUSH_TO_PNG does not say which photos these are of; {fix}"
    fix = "name masks like photos, photo.jpg: photo.png (no JPEG, which changes values)"
    return f"does not exist, or holds no mask of a photo in {photos}; {fix}"


def read_names(path: Path) -> MaskNames:
    """Return the names in a file: one per line from value 1 on, or each with its value, or a label map as CVAT's.

    Comments (#) do not count. First lines of ``IGNORED``, then of nothing (``is_nothing``), do not either: labelme's -1
    and 0, which masks hold as 255 and 0. UserError: the file cannot be read, is a table or JSON, or as
    ``_names_of_values``.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    lines = [line.strip() for line in lines]
    entries = [line for line in lines if line and not line.startswith("#")]
    if entries and all(LABEL_LINE.match(line) for line in entries):
        return _read_label_map(entries, path)
    if stated := _stated_values(entries):
        return MaskNames(_names_of_values(stated, path), path, states_values=True)
    _refuse_table(entries, path)
    if entries and entries[0].casefold() in IGNORED:
        entries = entries[1:]
    if entries and is_nothing(entries[0]):
        entries = entries[1:]
    return MaskNames(_names_of_values([*enumerate(entries, 1)], path), path)


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
            raise UserError(f"{path}: '{name}' has the value {value}, which is taken or none of 1 to 254; change it")
        names[value] = "" if is_unknown else name
    check_unique([name for name in names.values() if name], path)
    return dict(sorted(names.items()))


def _read_label_map(lines: list[str], path: Path) -> MaskNames:
    """Return the names and colours in lines ``name:red,green,blue:parts:actions``; a colour may lack.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. UserError: a name or a colour occurs twice.
    """
    entries = [line.split(":")[:2] for line in lines]
    classes = [name for name, _ in entries if not is_nothing(name)]
    check_unique(classes, path)
    names = {value: _known(name) for value, name in enumerate(classes, 1)}
    values = {name: value if names[value] else IGNORE for value, name in enumerate(classes, 1)}
    colours: dict[tuple[int, ...], int] = {BLACK: 0, VOID: IGNORE}
    for name, text in entries:
        if not text.strip():
            continue
        red, green, blue = (int(part) for part in text.split(","))
        value = values.get(name, 0)
        known = colours.get((red, green, blue), IGNORE)
        if known not in (value, IGNORE):
            raise UserError(f"{path}: '{name}' has the colour {text} of another class, or of the background; change it")
        colours[red, green, blue] = value
    return MaskNames(names, path, colours)


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
