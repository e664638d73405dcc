"""The list of a part of a data set: which photos it names, and the mask of each."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from util.config.settings import BINARY, DataSettings
from util.files.errors import UserError
from util.files.photos import IMAGE_SUFFIXES
from util.files.reading import lines_of, read_text

MASK_SUFFIX = ".png"  # of the masks of a data set
NAME, COLUMNS, OF_BINARY = 1, 2, 3  # words of a line: lists of names, BAM's and PFENet's, and of a mask per class
# What prepare.py makes a data set from
GIVEN, OTHERS = {"pascal": "--voc VOCdevkit/VOC2012 [--sbd FOLDER]"}, "(--help says from what)"
FORMS = {
    NAME: "the name of an image",
    COLUMNS: "the paths of photo and mask",
    OF_BINARY: "a mask, its class id and its photo",
}


@dataclass(frozen=True)
class Listed:
    """A list file's rows, and the photo and the mask of each."""

    path: Path
    rows: list[list[str]]  # of each image its name; then its class id and photo, or the paths that its line states
    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def text(self) -> str:
        """The rows as lines."""
        return "\n".join(map(" ".join, self.rows))


def list_of(data: DataSettings, part: str) -> str:
    """Return the list of a part of a data set, "train", "validation" or "test"; UserError if it has none."""
    lists = {"train": data.train_list, "validation": data.validation_list or data.test_list, "test": data.test_list}
    name = lists[part]
    if name is None:
        raise UserError(f"data.{part}_list: is null: {data.name} has no images for this; name another data set")
    return name


def read_list(data: DataSettings, part: str) -> Listed:
    """Return the list of a part, as ``list_of``; UserError also if its folder or itself is missing or wrong."""
    root = Path(data.root)
    path = root / list_of(data, part)
    if not root.is_dir():
        raise UserError(
            f"{root}: this data folder does not exist",
            fix=f"set data.root, or make it: python prepare.py {data.name} --out {root} {GIVEN.get(data.name, OTHERS)}",
        )
    if data.mask_form == BINARY:
        rows = _read_rows(path, OF_BINARY)
        return _unique(path, rows, [_named_files(data, name=row[0], photo=row[-1]) for row in rows], by_class=True)
    rows = _read_rows(path, NAME, COLUMNS)
    if len(rows[0]) == COLUMNS:
        return _of_columns(path, rows, data)
    return _unique(path, rows, [_named_files(data, name=name, photo=name) for (name,) in rows])


def read_names(path: Path) -> tuple[str, ...]:
    """Return the image names of a list that has one in each line; UserError: it is missing, or has another form."""
    rows = _read_rows(path, NAME)
    return tuple(row[0] for row in _unique(path, rows, [(Path(row[0]), Path(row[0])) for row in rows]).rows)


def _read_rows(path: Path, *counts: int) -> list[list[str]]:
    """Return the words of each line of a list, of which each line has one of some counts, the same in all.

    UserError: lines have other forms, or there is none.
    """
    rows: list[list[str]] = []
    text = read_text(path, "this list", "make it by prepare.py, or set data.train_list / data.test_list")
    for number, line in lines_of(text):
        row = line.split()
        rows.append(row)
        has_form = len(row) in counts and len(row) == len(rows[0])
        has_class = len(row) != OF_BINARY or row[1].isdecimal()
        if not has_form or not has_class or "\0" in line:
            form = ", or ".join(map(FORMS.__getitem__, counts))
            raise UserError(f"{path}:{number}: {line[:80]!r} is not {form}, as a line must be; write all lines so")
    if not rows:
        raise UserError(f"{path}: this list names no image; write one name per line")
    return rows


def _named_files(data: DataSettings, name: str, photo: str) -> tuple[Path, Path]:
    """Return the photo and the mask of an image that a list names."""
    root = Path(data.root)
    return root / data.images / f"{photo}{data.image_suffix}", root / data.masks / f"{name}{MASK_SUFFIX}"


def _of_columns(path: Path, rows: list[list[str]], data: DataSettings) -> Listed:
    """Return a list of two columns; an image whose files lie where its name would find them has that name alone."""
    root = Path(data.root)
    named: list[list[str]] = []
    files = []
    for photo, mask in rows:
        stated = stated_file(root, photo), stated_file(root, mask)
        name = _name_of(stated[0], data)
        is_usual = stated == _named_files(data, name=name, photo=name)
        named.append([name] if is_usual else [name, photo, mask])
        files.append(stated)
    return _unique(path, named, files)


def stated_file(root: Path, stated: str) -> Path:
    """Return the file that a list states: from the data set's folder on, also with a leading slash, or anywhere.

    Of a path that leads out of the folder to nothing, as in lists of another machine, the rest below the folder counts.
    """
    stated = stated.replace("\\", "/")
    path = Path(stated)
    is_elsewhere = path.is_absolute() and (path.exists() or path.is_relative_to(root.resolve()))
    place = path if is_elsewhere else root / stated.lstrip("/")
    if (path.is_absolute() or path.parts[:1] == ("..",)) and not place.exists():
        rests = (root.joinpath(*path.parts[start:]) for start in range(1, len(path.parts) - 1))
        place = next(filter(Path.exists, rests), place)
    for folder in (root, root.resolve()):
        if place.is_relative_to(folder):
            return root / place.relative_to(folder)
    return place


def _name_of(photo: Path, data: DataSettings) -> str:
    """Return a photo's name: its path below the folder of photos, else below the data set's, without its suffix."""
    root = Path(data.root)
    name = photo.name
    for folder in (root, root / data.images):
        if photo.is_relative_to(folder):
            name = photo.relative_to(folder).as_posix()
    has_suffix = bool(data.image_suffix) and photo.suffix.lower() in IMAGE_SUFFIXES
    return name.removesuffix(photo.suffix) if has_suffix else name


def _unique(path: Path, rows: list[list[str]], files: list[tuple[Path, Path]], by_class: bool = False) -> Listed:
    """Return a list; UserError: it names a photo twice, with ``by_class`` twice for a class, by whatever words."""
    known = dict[tuple[str, str, int], str]()
    real_path = functools.cache(os.path.realpath)  # of folders, which may be links
    for row, (photo, _) in zip(rows, files, strict=True):
        folder, file = os.path.split(os.path.normpath(photo))
        key = (real_path(folder), file, int(row[1]) if by_class else 0)
        if key in known:
            also = "" if known[key] == row[0] else f", also as '{known[key]}'"
            raise UserError(f"{path}: '{row[0]}' is named twice{also}; write each image once")
        known[key] = row[0]
    return Listed(path, rows, tuple(image for image, _ in files), tuple(mask for _, mask in files))
