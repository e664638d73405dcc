"""The results of a command in a folder: mask, overlay, probabilities and JSON of each photo, other formats, a review.

Each file is written atomically, the JSON of a photo last. It holds the masks as run lengths too, so that every other
format is written from the JSON files alone, one photo at a time.
"""

import csv
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from util.data.images.read import read_image
from util.errors import UserError, nearest
from util.files import kept_json, read_json, writable, write_atomically
from util.formats import recognise, yolo
from util.formats.annotations import PredictedObject, PredictedPhoto, Predictions
from util.formats.results import REJECTED, VERDICT_FILE, verdicts_in
from util.parallel import attempt
from util.predict.prediction import THUMBNAILS, Prediction, is_same_file, paths_of
from util.progress import ProgressBar
from util.report.overlay import PREDICTION_COLOUR, class_colour

PICTURES = "png"  # masks, overlays and probabilities
FORMATS = (PICTURES, *recognise.WRITERS)
BOX = ("x0", "y0", "x1", "y1")
SUMMARY, REVIEW, REVIEW_PAGE = "summary.csv", "review.html", Path(__file__).with_name("review.html")
BEGINS = {SUMMARY: b"photo,class,shown", REVIEW: b"<title>Review of results</title>"}  # tells whose file it is
COLUMNS = ("photo", "class", "shown", "review", "pixels", "share", *BOX, "confidence", "presence", "error")


def own_record(path: Path) -> dict[str, Any]:
    """Return the content of a photo's result; empty if there is none, it is damaged, or of another program."""
    record = kept_json(path)
    return record if is_record(record) else {}


def is_record(content: Any) -> bool:
    """Return whether the content of a JSON file is a photo's result."""
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        return False
    keys = {"name", "value", "presence", "pixels", "share", "box"}
    is_whole = all(isinstance(row, dict) and keys <= row.keys() for row in content["classes"])
    return is_whole and {"query", "query_file", "width", "height"} <= content.keys()


def is_of_others(path: Path) -> bool:
    """Return whether a file that results would be written to is there and of another program."""
    if not path.is_file():
        return False
    if path.suffix == ".json":
        if b'"query_file"' in path.read_bytes():  # takes less time than parsing
            return False
        content = attempt(partial(read_json, what="this result", fix=""), path)
        return not (isinstance(content, UserError) or is_record(content))
    return BEGINS[path.name] not in path.read_bytes()[:1000]


class Results:
    """A folder of results; UserError: a format is unknown, or there is none."""

    def __init__(
        self,
        out: Path,
        names: Sequence[str],  # the classes, in the order of their values in masks
        formats: Sequence[str] = (PICTURES,),  # what is written beside the JSON files
        declared: dict[int, str] | None = None,  # categories of the supports' file, id -> name, which keep their ids
        polygons: bool = False,  # write outlines in place of exact masks where a format has both
        instances: bool = False,  # list the connected parts of each class in the JSON
    ):
        self.out, self.names, self.formats, self.polygons, self.instances = out, names, formats, polygons, instances
        for name in formats or [""]:
            if name not in FORMATS:
                raise UserError(f"--format: '{name}' is unknown{nearest(name, FORMATS)}")
        categories = dict(declared or {})
        for name in names:
            if name not in categories.values():
                categories[max(categories, default=0) + 1] = name
        self.categories = dict(sorted(categories.items()))
        self.verdicts = verdicts_in(out)

    def paths(self, query: Path) -> list[Path]:
        """Return ``paths_of`` a query's files."""
        return paths_of(self.out, query.stem, self.names)

    def check(self, queries: Sequence[Path], again: bool) -> None:
        """Refuse queries whose results would overwrite each other, the queries, or (without ``again``) earlier results.

        UserError: names the first conflict; a file there is of another program; or earlier files of YOLO are of other
        classes, whose numbers differ.
        """
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UserError(f"--out {self.out}: {there} is no folder; name another")
        sources, paths = {query.resolve() for query in queries}, dict[str, Path]()
        for query in queries:
            for path in self.paths(query):
                key = unicodedata.normalize("NFC", str(path)).casefold()
                if key in paths or path.resolve() in sources:
                    other = "is a query or written for another or another class"
                    fix = "rename a photo or a class, or name another --out"
                    raise UserError(f"{path}: would be written for {query}, but {other}; {fix}")
                paths[key] = path
        for path in [*(self.out / name for name in self.formats if name != PICTURES), *paths.values()]:
            if path.exists() and not again:
                raise UserError(f"{path}: this result exists already; name another --out, or add --overwrite")
        for path in (self.out / SUMMARY, self.out / REVIEW, *(self.paths(query)[0] for query in queries)):
            if is_of_others(path):
                raise UserError(f"{path}: is no result of this program, and would be overwritten; name another --out")
        data = self.out / recognise.YOLO / yolo.DATA_FILE
        known = yolo.read_data_file(data)[0] if recognise.YOLO in self.formats and data.exists() else None
        if known is not None and [*known.values()] != [*self.categories.values()]:
            raise UserError(f"{data}: was made with other classes; remove its folder, or name another --out")

    def waiting(self, queries: Sequence[Path], facts: dict[str, Any]) -> list[Path]:
        """Return the queries whose results are neither reviewed nor complete and made with the same facts."""
        bar = ProgressBar(queries, desc="verify", unit="photo", leave=False, delay=1)
        return [query for query in bar if not (self.is_reviewed(query) or self.is_complete(query, facts))]

    def is_complete(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query's results are all there, undamaged, of the same file, and made with the same facts."""
        path, *pictures = self.paths(query)
        record, wanted = own_record(path), {**facts, "query": str(query)}
        if any(key not in record or record[key] != value for key, value in wanted.items()):
            return False
        if not is_same_file(record["query_file"], query):
            return False
        if PICTURES not in self.formats:
            return True
        shapes = [getattr(attempt(read_image, file), "shape", ())[:2] for file in pictures]  # () of a damaged one
        return "mask" in record and {*shapes} == {(record["height"], record["width"])}

    def is_reviewed(self, query: Path) -> bool:
        """Return whether a query's result has these classes, a verdict on one, and on all that it shows."""
        record = own_record(self.paths(query)[0])
        rows = record["classes"] if is_same_file(record.get("query_file"), query) else []
        judged = [row["name"] for row in rows if (record["query"], row["name"]) in self.verdicts]
        is_judged = bool(judged) and all(row["name"] in judged for row in rows if row["pixels"])
        return is_judged and [row["name"] for row in rows] == [*self.names]

    def write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write the files of a photo as ``Prediction.write``."""
        query = prediction.photo
        assert query is not None
        for name in self.names:
            self.verdicts.pop((str(query), name), None)  # it was on the earlier result
        prediction.write(self.paths(query), facts, PICTURES in self.formats, self.instances)

    def write_formats(self, queries: Sequence[Path], keep: bool = False) -> None:
        """Write the other formats for queries whose results are complete; ``keep`` files that were corrected since."""
        folder = Path(os.path.commonpath([query.parent.absolute() for query in queries]))
        model = read_json(self.paths(queries[0])[0], "this result", "make it again")["model"]
        for name in self.formats:
            if name != PICTURES:
                found = Predictions(self.found(queries, folder, keep), folder, self.categories, model, self.polygons)
                recognise.WRITERS[name](self.out / name, found)

    def found(self, queries: Sequence[Path], folder: Path, keep: bool = False) -> Iterator[PredictedPhoto]:
        """Yield the objects in the JSON files of queries, whose names are relative to the folder of all.

        An object is a class with pixels that no review has rejected, or one of its parts where those are listed.
        """
        for query in ProgressBar(queries, desc="write", unit="photo", leave=False):
            path, name = self.paths(query)[0], Path(os.path.relpath(query, folder)).as_posix()
            record = read_json(path, "this result", "make it again")
            objects = tuple(
                PredictedObject(entry["name"], one["confidence"], one["runs"])
                for entry in record["classes"]
                if self.verdicts.get((record["query"], entry["name"])) != REJECTED
                for one in entry.get("instances", [entry] if entry["pixels"] else [])
            )
            yield PredictedPhoto(query, name, record["height"], record["width"], objects, path.stat().st_mtime_ns, keep)

    def write_verdicts(self) -> None:
        """Write the verdicts as ``review.html`` saves them."""
        text, rows = io.StringIO(), [(*key, verdict) for key, verdict in self.verdicts.items() if verdict]
        csv.writer(text).writerows([("photo", "class", "verdict"), *rows])
        write_atomically(self.out / VERDICT_FILE, text.getvalue())

    def write_summary(self, failed: dict[Path, str]) -> str:
        """Write a table of all results in the folder, if there are any, and a page to review their pictures.

        The table has a row for each photo and class, and for each photo with an error. Returns the numbers of photos in
        which each class was not found, in words; empty if all were found in all.
        """
        text, entries, absent = io.StringIO(), list[dict[str, Any]](), Counter[str]()
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
        table.writeheader()
        for path in sorted(self.out.glob("*.json")):
            record = own_record(path)
            for row in record.get("classes", ()):
                shown = bool(row["pixels"])
                is_base = record.get("supports", {}).get(row["name"]) == []
                absent[row["name"]] += not (shown or is_base)
                verdict = self.verdicts.get((record["query"], row["name"]), "")
                facts = {"photo": writable(record["query"]), "class": row["name"], "shown": shown, "review": verdict}
                table.writerow({**row, **facts, **dict(zip(BOX, row["box"] or ()))})
                if "overlay" in record and (shown or not is_base):
                    entries.append(facts | self._picture_facts(record, row) | {"made": path.stat().st_mtime_ns})
        if not absent:
            return ""
        table.writerows({"photo": str(photo), "error": reason} for photo, reason in failed.items())
        write_atomically(self.out / SUMMARY, text.getvalue())
        if entries:
            content = json.dumps(entries).replace("<", "\\u003c")
            page = Template(REVIEW_PAGE.read_text(encoding="utf-8"))
            write_atomically(self.out / REVIEW, page.substitute(entries=content, folder=THUMBNAILS))
        return ", ".join(f"{name} in {count} photos" for name, count in absent.items() if count)

    def _picture_facts(self, record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """Return what ``review.html`` shows of a class of a result beside the columns of the table."""
        stated = Path(record["query"])
        photo = stated if stated.exists() else self.out.parent / stated
        place = Path(os.path.relpath(photo, self.out)).as_posix()
        colour = class_colour(row["value"]) if len(record["classes"]) > 1 else PREDICTION_COLOUR
        return {
            "href": quote(os.fsencode(place)),
            "overlay": quote(os.fsencode(record["overlay"])),
            "colour": f"rgb{colour}",
            "presence": row["presence"],
            "share": row["share"],
        }
