"""A photo's result as its JSON file records it: read and checked, with the names of the files beside it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotations.annotation import content_errors
from annotations.mask_formats import note_once
from annotations.shapes import compressed, decoded, encoded
from photos.examples import check_class_name
from photos.read_photos import QUERY_FILE
from util.files.names import own_name
from util.files.parallel import result_or_error
from util.files.reading import kept_json
from util.files.writing import TEMPORARY

FOUND = "found"  # key of a result: the network's classes, whole, where a person has drawn over them
SAID = "persons"  # key of a result: the digest of what persons have said of the photo
RECORD_KEYS = {"query", QUERY_FILE, "width", "height", "classes", SAID}  # of each result
SCORE = float | int | None
ROW_KINDS = {  # of the entries of a class in a result; numbers with a point are shares
    **{"name": str, "by": str, "value": int, "pixels": int, "parts": int},
    **{"share": SCORE, "presence": SCORE, "score": SCORE, "box": list | None},
}


def own_record(path: Path) -> dict[str, Any]:
    """Return the content of a photo's result; empty if there is none, or if it is another program's.

    It is also empty, and a line says so, if the result is damaged.
    """
    record = kept_json(path)
    if not record.keys() >= RECORD_KEYS:
        return {}
    problem = result_or_error(partial(_check_result, record), path)
    if problem is not None:
        note_once(f"{path}: {problem} and counts as none; remove it, or make it again")
    return {} if problem else record


def own_records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files of results in a folder with their content, without files that a kill left half written."""
    for path in sorted(folder.glob("*.json")):
        if not path.match(f".*{TEMPORARY}*") and (record := own_record(path)):
            yield path, record


@content_errors("this result is damaged (", ")")
def _check_result(record: dict[str, Any], path: Path) -> None:
    """Refuse (UserError) a photo's result with entries of another form, or with files of other photos."""
    _check_kinds(record, {"query": str, "height": int, "width": int})
    for row in (*record["classes"], *(record.get(FOUND) or ())):
        _check_kinds(row, ROW_KINDS)
        check_class_name(row["name"])
        for entry in (row, *row.get("instances", ())):
            if compressed(entry["runs"])["size"] != [record["height"], record["width"]]:
                raise ValueError("a mask has another size than its photo")
    for name in pictures_of(record):
        if not own_name(name).startswith(f"{path.stem}_"):
            raise ValueError(f"{name} is of another photo")


def _check_kinds(entry: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Refuse (KeyError, ValueError) an entry that lacks a key, or whose value is of another kind or no share."""
    for key, kind in kinds.items():
        value = entry[key]
        if not isinstance(value, kind) or (isinstance(value, float) and not 0 <= value <= 1):
            raise ValueError(f'"{key}" is {value}')


def pictures_of(record: dict[str, Any]) -> list[str]:
    """Return the names of the files of a result beside its JSON: mask, overlay, probabilities; [] if it has none."""
    if "mask" not in record:
        return []
    probabilities = [row["probability"] for row in record["classes"] if "probability" in row]
    return [record["mask"], record["overlay"], *probabilities]


def parts_in(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the connected parts of a class: those in its row, or of a mask by a person, each with the mask's score."""
    if "instances" in row:
        return row["instances"]
    count, parts = cv2.connectedComponents(decoded(row["runs"]).view(np.uint8), connectivity=8)
    return [{"score": row["score"], "runs": encoded(parts == part)} for part in range(1, count)]
