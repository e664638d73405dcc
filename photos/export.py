"""Results in the formats of other programs, such as COCO, from the JSON files of photos, one photo at a time."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from annotations import recognise
from annotations.annotation import PredictedObject, PredictedPhoto, Predictions
from photos import persons
from photos.record import SAID, own_records, parts_in
from photos.results_folder import PICTURES, Results
from util.files.errors import note
from util.files.progress import ProgressBar
from util.files.reading import kept_json, read_json
from util.files.writing import write_atomically

EXPORTED = ".exported.json"  # by photos: the digest of what persons had said when other formats were written


def write_formats(results: Results, queries: Sequence[Path], facts: dict[str, Any]) -> None:
    """Write the other formats of queries whose results are complete, and of all others of these facts in the folder.

    What persons have said of each photo is noted in ``EXPORTED``: a later export then sees what has changed.
    """
    others = [name for name in results.formats if name != PICTURES]
    if not others:
        return
    known = dict.fromkeys([*queries, *sorted(Path(record["query"]) for _, record in own_records(results.out))])
    photos = [photo for photo in known if results.is_complete(photo, facts)]
    if without := sorted(known.keys() - photos):
        note(
            f"{results.out}: {', '.join(others)}: without {len(without)} photos whose results are of other examples, "
            f"weights or options, or whose files went or were replaced, such as {without[0]}"
        )
    if not photos:
        return
    home = Path(os.path.commonpath([photo.parent.absolute() for photo in photos]))
    for name in others:
        write_format(results, name, results.out / name, photos, home)
    said = {photo.stem: persons.digest_of(results.out, photo) for photo in photos}
    exported = results.out / EXPORTED
    write_atomically(exported, json.dumps({**kept_json(exported), **said}))


def write_format(results: Results, name: str, folder: Path, queries: Sequence[Path], home: Path) -> None:
    """Write one of the other formats into a folder; ``home`` is the folder of all queries.

    A file there, which another program may have corrected, stays if its photo was neither segmented again nor corrected
    here.
    """
    photos = _predicted(results, queries, home)
    recognise.WRITERS[name](folder, Predictions(photos, home, results.categories, _read(results, queries[0])["model"]))


def _read(results: Results, query: Path) -> dict[str, Any]:
    """Return the content of a query's JSON file."""
    return read_json(results.paths(query)[0], "this result", "make it again")


def _predicted(results: Results, queries: Sequence[Path], home: Path) -> Iterator[PredictedPhoto]:
    """Yield the objects in the JSON files of queries, whose names are paths from the folder of all."""
    said = kept_json(results.out / EXPORTED)
    for query in ProgressBar(queries, desc="write formats", unit="photo", leave=False):
        record = _read(results, query)
        yield PredictedPhoto(
            path=query,
            name=os.path.relpath(query, home),
            height=record["height"],
            width=record["width"],
            objects=tuple(_objects(results, record)),
            keep=query not in results.made and said.get(query.stem) in (None, record[SAID]),
        )


def _objects(results: Results, record: dict[str, Any]) -> Iterator[PredictedObject]:
    """Yield the classes with pixels, or their parts where those are listed."""
    known = results.categories.values()
    for row in record["classes"]:
        if row["name"] in known and row["pixels"]:  # others are a person's, of a class that was not asked for
            for entry in parts_in(row) if results.instances else [row]:
                yield PredictedObject(row["name"], entry["score"], entry["runs"], row["by"])
