"""Persons' masks of photos: ``persons/<photo>.json`` in a folder of results, in the form of a result.

A class in it is a person's: its mask, or that nothing of it is there where the mask is empty. ``--supports`` reads the
folder. A file counts for the photo that it was made on: where that was replaced, it says nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annotations.results import PERSON
from annotations.shapes import decoded, encoded
from photos.prediction import file_facts, is_same_file
from util.files import kept_json, write_atomically

FOLDER = "persons"


def file_of(out: Path, photo: Path) -> Path:
    """Return the file of what persons have said of a photo."""
    return out / FOLDER / f"{photo.stem}.json"


def masks_of(out: Path, photo: Path) -> dict[str, np.ndarray]:
    """Return a person's masks of a photo, class -> (H, W) bool; of a photo that was replaced none."""
    record = kept_json(file_of(out, photo))
    if not record or not is_same_file(record.get("query_file"), photo):
        return {}
    return {row["name"]: decoded(row["runs"]) for row in record["classes"]}


def write_masks(out: Path, photo: Path, masks: Mapping[str, np.ndarray]) -> None:
    """Write a person's masks of a photo in place of earlier ones; without any the file goes."""
    path = file_of(out, photo)
    if not masks:
        path.unlink(missing_ok=True)
        return
    height, width = next(iter(masks.values())).shape
    record = {"query": str(photo), "width": width, "height": height, "query_file": file_facts(photo)}
    rows = [_row(name, value, mask) for value, (name, mask) in enumerate(masks.items(), 1)]
    write_atomically(path, json.dumps({**record, "classes": rows}) + "\n")


def _row(name: str, value: int, mask: np.ndarray) -> dict[str, Any]:
    return {"name": name, "value": value, "by": PERSON, "pixels": int(mask.sum()), "runs": encoded(mask)}
