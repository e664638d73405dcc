"""The summary of a folder of results: the table ``summary.csv``, and ``review.html``, a page of their pictures."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from photos.record import own_records
from util.files.overlay import PREDICTION_COLOUR, class_colour
from util.files.pages import page_of
from util.files.writing import writable, write_atomically

SUMMARY = "summary.csv"
REVIEW = "review.html"
BOX_COLUMNS = ("x0", "y0", "x1", "y1")
COLUMNS = ("photo", "class", "shown", "by", "pixels", "parts", "share", *BOX_COLUMNS, "score", "presence", "error")


def write_summary(folder: Path, failed: dict[Path, str]) -> list[dict[str, Any]]:
    """Write the table of all results in a folder, if there are any, and the page of their pictures.

    The table has a row for each photo and class, and for each photo of ``failed``, photo -> error. Returns what both
    say of each photo and class.
    """
    entries = [*_entries(folder)]
    if not entries:
        return []
    errors = [{"photo": str(photo), "error": reason} for photo, reason in failed.items()]
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    table.writeheader()
    table.writerows([*entries, *errors])
    write_atomically(folder / SUMMARY, text.getvalue())
    shown = [entry for entry in entries if "overlay" in entry]
    if shown:
        template = Path(__file__).with_name(REVIEW).read_text(encoding="utf-8")
        write_atomically(folder / REVIEW, page_of(template, entries=shown))
    return entries


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what table and page say of each class of each result in a folder."""
    for _, record in own_records(folder):
        for row in record["classes"]:
            numbers = {key: value for key, value in row.items() if key != "runs"}
            named = {"photo": writable(record["query"]), "class": row["name"], "shown": bool(row["pixels"])}
            yield {**numbers, **named, **dict(zip(BOX_COLUMNS, row["box"] or ())), **_picture(folder, record, row)}


def _picture(folder: Path, record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a class of a result beside the columns of the table."""
    if "overlay" not in record:
        return {}
    colour = class_colour(row["value"]) if len(record["classes"]) > 1 else PREDICTION_COLOUR
    return {
        "href": quote(os.fsencode(os.path.relpath(record["query"], folder))),
        "overlay": quote(os.fsencode(record["overlay"])),
        "colour": f"rgb{colour}",
    }
