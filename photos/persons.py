"""What persons have said of photos: their masks are in ``persons/<photo>.png``, all else in ``persons/names.txt``.

A mask has the size of the upright photo and holds class values, 0 for none. The file of names has a line for each
class, ``value: name``, and above them, in a comment, which classes of which photos a person has confirmed: one without
pixels is not on the photo. ``--supports`` and ``prepare.py custom`` read both. A mask counts only for the photo that it
was made on, not for one that replaced it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from annotations.annotation import PERSON, content_errors
from annotations.photo_files import file_facts, is_same_file
from annotations.pictures import header_of
from annotations.shapes import decoded, encoded
from annotations.words import is_unknown
from photos.examples import check_class_name
from photos.prediction import extent_of, remove
from util.files.digests import content_digest, state_of
from util.files.errors import UserError
from util.files.mask_images import read_mask, write_mask
from util.files.names import own_name
from util.files.reading import read_text
from util.files.writing import write_atomically

FOLDER = "persons"
NAMES = "names.txt"
REMOVED = "ignored class"  # the name of one that was removed, whose pixels are unknown to all readers
MOST = 254  # values of classes


class Said(NamedTuple):
    """The content of the file of names."""

    classes: list[str]  # by their values, from 1; "" where one was removed
    confirmed: dict[str, dict[str, Any]]  # photo without suffix -> values of "classes" that are there, "digest"


def read(out: Path) -> Said:
    """Return what the file of names in a folder of results says; UserError: it is damaged, or of another program."""
    path = out / FOLDER / NAMES
    return _parsed(path, state_of(path)) if path.exists() else Said([], {})


@lru_cache(maxsize=4)
def _parsed(path: Path, state: tuple[int, ...]) -> Said:
    """Return the content of a file of names, whose ``state_of`` tells the cache when it has changed."""
    text = read_text(path, "the class names", "restore it")
    with content_errors(f"{path}: is no file of persons' masks (", "); restore it, or name another folder"):
        first, *lines = text.splitlines()
        names = [line.split(f"{value}: ", 1)[1] for value, line in enumerate(lines, 1)]
        classes = ["" if is_unknown(name) else check_class_name(name, f"{path}: the class") for name in names]
        present = [value for value, name in enumerate(classes, 1) if name]
        if len({*classes} - {""}) < len(present) or len(classes) > MOST:
            raise ValueError("there are too many classes, or two of one name")
        confirmed = {}
        for photo, entry in json.loads(first.removeprefix("# ")).items():
            values = [value for value in present if value in entry["classes"]]
            confirmed[own_name(photo)] = {"classes": values, "digest": entry["digest"]}
    return Said(classes, confirmed)


def write(out: Path, said: Said) -> None:
    """Write the file of names."""
    lines = [f"{value}: {name or REMOVED}" for value, name in enumerate(said.classes, 1)]
    write_atomically(out / FOLDER / NAMES, "\n".join([f"# {json.dumps(said.confirmed)}", *lines, ""]))


def values(out: Path) -> dict[str, int]:
    """Return the value of each class."""
    return {name: value for value, name in enumerate(read(out).classes, 1) if name}


def file_of(out: Path, photo: Path) -> Path:
    """Return the file of a person's masks of a photo."""
    return out / FOLDER / f"{photo.stem}.png"


def size_of(photo: Path) -> tuple[int, int]:
    """Return height and width of a photo as it is shown, by its header."""
    return header_of(photo).upright_size


def values_of(out: Path, photo: Path) -> list[int]:
    """Return the values of the classes that a person has confirmed on a photo; none if it was replaced since."""
    entry = read(out).confirmed.get(photo.stem)
    is_there = is_same_file(entry, photo) and file_of(out, photo).is_file()
    return entry["classes"] if entry and is_there else []


def masks_of(out: Path, photo: Path) -> dict[str, np.ndarray]:
    """Return a person's masks of a photo, class -> (H, W) bool; none if the photo was replaced since.

    UserError: a file is damaged, or the mask is of another size than its photo.
    """
    values = values_of(out, photo)
    if not values:
        return {}
    file = file_of(out, photo)
    if header_of(file).size != size_of(photo):
        raise UserError(f"{file}: this mask is of another size than its photo; remove it")
    label = read_mask(file)
    classes = read(out).classes
    return {classes[value - 1]: label == value for value in values}


def write_masks(out: Path, photo: Path, masks: Mapping[str, np.ndarray]) -> None:
    """Write a person's masks of a photo in place of earlier ones; without any the file goes.

    What is no longer confirmed is written first and what is new last: a class is never confirmed before its pixels lie
    there, nor after they have gone.
    """
    mask_of_value = {values(out)[name]: mask for name, mask in masks.items()}
    _confirm(out, photo, [value for value in values_of(out, photo) if value in mask_of_value])
    if not masks:
        remove(file_of(out, photo))
        return
    label = np.zeros(size_of(photo), np.uint8)
    for value, mask in mask_of_value.items():
        label[mask] = value
    write_mask(file_of(out, photo), label, stated=True)
    _confirm(out, photo, sorted(mask_of_value))


def _confirm(out: Path, photo: Path, values: list[int]) -> None:
    """Write that a person has confirmed the classes of some values on a photo, and no others."""
    classes, confirmed = read(out)
    if values != confirmed.get(photo.stem, {"classes": []})["classes"]:
        digest = file_facts(photo)["digest"] if values else ""
        write(out, Said(classes, {**confirmed, photo.stem: {"classes": values, "digest": digest}}))


def digest_of(out: Path, photo: Path) -> str:
    """Return the digest of what persons have said of a photo; "" where they have said nothing."""
    values = values_of(out, photo)
    return f"{content_digest(file_of(out, photo)).hex()} {values}" if values else ""


def pixels_of(row: dict[str, Any]) -> np.ndarray:
    """Return the mask of a row of a result, (H, W) bool; UserError: it is damaged."""
    with content_errors(f"{row['name']}: its mask in a result is damaged (", "); remove the result"):
        return decoded(row["runs"])


def over(found: Sequence[dict[str, Any]], said: Mapping[str, np.ndarray], order: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a photo's classes: those that the network has found, with a person's masks over them.

    Args:
        found: rows of ``Prediction.summary(masks=True)``.
        said: the persons' masks, class -> (H, W) bool.
        order: of the classes, those of which nothing is known left out.
    """
    of_network = {row["name"]: row for row in found}
    is_said = np.any([*said.values()], axis=0)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*order, *of_network, *said]):
        row = {**of_network.get(name, {}), "name": name, "value": len(rows) + 1}
        if name in said:
            rows.append(_with_mask({**row, "by": PERSON, "presence": None, "score": 1.0}, said[name]))
        elif name in of_network:
            rows.append(_with_mask(row, pixels_of(row) & ~is_said))
    return rows


def _with_mask(row: dict[str, Any], inside: np.ndarray) -> dict[str, Any]:
    """Return a class's row with a mask (H, W) bool; numbers and parts of another mask in it are replaced or removed."""
    runs = encoded(inside)
    if row.get("runs") != runs:
        row = {**row, **extent_of(inside), "runs": runs}
        row.pop("instances", None)
    return {**row, "score": row["score"] if row["pixels"] else None}
