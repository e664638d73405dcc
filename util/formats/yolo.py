"""The format of YOLO's segmentation: a data file of class names, and a text file of outlines for each photo.

A row of a text file is ``class x y x y ...`` in shares of the photo's width and height; five numbers are a box, class,
centre and size. The text files lie in folders ``labels``, the photos in folders ``images`` beside them.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from util.data.images.read import header_of, upright_size
from util.errors import UserError
from util.files import link, read_text, write_atomically
from util.formats.annotations import Annotations, Found, Instance, Photo, PhotoFiles, reason_of
from util.formats.masks import check_unique
from util.formats.shapes import corners_of

YAML_SUFFIXES = (".yaml", ".yml")
ROWS_SUFFIX = ".txt"
DATA_FILE, CLASS_FILE = "data.yaml", "classes.txt"
LABELS, IMAGES = "labels", "images"  # folders
BEYOND = 0.01  # of the photo's side: rounding of other programs


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations that belong to a data file, or to the data file or ``classes.txt`` in a folder.

    Category ids are the classes' numbers plus 1.

    Args:
        folder: of the photos; default ``images`` in place of ``labels``, or the folder of the text files.

    Raises:
        UserError: a file is unreadable or in another format, or its photo is missing; the message names the file.
    """
    if path.is_dir():
        found = data_files_in(path)
        if len(found) != 1:
            raise UserError(f"{path}: holds {len(found)} data files with the class names; name one of them")
        path = found[0]
    names, root = read_data_file(path)
    rows = [file for file in sorted(root.rglob(f"*{ROWS_SUFFIX}")) if file.name != CLASS_FILE]
    files = [file for file in rows if LABELS in file.relative_to(root).parts[:-1]]
    files = files or [file for file in rows if file.parent == root]
    if not files:
        raise UserError(f"{root}: holds no folder '{LABELS}' with {ROWS_SUFFIX} files; name the folder of the data set")
    photo_files = PhotoFiles(folder or root)
    beside = {photo.with_suffix(""): photo for photo in photo_files.paths}
    photos = []
    for number, file in enumerate(tqdm(files, str(root), unit="file", leave=False, delay=1), 1):
        photo = _photo_of(file, beside) if folder is None else photo_files.named(file.stem, file)
        size = upright_size(*header_of(photo))
        instances = tuple(Instance(number, n + 1, False, (points,)) for n, points in _rows_of(file, size, len(names)))
        photos.append(Photo(number, os.path.relpath(photo, folder or root), *size, instances))
    return Annotations(tuple(photos), dict(enumerate(names, 1)), folder or root)


def data_files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that may be data files: YAML files, else ``classes.txt`` there or in ``labels``."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in YAML_SUFFIXES and p.is_file())
    return found or [p for p in (folder / CLASS_FILE, folder / LABELS / CLASS_FILE) if p.is_file()][:1]


def read_data_file(path: Path) -> tuple[list[str], Path]:
    """Return the class names of a data file or ``classes.txt`` by their numbers from 0, and the data set's folder.

    The folder is the ``path`` of the data file where that exists, else the file's own.

    Raises:
        UserError: the file is unreadable, or its names are no list.
    """
    text = read_text(path, "the class names", f"write them to {DATA_FILE}")
    root = path.parent.parent if path.parent.name == LABELS else path.parent
    if path.suffix.lower() not in YAML_SUFFIXES:
        names = [line.strip() for line in text.split("\n") if line.strip()]
    else:
        try:
            content = yaml.safe_load(text)
            names = content["names"]
            if not isinstance(names, (list, dict)):
                raise TypeError("names must list the classes, or map 0, 1, ... to them")
            names = [str(names[number]) for number in range(len(names))]
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: {reason_of(error)}; write names: [cat, dog]") from None
        stated = path.parent / str(content.get("path", ""))
        root = stated if "path" in content and stated.is_dir() else root
    check_unique(names, path)
    return names, root


def _photo_of(file: Path, photos: dict[Path, Path]) -> Path:
    """Return the photo of a text file: in the folder ``images`` in place of the last ``labels``, or beside it."""
    parts = list(file.with_suffix("").parts)
    if LABELS in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(LABELS)] = IMAGES
    photo = photos.get(Path(*parts)) or photos.get(file.with_suffix(""))
    if photo is None:
        raise UserError(f"{file}: its photo is not in {Path(*parts).parent}; name its folder with --photos")
    return photo


def _rows_of(path: Path, size: tuple[int, int], classes: int) -> list[tuple[int, np.ndarray]]:
    """Return class number and polygon, (2 x points,) float64, of each row of a text file."""
    out = []
    for number, line in enumerate(read_text(path, "these outlines", "check the file's name").split("\n"), 1):
        if not line.strip():
            continue
        try:
            category, shares = int(line.split()[0]), np.array(line.split()[1:], np.float64)
            if category not in range(classes):
                raise ValueError(f"class {category} is not among the classes 0..{classes - 1}")
            if len(shares) == 4:  # a box
                x, y, width, height = shares
                shares = corners_of(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            if len(shares) < 6:
                raise ValueError("an outline has at least three corners x y")
            if not ((shares >= -BEYOND) & (shares <= 1 + BEYOND)).all():
                raise ValueError("coordinates must be shares of the photo's sides, from 0 to 1")
            out.append((category, (np.clip(shares, 0, 1).reshape(-1, 2) * size[::-1]).reshape(-1)))
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not in YOLO's form for segmentation ({error})") from None
    return out


def write(folder: Path, found: Found) -> None:
    """Write the text file of each photo beside a link to the photo, and last the data file.

    Each connected part of an object is a row. The paths in the data file are relative to its folder.
    """
    names = list(found.categories.values())
    for photo in found.photos:
        link(photo.path, folder / IMAGES / photo.path.name, relative=True)
        rows = []
        for one in photo.objects:
            for polygon in one.polygons():
                shares = (polygon / (photo.width, photo.height)).reshape(-1)
                rows.append(" ".join([str(names.index(one.name)), *(f"{share:.6f}" for share in shares)]))
        photo.write(folder / LABELS / f"{photo.path.stem}{ROWS_SUFFIX}", "".join(f"{row}\n" for row in rows))
    content: dict[str, Any] = {"train": IMAGES, "val": IMAGES, "nc": len(names), "names": dict(enumerate(names))}
    write_atomically(folder / DATA_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
