"""List files of a fold in the forms of other projects: read without executing code, and matched against an index.

Four forms are supported, those of text also compressed (``.gz``):

- two columns, the paths of image and mask, one image per line;
- (image, class) pairs, one per line, as ``2007_000033__01`` or ``2007_000033 1``;
- one class per line, then its images of COCO 2014, as ``3 v294163 t9``: ``t`` is train2014, ``v`` is val2014;
- a pickled dictionary from class to image names (COCO lists of HSNet and DCAMA), whose classes count from 0.
"""

import gzip
import io
import re
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from util.config.folds import Fold
from util.data.images.read import HEIF, NEEDS_HEIF
from util.errors import UserError
from util.files import REPOSITORY, RestrictedUnpickler, files_below, leads_nowhere, read_bytes, visible

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", *HEIF)
MASK_ENDING = "_instance_color_RGB"  # of iSAID's masks
UNREAD = re.compile(r"\.(arw|cr[23]|dcm|dng|eps|jp2|jxl|nef|orf|pdf|psd|raf|raw|rw2|svg|xcf)", re.I)  # other pictures


class ListFile(NamedTuple):
    """Content of a list file."""

    path: Path  # of the file, or of the files of several folds, with ``{others}`` or ``*``
    stems: tuple[str, ...]  # image names without folder and suffix, one per row
    classes: tuple[int, ...] | None  # of each row, 1-based; None in two-column files


def photos_below(folder: Path, recursive: bool = True) -> list[Path]:
    """Return the photos of a folder, and of its sub-folders, in order; say what is of other kinds or leads nowhere.

    Links to folders are followed as ``files_below`` does. A link of a photo's name that leads nowhere counts as photo.
    """
    files = files_below(folder) if recursive else visible(folder.glob("*"), folder)
    lacking = () if find_spec("pillow_heif") else HEIF
    read = {*IMAGE_SUFFIXES} - {*lacking}
    if unread := [p for p in files if UNREAD.fullmatch(p.suffix) or p.suffix.lower() in lacking]:
        fix = f" ({NEEDS_HEIF})" if any(p.suffix.lower() in lacking for p in unread) else ""
        print(f"note: {folder}: {len(unread)} pictures are not read, such as {unread[0].name}{fix}", file=sys.stderr)
    if lost := [p for p in files if p.suffix.lower() not in read and leads_nowhere(p)]:
        print(f"note: {folder}: {len(lost)} links lead nowhere, such as {lost[0].name}", file=sys.stderr)
    return [p for p in files if p.suffix.lower() in read and (p.is_file() or leads_nowhere(p))]


def read_fold_list(pattern: str, fold: Fold) -> ListFile:
    """Return the rows of a fold's list file.

    Args:
        pattern: path of the file, from here or from the project's folder. ``{fold}`` stands for the fold's number,
            ``{others}`` for that of every other fold, whose files are joined; so are all files that a ``*`` stands for.

    UserError: a file is missing or in none of the supported forms, all are empty, their forms differ, or a pair occurs
    twice.
    """
    name, paths = _paths(pattern, fold)
    rows = [row for path in paths for row in _rows(path)]
    stems, classes = tuple(stem for stem, _ in rows), tuple(c for _, c in rows if c is not None)
    twice = [f"{stem} {c}" for (stem, c), count in Counter(rows).items() if count > 1 and c is not None]
    if twice:
        raise UserError(f"{name}: {len(twice)} pairs are named more than once, such as {twice[0]}; keep one of each")
    if not rows or len(classes) not in (0, len(rows)):
        raise UserError(f"{name}: this list is empty, or only some of its {len(rows)} lines name a class")
    return ListFile(Path(name), stems, classes or None)


def missing_fold_list(pattern: str, fold: Fold) -> Path | None:
    """Return the first of a fold's list files that does not exist, None if all do; arguments as ``read_fold_list``."""
    return next((path for path in _paths(pattern, fold)[1] if not path.exists()), None)


def _paths(pattern: str, fold: Fold) -> tuple[str, list[Path]]:
    """Return the name of a fold's list, with ``{others}`` or ``*``, and the paths of its files."""
    name = pattern.replace("{fold}", str(fold.number))
    if "*" in name:
        return name, sorted(Path().glob(name)) or sorted(REPOSITORY.glob(name))
    numbers = [n for n in range(fold.folds) if n != fold.number] if "{others}" in name else [fold.number]
    return name, [project_path(name.replace("{others}", str(n))) for n in numbers]


def project_path(name: str) -> Path:
    """Return the path of a file of the project: as written, or in the project's folder if it is only there."""
    return Path(name) if Path(name).exists() or not (REPOSITORY / name).exists() else REPOSITORY / name


def _rows(path: Path) -> list[tuple[str, int | None]]:
    content = read_bytes(path, "this list", "name a list file")
    try:
        if path.suffix == ".pkl":
            table = RestrictedUnpickler(io.BytesIO(content)).load()
            return [(_stem(str(name)), int(c) + 1) for c, names in sorted(table.items()) for name in names]
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except Exception as error:  # a damaged archive or pickle can raise any exception
        raise UserError(f"{path}: cannot be read safely as text, .gz or a pickled dictionary ({error})") from None
    out: list[tuple[str, int | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if "\0" in line:
            raise UserError(f"{path}:{number}: holds a NUL, which no name has; write the list anew, in UTF-8")
        first, *others = line.split() or [""]
        if others and first.isdecimal() and all(re.fullmatch(r"[tv]\d{1,12}", word) for word in others):
            part = {"t": "train", "v": "val"}
            out += [(f"COCO_{part[word[0]]}2014_{int(word[1:]):012d}", int(first)) for word in others]
            continue
        first, *others = [first, *others] if others else first.rsplit("__", 1)
        if len(others) == 1 and others[0].isdecimal():
            out.append((_stem(first), int(others[0])))
        elif len(others) == 1 and _stem(first) == _stem(others[0]).removesuffix(MASK_ENDING):
            out.append((_stem(first), None))
        elif first:
            raise UserError(f"{path}:{number}: neither 'image mask' nor 'image__class': {line[:80]!r}")
    return out


def _stem(name: str) -> str:
    """Return a file's name without folder and image suffix; other dots are part of the name."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
