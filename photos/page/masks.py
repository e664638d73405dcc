"""The masks of the page's photos: of each class by the network, by a person, or by a person "nothing here".

A photo's result shows the persons' masks over the network's, which it holds whole under ``FOUND``, so that a mask can
be given back.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.results import PERSON
from annotations.shapes import decoded
from photos import persons
from photos.photo_files import read_photo
from photos.prediction import Prediction, is_same_file, paths_of
from photos.results import FOUND, Results, own_record
from photos.segmenter import Segmenter
from util.files import whole_digest
from util.files.errors import UserError
from util.files.images import header_of, upright_size
from util.files.mask_images import read_mask

UNCHANGED: Mapping[str, str] = {}  # classes keep their names
PHOTO_KEYS = ("query", "query_file", "width", "height", "mask", "overlay", "classes", FOUND)  # entries of a result


class PhotoMasks:
    """The masks of photos in a page's folder, of its classes."""

    def __init__(self, segmenter: Segmenter, results: Results):
        self.segmenter = segmenter
        self.results = results
        self.out = results.out

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """Return the classes in a photo's result; [] where it has none, or is of a photo that was replaced."""
        return self._record(path).get("classes", [])

    def of_persons(self, path: Path) -> dict[str, np.ndarray]:
        """Return the persons' masks of a photo, class -> (H, W) bool."""
        return persons.masks_of(self.out, path)

    def _record(self, path: Path) -> dict[str, Any]:
        record = own_record(self._result(path))
        return record if record and is_same_file(record["query_file"], path) else {}

    def _result(self, path: Path) -> Path:
        """Return the file of a photo's result."""
        return paths_of(self.out, path.stem, ())[0]

    def known(self, path: Path) -> set[str]:
        """Return the classes that a photo has been searched for, or of which a person has spoken."""
        return {row["name"] for row in self.rows(path)} | self.of_persons(path).keys()

    def looks(self, path: Path) -> dict[str, list[Any]]:
        """Return of each class of a photo by whom its mask is, its share and its presence."""
        found = {row["name"]: [row.get("by"), row["share"], row["presence"]] for row in self.rows(path)}
        said = {name: [PERSON, float(mask.mean()), None] for name, mask in self.of_persons(path).items()}
        return found | said

    def label(self, path: Path, classes: list[str]) -> tuple[np.ndarray, list[int]]:
        """Return a photo's mask (H, W) uint8 in the values of classes, and the values that are a person's."""
        said = self.of_persons(path)
        shown = {row["name"]: decoded(row["runs"]) for row in self.rows(path) if row["name"] not in said}
        label = np.zeros(upright_size(*header_of(path)), np.uint8)
        for name, mask in (shown | said).items():
            if name in classes:
                label[mask] = classes.index(name) + 1
        return label, [classes.index(name) + 1 for name in said if name in classes]

    def version(self, path: Path) -> str:
        """Return what changes whenever a photo's result or a person's masks do.

        Its first part, of the result, only tells the browser to look again; a save asks the others, which are contents.
        """
        result, said = self._result(path), persons.file_of(self.out, path)
        parts = (
            str(result.stat().st_mtime_ns) if result.exists() else "",
            whole_digest(said) if said.exists() else "",
            str(path.stat().st_size) if path.exists() else "",
        )
        return "-".join(parts)

    def check_version(self, path: Path, version: Any) -> None:
        """Refuse (UserError) a change of what persons have said of a photo meanwhile; Segment may go on."""
        if str(version).partition("-")[2] != self.version(path).partition("-")[2]:
            raise UserError(f"{path.name}: was changed meanwhile, in another window; look at it, and do it again")

    def forget(self, path: Path) -> None:
        """Remove a photo's result, and what persons have said of it."""
        persons.write_masks(self.out, path, {})
        self._result(path).unlink(missing_ok=True)

    def say(self, path: Path, masks: Mapping[str, np.ndarray], renamed: Mapping[str, str] = UNCHANGED) -> None:
        """Keep what persons say of a photo, class -> (H, W) bool, and write its result with it.

        ``renamed``: classes -> new names, "" of those that are removed.
        """
        record = self._record(path)
        rows = {renamed.get(row["name"], row["name"]): row for row in record.get(FOUND, record.get("classes", ()))}
        rows.pop("", None)
        in_order = {name: masks[name] for name in self.results.names if name in masks}
        if not rows and not in_order:
            self.forget(path)
            return
        persons.write_masks(self.out, path, in_order)
        facts = {key: value for key, value in record.items() if key not in PHOTO_KEYS}
        self.results.write(self._found(path, rows), {**self.segmenter.without_classes().facts, **facts})

    def _found(self, path: Path, rows: Mapping[str, Any]) -> Prediction:
        """Return the network's prediction as the rows of a result say, class -> row."""
        blank = Prediction.blank(read_photo(path), path)
        mask = blank.mask.copy()
        probability = np.zeros((len(rows), *mask.shape), np.float32)
        for index, row in enumerate(rows.values()):
            inside = decoded(row["runs"])
            mask[inside] = index + 1
            file = paths_of(self.out, path.stem, [row["name"]])[3]
            probability[index] = read_mask(file) / 255 if file.exists() else inside
        return replace(
            blank,
            names=[*rows],
            mask=mask,
            probability=probability,
            presence=[row["presence"] for row in rows.values()],
            min_presence=self.segmenter.min_presence,
            calibration=self.segmenter.calibration,
        )


def runs_of(label: np.ndarray) -> list[int]:
    """Return a mask (H, W) uint8 as value, length, value, length ... in the order of its rows."""
    flat = label.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.stack([flat[starts], lengths], 1).ravel().tolist()


def label_of(runs: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask (H, W) uint8 of ``runs_of``; UserError: they are of another form or size."""
    with content_errors("this mask cannot be read (", "); load the page again"):
        values, lengths = np.array(runs, np.int64).reshape(-1, 2).T
        fits = bool((values >= 0).all() and (values < 255).all() and (lengths > 0).all())
        if not fits or lengths.sum() != shape[0] * shape[1]:
            raise UserError(f"this mask does not fit its photo of {shape[1]} x {shape[0]} pixels; load the page again")
        return np.repeat(values.astype(np.uint8), lengths).reshape(shape)
