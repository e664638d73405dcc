"""The format of YOLO's segmentation: a data file of class names, and a text file of outlines for each photo.

A row of a text file is ``class x y x y ...`` in shares of the photo's width and height; five numbers are a box, class,
centre and size. The text files lie in folders ``labels``, the photos in folders ``images`` beside them.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from annotations.annotation import (
    UNCONFIRMED,
    UPRIGHT,
    Annotations,
    Instance,
    PredictedPhoto,
    Predictions,
    content_errors,
    write_of_photo,
)
from annotations.mask_names import check_names
from annotations.pictures import header_of
from annotations.shapes import corners_of, is_rectangle
from annotations.words import part_of
from util.files.errors import UserError
from util.files.folders import files_below, visible
from util.files.output_folders import link
from util.files.reading import read_text
from util.files.writing import write_atomically
from util.files.yaml_text import Loader, read_yaml

YAML_SUFFIXES = (".yaml", ".yml")
ROWS_SUFFIX = ".txt"
DATA_FILE = "data.yaml"
CLASS_FILES = ("classes.txt", "obj.names")  # one class per line
LABELS, IMAGES = "labels", "images"  # folders
OF_ROWS = re.compile(f"(.*/)?({LABELS}|obj_[^/]*_data)/.*", re.IGNORECASE)  # a place in these, or of CVAT's YOLO 1.1
BEYOND = 0.01  # of the photo's side: rounding of other programs
# A loader whose plain values stay the text that they are: ``no`` and ``1`` are names too
AS_WRITTEN = type("AsWritten", (Loader,), {"yaml_implicit_resolvers": {}})


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the annotations that belong to a data file or ``classes.txt``.

    Category ids are the classes' numbers plus 1. The photos are found in ``folder``, default ``images`` in place of
    ``labels``. UserError: a file is unreadable or in another format, or its photo is missing; it names the file.
    """
    names, root, content = read_data_file(path)
    annotations = Annotations.begin(path, root, folder)
    annotations.remarks["not read: parts of the set, which are kept where folders are named so"].update(
        _unread_parts(content)
    )
    annotations.categories = {number + 1: name for number, name in names.items()}
    unconfirmed = {*map(str, content.get(UNCONFIRMED, ()))}
    for file in annotations.each(_text_files(root)):
        parts = file.relative_to(root).with_suffix("").parts
        stated = "/".join(IMAGES if part == LABELS else part for part in parts)
        photo = annotations.files.find(stated, file)
        size = header_of(photo).upright_size
        rows = _rows(file, size, names, confirmed=file.name not in unconfirmed)
        with annotations.reading():
            annotations.add(photo, size, rows, is_upright=content.get(UPRIGHT) == "true")
    return annotations.checked()


def _text_files(root: Path) -> list[Path]:
    """Return the text files of a data set in its folder: those in folders ``labels``, else those in the folder itself.

    UserError: there is none.
    """
    texts = [file for file in files_below(root, ROWS_SUFFIX) if file.name not in CLASS_FILES]
    in_labels = [file for file in texts if OF_ROWS.fullmatch(file.relative_to(root).as_posix())]
    files = in_labels or [file for file in texts if file.parent == root]
    if not files:
        raise UserError(f"{root}: holds no folder '{LABELS}' with {ROWS_SUFFIX} files; name the folder of the data set")
    return files


def data_files_in(folder: Path) -> list[Path]:
    """Return the YAML files of a folder, else its list of classes, there or in ``labels``."""
    files = [path for path in visible(folder.iterdir(), folder) if path.suffix.lower() in YAML_SUFFIXES]
    places = [place / name for place in (folder, folder / LABELS) for name in CLASS_FILES]
    return files or [*filter(Path.is_file, places)][:1]


def read_data_file(path: Path) -> tuple[dict[int, str], Path, dict[str, Any]]:
    """Return the names of classes by their numbers, the data set's folder, and all content of a data file.

    The folder is the ``path`` of the data file where that exists, else the file's own; ``classes.txt`` has no content
    but names. This program's own keys are UPRIGHT, and UNCONFIRMED: the text files with rows that a network made.
    UserError: the file is unreadable, or its names are no list.
    """
    text = read_text(path, "the class names", f"write them to {DATA_FILE}")
    root = path.parent.parent if path.parent.name == LABELS else path.parent
    content: dict[str, Any] = {}
    if path.suffix.lower() in YAML_SUFFIXES:
        with content_errors(f"{path}: ", "; write names: [cat, dog]"):
            content = read_yaml(text, AS_WRITTEN)
            names = _names_in(content)
            stated = path.parent / str(content.get("path", ""))
            if "path" in content and stated.is_dir():
                root = stated
    else:
        names = dict(enumerate(filter(None, map(str.strip, text.split("\n")))))
    check_names(names.values(), path)
    return names, root, content


def _unread_parts(content: dict[str, Any]) -> list[str]:
    """Return the parts of a set that a data file states by lists of photos, or by folders whose names do not say so."""
    stated = {part: str(content[part]) for part in ("train", "val", "test") if content.get(part)}
    is_divided = len({*stated.values()}) > 1
    return [
        f"{part}: {text}" for part, text in stated.items() if ROWS_SUFFIX in text or (is_divided and not part_of(text))
    ]


def _names_in(content: dict[str, Any]) -> dict[int, str]:
    """Return the class names of a data file by their numbers, in order; ValueError, KeyError: it has no such list."""
    names = content["names"]
    if "kpt_shape" in content:
        raise ValueError("is of key points, whose rows are no outlines")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict) or not all(str(number).isdecimal() for number in names):
        raise ValueError("names must list the classes, or map 0, 1, ... to them")
    return dict(sorted((int(number), str(name).strip()) for number, name in names.items()))


def _rows(path: Path, size: tuple[int, int], classes: Mapping[int, str], confirmed: bool) -> Iterator[Instance]:
    """Yield the instance of each row of a text file, on a photo of a size (height, width)."""
    for number, line in enumerate(read_text(path, "these outlines", "check the file's name").split("\n"), 1):
        if line.strip():
            with content_errors(
                f"{path}: line {number} is not in YOLO's form for segmentation (", "); correct it", kind=ValueError
            ):
                row = np.array(line.split(), np.float64)
                yield _instance(row, size, classes)._replace(confirmed=confirmed)


def _instance(row: np.ndarray, size: tuple[int, int], classes: Mapping[int, str]) -> Instance:
    """Return the instance of the numbers of a row; ValueError: they are no outline or box."""
    category = row[0]
    shares = row[1:]
    if category not in classes:
        raise ValueError(f"class {category:g} is not among the classes {min(classes)}..{max(classes)}")
    if len(shares) == 4:
        x, y, width, height = shares
        shares = corners_of(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(shares) % 2:
        raise ValueError("an odd number of coordinates; take out the last number if it is a confidence")
    if not ((shares >= -BEYOND) & (shares <= 1 + BEYOND)).all():
        raise ValueError("coordinates must be shares of the photo's sides, from 0 to 1")
    outline = (np.clip(shares, 0, 1).reshape(-1, 2) * size[::-1]).reshape(-1)
    return Instance(int(category) + 1, (outline,), is_boxed=is_rectangle(outline))


def write(folder: Path, predictions: Predictions) -> None:
    """Write the text file of each photo beside a link to the photo, and last the data file.

    Each connected part of an object is a row. The paths in the data file are relative to its folder. As rows have no
    place for it, the data file says that they are of upright photos, and which have an object that nobody confirmed.
    """
    names = list(predictions.categories.values())
    unconfirmed: list[str] = []
    for photo in predictions.photos:
        path = folder / LABELS / f"{photo.path.stem}{ROWS_SUFFIX}"
        link(photo.path, folder / IMAGES / photo.path.name, relative=True)
        write_of_photo(photo, path, _text(photo, names))
        if any(predicted.is_unconfirmed for predicted in photo.objects):
            unconfirmed.append(path.name)
    content = {
        **{"train": IMAGES, "val": IMAGES, "nc": len(names), "names": dict(enumerate(names))},
        **{UPRIGHT: True, UNCONFIRMED: unconfirmed},
    }
    write_atomically(folder / DATA_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _text(photo: PredictedPhoto, names: list[str]) -> str:
    """Return the rows of a photo's text file, whose coordinates have the digits of a tenth of a pixel."""
    digits = len(str(max(photo.width, photo.height))) + 1
    text = ""
    for predicted in photo.objects:
        for polygon in predicted.polygons():
            shares = (polygon / (photo.width, photo.height)).reshape(-1)
            text += f"{names.index(predicted.name)} {' '.join(f'{share:.{digits}f}' for share in shares)}\n"
    return text
