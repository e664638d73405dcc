"""Persons' masks of photos: ``persons/<photo>.json`` in a folder of results, in the form of a result.

A class in it is a person's: its mask, or that nothing of it is there where the mask is empty. ``--supports`` reads the
folder. A file counts for the photo that it was made on: where that was replaced, it says nothing.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotations.results import PERSON
from annotations.shapes import decoded, encoded
from photos.prediction import extent_of, file_facts, is_same_file
from util.files import content_digest, kept_json, write_atomically

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
    rows = [{"name": name, "by": PERSON, "runs": encoded(mask)} for name, mask in masks.items()]
    write_atomically(path, json.dumps({**record, "classes": rows}) + "\n")


def digest_of(out: Path, photo: Path) -> str:
    """Return the digest of what persons have said of a photo; "" where they have said nothing."""
    path = file_of(out, photo)
    return content_digest(path).hex() if path.exists() else ""


def over(found: Sequence[dict[str, Any]], said: Mapping[str, np.ndarray], order: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a photo's classes: those that the network has found, with a person's masks over them.

    Args:
        found: rows of ``Prediction.summary(masks=True)``.
        said: the persons' masks, class -> (H, W) bool.
        order: of the classes, those of which nothing is known left out.
    """
    shown = {row["name"]: decoded(row["runs"]) for row in found if row["name"] not in said} | {**said}
    names = [name for name in dict.fromkeys([*order, *shown]) if name in shown]
    label = np.zeros(next(iter(said.values())).shape, np.uint8)
    for name, mask in shown.items():
        label[mask] = names.index(name) + 1
    of_network = {row["name"]: row for row in found}
    rows = []
    for value, name in enumerate(names, 1):
        row = {**of_network.get(name, {}), "name": name, "value": value}
        if name in said:
            row |= {"by": PERSON, "presence": None, "score": 1.0}
        inside = label == value
        runs = encoded(inside)
        if row.get("runs") != runs:
            row |= extent_of(inside) | {"runs": runs}
            row.pop("instances", None)  # of the former mask
        row["score"] = row["score"] if row["pixels"] else None
        rows.append(row)
    return rows
