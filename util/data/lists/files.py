"""List files of a fold in the forms of other projects: read without executing code, and matched against an index.

Four forms are supported, those of text also compressed (``.gz``):

- two columns, the paths of image and mask, one image per line;
- (image, class) pairs, one per line, as ``2007_000033__01`` or ``2007_000033 1``;
- one class per line, then its images of COCO 2014, as ``3 v294163 t9``: ``t`` is train2014, ``v`` is val2014;
- a pickled dictionary from class to image names (COCO lists of HSNet and DCAMA), whose classes count from 0.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from util.config.folds import Fold
from util.data.lists.index import Index
from util.errors import UserError
from util.files import REPOSITORY, read_bytes
from util.unpickle import RestrictedUnpickler

PAIR_MARK = "__"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
TWO_COLUMNS, PAIRS, DICTIONARY = "two columns", "(image, class) pairs", "dictionary of classes"
FOLD_MARK, OTHERS_MARK = "{fold}", "{others}"  # in a path: the number of the fold; that of every other fold in turn
EVERY_MARK = "*"  # in a path: every file of that name
COCO_IMAGE = re.compile(r"([tv])(\d{1,12})")
COCO_STEMS = {"t": "COCO_train2014_", "v": "COCO_val2014_"}


@dataclass(frozen=True)
class ListFile:
    """Content of a list file.

    Attributes:
        path: of the file, or of the files of several folds, with ``{others}``.
        form: name of one of the forms above.
        stems: image names without folder and suffix, one per row.
        classes: class of each row, 1-based; None in two-column files.
    """

    path: Path
    form: str
    stems: tuple[str, ...]
    classes: tuple[int, ...] | None


def read_list_file(path: Path) -> ListFile:
    """Return the rows of a list file.

    Raises:
        UserError: the file is missing, empty, or in none of the supported forms; the message names the line.
    """
    content = read_bytes(path, "this list", "name a list file")
    if path.suffix == ".pkl":
        return _from_dictionary(path, content)
    try:
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        lines = text.decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a text file ({error}); a list is text, .gz or a pickled dictionary in .pkl"
        ) from None
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f"{path}: this list is empty")
    if all(_is_class_line(words) for _, words in rows):
        pairs = [(f"{COCO_STEMS[word[0]]}{int(word[1:]):012d}", int(c)) for _, (c, *images) in rows for word in images]
        return ListFile(path, PAIRS, tuple(stem for stem, _ in pairs), tuple(c for _, c in pairs))
    parsed = [_parse(path, number, words) for number, words in rows]
    stems, classes = tuple(s for s, _ in parsed), tuple(c for _, c in parsed if c is not None)
    if classes and len(classes) < len(parsed):
        with_class = [c is not None for _, c in parsed]
        odd = rows[with_class.index(not with_class[0])][0]
        raise UserError(f"{path}:{odd}: another form than line {rows[0][0]}; all lines must have the same form")
    return ListFile(path, PAIRS, stems, classes) if classes else ListFile(path, TWO_COLUMNS, stems, None)


def read_fold_list(pattern: str, fold: Fold) -> ListFile:
    """Return the rows of a fold's list file.

    Args:
        pattern: path of the file, from here or from the project's folder. ``{fold}`` stands for the fold's number,
            ``{others}`` for that of every other fold, whose files are joined; so are all files that a ``*`` stands for.

    Raises:
        UserError: as ``read_list_file``, or the joined files are of different forms.
    """
    name = pattern.replace(FOLD_MARK, str(fold.number))
    if EVERY_MARK in name:
        paths = sorted(Path().glob(name)) or sorted(REPOSITORY.glob(name))
    elif OTHERS_MARK in name:
        others = [n for n in range(fold.folds) if n != fold.number]
        paths = [found(name.replace(OTHERS_MARK, str(n))) for n in others]
    else:
        return replace(read_list_file(found(name)), path=Path(name))
    parts = [read_list_file(path) for path in paths]
    for part in parts[1:]:
        if part.form != parts[0].form:
            raise UserError(f"{part.path}: {part.form}, {parts[0].path} is {parts[0].form}; both must have one form")
    stems = tuple(stem for part in parts for stem in part.stems)
    classes = None if parts[0].classes is None else tuple(c for part in parts for c in part.classes or ())
    return ListFile(Path(name), parts[0].form, stems, classes)


def found(name: str) -> Path:
    """Return the path of a file of the project: as written, or in the project's folder if it is only there."""
    return Path(name) if Path(name).exists() or not (REPOSITORY / name).exists() else REPOSITORY / name


def _is_class_line(words: list[str]) -> bool:
    """Return whether a line is a class and its images of COCO."""
    return len(words) > 1 and words[0].isdecimal() and all(COCO_IMAGE.fullmatch(word) for word in words[1:])


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
        table = RestrictedUnpickler(io.BytesIO(content)).load()
        rows = [(int(c), str(name)) for c, names in sorted(table.items()) for name in names]
    except Exception as error:  # a damaged pickle can raise any exception
        raise UserError(f"{path}: not a dictionary of lists that can be read safely ({error})") from None
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


def misfit(listed: ListFile, index: Index, classes: tuple[int, ...]) -> str:
    """Return in words why a list is not of this data set and fold, '' if all its images and classes are there."""
    there = _row_of(listed, index)
    missing = list(dict.fromkeys(stem for stem in listed.stems if stem not in there))
    if missing:
        images = len(set(listed.stems))
        return f"{len(missing)} of its {images} images are not in the data set, such as {missing[0]}"
    odd = next((c for c in listed.classes or () if c not in classes), None)
    return "" if odd is None else f"it lists class {odd}, which is not of this fold"


def shown(listed: ListFile, index: Index) -> ListFile:
    """Return a list of pairs that fits an index, without the pairs whose mask has no pixel of the class."""
    if listed.classes is None:
        return listed
    there = _row_of(listed, index)
    kept = [(s, c) for s, c in zip(listed.stems, listed.classes, strict=True) if index.areas[there[s], c]]
    return replace(listed, stems=tuple(s for s, _ in kept), classes=tuple(c for _, c in kept))


def _row_of(listed: ListFile, index: Index) -> dict[str, int]:
    """Return the row of the index by an image's name without folder."""
    where = {PurePosixPath(name).name: row for row, name in enumerate(index.names)}
    if len(where) < len(index.names):
        raise UserError(
            f"{listed.path}: the data set has images of the same name in two folders, so this list is ambiguous; "
            "rename them"
        )
    return where


def match(listed: ListFile, index: Index, classes: tuple[int, ...]) -> Matched:
    """Return the rows of the index for the lines of a list file, after checking every line.

    Args:
        classes: the classes that this part of the fold may show.

    Raises:
        UserError: an image is not in the index, or a class is not one of ``classes`` or not in its image.
    """
    where = _row_of(listed, index)
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
