"""The download: all predictions of a visit, with the corrections, in the formats of other programs, as one archive."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from util.errors import UserError
from util.files import write_atomically
from util.page.visit import Visit
from util.predict.results import check_free, json_path, write_results
from util.predict.write_formats import FORMATS, Formats, write_summary
from util.read_files import read_json

ARCHIVE = "predictions.zip"
PHOTOS, RESULTS = "photos", "results"  # folders in the archive


def write_archive(visit: Visit, chosen: Sequence[str], polygons: bool = False, instances: bool = False) -> Path:
    """Write the results of a visit in some formats, together with the photos, and return the archive's path.

    Args:
        chosen: names of formats; ``png`` are masks, overlays and probabilities.
        polygons: outlines in place of exact masks in COCO's and Label Studio's files.
        instances: each connected part of a class is an object.

    Raises:
        UserError: nothing was segmented, no format is chosen, or the disk is full.
    """
    if not visit.found:
        raise UserError("nothing to download: segment photos first")
    if not chosen or set(chosen) - set(FORMATS):
        raise UserError(f"no format is chosen; choose of {', '.join(FORMATS)}")
    folder = visit.folder / "download"
    shutil.rmtree(folder, ignore_errors=True)
    out, names = folder / RESULTS, visit.found[0].names
    queries = [folder / PHOTOS / photo.query.name for photo in visit.found]
    formats = Formats(out, chosen, polygons)
    formats.number(names, {})
    check_free(queries, out, names, False, formats.files(queries))
    try:
        for query, photo in zip(queries, visit.found, strict=True):
            query.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo.query, query)
            facts = {**visit.facts, "threshold": visit.threshold, "corrections": len(photo.marks)}
            write_results(out, query, photo.prediction(visit.threshold), facts, formats.pictures, instances)
        formats.write(queries, visit.facts["model"])
        for query in queries:
            _name_in_archive(json_path(out, query.stem), query.relative_to(folder))
        write_summary(out, {})
        return _zipped(folder, visit.folder / ARCHIVE)
    except OSError as error:
        raise UserError(f"the download cannot be written ({error.strerror}); try again with fewer photos") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_in_archive(path: Path, query: Path) -> None:
    """Name the photo in a result by its place in the archive."""
    record = read_json(path, "this result", "make it again")
    write_atomically(path, json.dumps({**record, "query": query.as_posix()}, indent=2) + "\n")


def _zipped(folder: Path, target: Path) -> Path:
    """Write an archive of a folder's files; links become the files that they lead to."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target
