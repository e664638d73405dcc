"""The formats of annotations in one table, and which of them a file or folder has: names and first bytes tell."""

import re
from collections.abc import Callable
from pathlib import Path

from annotations import coco, cutout, labelme, labelstudio, results, yolo
from annotations.annotation import Annotations, Predictions, Say
from annotations.interpret import interpret
from annotations.mask_files import folders_in, masks_of_set
from annotations.masks import NAME_FILES
from util.files import files_below, read_json, visible
from util.files.errors import UserError

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
START = 2**16  # bytes of a JSON file that tell its format
KEYS = {  # in the beginning of JSON files; the first that is found tells
    LABELSTUDIO: re.compile(rb"\A\s*\[\s*\{"),
    RESULTS: re.compile(rb'"query_file"\s*:'),
    LABELME: re.compile(rb'"(?:shapes|imagePath)"\s*:'),
    COCO: re.compile(rb'"(?:images|annotations|categories|licenses)"\s*:'),
}
# beginnings of the names of COCO's files that hold no instances, or what the file of instances holds too
OTHER_TASKS = ("captions_", "image_info_", "labels_", "panoptic_", "person_keypoints_", "stuff_")
TEXTS_ALONE = (
    "text alone is no annotation; for YOLO's labels add data.yaml or classes.txt with the names of the classes"
)
EXPECTED = "a JSON file of COCO, labelme or Label Studio, YOLO's data file, or a folder of these, of masks or results"
OTHERS = "export other formats as COCO"


def recognise(text: str) -> tuple[str, Path]:
    """Return the format and the path of ``[format:]path``; where a folder holds one file for all photos, that file.

    UserError: the path does not exist, its content has no format or several, or several files are each of all photos.
    """
    named, path = _parts_of(text)
    if not path.exists():
        raise UserError(f"{text}: this file or folder does not exist; name {EXPECTED}")
    if path.is_file():
        return named or _format_of(path), path
    files = {} if named == MASKS else _files_in(path)
    if named is not None:
        return named, _path_of(named, files.get(named, []), path)
    if len(files) > 1:
        several = " and ".join(files)
        raise UserError(f"{path}: may be of the formats {several}; write one before it, as in coco:{path}")
    kind, found = next(iter(files.items()), (MASKS, []))
    return kind, _path_of(kind, found, path)


def _parts_of(text: str) -> tuple[str | None, Path]:
    """Return the format, if there is one, and the path in ``[format:]path``."""
    prefix, _, rest = text.partition(":")
    if prefix in FORMATS and rest and not Path(text).exists():
        return prefix, Path(rest)
    return None, Path(text)


def read(text: str, photos: Path | None = None, say: Say | None = None, unconfirmed: bool = True) -> Annotations:
    """Return the meaning of ``[format:]path`` but for ``masks``; errors as the reader and ``interpret``.

    ``unconfirmed``: take results of this project that no person has confirmed.
    """
    kind, path = recognise(text)
    if kind == MASKS:
        raise UserError(f"{path}: holds masks, not annotations; name the folder with --masks")
    annotations = READERS[kind](path, photos)
    return interpret(annotations if unconfirmed else results.confirmed_alone(annotations), say)


def _format_of(file: Path) -> str:
    """Return the format of a file; UserError: it has none that is read here."""
    kind = _json_format(file)
    if kind:
        return kind
    if file.suffix.lower() in yolo.YAML_SUFFIXES or file.name == yolo.CLASS_FILE:
        return YOLO
    if file.suffix.lower() == labelme.SUFFIX:
        read_json(file, "these annotations", "export or copy the file again")
    is_text = file.suffix.lower() == yolo.ROWS_SUFFIX
    raise UserError(f"{file}: {TEXTS_ALONE if is_text else f'its format is unknown; name {EXPECTED}; {OTHERS}'}")


def _json_format(file: Path) -> str | None:
    """Return the format of a JSON file, None if it has another form; UserError: it cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(START).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); restore it or leave it out") from None
    if start[:1] not in (b"{", b"["):
        return None
    return next((kind for kind, key in KEYS.items() if key.search(start)), None)


def _files_in(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each format in a folder, else below it; of masks none.

    UserError: there are no masks either, but files that are not read here.
    """
    files = _by_format(visible(folder.glob(f"*{labelme.SUFFIX}"), folder))
    if yolo.is_set(folder):
        files[YOLO] = [folder]
    _, mask_folder = folders_in(folder)
    if files or masks_of_set(mask_folder):
        return files
    below = files_below(folder, labelme.SUFFIX)
    files = _by_format(below)
    files.pop(RESULTS, None)  # of photos elsewhere
    texts = [path for path in files_below(folder, yolo.ROWS_SUFFIX) if path.name not in NAME_FILES]
    if not files and below:
        _format_of(below[0])  # which says why it is none
    if not files and texts:
        if not yolo.data_files_in(folder):
            raise UserError(f"{folder}: {TEXTS_ALONE}")
        files[YOLO] = [folder]
    return files


def _by_format(paths: list[Path]) -> dict[str, list[Path]]:
    """Return the files of each format."""
    files: dict[str, list[Path]] = {}
    for path in paths:
        kind = _json_format(path)
        if kind:
            files.setdefault(kind, []).append(path)
    return files


def _path_of(kind: str, files: list[Path], folder: Path) -> Path:
    """Return what is read of the files of a format in a folder; UserError: there are several, each of all photos."""
    if kind not in (COCO, LABELSTUDIO):
        return folder
    with_instances = [file for file in files if not file.name.startswith(OTHER_TASKS)] or files
    if len(with_instances) == 1:
        return with_instances[0]
    names = ", ".join(file.relative_to(folder).as_posix() for file in with_instances[:4])
    raise UserError(f"{folder}: holds {len(with_instances)} files of {kind} ({names}); name one, or join them first")
