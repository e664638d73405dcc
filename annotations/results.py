"""This project's own results, which are read as annotations: a JSON file for each photo, and its mask where it has one.

The mask counts before the run lengths in the JSON, so that it can be corrected in any program. Of reviewed results,
the file of verdicts leaves out what was rejected.
"""

import csv
import os
from pathlib import Path
from typing import Any

from annotations.annotation import AnnotatedPhoto, Annotations, CategoryIds, Instance, check_stated, content_errors
from annotations.photo_files import PhotoFiles
from annotations.shapes import decoded, encoded
from util.errors import UserError
from util.files import named, read_json, read_text, visible
from util.files.images import read_mask
from util.progress import ProgressBar

ACCEPTED = "accepted"
REJECTED = "rejected"
VERDICTS = (ACCEPTED, REJECTED)
VERDICT_FILE = "accepted.csv"
VERDICT_FILES = "accepted*.csv"  # browsers number the files of one name


def verdicts_in(folder: Path) -> dict[tuple[str, str], str]:
    """Return photo and class, as results state them -> verdict, of the newest file of verdicts in a folder of results.

    A verdict on a result that is newer than the file does not count. UserError: a column is lacking, or another word.
    """
    newest = max(folder.glob(VERDICT_FILES), key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        return {}
    text = read_text(newest, "these verdicts", "save them again from review.html")
    verdicts: dict[tuple[str, str], str] = {}
    for row in csv.DictReader(text.splitlines()):
        photo, name = row.get("photo"), row.get("class")
        verdict = row.get("verdict")
        if photo is None or name is None or verdict not in VERDICTS:
            raise UserError(f"{newest}: needs the columns photo, class, and verdict, accepted or rejected")
        verdicts[named(photo), name] = verdict
    since = newest.stat().st_mtime_ns
    photos = {photo for photo, _ in verdicts}
    fresh = {photo for photo in photos if _is_made_before(folder / f"{Path(photo).stem}.json", since)}
    return {key: verdict for key, verdict in verdicts.items() if key[0] in fresh}


def _is_made_before(file: Path, time_ns: int) -> bool:
    """Return whether a file exists and has not changed since a time."""
    return file.is_file() and file.stat().st_mtime_ns <= time_ns


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the objects of a result, or of all results in a folder.

    The photos are found by name in ``folder``, default where each result states its photo, from the working folder or
    from the folder above the results. UserError: a file is unreadable, or a photo or its mask is missing.
    """
    home = path if path.is_dir() else path.parent
    files = visible(path.glob("*.json"), path) if path.is_dir() else [path]
    verdicts = verdicts_in(home)
    photo_files = PhotoFiles(folder or home.parent, is_named=folder is not None)
    root = folder or home
    ids = CategoryIds()
    photos = []
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        record = read_json(file, "this result", "make it again")
        with content_errors(f"{file}: is no result of this project (", "); make it again"):
            stated = str(record["query"])
            height, width = int(record["height"]), int(record["width"])
            is_there = folder is None and Path(stated).is_file()
            photo = Path(stated) if is_there else photo_files.find(stated, file)
            check_stated(photo, height, width)
            instances = _instances(record, home, ids, verdicts)
        photos.append(AnnotatedPhoto(os.path.relpath(photo, root), height, width, instances, is_upright=True))
    return Annotations(tuple(photos), ids.names(), PhotoFiles(root, is_named=False), path)


def _instances(
    record: dict[str, Any], home: Path, ids: CategoryIds, verdicts: dict[tuple[str, str], str]
) -> tuple[Instance, ...]:
    """Return the objects in the record of a result in the folder ``home`` that no verdict rejects."""
    mask = read_mask(home / record["mask"]) if "mask" in record else None
    instances = []
    for entry in record["classes"]:
        name = entry["name"]
        category = ids[str(name)]
        pixels = decoded(entry["runs"]) if mask is None else mask == int(entry["value"])
        if pixels.any() and verdicts.get((record["query"], name)) != REJECTED:
            instances.append(Instance(category, encoded(pixels)))
    return tuple(instances)
