"""Write the results of a command in the formats of other programs, from the JSON files of the photos, one at a time."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from util.cli import words
from util.errors import UserError, nearest
from util.files import read_json, write_atomically
from util.formats import coco, labelme, labelstudio, yolo
from util.formats.found import FoundPhoto
from util.predict.results import json_path, read_result

PICTURES, COCO, YOLO, LABELME, LABELSTUDIO = FORMATS = ("png", "coco", "yolo", "labelme", "labelstudio")
RLE, POLYGONS = OUTLINES = ("rle", "polygons")
COCO_FILE = "instances.json"
SUMMARY_FILE = "summary.csv"
SUMMARY_COLUMNS = ("photo", "class", "pixels", "share", "x0", "y0", "x1", "y1", "confidence", "presence", "error")


class Formats:
    """The formats that a command writes: folders ``coco``, ``yolo``, ``labelme`` and ``labelstudio`` of its results.

    Attributes:
        pictures: whether masks, overlays and probabilities are written.
        categories: id -> class name.
    """

    def __init__(self, out: Path, chosen: Sequence[str], polygons: bool):
        self.out, self.chosen, self.polygons = out, tuple(chosen), polygons
        self.categories: dict[int, str] = {}

    @classmethod
    def of(cls, options: argparse.Namespace) -> Formats:
        """Return the formats that a command line names.

        Raises:
            UserError: a format is unknown, or there is none.
        """
        chosen = words(options.formats)
        for name in chosen:
            if name not in FORMATS:
                raise UserError(f"--format {options.formats}: '{name}' is unknown{nearest(name, FORMATS)}")
        if not chosen:
            raise UserError(f"--format: names no format; choose of {', '.join(FORMATS)}")
        return cls(options.out, chosen, options.outlines == POLYGONS)

    @property
    def pictures(self) -> bool:
        """Whether masks, overlays and probabilities are written."""
        return PICTURES in self.chosen

    def number(self, names: Iterable[str], declared: dict[int, str]) -> None:
        """Set the categories: those of the supports' file with their ids, then the other classes."""
        self.categories = dict(declared)
        for name in names:
            if name not in self.categories.values():
                self.categories[max(self.categories, default=0) + 1] = name

    def files(self, queries: Iterable[Path]) -> list[Path]:
        """Return the files that will be written beside those of ``write_results``."""
        out = [self.out / COCO / COCO_FILE] if COCO in self.chosen else []
        if LABELSTUDIO in self.chosen:
            out += [self.out / LABELSTUDIO / name for name in (labelstudio.TASKS_FILE, labelstudio.CONFIG_FILE)]
        if YOLO in self.chosen:
            out += [self._data_file, *(yolo.rows_path(self.out / YOLO, query) for query in queries)]
        if LABELME in self.chosen:
            out += [json_path(self.out / LABELME, query.stem) for query in queries]
        return out

    @property
    def _data_file(self) -> Path:
        return self.out / YOLO / yolo.DATA_FILE

    @property
    def _names(self) -> list[str]:
        return [self.categories[number] for number in sorted(self.categories)]

    def check_classes(self) -> None:
        """Refuse to add to YOLO's files of other classes: the numbers in them would change their meaning.

        Raises:
            UserError: names the data file.
        """
        if YOLO in self.chosen and self._data_file.exists() and yolo.class_names_of(self._data_file) != self._names:
            raise UserError(
                f"{self._data_file}: was made with other classes; remove {self.out / YOLO}, or name another --out"
            )

    def write(self, queries: Sequence[Path], model: str, keep: bool = False) -> None:
        """Write the chosen formats for the queries, whose results are complete.

        Args:
            model: the model's name.
            keep: keep files of single photos that are intact and newer than their results, such as corrected ones.

        Raises:
            UserError: a result was damaged meanwhile, the disk is full, or a folder cannot be written.
        """

        def photos() -> Iterator[FoundPhoto]:
            for query in queries:
                yield read_result(json_path(self.out, query.stem))

        names = _Names(queries)
        if COCO in self.chosen:
            path = self.out / COCO / COCO_FILE
            coco.write_annotations(path, photos, names, self.categories, self.polygons)
        if LABELSTUDIO in self.chosen:
            labelstudio.write_tasks(self.out / LABELSTUDIO, photos, names, self._names, model, self.polygons)
        for name in (YOLO, LABELME):
            if name in self.chosen:
                for query in tqdm(queries, desc=name, unit="photo", leave=False):
                    self._write_photo(name, query, keep)
        if YOLO in self.chosen:
            yolo.write_data_file(self.out / YOLO, self._names)

    def _write_photo(self, name: str, query: Path, keep: bool) -> None:
        """Write the file of one photo in a format that has one for each."""
        record = json_path(self.out, query.stem)
        target = yolo.rows_path(self.out / YOLO, query) if name == YOLO else json_path(self.out / LABELME, query.stem)
        photo = read_result(record)
        if keep and _is_newer(target, record) and self._is_intact(name, target, photo):
            return
        if name == YOLO:
            yolo.write_photo(self.out / YOLO, photo, self._names)
        else:
            labelme.write_photo(target, photo)

    def _is_intact(self, name: str, path: Path, photo: FoundPhoto) -> bool:
        size = photo.height, photo.width
        try:
            if name == YOLO:
                list(yolo.rows_of(path, size, len(self.categories)))
                return (self.out / YOLO / yolo.IMAGES / photo.path.name).exists()
            labelme.objects_in(labelme.read_content(path), path, size)
        except UserError:
            return False
        return True


class _Names:
    """Gives the names of photos relative to the folder that holds them all, with forward slashes."""

    def __init__(self, queries: Sequence[Path]):
        folders = [query.parent.absolute() for query in queries]
        self.folder = os.path.commonpath(folders) if folders else ""

    def __call__(self, photo: FoundPhoto) -> str:
        return Path(os.path.relpath(photo.path, self.folder)).as_posix()


def _is_newer(path: Path, than: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= than.stat().st_mtime_ns


def write_summary(out: Path, failed: dict[Path, str]) -> None:
    """Write a table of all results in a folder: a row for each photo and class, and for each photo that has an error.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """

    def write(target: Path) -> None:
        with open(target, "w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, SUMMARY_COLUMNS)
            rows.writeheader()
            for path in sorted(out.glob("*.json")):
                rows.writerows(_rows(path))
            rows.writerows({"photo": str(photo), "error": reason} for photo, reason in failed.items())

    write_atomically(out / SUMMARY_FILE, write)


def _rows(path: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of one result; none for a JSON file that is no result."""
    try:
        record = read_json(path, "this result", "make it again")
        for entry in record["classes"]:
            box = dict(zip(("x0", "y0", "x1", "y1"), entry["box"] or (), strict=False))
            common = {key: entry.get(key) for key in ("pixels", "share", "confidence", "presence")}
            yield {"photo": record["query"], "class": entry["name"], **common, **box}
    except (UserError, KeyError, TypeError, AttributeError):
        return
