"""List files of a fold in the forms of other projects: read without executing code, and matched against an index.

Two forms are supported, also compressed (``.gz``):

- (image, class) pairs, one per line, as ``2007_000033 1``;
- one class per line, then its images of COCO 2014, as ``3 v294163 t9``: ``t`` is train2014, ``v`` is val2014.
"""

import gzip
import re
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from util.config.settings import DataSettings
from util.files.errors import UserError, as_user_error
from util.files.photos import IMAGE_SUFFIXES
from util.files.project import REPOSITORY, project_path
from util.files.reading import lines_of, read_bytes

PUBLISHED = "lists/"  # which names of the project's published lists begin with
COCO_IMAGE = re.compile(r"[tv]\d{1,12}")  # part and number of an image of COCO 2014
CLASS_ID = re.compile("0*[1-9][0-9]*")  # 1-based
COCO_PARTS = {"t": "train", "v": "val"}  # v294163 is COCO_val2014_000000294163


Row = tuple[str, int]  # an image's name without folder and suffix, and a class (1-based)


def read_fold_list(pattern: str, data: DataSettings) -> tuple[str, list[Row]]:
    """Return the path of a fold's list file, or of several with ``{others}`` or ``*``, and its rows.

    Args:
        pattern: path of the file, from here or from the project's folder. ``{fold}`` stands for the fold's number,
            ``{others}`` for that of every other fold, whose files are joined; so are all files that a ``*`` stands for.
        data: with the number of the fold, which is put in, and that of all.

    Raises:
        UserError: a file is missing or in none of the supported forms, all are empty, or a pair occurs twice.
    """
    name, paths = _paths(pattern, data)
    rows = [row for path in paths for row in _rows(path)]
    for (stem, class_id), count in Counter(rows).items():
        if count > 1:  # a photo could be two supports of one episode
            raise UserError(f"{name}: {stem} {class_id} is named {count} times; keep one of each pair")
    if not rows:
        raise UserError(f"{name}: this list is empty; write an image and a class in each line")
    return Path(name).as_posix(), rows


def is_published(name: str) -> bool:
    """Return whether a list file is one that the project has of a paper, not a user's own."""
    return name.startswith(PUBLISHED)


def _paths(pattern: str, data: DataSettings) -> tuple[str, list[Path]]:
    """Return the name of a fold's list, with ``{others}`` or ``*``, and the paths of its files."""
    name = pattern.replace("{fold}", str(data.fold))
    if "*" in name:
        return name, sorted(Path().glob(name)) or sorted(REPOSITORY.glob(name))
    if "{others}" not in name:
        return name, [project_path(name)]
    others = [number for number in range(data.folds) if number != data.fold]
    return name, [project_path(name.replace("{others}", str(number))) for number in others]


def _rows(path: Path) -> list[Row]:
    """Return the rows of a list file; UserError if it is missing or in none of the supported forms."""
    content = read_bytes(path, "this list", "name a list file")
    with as_user_error(
        *(OSError, EOFError, zlib.error, UnicodeDecodeError),
        before=f"{path}: is no list of text or .gz (",
        after="); name another",
    ):
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    rows: list[Row] = []
    for number, line in lines_of(text):
        line_rows = _rows_of_line(line)
        if line_rows is None:
            raise UserError(f"{path}:{number}: {line[:80]!r} is no line of a list; write 'image class'")
        rows += line_rows
    return rows


def _rows_of_line(line: str) -> list[Row] | None:
    """Return the rows of a line of text; None if it is in none of the supported forms."""
    first, *others = line.split()
    if CLASS_ID.fullmatch(first) and others and all(map(COCO_IMAGE.fullmatch, others)):
        return [(f"COCO_{COCO_PARTS[word[0]]}2014_{int(word[1:]):012d}", int(first)) for word in others]
    if len(others) != 1 or not CLASS_ID.fullmatch(others[0]):
        return None
    return [(_stem(first), int(others[0]))]


def _stem(name: str) -> str:
    """Return a file's name without folder and image suffix; other dots are part of the name."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
