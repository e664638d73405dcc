"""The formats of annotations in one table, and which of them a file or folder has: its content tells, or a prefix."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from annotations import coco, cutout, labelme, labelstudio, results, yolo
from annotations.annotation import Annotations, Predictions, Say
from annotations.interpret import interpret
from annotations.mask_files import folders_in, masks_in, masks_of_set
from annotations.masks import NAME_FILES
from annotations.remarks import INSTEAD, refused_format
from annotations.sets import read_parts
from util.files import files_below, read_bytes, read_json, visible
from util.files.errors import UserError
from util.files.parallel import attempt

COCO = "coco"
YOLO = "yolo"
LABELME = "labelme"
LABELSTUDIO = "labelstudio"
CUTOUT = "cutout"  # which is written alone
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
    CUTOUT: cutout.write,
}
FORMATS = (*READERS, MASKS)  # that are read; masks hold no annotations, see ``mask_files.pairs``
KEYS = {  # of JSON files; the first that is found tells
    LABELSTUDIO: re.compile(rb'\A[^\[{]*\[.*"(?:result|annotation_id)"\s*:', re.DOTALL),
    RESULTS: re.compile(rb'"query_file"\s*:'),
    COCO: re.compile(rb'"annotations"\s*:'),
    LABELME: re.compile(rb'"shapes"\s*:'),
}
XML_SUFFIX = ".xml"  # of files that are refused by name
LOOKED_AT = 20  # files of a folder
OF_PHOTOS = (LABELME, RESULTS)  # a file for each photo
# beginnings of the names of COCO's files that hold no instances, or what the file of instances holds too
OTHER_TASKS = ("captions_", "image_info_", "labels_", "panoptic_", "person_keypoints_", "stuff_")
TEXTS_ALONE = (
    "text alone is no annotation; for YOLO's labels add data.yaml or classes.txt with the names of the classes"
)
EXPECTED = "a JSON file of COCO, labelme or Label Studio, YOLO's data file, or a folder of these, of masks or results"


def recognise(text: str) -> tuple[str, Path]:
    """Return the format and the path of ``[format:]path``; where a folder holds one file for all photos, that file.

    A set in parts, with a file for the photos of each, is its folder.

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
        raise UserError(f"{path}: {_lack_of(path)}")
    if len(formats) > 1:
        several = " and ".join(formats)
        raise UserError(f"{path}: may be of the formats {several}; write one before it, as in coco:{path}")
    return next(iter(formats.items()))


def _lack_of(path: Path) -> str:
    """Return why a file or folder without a format cannot be read, and what to do."""
    if path.suffix.lower() == yolo.ROWS_SUFFIX:
        return TEXTS_ALONE
    return f"its format is unknown; name {EXPECTED}"


def read(text: str, photos: Path | None = None, say: Say | None = None) -> Annotations:
    """Return the meaning of ``[format:]path`` but for ``masks``; errors as the reader and ``interpret``."""
    kind, path = recognise(text)
    if kind == MASKS:
        raise UserError(f"{path}: holds masks, not annotations; name the folder with --masks")
    if path.is_dir() and kind in (COCO, LABELSTUDIO):
        files, _ = _files_of_formats(files_below(path, labelme.SUFFIX))
        annotations = read_parts(READERS[kind], _with_instances(files.get(kind, [])), path, photos)
    else:
        annotations = READERS[kind](path, photos)
    return interpret(annotations, say)


def _formats_of(file: Path) -> dict[str, Path]:
    """Return the format that a file has, if any, with the path to read; UserError: it has one that is not read here."""
    content = read_bytes(file, "these annotations", "check the name")
    is_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    kind = next((kind for kind, key in KEYS.items() if is_json and key.search(content)), None)
    if kind not in (LABELSTUDIO, RESULTS):
        refused = refused_format(content)
        if refused:
            raise UserError(f"{file}: is {refused}, which cannot be read; {INSTEAD}")
    if kind is not None:
        return {kind: file}
    if is_json:
        read_json(file, "these annotations", "export or copy the file again")
    is_data = file.suffix.lower() in yolo.YAML_SUFFIXES or file.name in yolo.CLASS_FILES
    return {YOLO: file} if is_data and not is_json else {}


def _formats_in(folder: Path) -> dict[str, Path]:
    """Return the formats that the files of a folder have, else those below it, else masks, each with the path to read.

    UserError: there are no files but such as are not read here, or are damaged.
    """
    files, refusals = _files_of_formats(visible(folder.glob(f"*{labelme.SUFFIX}"), folder))
    formats = {kind: _path_of(kind, found, folder) for kind, found in files.items()}
    if _is_yolo(folder):
        formats[YOLO] = folder
    _, mask_folder = folders_in(folder)
    if formats or masks_in(mask_folder):
        return formats or {MASKS: folder}
    return _formats_below(folder, refusals) or _formats_of_texts(folder) or {MASKS: folder}


def _formats_below(folder: Path, refusals: list[UserError]) -> dict[str, Path]:
    """Return the formats of the files below a folder; UserError: there are none, no masks either, but others."""
    below = files_below(folder, labelme.SUFFIX)
    files, refusals_below = _files_of_formats([*below, *files_below(folder, XML_SUFFIX)[:1]])
    files.pop(RESULTS, None)  # of photos elsewhere
    formats = {kind: _path_of(kind, found, folder) for kind, found in files.items()}
    _, mask_folder = folders_in(folder)
    refusals = [*refusals, *refusals_below]
    if refusals and not formats and not masks_of_set(mask_folder):
        raise refusals[0]
    return formats


def _formats_of_texts(folder: Path) -> dict[str, Path]:
    """Return YOLO where a folder without masks holds text files and a file of names; UserError: texts without one."""
    texts = [path for path in files_below(folder, yolo.ROWS_SUFFIX) if path.name not in NAME_FILES]
    _, mask_folder = folders_in(folder)
    if not texts or masks_of_set(mask_folder):
        return {}
    if not yolo.data_files_in(folder):
        raise UserError(f"{folder}: {TEXTS_ALONE}")
    return {YOLO: folder}


def _files_of_formats(paths: list[Path]) -> tuple[dict[str, list[Path]], list[UserError]]:
    """Return the files of each format among the first of every folder, and why others are not read."""
    files: dict[str, list[Path]] = {}
    refusals: list[UserError] = []
    looked_at = Counter[Path]()
    for path in paths:
        looked_at[path.parent] += 1
        if looked_at[path.parent] > LOOKED_AT:  # readers refuse other files
            continue
        outcome = attempt(_formats_of, path)
        if isinstance(outcome, UserError):
            refusals.append(outcome)
            continue
        for kind in outcome:
            files.setdefault(kind, []).append(path)
    return files, refusals


def _path_of(kind: str, files: list[Path], folder: Path) -> Path:
    """Return what is read of the files of a format in a folder: the only one, or the folder."""
    with_instances = _with_instances(files)
    return folder if kind in OF_PHOTOS or len(with_instances) > 1 else with_instances[0]


def _with_instances(files: list[Path]) -> list[Path]:
    """Return the files that may hold instances; if their names say of none that it does, all."""
    return [file for file in files if not file.name.startswith(OTHER_TASKS)] or files


def _is_yolo(folder: Path) -> bool:
    """Return whether a folder holds a data file, or a file of names with text files in a folder of these."""
    data_files = yolo.data_files_in(folder)
    if not data_files:
        return False
    is_class_file = data_files[0].name in yolo.CLASS_FILES
    return not is_class_file or yolo.has_labels(folder)
