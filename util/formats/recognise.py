"""The formats of annotations in one table, and which of them a file or folder has: its content tells, or a prefix."""

import re
from collections.abc import Callable
from pathlib import Path

from util.errors import UserError
from util.files import paths_below, read_bytes, visible
from util.formats import coco, labelme, labelstudio, results, yolo
from util.formats.annotations import Annotations, Predictions, Say
from util.formats.interpret import interpret
from util.formats.mask_files import folders_in, masks_of_set
from util.formats.remarks import INSTEAD, refused_format
from util.parallel import attempt

COCO = "coco"
YOLO = "yolo"
LABELME = "labelme"
LABELSTUDIO = "labelstudio"
RESULTS = "results"
MASKS = "masks"
# of a path, and the folder of photos where named
READERS: dict[str, Callable[[Path, Path | None], Annotations]] = {
    COCO: coco.read_annotations,
    YOLO: yolo.read_annotations,
    LABELME: labelme.read_annotations,
    LABELSTUDIO: labelstudio.read_annotations,
    RESULTS: results.read_annotations,
}
WRITERS: dict[str, Callable[[Path, Predictions], None]] = {
    COCO: coco.write,
    YOLO: yolo.write,
    LABELME: labelme.write,
    LABELSTUDIO: labelstudio.write,
}
FORMATS = (*READERS, MASKS)  # that are read; masks hold no annotations, see ``mask_files.pairs``
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
    formats = _formats_in(path) if path.is_dir() else _formats_of(path)
    if named is not None:
        return named, formats.get(named, path)
    if not formats:
        raise UserError(f"{path}: in no format that is known here; name {EXPECTED}")
    if len(formats) > 1:
        several = " and ".join(formats)
        raise UserError(f"{path}: may be of the formats {several}; write one before it, as in coco:{path}")
    return next(iter(formats.items()))


def read(text: str, photos: Path | None = None, say: Say | None = None) -> Annotations:
    """Return the meaning of ``[format:]path`` but for ``masks``; errors as the reader and ``interpret``."""
    kind, path = recognise(text)
    if kind == MASKS:
        raise UserError(f"{path}: is a folder of masks; name a file or folder of another format")
    return interpret(READERS[kind](path, photos), say)


def _formats_of(file: Path) -> dict[str, Path]:
    """Return the format that a file has, if any, with the path to read; UserError: it has one that is not read here."""
    content = read_bytes(file, "these annotations", "check the name")
    is_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    kind = _json_format(content) if is_json else None
    if kind not in (LABELSTUDIO, RESULTS):
        refused = refused_format(content)
        if refused:
            raise UserError(f"{file}: is {refused}, which is not read here; {INSTEAD}")
    if kind is not None:
        return {kind: file}
    is_data = file.suffix.lower() in yolo.YAML_SUFFIXES or file.name == yolo.CLASS_FILE
    return {YOLO: file} if is_data and not is_json else {}


def _json_format(content: bytes) -> str | None:
    return next((kind for kind, key in KEYS.items() if key.search(content)), None)


def _formats_in(folder: Path) -> dict[str, Path]:
    """Return the formats that the files of a folder have, else masks, each with the path to read.

    UserError: two files are each of all photos, or there are no files but such as are not read here.
    """
    formats, refusals = _json_formats_in(folder)
    if _is_yolo(folder):
        formats[YOLO] = folder
    if formats:
        return formats
    for file in visible(folder.glob(f"*/*{labelme.SUFFIX}"), folder)[:LOOKED_AT]:
        outcome = attempt(_formats_of, file)
        if isinstance(outcome, UserError):
            refusals.append(outcome)
    _, mask_folder = folders_in(folder)
    if refusals and not masks_of_set(mask_folder):
        raise refusals[0]
    return {MASKS: folder}


def _json_formats_in(folder: Path) -> tuple[dict[str, Path], list[UserError]]:
    """Return the formats of the JSON files of a folder, each with the path to read, and why others are not read."""
    formats: dict[str, Path] = {}
    refusals: list[UserError] = []
    for file in visible(folder.glob(f"*{labelme.SUFFIX}"), folder)[:LOOKED_AT]:  # readers refuse other files
        outcome = attempt(_formats_of, file)
        if isinstance(outcome, UserError):
            refusals.append(outcome)
            continue
        for kind in outcome:
            if kind in OF_PHOTOS:
                formats[kind] = folder
            elif kind in formats:
                raise UserError(f"{folder}: holds {formats[kind].name} and {file.name}; name one of them")
            else:
                formats[kind] = file
    return formats, refusals


def _is_yolo(folder: Path) -> bool:
    """Return whether a folder holds a data file, or ``classes.txt`` with text files in ``labels``."""
    data_files = yolo.data_files_in(folder)
    if not data_files:
        return False
    is_class_file = data_files[0].name == yolo.CLASS_FILE
    return not is_class_file or bool(paths_below(folder, f"{yolo.LABELS}/*{yolo.ROWS_SUFFIX}"))
