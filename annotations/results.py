"""This project's own results, which are read as annotations: a JSON file for each photo, and its mask where it has one.

The mask counts before the run lengths in the JSON, so that it can be corrected in any program. Of reviewed results,
the file of verdicts leaves out what was rejected.
"""

import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from annotations.annotation import AnnotatedPhoto, Annotations, CategoryIds, Instance, check_stated, content_errors
from annotations.photo_files import PhotoFiles, is_file
from annotations.remarks import UNCONFIRMED
from annotations.shapes import decoded, encoded
from util.files import named, own_name, read_json, read_text, visible
from util.files.errors import UserError
from util.files.mask_images import read_mask
from util.files.progress import ProgressBar

PERSON = "person"  # whom a mask is by, as a result says of each class
ACCEPTED = "accepted"
REJECTED = "rejected"
VERDICTS = (ACCEPTED, REJECTED)
VERDICT_FILE = "accepted.csv"
VERDICT_FILES = "accepted*.csv"  # browsers number the files of one name
JOINED = "what one of them rejects is rejected: remove the older ones"
VERDICT_COLUMNS = ("photo", "class", "verdict", "mask", "saved")  # of such a file; earlier versions had the first three


class Verdict(NamedTuple):
    """The verdict of a review on the mask of a class of a result."""

    word: str  # accepted or rejected
    mask: str  # the ``mask_digest`` of what was judged; '' if the file does not say it

    def is_on(self, runs: Mapping[str, Any]) -> bool:
        """Return whether it is on a mask, given by its run lengths, as far as it says which it is on."""
        return self.mask in ("", mask_digest(runs))


Verdicts = dict[tuple[str, str], Verdict]  # by photo and class, as results state them


def mask_digest(runs: Mapping[str, Any]) -> str:
    """Return the digest of a mask by its run lengths {"size", "counts"}, as ``encoded`` returns them."""
    text = json.dumps([runs["size"], runs["counts"]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _verdict_of(row: dict[str, str], file: Path) -> tuple[tuple[str, str], Verdict]:
    """Return photo and class of a row, and its verdict; UserError: a column is lacking, or another word."""
    photo, name, word = row.get("photo"), row.get("class"), row.get("verdict")
    if photo is None or name is None or word not in VERDICTS:
        raise UserError(f"{file}: needs the columns photo, class, and verdict, accepted or rejected")
    return (named(photo), name), Verdict(word, row.get("mask") or "")


def verdicts_in(folder: Path) -> Verdicts:
    """Return the verdicts in a folder of results; whether each is on the mask there today ``Verdict.is_on`` tells.

    Of several files it is the one that states the latest time of saving. If none states one, their verdicts are joined,
    and what one of them rejects is rejected. UserError: a column is lacking, or another word.
    """
    files = sorted(folder.glob(VERDICT_FILES))
    tables = [_rows(file) for file in files]
    latest = max((_saved(rows) for rows in tables), default="")
    verdicts: Verdicts = {}
    for file, rows in zip(files, tables, strict=True):
        for row in rows if _saved(rows) == latest else ():
            key, verdict = _verdict_of(row, file)
            if verdict.word == REJECTED or key not in verdicts:
                verdicts[key] = verdict
    if len(files) > 1 and not latest:
        print(
            f"note: {folder}: {len(files)} files of verdicts do not say when they were saved; {JOINED}", file=sys.stderr
        )
    return verdicts


def _rows(file: Path) -> list[dict[str, str]]:
    text = read_text(file, "these verdicts", "save them again from review.html")
    try:
        return list(csv.DictReader(text.splitlines()))
    except csv.Error as error:
        raise UserError(f"{file}: is damaged ({error}); save it again from review.html") from None


def _saved(rows: Iterable[dict[str, str]]) -> str:
    """Return the time at which a file of verdicts was saved, as its rows state it; '' if they do not."""
    return max((row.get("saved") or "" for row in rows), default="")


def note_verdicts(folder: Path, fitting: Iterable[Verdict], outdated: Iterable[Verdict]) -> None:
    """Print how many verdicts of a review are on masks that changed since, and how many do not say which they are on.

    Args:
        folder: of the results.
        fitting: the verdicts that count.
        outdated: those that do not, since the mask is another one today.
    """
    words = [verdict.word for verdict in outdated]
    if words:
        problem = f"verdicts on masks that have changed since, which do not count: {len(words)}"
        print(f"note: {folder}: {problem} ({words.count(REJECTED)} rejected); review them again", file=sys.stderr)
    unsure = [verdict.word for verdict in fitting if not verdict.mask]
    if unsure:
        problem = f"verdicts that do not say on which mask they are, which count: {len(unsure)}"
        print(f"note: {folder}: {problem} ({unsure.count(REJECTED)} rejected); save them again", file=sys.stderr)


def read_annotations(path: Path, folder: Path | None = None) -> Annotations:
    """Return the objects of a result, or of all results in a folder.

    The photos are found by name in ``folder``, default where each result states its photo, from the working folder or
    from the folder above the results. UserError: a file is unreadable, or a photo or its mask is missing.
    """
    home = path if path.is_dir() else path.parent
    files = visible(path.glob("*.json"), path) if path.is_dir() else [path]
    review = _Review(verdicts_in(home))
    photo_files = PhotoFiles(folder or home.parent, is_named=folder is not None)
    root = folder or home
    ids = CategoryIds()
    photos = []
    for file in ProgressBar(files, str(path), unit="file", leave=False, delay=1):
        record = read_json(file, "this result", "make it again")
        with content_errors(f"{file}: is no result of this project (", "); make it again"):
            stated = str(record["query"])
            height, width = int(record["height"]), int(record["width"])
            is_there = folder is None and is_file(Path(stated))
            photo = Path(stated) if is_there else photo_files.find(stated, file)
            check_stated(photo, height, width)
            instances = _instances(record, home, ids, review)
        photos.append(AnnotatedPhoto(os.path.relpath(photo, root), height, width, instances, is_upright=True))
    note_verdicts(home, review.fitting, review.outdated)
    return Annotations(tuple(photos), ids.names(), PhotoFiles(root, is_named=False), path)


@dataclass
class _Review:
    """The verdicts in a folder of results, and what became of those that were asked for."""

    verdicts: Verdicts
    fitting: list[Verdict] = field(default_factory=list)
    outdated: list[Verdict] = field(default_factory=list)

    def rejects(self, photo: str, name: str, runs: Mapping[str, Any]) -> bool:
        """Return whether the mask of a class of a photo is rejected."""
        verdict = self.verdicts.get((photo, name))
        if verdict is None:
            return False
        is_on = verdict.is_on(runs)
        (self.fitting if is_on else self.outdated).append(verdict)
        return is_on and verdict.word == REJECTED


def _instances(record: dict[str, Any], home: Path, ids: CategoryIds, review: _Review) -> tuple[Instance, ...]:
    """Return the objects in the record of a result in the folder ``home`` that no verdict rejects."""
    mask = read_mask(home / own_name(record["mask"])) if "mask" in record else None
    instances = []
    for entry in record["classes"]:
        name = entry["name"]
        category = ids[str(name)]
        pixels = decoded(entry["runs"]) if mask is None else mask == int(entry["value"])
        runs = encoded(pixels)
        if not review.rejects(record["query"], name, runs) and pixels.any():
            instances.append(Instance(category, runs, confirmed=entry.get("by") == PERSON))
    return tuple(instances)


def confirmed_alone(annotations: Annotations) -> Annotations:
    """Return the masks that a person confirmed; others beside them are unknown, and their photos alone left out."""
    photos = []
    for photo in annotations.photos:
        others = [instance for instance in photo.instances if not instance.confirmed]
        annotations.remarks.add(UNCONFIRMED, count=len(others))
        kept = [instance if instance.confirmed else instance._replace(unknown=True) for instance in photo.instances]
        photos.append(photo._replace(instances=tuple(kept) if len(others) < len(kept) else ()))
    return replace(annotations, photos=tuple(photos))
