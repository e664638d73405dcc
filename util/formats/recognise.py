"""The formats of annotations in one table, and which of them a file or folder has: its content tells, or a prefix."""

import re
from collections.abc import Callable
from pathlib import Path

from util.errors import UserError
from util.files import paths_below, read_bytes, visible
from util.formats import coco, labelme, labelstudio, results, yolo
from util.formats.annotations import Annotations, Found, Say, understood

COCO, YOLO, LABELME, LABELSTUDIO, RESULTS, MASKS = "coco", "yolo", "labelme", "labelstudio", "results", "masks"
WRITTEN = {COCO: coco, YOLO: yolo, LABELME: labelme, LABELSTUDIO: labelstudio}
# of a path, and the folder of photos where named
READERS: dict[str, Callable[[Path, Path | None], Annotations]] = {
    kind: module.read_annotations for kind, module in (WRITTEN | {RESULTS: results}).items()
}
WRITERS: dict[str, Callable[[Path, Found], None]] = {kind: module.write for kind, module in WRITTEN.items()}
FORMATS = (*READERS, MASKS)  # that are read; masks hold no annotations, see ``masks.pairs``
KEYS = {  # of JSON files; the first that is found tells
    LABELSTUDIO: re.compile(rb'\A[^\[{]*\[.*"(?:result|annotation_id)"\s*:', re.DOTALL),
    RESULTS: re.compile(rb'"query_file"\s*:'),
    COCO: re.compile(rb'"annotations"\s*:'),
    LABELME: re.compile(rb'"shapes"\s*:'),
}
OF_PHOTOS = (LABELME, RESULTS)  # a file for each photo
EXPECTED = "a JSON file of COCO, labelme or Label Studio, YOLO's data file, or a folder of these, of masks or results"


def recognise(text: str) -> tuple[str, Path]:
    """Return the format and the path of ``[format:]path``; where a folder holds one file for all photos, that file.

    UserError: the path does not exist, or its content has no format or several.
    """
    prefix, colon, rest = text.partition(":")
    named = prefix if colon and prefix in FORMATS and not Path(text).exists() else None
    path = Path(rest if named else text)
    if not path.exists():
        raise UserError(f"{text}: this file or folder does not exist; name {EXPECTED}")
    found = _formats_in(path)
    if named is not None:
        return named, found.get(named, path)
    if len(found) != 1:
        several = f"may be of the formats {' and '.join(found)}; write one before it, as in coco:{path}"
        raise UserError(f"{path}: {several if found else f'in no format that is known here; name {EXPECTED}'}")
    return next(iter(found.items()))


def read(text: str, photos: Path | None = None, say: Say | None = None) -> Annotations:
    """Return the meaning of ``[format:]path`` but for ``masks``; errors as the reader and ``understood``."""
    kind, path = recognise(text)
    if kind == MASKS:
        raise UserError(f"{path}: is a folder of masks; name a file or folder of another format")
    return understood(READERS[kind](path, photos), say)


def _formats_in(path: Path) -> dict[str, Path]:
    """Return the formats that a file may have, or the files of a folder, else masks, each with the path to read."""
    if not path.is_dir():
        content = read_bytes(path, "these annotations", "check the name")
        if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return dict([(kind, path) for kind, key in KEYS.items() if key.search(content)][:1])
        return {YOLO: path} if path.suffix.lower() in yolo.YAML_SUFFIXES or path.name == yolo.CLASS_FILE else {}
    found: dict[str, Path] = {}
    for file in visible(path.glob(f"*{labelme.SUFFIX}"), path)[:20]:  # readers refuse other files
        for kind in _formats_in(file):
            if kind not in OF_PHOTOS and kind in found:
                raise UserError(f"{path}: holds {found[kind].name} and {file.name}; name one of them")
            found[kind] = path if kind in OF_PHOTOS else file
    data = yolo.data_files_in(path)
    if data and (data[0].name != yolo.CLASS_FILE or paths_below(path, f"{yolo.LABELS}/*{yolo.ROWS_SUFFIX}")):
        found[YOLO] = path
    return found or {MASKS: path}
