"""The results of a command in a folder: mask, overlay, probabilities and JSON of each photo, other formats, overview.

Each file is written atomically, the JSON of a photo last. It holds the masks as run lengths too, so that every other
format is written from the JSON files alone, one photo at a time.
"""

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from annotations import recognise, yolo
from annotations.annotation import PredictedObject, PredictedPhoto, Predictions
from annotations.pictures import read_image
from annotations.results import PERSON
from annotations.shapes import decoded
from photos import persons
from photos.prediction import NETWORK, THUMBNAILS, Prediction, is_same_file, paths_of
from util.files import kept_json, read_json, writable, write_atomically
from util.files.errors import UserError, nearest
from util.files.overlay import PREDICTION_COLOUR, class_colour
from util.files.pages import data_of_script, html_of
from util.files.parallel import attempt
from util.files.progress import ProgressBar
from util.files.typecheck import Misfit, convert

FOUND = "found"  # key of a result: the network's classes, whole, where a person has drawn over them
PICTURES = "png"  # masks, overlays and probabilities
FORMATS = (PICTURES, *recognise.WRITERS)
BOX = ("x0", "y0", "x1", "y1")
SUMMARY = "summary.csv"
REVIEW = "review.html"
REVIEW_PAGE = Path(__file__).with_name(REVIEW)  # its template
BEGINS = {SUMMARY: b"photo,class,shown", REVIEW: b"<title>Review of results</title>"}  # tells whose file it is
RESULT_MARK = b'"query_file"'  # the same in JSON files
# Types of what is read of a result, and of a class in it
RECORD_TYPES: dict[str, Any] = {"query": str, "query_file": Any, "width": int, "height": int, "classes": list[dict]}
CLASS_TYPES: dict[str, Any] = {
    **{"name": str, "value": int, "pixels": int, "share": float, "box": list[int] | None},
    **{"score": float | None, "presence": float | None, "runs": dict},
}
COLUMNS = ("photo", "class", "shown", "by", "pixels", "parts", "share", *BOX, "score", "presence", "error")


def own_record(path: Path) -> dict[str, Any]:
    """Return the content of a photo's result; empty if there is none, or a damaged or another program's file."""
    record = kept_json(path)
    try:
        for key, kind in RECORD_TYPES.items():
            convert(kind, record[key], key)
        for row in record["classes"]:
            for key, kind in CLASS_TYPES.items():
                convert(kind, row[key], key)  # earlier versions had no score
    except (KeyError, Misfit):
        return {}
    return record


def is_of_others(path: Path) -> bool:
    """Return whether a file that results would be written to is there, not empty, and of another program."""
    content = path.read_bytes()[:10_000] if path.is_file() else b""
    return content != b"" and BEGINS.get(path.name, RESULT_MARK) not in content


def _was_made_with_others(record: dict[str, Any], query: Path, facts: dict[str, Any]) -> bool:
    """Return whether one of the facts of a photo's result is another one or lacks."""
    expected = {**facts, "query": str(query)}
    return any(key not in record or record[key] != value for key, value in expected.items())


@dataclass(frozen=True)
class SummaryRow:
    """A class of a result, in the table and on the page of all results."""

    cells: dict[str, Any]  # by ``COLUMNS``
    picture: dict[str, Any]  # what the page shows; empty where it shows nothing
    is_missing: bool  # whether it was looked for and not found


def _absent(rows: Sequence[SummaryRow]) -> dict[str, tuple[int, int]]:
    """Return for each class that was not found in some photos, how many they are, and of how many."""
    looked_at = Counter(row.cells["class"] for row in rows)
    absent = Counter(row.cells["class"] for row in rows if row.is_missing)
    return {name: (count, looked_at[name]) for name, count in absent.items()}


class Results:
    """A folder of results.

    Args:
        out: the folder, which need not exist.
        names: the classes, in the order of their values in masks.
        formats: what is written beside the JSON files.
        declared: categories of the supports' file, id -> name, which keep their ids.
        polygons: write outlines in place of exact masks where a format has both.
        instances: list the connected parts of each class in the JSON.

    UserError: a format is unknown, or there is none.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        formats: Sequence[str] = (PICTURES,),
        *,
        declared: dict[int, str] | None = None,
        polygons: bool = False,
        instances: bool = False,
    ):
        self.out = out
        self.formats = formats
        self.polygons = polygons
        self.instances = instances
        for name in formats or [""]:
            if name not in FORMATS:
                raise UserError(f"--format: '{name}' is unknown{nearest(name, FORMATS)}")
        self.declared = declared or {}
        self.names = names
        self.made = set[Path]()  # the queries whose results were written since

    @property
    def categories(self) -> dict[int, str]:
        """The classes by their ids in other formats: those of the supports' file, then the others."""
        categories = dict(self.declared)
        for name in self.names:
            if name not in categories.values():
                categories[max(categories, default=0) + 1] = name
        return dict(sorted(categories.items()))

    @property
    def _home(self) -> Path:
        """The folder, or what is there of those above it."""
        return next(path for path in (self.out, *self.out.absolute().parents) if path.exists())

    def take_classes(self, names: Sequence[str]) -> None:
        """Take classes in place of the earlier ones; UserError: earlier files of YOLO number others."""
        self.names = names
        file = self.out / recognise.YOLO / yolo.DATA_FILE
        if recognise.YOLO not in self.formats or not file.exists():
            return
        classes, _ = yolo.read_data_file(file)
        if list(classes.values()) != list(self.categories.values()):
            raise UserError(f"{file}: was made with other classes; remove its folder, or name another --out")

    def paths(self, query: Path) -> list[Path]:
        """Return ``paths_of`` a query's files."""
        return paths_of(self.out, query.stem, self.names)

    def check_length(self, query: Path) -> None:
        """Refuse (UserError) a photo whose name is so long that the folder's file system has none for its results."""
        longest = max(self.paths(query), key=lambda path: len(os.fsencode(path.name)))
        length, limit = len(os.fsencode(longest.name)), os.pathconf(self._home, "PC_NAME_MAX")
        if length > limit:
            problem = f"its name is too long: that of its result ..{longest.name[-40:]} would have {length} bytes"
            raise UserError(f"{query}: {problem}, the limit is {limit}; rename the photo")

    def check(self, queries: Sequence[Path], again: bool) -> None:
        """Refuse queries whose results would overwrite each other, the queries, or (without ``again``) earlier results.

        UserError: names the first conflict; or a file there is of another program.
        """
        self.check_folder()
        paths = self._distinct_paths(queries)
        if not again:
            self._check_new(paths)
        jsons = [self.paths(query)[0] for query in queries]
        for path in (self.out / SUMMARY, self.out / REVIEW, *jsons):
            if is_of_others(path):
                raise UserError(f"{path}: was not written by this program and would be overwritten; name another --out")

    def check_folder(self) -> None:
        """Refuse (UserError) a folder that cannot be made or written: it, or one above it, is a file or read-only."""
        if not self._home.is_dir():
            raise UserError(f"--out {self.out}: {self._home} is a file, not a folder; name another")
        if not os.access(self._home, os.W_OK):
            raise UserError(f"--out {self.out}: {self._home} cannot be written; name another folder")

    def _distinct_paths(self, queries: Sequence[Path]) -> list[Path]:
        """Return the paths of all files of queries; UserError: two are one, also where case is ignored, or a query."""
        sources = {query.resolve() for query in queries}
        paths: dict[str, Path] = {}
        for query in queries:
            for path in self.paths(query):
                key = unicodedata.normalize("NFC", str(path)).casefold()
                if key in paths or path.resolve() in sources:
                    other = "is a photo to segment, or the result of another photo or class"
                    fix = "rename a photo or a class, or name another --out"
                    raise UserError(f"{path}: would be a result of {query}, but {other}; {fix}")
                paths[key] = path
        return list(paths.values())

    def _check_new(self, paths: Sequence[Path]) -> None:
        """Refuse (UserError) earlier results, in other formats too."""
        of_formats = [self.out / name for name in self.formats if name != PICTURES]
        for path in (*of_formats, *paths):
            if path.exists():
                raise UserError(
                    f"{path}: this result exists already; name another --out, or add --resume or --overwrite"
                )

    def waiting(self, queries: Sequence[Path], facts: dict[str, Any]) -> list[Path]:
        """Return the queries to segment: some class is not a person's, and the result of these facts is not complete.

        The others whose results do not hold what persons have said are written.
        """
        waiting = []
        for query in ProgressBar(queries, desc="check results", unit="photo", leave=False, delay=1):
            if self.is_complete(query, facts):
                continue
            if self.names and set(self.names) <= persons.masks_of(self.out, query).keys():
                self.write(Prediction.blank(read_image(query), query), facts)
            else:
                waiting.append(query)
        return waiting

    def is_complete(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query's results are all there, undamaged, of the same file, facts and persons' masks."""
        record = own_record(self.paths(query)[0])
        if not record or _was_made_with_others(record, query, facts) or not is_same_file(record["query_file"], query):
            return False
        if not self._holds_persons(record, query):
            return False
        if PICTURES not in self.formats:
            return True
        _, *pictures = paths_of(self.out, query.stem, [row["name"] for row in record["classes"]])
        shapes = {getattr(attempt(read_image, file), "shape", ())[:2] for file in pictures}  # () of a damaged one
        return "mask" in record and shapes == {(record["height"], record["width"])}

    def _holds_persons(self, record: dict[str, Any], query: Path) -> bool:
        """Return whether a result has all classes, and those of a person as persons have said."""
        said = persons.masks_of(self.out, query)
        held = {row["name"]: row["runs"] for row in record["classes"] if row.get("by") == PERSON}
        names = {row["name"] for row in record["classes"]}
        if held.keys() != said.keys() or not names >= set(self.names):
            return False
        return all(np.array_equal(decoded(held[name]), mask) for name, mask in said.items())

    def is_of_other_facts(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query has a result that was made with other facts."""
        record = own_record(self.paths(query)[0])
        return bool(record) and _was_made_with_others(record, query, facts)

    def write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write the files of a photo as ``Prediction.write``, with what persons have said of it."""
        query = prediction.photo
        assert query is not None
        self.made.add(query)
        said = persons.masks_of(self.out, query)
        if said:
            facts = {**facts, FOUND: prediction.summary(masks=True)}
        prediction = prediction.with_persons(said, self.names)
        paths = paths_of(self.out, query.stem, prediction.names)
        prediction.write(paths, facts, PICTURES in self.formats, self.instances)

    def write_formats(self, queries: Sequence[Path], keep: bool = False) -> None:
        """Write the other formats for queries whose results are complete; ``keep`` files that were corrected since."""
        home = Path(os.path.commonpath([query.parent.absolute() for query in queries]))
        for name in self.formats:
            if name != PICTURES:
                self.write_format(name, self.out / name, queries, home, keep)

    def write_format(self, name: str, folder: Path, queries: Sequence[Path], home: Path, keep: bool = False) -> None:
        """Write one of the other formats into a folder; ``home`` is the folder of all queries."""
        model = read_json(self.paths(queries[0])[0], "this result", "make it again")["model"]
        photos = self._found(queries, home, keep)
        recognise.WRITERS[name](folder, Predictions(photos, home, self.categories, model, self.polygons))

    def _found(self, queries: Sequence[Path], folder: Path, keep: bool) -> Iterator[PredictedPhoto]:
        """Yield the objects in the JSON files of queries, whose names are relative to the folder of all."""
        for query in ProgressBar(queries, desc="write formats", unit="photo", leave=False):
            path = self.paths(query)[0]
            record = read_json(path, "this result", "make it again")
            yield PredictedPhoto(
                path=query,
                name=Path(os.path.relpath(query, folder)).as_posix(),
                height=record["height"],
                width=record["width"],
                objects=tuple(self._objects(record)),
                keep=keep and query not in self.made,
            )

    def _objects(self, record: dict[str, Any]) -> Iterator[PredictedObject]:
        """Yield the classes with pixels, or their parts where those are listed."""
        known = self.categories.values()
        for row in record["classes"]:
            if row["name"] not in known:
                continue  # a person's, of a class that was not asked for
            whole = [row] if row["pixels"] else []
            for entry in row.get("instances", whole):
                yield PredictedObject(row["name"], entry["score"], entry["runs"], row.get("by"))

    def write_summary(self, failed: dict[Path, str]) -> dict[str, tuple[int, int]]:
        """Write a table of all results in the folder, if there are any, and a page of their pictures.

        The table has a row for each photo and class, and for each photo with an error. Returns, for each class that
        was not found in some photos, how many they are, and of how many.
        """
        rows = [self._summary_row(record, row) for record, row in self._class_rows()]
        if not rows:
            return {}
        cells = [row.cells for row in rows]
        cells += [{"photo": str(photo), "error": reason} for photo, reason in failed.items()]
        self._write_table(cells)
        pictures = [row.picture for row in rows if row.picture]
        if pictures:
            self._write_review(pictures)
        return _absent(rows)

    def _class_rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield the content of each result in the folder, and the entry of each class in it."""
        for path in sorted(self.out.glob("*.json")):
            record = own_record(path)
            for row in record.get("classes", ()):
                yield record, row

    def _summary_row(self, record: dict[str, Any], row: dict[str, Any]) -> SummaryRow:
        """Return what table and page say of a class of a result."""
        facts = self._table_facts(record, row)
        values = {**row, **facts, **dict(zip(BOX, row["box"] or ()))}
        is_base = record.get("supports", {}).get(row["name"]) == []
        is_missing = not facts["shown"] and not is_base
        picture: dict[str, Any] = {}
        if "overlay" in record and (facts["shown"] or is_missing):
            picture = facts | self._picture_facts(record, row)
        return SummaryRow({key: values[key] for key in COLUMNS if key in values}, picture, is_missing)

    def _write_table(self, cells: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(cells)
        write_atomically(self.out / SUMMARY, text.getvalue())

    def _write_review(self, entries: list[dict[str, Any]]) -> None:
        template = REVIEW_PAGE.read_text(encoding="utf-8")
        write_atomically(self.out / REVIEW, html_of(template, entries=data_of_script(entries), folder=THUMBNAILS))

    def _table_facts(self, record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of the table that a class of a result does not state itself."""
        return {
            "photo": writable(record["query"]),
            "class": row["name"],
            "shown": bool(row["pixels"]),
            "by": row.get("by", NETWORK),
        }

    def _picture_facts(self, record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """Return what ``review.html`` shows of a class of a result beside the columns of the table."""
        stated = Path(record["query"])
        photo = stated if stated.exists() else self.out.parent / stated
        place = Path(os.path.relpath(photo, self.out)).as_posix()
        colour = class_colour(row["value"]) if len(record["classes"]) > 1 else PREDICTION_COLOUR
        return {
            "href": quote(os.fsencode(place)),
            "overlay": quote(os.fsencode(self.paths(stated)[2].name)),
            "colour": f"rgb{colour}",
            "presence": row["presence"],
            "share": row["share"],
        }
