"""The formats of annotations in one table, and which of them a file or folder has: names and first bytes tell."""

import re
from collections.abc import Callable
from pathlib import Path

from annotations import coco, labelme, labelstudio, results, yolo
from annotations.annotation import Annotations, Predictions
from annotations.interpret import interpret
from annotations.mask_files import folders_in, masks_below, masks_in
from util.files.errors import UserError
from util.files.folders import files_below, visible
from util.files.parallel import grouped

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
START = 2**16  # bytes of a JSON file that tell its format
KEYS = {  # in the beginning of JSON files; the first that is found tells
    LABELSTUDIO: re.compile(rb"\A\s*\[\s*\{"),
    RESULTS: re.compile(rb'"query_file"\s*:'),
    LABELME: re.compile(rb'"(?:shapes|imagePath)"\s*:'),
    COCO: re.compile(rb'"(?:images|annotations|licenses)"\s*:'),  # categories alone are Label Studio's notes.json
}
EXPECTED = "a JSON file of COCO, labelme or Label Studio, YOLO's data file, or a folder of these, of masks or results"
XML = {  # their first element, of programs and files that are named, since they hold boxes or videos
    b"<annotations": "CVAT's XML; export the task as COCO 1.0, or as Segmentation mask 1.1",
    b"<annotation": "PASCAL VOC's XML, of boxes; export outlines as COCO, or name a folder of masks with --masks",
}


def recognise(text: str) -> tuple[str, Path]:
    """Return the format and the path of ``[format:]path``; where a folder holds one file for all photos, that file.

    Several files of COCO are parts of a set. UserError: the path does not exist, its content has no format or several,
    or several other files are each of all photos.
    """
    named, path = _parts_of(text)
    if not path.exists():
        raise UserError(f"{text}: this file or folder does not exist; name {EXPECTED}")
    if path.is_file():
        return named or _known_format(path), path
    files = _files_in(path)
    if named is None and len(files) > 1:
        raise UserError(f"{path}: may be of the formats {' and '.join(files)}; write one before it, as in coco:{path}")
    kind = named or next(iter(files), MASKS)
    if kind == MASKS and not masks_below(folders_in(path)[1]):
        _refuse_xml(path)
    return kind, _whole_file(kind, path, yolo.data_files_in(path) if kind == YOLO else files.get(kind, []))


def _whole_file(kind: str, folder: Path, found: list[Path]) -> Path:
    """Return the file of a folder that is of all its photos; the folder itself if it may have more; UserError: none."""
    if kind not in (COCO, LABELSTUDIO, YOLO) or (kind == COCO and len(found) > 1):
        return folder
    if len(found) != 1:
        names = ", ".join(file.relative_to(folder).as_posix() for file in found[:4])
        what = "data files with the class names" if kind == YOLO else f"files of {kind}"
        raise UserError(f"{folder}: holds {len(found)} {what} ({names}); name one, or join them first")
    return found[0]


def _parts_of(text: str) -> tuple[str | None, Path]:
    """Return the format, if there is one, and the path in ``[format:]path``."""
    prefix, _, rest = text.partition(":")
    if prefix in FORMATS and rest and not Path(text).exists():
        return prefix, Path(rest)
    return None, Path(text)


def read(text: str, photos: Path | None = None, unconfirmed: bool = True) -> Annotations:
    """Return the meaning of ``[format:]path`` but for ``masks``; raises as the reader and ``interpret`` do.

    ``unconfirmed``: take masks that a network made and no person confirmed, too.
    """
    kind, path = recognise(text)
    if kind == MASKS:
        found = "masks, not" if masks_below(folders_in(path)[1]) else "no"
        raise UserError(f"{path}: holds {found} annotations; name {EXPECTED}; of masks with --masks")
    annotations = READERS[kind](path, photos)
    results.decide_unconfirmed(annotations, taken=unconfirmed)
    return interpret(annotations)


def _known_format(file: Path) -> str:
    """Return the format of a file; UserError: it has none that is read here."""
    if kind := _format_of(file):
        return kind
    _refuse_xml(file)
    raise UserError(f"{file}: its format is unknown; name {EXPECTED}; export other formats as COCO")


def _refuse_xml(path: Path) -> None:
    """Refuse (UserError) a file, or a folder with one, in an XML that is named, and say what to export instead."""
    for file in files_below(path, ".xml") if path.is_dir() else [path]:
        content = file.read_bytes()[:START]
        for element, words in XML.items():
            if element in content:
                raise UserError(f"{file}: is {words}")


def _format_of(file: Path) -> str | None:
    """Return the format of a file by its name or, of JSON, its beginning; None if it has another form."""
    if file.suffix.lower() in yolo.YAML_SUFFIXES or file.name in yolo.CLASS_FILES:
        return YOLO
    with file.open("rb") as stream:
        start = stream.read(START).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] not in (b"{", b"["):
        return None
    return next((kind for kind, key in KEYS.items() if key.search(start)), None)


def _files_in(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each format in a folder, else, where it holds no masks either, below it."""
    suffixes = (labelme.SUFFIX, *yolo.YAML_SUFFIXES)
    files = _by_format(visible((path for path in folder.glob("*.*") if path.suffix.lower() in suffixes), folder))
    _, mask_folder = folders_in(folder)
    if files or masks_in(mask_folder):
        return files
    files = _by_format(files_below(folder, labelme.SUFFIX))
    files.pop(RESULTS, None)  # of photos elsewhere
    class_files = yolo.data_files_in(folder)
    return {**files, YOLO: class_files} if class_files and not masks_below(mask_folder) else files


def _by_format(paths: list[Path]) -> dict[str, list[Path]]:
    """Return the files of each format."""
    files = grouped(paths, _format_of)
    files.pop(None, None)  # those of others
    return files
