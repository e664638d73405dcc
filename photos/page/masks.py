"""Keep, for each photo of the page and each class, one mask: the network's, a person's, or a person's "nothing here".

A photo's result shows the persons' masks over the network's, which it holds whole under ``FOUND``, so that a mask can
be given back.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.photo_files import is_same_file
from photos import persons
from photos.prediction import remove
from photos.read_photos import QUERY_FILE, read_with_facts
from photos.record import FOUND, SAID, own_record, pictures_of
from photos.results_folder import Results
from photos.segmenter import Segmenter
from util.files.errors import UserError
from util.files.parallel import result_or_error
from util.files.reading import kept_json

LOOKS = ("by", "share", "presence", "score")  # what the grid shows of a class: by whom its mask is, share and scores
PHOTO_KEYS = ("query", "width", "height", "mask", "overlay", "classes")  # entries of a result


class PhotoMasks:
    """The masks of photos in a page's folder, of its classes.

    Args:
        segmenter: of the network.
        results: the folder.
        photos: the open ones, by the names of their files.
        replaced: a file that is there while results have former names of classes: former name -> present one, or "".
    """

    def __init__(self, segmenter: Segmenter, results: Results, photos: Mapping[str, Path], replaced: Path):
        self.segmenter = segmenter
        self.results = results
        self.photos = photos
        self.replaced = replaced
        self.out = results.out
        self.errors: dict[Path, str] = {}  # why a photo cannot be read, "" where it can

    def record(self, path: Path) -> dict[str, Any]:
        """Return a photo's result; empty where it has none, or one of a photo that was replaced."""
        record = own_record(self.results.paths(path)[0])
        return record if is_same_file(record.get(QUERY_FILE), path) else {}

    def found(self, path: Path) -> list[dict[str, Any]]:
        """Return the rows of a photo's classes that the network has found."""
        record = self.record(path)
        rows = record.get(FOUND)
        rows = record.get("classes", []) if rows is None else rows
        names = persons.values(self.out)
        by_now = {**kept_json(self.replaced), **{name: name for name in names}}
        renamed = [{**row, "name": str(by_now.get(row["name"], ""))} for row in rows]
        return [row for row in renamed if row["name"] in names]

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """Return the rows of all classes with a mask on a photo, by the network or by a person."""
        found = self.found(path)
        said = persons.masks_of(self.out, path)
        return persons.over(found, said, [*persons.values(self.out)]) if said else found

    def looks(self, path: Path) -> dict[int, list[Any]]:
        """Return value -> ``LOOKS`` of each class with a mask on a photo; {} after an error, which is noted."""
        values = persons.values(self.out)
        rows = result_or_error(self.rows, path)
        if isinstance(rows, UserError):
            self.errors[path] = str(rows)
            return {}
        return {values[row["name"]]: [row[key] for key in LOOKS] for row in rows}

    def label(self, path: Path) -> np.ndarray:
        """Return a photo's mask in the values of classes, (H, W) uint8."""
        label = np.zeros(persons.size_of(path), np.uint8)
        values = persons.values(self.out)
        for row in self.rows(path):
            label[persons.pixels_of(row)] = values[row["name"]]
        return label

    def version(self, path: Path) -> str:
        """Return a text that changes whenever a photo's result or a person's masks do.

        Its first part, of the result, only tells the browser to look again; the others are contents.
        """
        result = self.results.paths(path)[0]
        return "-".join(
            (
                str(result.stat().st_mtime_ns) if result.exists() else "",
                persons.digest_of(self.out, path),
                str(path.stat().st_size) if path.exists() else "",
            )
        )

    def has_contents_of(self, path: Path, version: str) -> bool:
        """Return whether a photo and its persons' masks are those of a version; its result may be another."""
        return self.version(path).split("-")[1:] == version.split("-")[1:]

    def forget(self, path: Path) -> None:
        """Remove a photo's result, and what persons have said of it."""
        persons.write_masks(self.out, path, {})
        result = self.results.paths(path)[0]
        for name in (*pictures_of(own_record(result)), result.name):
            remove(self.out / name)

    def say(self, path: Path, masks: Mapping[str, np.ndarray]) -> None:
        """Keep what persons say of a photo, class -> (H, W) bool, and write its result with it."""
        persons.write_masks(self.out, path, masks)
        self.keep_in_step(path)

    def say_absent(self, path: Path, name: str, absent: bool) -> None:
        """Keep that a photo shows nothing of a class, unless a person has drawn it there; or take that back."""
        masks = persons.masks_of(self.out, path)
        said = {other: mask for other, mask in masks.items() if other != name or mask.any()}
        if absent:
            said.setdefault(name, np.zeros(persons.size_of(path), bool))
        self.say(path, said)

    def keep_in_step(self, path: Path) -> None:
        """Write a photo's result again if persons have said something else since."""
        written = own_record(self.results.paths(path)[0])
        is_of_these = {row["name"] for row in written.get("classes", [])} == {row["name"] for row in self.rows(path)}
        if not is_of_these or written.get(SAID, "") != persons.digest_of(self.out, path):
            self.write(path, self.found(path))

    def write(self, path: Path, found: list[dict[str, Any]]) -> None:
        """Write a photo's result by the network's rows; without rows and persons' masks the result is removed."""
        if not found and not persons.values_of(self.out, path):
            self.forget(path)
            return
        image, of_file = read_with_facts(path)
        written = {key: value for key, value in self.record(path).items() if key not in PHOTO_KEYS}
        facts = self.segmenter.without_classes().facts | of_file | written
        self.results.write_rows(path, image, found if written else [], facts)


def runs_by_row(label: np.ndarray) -> list[int]:
    """Return a mask (H, W) uint8 as value, length, value, length ... in the order of its rows."""
    flat = label.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    return np.stack([flat[starts], np.diff(starts, append=flat.size)], 1).ravel().tolist()


def label_by_row(runs: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask (H, W) uint8 of ``runs_by_row``; UserError: they are of another form or size."""
    height, width = shape
    with content_errors("this mask cannot be read (", "); load the page again"):
        values, lengths = np.array(runs, np.int64).reshape(-1, 2).T
        fits = ((values >= 0) & (values < 255) & (lengths > 0) & (lengths <= height * width)).all()
        if not fits or lengths.sum() != height * width:
            raise UserError(f"this mask does not fit its photo of {width} x {height} pixels; load the page again")
        return np.repeat(values.astype(np.uint8), lengths).reshape(shape)
