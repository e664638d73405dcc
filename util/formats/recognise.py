"""The formats of annotations in one table, and which of them a file or folder has: its content tells, or a prefix."""

import re
from collections.abc import Callable
from pathlib import Path

from util.errors import UserError
from util.files import paths_below, read_bytes, visible
from util.formats import coco, labelme, labelstudio, results, yolo
from util.formats.annotations import Annotations, Found, Say, understood
from util.formats.masks import folders_in, masks_in
from util.formats.remarks import INSTEAD, refused_format
from util.parallel import attempt

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
LOOKED_AT = 20  # files of a folder
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
    found = _formats_in(path) if path.is_dir() else _formats_of(path)
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


def _formats_of(file: Path) -> dict[str, Path]:
    """Return the format that a file has, if any, with the path to read; UserError: it has one that is not read here."""
    content = read_bytes(file, "these annotations", "check the name")
    is_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    kind = next((kind for kind, key in KEYS.items() if is_json and key.search(content)), None)
    if kind not in (LABELSTUDIO, RESULTS) and (other := refused_format(content)):
        raise UserError(f"{file}: is {other}, which is not read here; {INSTEAD}")
    if kind is not None:
        return {kind: file}
    is_data = file.suffix.lower() in yolo.YAML_SUFFIXES or file.name == yolo.CLASS_FILE
    return {YOLO: file} if is_data and not is_json else {}


def _formats_in(folder: Path) -> dict[str, Path]:
    """Return the formats that the files of a folder have, else masks, each with the path to read.

    UserError: two files are each of all photos, or there are no files but such as are not read here.
    """
    found, refusals = dict[str, Path](), list[UserError]()
    for file in visible(folder.glob(f"*{labelme.SUFFIX}"), folder)[:LOOKED_AT]:  # readers refuse other files
        formats = attempt(_formats_of, file)
        if isinstance(formats, UserError):
            refusals.append(formats)
            continue
        for kind in formats:
            if kind not in OF_PHOTOS and kind in found:
                raise UserError(f"{folder}: holds {found[kind].name} and {file.name}; name one of them")
            found[kind] = folder if kind in OF_PHOTOS else file
    data = yolo.data_files_in(folder)
    if data and (data[0].name != yolo.CLASS_FILE or paths_below(folder, f"{yolo.LABELS}/*{yolo.ROWS_SUFFIX}")):
        found[YOLO] = folder
    if found:
        return found
    for file in visible(folder.glob(f"*/*{labelme.SUFFIX}"), folder)[:LOOKED_AT]:
        refusals += [error for error in [attempt(_formats_of, file)] if isinstance(error, UserError)]
    if refusals and not masks_in(folders_in(folder)[1]):
        raise refusals[0]
    return {MASKS: folder}
