"""The format of YOLO's segmentation: a data file of class names, and a text file of outlines for each photo.

A row of a text file is ``class x y x y ...`` in shares of the photo's width and height; five numbers are a box, class,
centre and size. The text files lie in folders ``labels``, the photos in folders ``images`` beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from util.data.images.orientation import upright_size
from util.data.images.read import header_of
from util.data.lists.files import IMAGE_SUFFIXES
from util.errors import UserError
from util.files import link, read_text, write_atomically
from util.formats.annotations import Annotations, Instance, Photo, checked_text, corners_of, reason_of
from util.formats.contours import polygons_of
from util.formats.found import FoundPhoto
from util.formats.photo_files import PhotoFiles, progress
from util.formats.run_lengths import decoded

YAML_SUFFIXES = (".yaml", ".yml")
ROWS_SUFFIX = ".txt"
DATA_FILE, CLASS_FILE = "data.yaml", "classes.txt"
LABELS, IMAGES = "labels", "images"  # folders
NAMES = "names"  # the key that identifies a data file
BOX_NUMBERS, MIN_NUMBERS = 4, 6
BEYOND = 0.01  # of the photo's side: rounding of other programs
DIGITS = 6  # after the decimal point, of shares


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations that belong to a data file, or to the data file or ``classes.txt`` in a folder.

    Args:
        folder: of the photos; default ``images`` in place of ``labels``, or the folder of the text files.

    Raises:
        UserError: a file is unreadable or in another format, or its photo is missing; the message names the file.
    """
    data = data_file_in(path) if path.is_dir() else path
    names, root = class_names_of(data), _root(data)
    files = [file for file in sorted(root.rglob(f"*{ROWS_SUFFIX}")) if LABELS in file.relative_to(root).parts[:-1]]
    files = files or [file for file in sorted(root.glob(f"*{ROWS_SUFFIX}")) if file.name != CLASS_FILE]
    if not files:
        raise UserError(f"{root}: holds no folder '{LABELS}' with {ROWS_SUFFIX} files; name the folder of the data set")
    photos_named = None if folder is None else PhotoFiles(folder)
    photos = []
    for number, file in enumerate(progress(files, str(root)), 1):
        photo = photos_named.named(file.stem, file) if photos_named else _photo_of(file, root)
        size = upright_size(*header_of(photo))
        instances = tuple(
            Instance(number, category, False, (points,)) for category, points in rows_of(file, size, len(names))
        )
        photos.append(Photo(number, os.path.relpath(photo, folder or root), *size, instances))
    return Annotations(tuple(photos), dict(enumerate(names)), folder or root)


def data_file_in(folder: Path) -> Path:
    """Return the data file of a folder, or its ``classes.txt``.

    Raises:
        UserError: there is none, or there are several.
    """
    found = data_files_in(folder)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{folder}: holds {found[0].name} and {found[1].name}; name one of them in place of the folder")
    raise UserError(f"{folder}: holds no {DATA_FILE} with '{NAMES}' and no {CLASS_FILE}; name the classes in one")


def data_files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that may be data files: YAML files, else ``classes.txt`` there or in ``labels``."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in YAML_SUFFIXES and p.is_file())
    return found or [p for p in (folder / CLASS_FILE, folder / LABELS / CLASS_FILE) if p.is_file()][:1]


def _root(data: Path) -> Path:
    """Return the folder of a data set: the ``path`` of its data file where that exists, else the file's folder."""
    if data.suffix.lower() in YAML_SUFFIXES and isinstance(stated := _content(data).get("path"), str):
        candidate = data.parent / stated
        if stated.isprintable() and candidate.is_dir() and candidate.resolve().parent != candidate.resolve():
            return candidate
    return data.parent.parent if data.parent.name == LABELS else data.parent


def _content(data: Path) -> dict:
    """Return the content of a data file."""
    text = read_text(data, "this data file", "check its name")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        raise UserError(f"{data}: not YAML{where}; write '{NAMES}: [cat, dog]'") from None
    if not isinstance(content, dict):
        raise UserError(f"{data}: holds no '{NAMES}'; write '{NAMES}: [cat, dog]'")
    return content


def class_names_of(data: Path) -> list[str]:
    """Return the class names of a data file or ``classes.txt``, in the order of their numbers, which begin with 0.

    Raises:
        UserError: the file is unreadable, or its names are no list.
    """
    names: Any
    if data.suffix.lower() not in YAML_SUFFIXES:
        names = read_text(data, "the class names", "write one name per line").split("\n")
        names = [name.strip() for name in names if name.strip()]
    else:
        names = _content(data).get(NAMES)
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    try:
        if not isinstance(names, list) or not names:
            raise ValueError("must list the classes, or map 0, 1, ... to them")
        names = [checked_text(name) for name in names]
        if len(set(names)) < len(names):
            raise ValueError(f"'{next(n for n in names if names.count(n) > 1)}' occurs twice")
    except ValueError as error:
        raise UserError(f"{data}: '{NAMES}': {error}; write '{NAMES}: [cat, dog]'") from None
    return names


def _photo_of(file: Path, root: Path) -> Path:
    """Return the photo of a text file: in the folder ``images`` in place of the last ``labels``, or beside it."""
    parts = list(file.parent.relative_to(root).parts)
    if LABELS in parts:
        parts[len(parts) - 1 - parts[::-1].index(LABELS)] = IMAGES
    for place in (root.joinpath(*parts), file.parent):
        for suffix in IMAGE_SUFFIXES:
            for written in (suffix, suffix.upper()):
                if (photo := place / f"{file.stem}{written}").is_file():
                    return photo
    raise UserError(f"{file}: its photo is not in {root.joinpath(*parts)}; name its folder with --photos")


def rows_of(path: Path, size: tuple[int, int], classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield class number and polygon, (2 x points,) float64, of each row of a text file.

    Raises:
        UserError: names the line.
    """
    text = read_text(path, "these outlines", "check the file's name")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _row(line, size, classes)
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is not in YOLO's form for segmentation ({reason_of(error)}); export it again"
            ) from None


def _row(line: str, size: tuple[int, int], classes: int) -> tuple[int, np.ndarray]:
    """Return class number and polygon of a row; five numbers are a box."""
    first, *words = line.split()
    if not first.isdecimal() or len(first) > len(str(classes)) or int(first) >= classes:
        raise ValueError(f"class '{first[:80]}' is not among the classes 0..{classes - 1}")
    shares = np.array([float(word) for word in words])
    if len(shares) != BOX_NUMBERS and (len(shares) < MIN_NUMBERS or len(shares) % 2):
        raise ValueError(f"{len(shares)} numbers after the class; write pairs x y of at least 3 corners")
    if len(shares) == BOX_NUMBERS:
        x, y, width, height = shares
        shares = corners_of(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if not ((shares >= -BEYOND) & (shares <= 1 + BEYOND)).all():
        raise ValueError("coordinates must be shares of the photo's sides, from 0 to 1")
    return int(first), (np.clip(shares, 0, 1).reshape(-1, 2) * size[::-1]).reshape(-1)


def write_photo(folder: Path, photo: FoundPhoto, names: list[str]) -> None:
    """Write the text file of a photo, and link the photo beside it; each connected part of an object is a row.

    Args:
        folder: of the data set.

    Raises:
        WriteError: the folder cannot be written.
    """
    link(photo.path, folder / IMAGES / photo.path.name)
    rows = []
    for found in photo.objects:
        for polygon in polygons_of(decoded(found.runs)):
            shares = (polygon / (photo.width, photo.height)).reshape(-1)
            rows.append(" ".join([str(names.index(found.name)), *(f"{share:.{DIGITS}f}" for share in shares)]))
    write_atomically(rows_path(folder, photo.path), "".join(f"{row}\n" for row in rows))


def rows_path(folder: Path, photo: Path) -> Path:
    """Return the path of a photo's text file."""
    return folder / LABELS / f"{photo.stem}{ROWS_SUFFIX}"


def write_data_file(folder: Path, names: list[str]) -> None:
    """Write the data file, whose paths are relative to its folder; it is complete when all photos are.

    Raises:
        WriteError: the file cannot be written.
    """
    content = {"train": IMAGES, "val": IMAGES, "nc": len(names), NAMES: dict(enumerate(names))}
    write_atomically(folder / DATA_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
