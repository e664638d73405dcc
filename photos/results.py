"""The results of a command in a folder: mask, overlay, probabilities and JSON of each photo, other formats, a review.

Each file is written atomically, the JSON of a photo last. It holds the masks as run lengths too, so that every other
format is written from the JSON files alone, one photo at a time.
"""

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from annotations import recognise, yolo
from annotations.annotation import PredictedObject, PredictedPhoto, Predictions
from annotations.pictures import read_image
from annotations.results import (
    REJECTED,
    VERDICT_COLUMNS,
    VERDICT_FILE,
    Verdict,
    Verdicts,
    mask_digest,
    note_verdicts,
    verdicts_in,
)
from photos.prediction import THUMBNAILS, Prediction, is_same_file, paths_of
from util.files import kept_json, read_json, writable, write_atomically
from util.files.errors import UserError, nearest
from util.files.overlay import PREDICTION_COLOUR, class_colour
from util.files.pages import data_of_script, html_of
from util.files.parallel import attempt
from util.files.progress import ProgressBar
from util.files.typecheck import Misfit, convert

PICTURES = "png"  # masks, overlays and probabilities
FORMATS = (PICTURES, *recognise.WRITERS)
BOX = ("x0", "y0", "x1", "y1")
SUMMARY = "summary.csv"
REVIEW = "review.html"
REVIEW_PAGE = Path(__file__).with_name(REVIEW)  # its template
BEGINS = {SUMMARY: b"photo,class,shown", REVIEW: b"<title>Review of results</title>"}  # tells whose file it is
OF_RESULT = b'"query_file"'  # the same in JSON files
# Types of what is read of a result, and of a class in it
OF_RECORD: dict[str, Any] = {"query": str, "query_file": Any, "width": int, "height": int, "classes": list[dict]}
OF_CLASS: dict[str, Any] = {
    **{"name": str, "value": int, "pixels": int, "share": float, "box": list[int] | None},
    **{"score": float | None, "presence": float | None, "runs": dict},
}
COLUMNS = ("photo", "class", "shown", "review", "pixels", "parts", "share", *BOX, "score", "presence", "error")


def own_record(path: Path) -> dict[str, Any]:
    """Return the content of a photo's result; empty if there is none, or a damaged or another program's file."""
    record = kept_json(path)
    try:
        for key, kind in OF_RECORD.items():
            convert(kind, record[key], key)
        for row in record["classes"]:
            for key, kind in OF_CLASS.items():
                convert(kind, row[key], key)  # earlier versions had no score
    except (KeyError, Misfit):
        return {}
    return record


def is_of_others(path: Path) -> bool:
    """Return whether a file that results would be written to is there, not empty, and of another program."""
    content = path.read_bytes()[:10_000] if path.is_file() else b""
    return content != b"" and BEGINS.get(path.name, OF_RESULT) not in content


def _verdicts_today(out: Path) -> Verdicts:
    """Return the verdicts of a review on the masks that are in a folder of results; a line counts the others."""
    fitting: Verdicts = {}
    outdated = []
    masks: dict[str, dict[str, Any]] = {}  # by photo, class -> run lengths
    for (photo, name), verdict in verdicts_in(out).items():
        if photo not in masks:
            rows = own_record(out / f"{Path(photo).stem}.json").get("classes", ())
            masks[photo] = {row["name"]: row["runs"] for row in rows}
        runs = masks[photo].get(name)
        if runs is not None and verdict.is_on(runs):
            fitting[photo, name] = verdict
        else:
            outdated.append(verdict)
    note_verdicts(out, fitting.values(), outdated)
    return fitting


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
        self.verdicts = _verdicts_today(out)
        self.made = set[Path]()  # the queries whose results were written since
        self.takes_back = False  # whether the file of verdicts has some on results that were replaced since

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
        """Return the queries whose results are neither reviewed nor complete and made with the same facts."""
        bar = ProgressBar(queries, desc="check results", unit="photo", leave=False, delay=1)
        return [query for query in bar if not (self.is_reviewed(query) or self.is_complete(query, facts))]

    def is_complete(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query's results are all there, undamaged, of the same file, and made with the same facts."""
        path, *pictures = self.paths(query)
        record = own_record(path)
        if not record or _was_made_with_others(record, query, facts) or not is_same_file(record["query_file"], query):
            return False
        if PICTURES not in self.formats:
            return True
        shapes = {getattr(attempt(read_image, file), "shape", ())[:2] for file in pictures}  # () of a damaged one
        return "mask" in record and shapes == {(record["height"], record["width"])}

    def is_of_other_facts(self, query: Path, facts: dict[str, Any]) -> bool:
        """Return whether a query has a result that was made with other facts."""
        record = own_record(self.paths(query)[0])
        return bool(record) and _was_made_with_others(record, query, facts)

    def is_reviewed(self, query: Path) -> bool:
        """Return whether a query's result has these classes, a verdict on one, and on all that it shows."""
        record = own_record(self.paths(query)[0])
        if not is_same_file(record.get("query_file"), query):
            return False
        rows = record["classes"]
        judged = {row["name"] for row in rows if (record["query"], row["name"]) in self.verdicts}
        shown = {row["name"] for row in rows if row["pixels"]}
        has_these_classes = [row["name"] for row in rows] == [*self.names]
        return has_these_classes and bool(judged) and shown <= judged

    def write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write the files of a photo as ``Prediction.write``."""
        query = prediction.photo
        assert query is not None
        self.made.add(query)
        for name in self.names:
            earlier = self.verdicts.pop((str(query), name), None)
            if earlier is not None and not earlier.mask:  # nothing else would tell that it was on the earlier result
                self.takes_back = True
        prediction.write(self.paths(query), facts, PICTURES in self.formats, self.instances)

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
        """Yield the classes with pixels that no review has rejected, or their parts where those are listed."""
        for row in record["classes"]:
            if self.verdict(record["query"], row["name"]) == REJECTED:
                continue
            whole = [row] if row["pixels"] else []
            for entry in row.get("instances", whole):
                yield PredictedObject(row["name"], entry["score"], entry["runs"])

    def verdict(self, photo: str, name: str) -> str:
        """Return the word of the verdict on a class of a photo, as results state both; '' if there is none."""
        verdict = self.verdicts.get((photo, name))
        return "" if verdict is None else verdict.word

    def judge(self, file: Path, words: Mapping[str, str]) -> None:
        """Give verdicts on the result in a JSON file of the folder, class -> word; '' takes one back."""
        record = own_record(file)
        masks = {row["name"]: mask_digest(row["runs"]) for row in record.get("classes", ())}
        for name, mask in masks.items():
            key = record["query"], name
            if words.get(name):
                self.verdicts[key] = Verdict(words[name], mask)
            elif name in words:
                self.verdicts.pop(key, None)

    def write_verdicts(self) -> None:
        """Write the verdicts as ``review.html`` saves them."""
        saved = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        rows = [(*key, *verdict, saved) for key, verdict in self.verdicts.items()]
        text = io.StringIO()
        csv.writer(text).writerows([VERDICT_COLUMNS, *rows])
        write_atomically(self.out / VERDICT_FILE, text.getvalue())

    def write_summary(self, failed: dict[Path, str]) -> dict[str, tuple[int, int]]:
        """Write a table of all results in the folder, if there are any, and a page to review their pictures.

        The table has a row for each photo and class, and for each photo with an error. Returns, for each class that
        was not found in some photos, how many they are, and of how many.
        """
        rows = [self._summary_row(record, row) for record, row in self._class_rows()]
        if self.takes_back:
            self.write_verdicts()
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
            picture = facts | self._picture_facts(record, row) | {"mask": mask_digest(row["runs"])}
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
            "review": self.verdict(record["query"], row["name"]),
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
