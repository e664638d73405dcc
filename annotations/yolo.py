"""The format of YOLO's segmentation: a data file of class names, and a text file of outlines for each photo.

A row of a text file is ``class x y x y ...`` in shares of the photo's width and height; five numbers are a box, class,
centre and size. The text files lie in folders ``labels``, the photos in folders ``images`` beside them.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from annotations.annotation import (
    SOME_BOX,
    AnnotatedPhoto,
    Annotations,
    Instance,
    PredictedPhoto,
    Predictions,
    Written,
    content_errors,
)
from annotations.masks import check_lines, check_unique
from annotations.photo_files import PhotoFiles
from annotations.pictures import header_of
from annotations.remarks import NO_TEXT_FILE, Remarks
from annotations.shapes import WITHIN, corners_of, is_rectangle
from util.files import files_below, paths_below, read_text, visible, write_atomically
from util.files.errors import UserError
from util.files.images import upright_size
from util.files.made import link
from util.files.progress import ProgressBar
from util.files.yaml_text import Loader, read_yaml

EXACT = 0.05  # pixels, half the step of the coordinates that are written
YAML_SUFFIXES = (".yaml", ".yml")
ROWS_SUFFIX = ".txt"
DATA_FILE = "data.yaml"
CLASS_FILES = ("classes.txt", "obj.names")  # the second is of CVAT's YOLO 1.1
LABELS, IMAGES = "labels", "images"  # folders
CVAT_FOLDER = re.compile(r"obj_\w+_data")  # folders of text files, with or without their photos
BEYOND = 0.01  # of the photo's side: rounding of other programs
NOT_ROW = "is not in YOLO's form for segmentation"
UNDER = 0.45  # of a pixel, where outlines are written: whether programs round or cut coordinates, they paint that pixel


def _only_data_file(folder: Path) -> Path:
    """Return the data file in a folder; UserError: there is none, or several."""
    data_files = data_files_in(folder)
    if len(data_files) != 1:
        raise UserError(f"{folder}: holds {len(data_files)} data files with the class names; name one of them")
    return data_files[0]


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations that belong to a data file, or to the data file or ``classes.txt`` in a folder.

    Category ids are the classes' numbers plus 1. The photos are found in ``folder``, default ``images`` in place of
    ``labels``. UserError: a file is unreadable or in another format, or its photo is missing; it names the file.
    """
    if path.is_dir():
        path = _only_data_file(path)
    names, root = read_data_file(path)
    files = _text_files(root)
    photo_files = PhotoFiles(folder or root)
    photos: list[AnnotatedPhoto] = []
    annotated: set[Path] = set()
    for file in ProgressBar(files, str(root), unit="file", leave=False, delay=1):
        photo = photo_files.find(_photo_place(file.relative_to(root)), file)
        annotated.add(photo.resolve())
        height, width = upright_size(*header_of(photo))
        instances = tuple(_rows(file, (height, width), names))
        photos.append(AnnotatedPhoto(os.path.relpath(photo, folder or root), height, width, instances))
    remarks = Remarks()
    remarks.add_named(NO_TEXT_FILE, photo_files.names_beside(annotated))
    categories = {number + 1: name for number, name in names.items()}
    return Annotations(tuple(photos), categories, PhotoFiles(folder or root, is_named=False), path, remarks)


def _photo_place(text_file: Path) -> str:
    """Return where the photo of a text file is, without its suffix: in ``images`` in place of ``labels``."""
    parts = text_file.with_suffix("").parts
    return "/".join(IMAGES if part == LABELS else part for part in parts)


def _text_files(root: Path) -> list[Path]:
    """Return the text files of a data set in its folder: those in folders ``labels``, else those in the folder itself.

    UserError: there is none.
    """
    texts = [file for file in files_below(root, ROWS_SUFFIX) if file.name not in CLASS_FILES]
    in_labels = [file for file in texts if any(map(_is_of_labels, file.relative_to(root).parts[:-1]))]
    files = in_labels or [file for file in texts if file.parent == root]
    if not files:
        raise UserError(f"{root}: holds no folder '{LABELS}' with {ROWS_SUFFIX} files; name the folder of the data set")
    return files


def _is_of_labels(folder: str) -> bool:
    """Return whether a folder's name is that of a folder of text files."""
    return folder == LABELS or bool(CVAT_FOLDER.fullmatch(folder))


def is_set(folder: Path) -> bool:
    """Return whether a folder holds a data file, or a file of names with text files in a folder of these."""
    data_files = data_files_in(folder)
    if not data_files or data_files[0].suffix.lower() in YAML_SUFFIXES:
        return bool(data_files)
    folders = [entry for entry in folder.iterdir() if entry.is_dir() and _is_of_labels(entry.name)]
    return any(paths_below(folder, f"{labels.name}/*{ROWS_SUFFIX}") for labels in folders)


def data_files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that may be data files: YAML files, else one of names, there or in ``labels``."""
    entries = visible(folder.iterdir(), folder)
    data_files = [path for path in entries if path.suffix.lower() in YAML_SUFFIXES and path.is_file()]
    places = [home / name for home in (folder, folder / LABELS) for name in CLASS_FILES]
    class_files = [file for file in places if file.is_file()]
    return data_files or class_files[:1]


# A loader whose plain values stay the text that they are: ``no`` and ``1`` are names too
AS_WRITTEN = type("AsWritten", (Loader,), {"yaml_implicit_resolvers": {}})


def read_data_file(path: Path) -> tuple[dict[int, str], Path]:
    """Return the class names of a data file or ``classes.txt`` by their numbers, and the data set's folder.

    The folder is the ``path`` of the data file where that exists, else the file's own. UserError: the file is
    unreadable, or its names are no list.
    """
    text = read_text(path, "the class names", f"write them to {DATA_FILE}")
    root = path.parent.parent if path.parent.name == LABELS else path.parent
    if path.suffix.lower() in YAML_SUFFIXES:
        with content_errors(f"{path}: ", "; write names: [cat, dog]"):
            content = _read_yaml(text)
            names = {number: name.strip() for number, name in _names_in(content).items()}
            stated = path.parent / str(content.get("path", ""))
        if "path" in content and stated.is_dir():
            root = stated
    else:
        lines = [line.strip() for line in text.split("\n")]
        names = dict(enumerate(filter(None, lines)))
        check_lines([*names.values()], path)
    check_unique([*names.values()], path)
    return names, root


def _read_yaml(text: str) -> dict[str, Any]:
    """Return the content of a data file; in quotes, ``\\`` of a place on Windows is no escape. ValueError: no YAML."""
    for written in (text, text.replace("\\", "\\\\")):
        try:
            return read_yaml(written, AS_WRITTEN)
        except ValueError as error:
            problem = error
            if "\\" not in text:
                break
    raise ValueError(problem)


def _names_in(content: dict[str, Any]) -> dict[int, str]:
    """Return the class names of a data file by their numbers, in order; ValueError, KeyError: it has no such list."""
    names = content["names"]
    if "kpt_shape" in content:
        raise ValueError("is of key points, whose rows are no outlines")
    if not names:
        raise ValueError("names is empty")
    if isinstance(names, list):
        return dict(enumerate(map(str, names)))
    if not isinstance(names, dict) or not all(number.isdecimal() for number in names):
        raise ValueError("names must list the classes, or map 0, 1, ... to them")
    return dict(sorted((int(number), str(name)) for number, name in names.items()))


def _rows(path: Path, size: tuple[int, int], classes: Mapping[int, str]) -> Iterator[Instance]:
    """Yield the instance of each row of a text file, on a photo of a size (height, width)."""
    text = read_text(path, "these outlines", "check the file's name")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            with content_errors(f"{path}: line {number} {NOT_ROW} (", ")"):
                row = np.array(line.split(), np.float64)
                yield _instance(row, size, classes)


def _instance(row: np.ndarray, size: tuple[int, int], classes: Mapping[int, str]) -> Instance:
    """Return the instance, with a shape or a box, of the numbers of a row; ValueError: they are no outline or box."""
    category = row[0]
    shares = row[1:]
    if category not in classes:
        raise ValueError(f"class {category:g} is not among the classes {min(classes)}..{max(classes)}")
    if len(shares) % 2 and len(shares) > 4:
        raise ValueError("an odd number of coordinates; take out the last number if it is a confidence")
    is_box = len(shares) == 4
    if is_box:
        x, y, width, height = shares
        shares = corners_of(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(shares) < 6:
        raise ValueError("an outline has at least three corners x y")
    if not ((shares >= -BEYOND) & (shares <= 1 + BEYOND)).all():
        raise ValueError("coordinates must be shares of the photo's sides, from 0 to 1; key points are no outlines")
    corners: np.ndarray = np.clip(shares, 0, 1).reshape(-1, 2) * size[::-1]
    if is_box:
        extent = corners[2] - corners[0]
        return Instance(int(category) + 1, box=(*corners[0], *extent))
    outline = corners.reshape(-1)
    written = _ends_at_corners(outline)
    is_box = written is outline and is_rectangle((outline,))
    return Instance(int(category) + 1, (written,), box=SOME_BOX if is_box else ())


def _ends_at_corners(outline: np.ndarray) -> np.ndarray:
    """Return an outline (2 x points,) of ``write`` with ends by the corners of pixels again, others unchanged."""
    share_of_pixel = outline % 1
    is_end = np.abs(share_of_pixel - UNDER) <= EXACT
    is_start = np.abs(share_of_pixel - WITHIN) <= EXACT
    if (is_end | is_start).all() and is_end.any():
        return np.where(is_end, np.floor(outline) + 1 - WITHIN, outline)
    return outline


def write(folder: Path, predictions: Predictions) -> None:
    """Write the text file of each photo beside a link to the photo, and last the data file.

    Each connected part of an object is a row, whose outline ends within the last pixels of the part (``UNDER``). The
    paths in the data file are relative to its folder.
    """
    names = list(predictions.categories.values())
    with Written(folder) as written:
        for photo in predictions.photos:
            link(photo.path, folder / IMAGES / photo.path.name, relative=True)
            written.write(photo, folder / LABELS / f"{photo.path.stem}{ROWS_SUFFIX}", _text(photo, names))
    content = {"train": IMAGES, "val": IMAGES, "nc": len(names), "names": dict(enumerate(names))}
    write_atomically(folder / DATA_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _text(photo: PredictedPhoto, names: list[str]) -> str:
    """Return the rows of a photo's text file, whose coordinates have the digits of a tenth of a pixel."""
    digits = len(str(max(photo.width, photo.height))) + 1
    rows = []
    for predicted in photo.objects:
        number = names.index(predicted.name)
        for polygon in predicted.polygons():
            pixels = np.minimum(polygon, np.floor(polygon) + UNDER)
            shares = (pixels / (photo.width, photo.height)).reshape(-1)
            coordinates = " ".join(f"{share:.{digits}f}" for share in shares)
            rows.append(f"{number} {coordinates}\n")
    return "".join(rows)
