"""The masks of the page's photos: of each class by the network, by a person, or by a person "nothing here".

A photo's result shows the persons' masks over the network's, which it holds whole under ``FOUND``, so that a mask can
be given back.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.results import PERSON
from annotations.shapes import decoded
from photos import persons
from photos.photo_files import read_photo
from photos.prediction import is_same_file, paths_of
from photos.results import FOUND, Results, own_record, pictures_of
from photos.segmenter import Segmenter
from util.files import own_name
from util.files.errors import UserError
from util.files.images import header_of, upright_size

PHOTO_KEYS = ("query", "query_file", "width", "height", "mask", "overlay", "classes")  # entries of a result


class PhotoMasks:
    """The masks of photos in a page's folder, of its classes."""

    def __init__(self, segmenter: Segmenter, results: Results):
        self.segmenter = segmenter
        self.results = results
        self.out = results.out

    def record(self, path: Path) -> dict[str, Any]:
        """Return a photo's result; empty where it has none, or one of a photo that was replaced."""
        record = own_record(self.results.paths(path)[0])
        return record if record and is_same_file(record["query_file"], path) else {}

    def looks(self, path: Path) -> dict[str, list[Any]]:
        """Return of each class that is known of a photo by whom its mask is, its share and its presence."""
        rows = self.record(path).get("classes", [])
        found = {row["name"]: [row["by"], row["share"], row["presence"]] for row in rows}
        return found | {
            name: [PERSON, float(mask.mean()), None] for name, mask in persons.masks_of(self.out, path).items()
        }

    def label(self, path: Path, classes: list[str]) -> tuple[np.ndarray, list[int]]:
        """Return a photo's mask (H, W) uint8 in the values of classes, and the values that are a person's."""
        said = persons.masks_of(self.out, path)
        rows = self.record(path).get("classes", [])
        shown = {row["name"]: decoded(row["runs"]) for row in rows if row["name"] not in said}
        label = np.zeros(upright_size(*header_of(path)), np.uint8)
        for name, mask in (shown | said).items():
            if name in classes:
                label[mask] = classes.index(name) + 1
        return label, [classes.index(name) + 1 for name in said if name in classes]

    def version(self, path: Path) -> str:
        """Return what changes whenever a photo's result or a person's masks do.

        Its first part, of the result, only tells the browser to look again; a save asks the others, which are contents.
        """
        result = self.results.paths(path)[0]
        parts = (
            str(result.stat().st_mtime_ns) if result.exists() else "",
            persons.digest_of(self.out, path),
            str(path.stat().st_size) if path.exists() else "",
        )
        return "-".join(parts)

    def check_version(self, path: Path, version: Any) -> None:
        """Refuse (UserError) a change of what persons have said of a photo meanwhile; Segment may go on."""
        if str(version).partition("-")[2] != self.version(path).partition("-")[2]:
            raise UserError(f"{path.name}: was changed meanwhile, in another window; look at it, and do it again")

    def forget(self, path: Path) -> None:
        """Remove a photo's result, and what persons have said of it."""
        self._write(path, {}, {}, [])

    def say(self, path: Path, masks: Mapping[str, np.ndarray]) -> None:
        """Keep what persons say of a photo, class -> (H, W) bool, and write its result with it."""
        record = self.record(path)
        self._write(path, masks, record, _found_in(record))

    def rename(self, path: Path, old: str, new: str) -> None:
        """Give a class another name on a photo, or, by the name "", remove it."""
        record = self.record(path)
        found = {row["name"]: row for row in _found_in(record)}
        masks = persons.masks_of(self.out, path)
        if row := found.pop(old, None):
            found[new] = {**row, "name": new}
            if "probability" in row:
                probability = paths_of(self.out, path.stem, [new or old])[3]
                (self.out / row["probability"]).replace(probability)
                found[new]["probability"] = probability.name
        if old in masks:
            masks[new] = masks.pop(old)
        found.pop("", None)
        masks.pop("", None)
        self._write(path, masks, record, [*found.values()])

    def _write(
        self, path: Path, masks: Mapping[str, np.ndarray], record: dict[str, Any], found: list[dict[str, Any]]
    ) -> None:
        """Write persons' masks of a photo, and its result of them and the network's rows; none where none is left."""
        persons.write_masks(self.out, path, masks)
        if not found and not masks:
            result = self.results.paths(path)[0]
            for name in (*pictures_of(own_record(result)), result.name):
                (self.out / own_name(name)).unlink(missing_ok=True)
            return
        facts = {key: value for key, value in record.items() if key not in PHOTO_KEYS}
        self.results.write_rows(path, read_photo(path), found, {**self.segmenter.without_classes().facts, **facts})


def _found_in(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a result that the network has found."""
    found = record.get(FOUND)
    return record.get("classes", []) if found is None else found


def runs_by_row(label: np.ndarray) -> list[int]:
    """Return a mask (H, W) uint8 as value, length, value, length ... in the order of its rows."""
    flat = label.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.stack([flat[starts], lengths], 1).ravel().tolist()


def label_by_row(runs: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask (H, W) uint8 of ``runs_by_row``; UserError: they are of another form or size."""
    with content_errors("this mask cannot be read (", "); load the page again"):
        values, lengths = np.array(runs, np.int64).reshape(-1, 2).T
        fits = bool((values >= 0).all() and (values < 255).all() and (lengths > 0).all())
        if not fits or lengths.sum() != shape[0] * shape[1]:
            raise UserError(f"this mask does not fit its photo of {shape[1]} x {shape[0]} pixels; load the page again")
        return np.repeat(values.astype(np.uint8), lengths).reshape(shape)
