"""Which format has a file or a folder? Its content tells, or a prefix such as ``coco:``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from util.errors import UserError
from util.files import read_bytes
from util.formats import coco, labelme, masks, yolo
from util.formats.annotations import Annotations

COCO, LABELME, YOLO, MASKS = "coco", "labelme", "yolo", "masks"
READERS: dict[str, Callable[[Path, Path | None], Annotations]] = {
    COCO: coco.read_annotations,
    LABELME: labelme.read_annotations,
    YOLO: yolo.read_annotations,
}
FORMATS = (*READERS, MASKS)
ONE_FILE = {COCO: ".json"}  # formats that have one file for all photos, and its suffix
LABELME_KEY = re.compile(rb'"shapes"\s*:')
SAMPLED = 20  # files of a folder whose content is looked at; readers refuse other files
LABELME_WORD = b'"shapes"'
COCO_KEY = re.compile(rb'"annotations"\s*:')
NAMES_KEY = re.compile(rb"^\s*['\"]?names['\"]?\s*:", re.MULTILINE)
WORD, MEND = "these annotations", "check the name"
EXPECTED = "a JSON file of COCO or labelme, a data file of YOLO, or a folder of such files or masks"


def recognise(text: str, photos: Path | None = None) -> tuple[str, Path]:
    """Return the format and the path of ``[format:]path``; where a folder holds one file of COCO, that file.

    Args:
        photos: the folder of the photos, where it is named.

    Raises:
        UserError: the path does not exist, or its content has no format or several.
    """
    prefix, colon, rest = text.partition(":")
    named = prefix if colon and prefix in FORMATS and not Path(text).exists() else None
    path = Path(rest if named else text)
    try:
        present = path.exists()
    except (OSError, ValueError):
        present = False
    if not present:
        raise UserError(f"--supports {text!r}: this file or folder does not exist; name {EXPECTED}")
    found = _formats_of_folder(path, photos) if path.is_dir() else _formats_of_file(path)
    if named is not None:
        return named, found.get(named) or _only_file(path, ONE_FILE.get(named)) or path
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise UserError(f"{path}: may be of the formats {' and '.join(found)}; write {next(iter(found))}:{path}")
    raise UserError(f"{path}: in no format that is known here; name {EXPECTED}")


def read(text: str, photos: Path | None = None) -> tuple[str, Annotations]:
    """Return the format and the content of ``[format:]path``, for all formats but ``masks``.

    Raises:
        UserError: as ``recognise`` and as the reader of the format.
    """
    kind, path = recognise(text, photos)
    if kind == MASKS:
        raise UserError(f"{path}: is a folder of masks; name a file or folder of another format")
    return kind, READERS[kind](path, photos)


def _only_file(folder: Path, suffix: str | None) -> Path | None:
    """Return the only file of a folder with a suffix, if there is one."""
    files = [p for p in folder.iterdir() if p.suffix.lower() == suffix] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None


def _formats_of_file(path: Path) -> dict[str, Path]:
    """Return the formats that a file may have, each with the path."""
    content = read_bytes(path, WORD, MEND)
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in (b"{", b"["):
        kinds = [COCO] if COCO_KEY.search(content) else [LABELME] if LABELME_KEY.search(content) else []
    else:
        suffixed = path.suffix.lower() in yolo.YAML_SUFFIXES or path.name == yolo.CLASS_FILE
        kinds = [YOLO] if suffixed else []
    return dict.fromkeys(kinds, path)


def _formats_of_folder(path: Path, photos: Path | None) -> dict[str, Path]:
    """Return the formats that the files of a folder have, each with the folder or its only file."""
    found: dict[str, Path] = {}
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in ONE_FILE.values())
    for file in files[:SAMPLED]:
        for kind in _formats_of_file(file):
            if kind != LABELME and kind in found:
                raise UserError(f"{path}: holds {found[kind].name} and {file.name}; name one of them")
            found[kind] = path if kind == LABELME else file
    data = yolo.data_files_in(path)
    named = any(NAMES_KEY.search(read_bytes(file, WORD, MEND)) for file in data if file.suffix in yolo.YAML_SUFFIXES)
    if named or (data and any(path.rglob(f"{yolo.LABELS}/*{yolo.ROWS_SUFFIX}"))):
        found[YOLO] = path
    if not found and masks.folders_in(path, photos):
        found[MASKS] = path
    return found
