"""This project's own results, which are read as annotations: a JSON file for each photo, and its mask where it has one.

The mask counts before the run lengths in the JSON, so that it can be corrected in any program. Of reviewed results,
the file of verdicts leaves out what was rejected.
"""

import csv
import os
from collections import defaultdict
from itertools import count
from pathlib import Path

from util.data.images.read import read_mask
from util.errors import UserError
from util.files import named, read_json, read_text, visible
from util.formats.annotations import AnnotatedPhoto, Annotations, Instance, PhotoFiles, in_words
from util.formats.shapes import decoded, encoded
from util.progress import ProgressBar

VERDICTS = ACCEPTED, REJECTED = "accepted", "rejected"
VERDICT_FILE, VERDICT_FILES = "accepted.csv", "accepted*.csv"  # browsers number the files of one name


def verdicts_in(folder: Path) -> dict[tuple[str, str], str]:
    """Return photo and class, as results state them -> verdict, of the newest file of verdicts in a folder of results.

    A verdict on a result that is newer than the file does not count. UserError: a column is lacking, or another word.
    """
    newest = max(folder.glob(VERDICT_FILES), key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        return {}
    rows = list(csv.DictReader(read_text(newest, "these verdicts", "save them again from review.html").splitlines()))
    if any(None in (row.get("photo"), row.get("class")) or row.get("verdict") not in VERDICTS for row in rows):
        raise UserError(f"{newest}: needs the columns photo, class, and verdict, accepted or rejected")
    since = newest.stat().st_mtime_ns
    rows = [row | {"photo": named(row["photo"])} for row in rows]
    files = {row["photo"]: folder / f"{Path(row['photo']).stem}.json" for row in rows}
    fresh = {photo for photo, file in files.items() if file.is_file() and file.stat().st_mtime_ns <= since}
    return {(row["photo"], row["class"]): row["verdict"] for row in rows if row["photo"] in fresh}


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the objects of a result, or of all results in a folder.

    The photos are found by name in ``folder``, default where each result states its photo, from the working folder or
    from the folder above the results. UserError: a file is unreadable, or a photo or its mask is missing.
    """
    files, within = (visible(path.glob("*.json"), path), path) if path.is_dir() else ([path], path.parent)
    verdicts, photo_files = verdicts_in(within), PhotoFiles(folder or within.parent, folder is not None)
    root, ids, photos = folder or within, defaultdict[str, int](count(1).__next__), []
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        record = read_json(file, "this result", "make it again")
        with in_words(f"{file}: is no result of this project (", "); make it again"):
            stated, size = str(record["query"]), (int(record["height"]), int(record["width"]))
            mask = read_mask(within / record["mask"]) if "mask" in record else None
            instances = []
            for entry in record["classes"]:
                category = ids[str(entry["name"])]
                inside = decoded(entry["runs"]) if mask is None else mask == int(entry["value"])
                if inside.any() and verdicts.get((record["query"], entry["name"])) != REJECTED:
                    instances.append(Instance(category, encoded(inside)))
        photo = Path(stated) if folder is None and Path(stated).is_file() else photo_files.find(stated, file)
        photos.append(AnnotatedPhoto(os.path.relpath(photo, root), *size, tuple(instances), True))
    return Annotations(tuple(photos), {number: name for name, number in ids.items()}, PhotoFiles(root, False), path)
