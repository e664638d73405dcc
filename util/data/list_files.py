"""List files of a fold in the forms of other projects: read without executing code, and matched against an index.

Three forms are supported:

- two columns, the paths of image and mask, one image per line;
- (image, class) pairs, one per line, as ``2007_000033__01`` or ``2007_000033 1``;
- a pickled dictionary from class to image names (COCO lists of HSNet and DCAMA), whose classes count from 0.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from util.data.index import Index
from util.errors import UserError
from util.read_files import read_bytes

PAIR_MARK = "__"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
TWO_COLUMNS, PAIRS, DICTIONARY = "two columns", "(image, class) pairs", "dictionary of classes"


@dataclass(frozen=True)
class ListFile:
    """Content of a list file.

    Attributes:
        form: name of one of the forms above.
        stems: image names without folder and suffix, one per row.
        classes: class of each row, 1-based; None in two-column files.
    """

    path: Path
    form: str
    stems: tuple[str, ...]
    classes: tuple[int, ...] | None


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, lists, texts and numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")


def read_list_file(path: Path) -> ListFile:
    """Return the rows of a list file.

    Raises:
        UserError: the file is missing, empty, or in none of the supported forms; the message names the line.
    """
    content = read_bytes(path, "this list", "name a list file")
    if path.suffix == ".pkl":
        return _from_dictionary(path, content)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; a list is text, or a pickled dictionary ending in .pkl") from None
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path}: this list is empty")
    parsed = [_parse(path, number, words) for number, words in rows]
    stems, classes = tuple(s for s, _ in parsed), tuple(c for _, c in parsed if c is not None)
    if classes and len(classes) < len(parsed):
        pairs = [c is not None for _, c in parsed]
        odd = rows[pairs.index(not pairs[0])][0]
        raise UserError(f"{path}:{odd}: another form than line {rows[0][0]}; all lines must have the same form")
    return ListFile(path, PAIRS, stems, classes) if classes else ListFile(path, TWO_COLUMNS, stems, None)


def _parse(path: Path, number: int, words: list[str]) -> tuple[str, int | None]:
    """Return the stem and class of a line; the class is None in a line of paths."""
    if len(words) == 1 and PAIR_MARK in words[0]:
        words = words[0].rsplit(PAIR_MARK, 1)
    if len(words) == 2 and words[1].isdecimal():
        return _stem(words[0]), int(words[1])
    if len(words) == 2 and _stem(words[0]) == _stem(words[1]):
        return _stem(words[0]), None
    raise UserError(
        f"{path}:{number}: neither 'image mask' nor 'image__class': {' '.join(words)[:80]!r}; see config/default.yaml"
    )


def _from_dictionary(path: Path, content: bytes) -> ListFile:
    try:
        table = _PlainUnpickler(io.BytesIO(content)).load()
        rows = [(int(c), str(name)) for c, names in sorted(table.items()) for name in names]
    except Exception as error:  # a damaged pickle can raise any exception
        raise UserError(f"{path}: not a dictionary of lists that can be read safely ({error})") from None
    if not rows:
        raise UserError(f"{path}: this list is empty")
    return ListFile(path, DICTIONARY, tuple(_stem(n) for _, n in rows), tuple(c + 1 for c, _ in rows))


def _stem(name: str) -> str:
    """Return a file's name without folder and image suffix; other dots are part of the name."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


@dataclass(frozen=True)
class Matched:
    """Rows of a list file, mapped to an index.

    Attributes:
        rows: row of the index for each line.
        classes: class of each line (1-based), None in two-column files.
    """

    rows: tuple[int, ...]
    classes: tuple[int, ...] | None


def match(listed: ListFile, index: Index, classes: tuple[int, ...]) -> Matched:
    """Return the rows of the index for the lines of a list file, after checking every line.

    Args:
        classes: the classes that this part of the fold may show.

    Raises:
        UserError: an image is not in the index, or a class is not one of ``classes`` or not in its image.
    """
    where = {PurePosixPath(name).name: row for row, name in enumerate(index.names)}
    if len(where) < len(index.names):
        raise UserError(
            f"{listed.path}: the data set has images of the same name in two folders, so this list is ambiguous; "
            "rename them"
        )
    unknown = [stem for stem in listed.stems if stem not in where]
    if unknown:
        raise UserError(
            f"{listed.path}: {len(unknown)} of {len(listed.stems)} images are not in the data set, such as "
            f"{unknown[0]}; is it a list of another data set or part, or is the data incomplete?"
        )
    rows = tuple(where[stem] for stem in listed.stems)
    if listed.classes is None:
        for stem, row in zip(listed.stems, rows, strict=True):
            if not index.areas[row, classes].any():
                raise UserError(f"{listed.path}: {stem} shows no class of {classes}; is it a list of another fold?")
    for stem, row, c in zip(listed.stems, rows, listed.classes or ()):
        if c not in classes:
            raise UserError(f"{listed.path}: {stem} is listed with class {c}, which is not of this fold: {classes}")
        if not index.areas[row, c]:
            raise UserError(f"{listed.path}: {stem} is listed with class {c}, but its mask has no pixel of it")
    return Matched(rows, listed.classes)
