"""The page's download: a zip of photos' results in the formats that the user has ticked.

Results are made again in a temporary folder, and name photos by their files alone. ``png`` lies at its top, each other
format in a folder, with the photos where its programs look for them.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from threading import RLock

from annotations import recognise
from annotations.photo_files import file_facts
from photos.page.masks import PhotoMasks
from photos.prediction import paths_of, write_result
from photos.read_photos import QUERY_FILE, read_photo
from photos.record import SAID
from photos.results_folder import PICTURES, Results
from util.files.errors import UserError
from util.files.output_folders import link
from util.files.writing import writable, write_atomically

PUBLIC = ("model", "input", "precision", "calibration", "decision", SAID)  # entries of a result that go into the zip


def write_archive(file: Path, masks: PhotoMasks, lock: RLock, results: Results, photos: Sequence[Path]) -> Path:
    """Write the zip of some photos' results, each by its masks of one moment, and return it.

    UserError: a photo cannot be read or was changed meanwhile, or there is no space.
    """
    aside = results.out.parent
    for photo in photos:
        with lock:
            _write_result(photo, masks, results)
    for kind in results.formats:
        if kind != PICTURES:
            _write_format(kind, results, aside, photos)
    results.write_summary({})
    write_atomically(file, lambda path: _zip(path, aside, results.formats))
    return file


def _write_result(photo: Path, masks: PhotoMasks, results: Results) -> None:
    """Write a photo's result, without what says where it was made and without probabilities."""
    facts = {key: value for key, value in masks.record(photo).items() if key in PUBLIC}
    facts[QUERY_FILE] = {"digest": file_facts(photo)["digest"]}
    known = {row["name"]: row for row in masks.rows(photo)}
    if not known.keys() >= {*results.names}:
        raise UserError(f"{photo}: was changed meanwhile; press Segment, then Download zip again")
    rows = [{**known[name], "value": value} for value, name in enumerate(results.names, 1)]
    for row in rows:
        row.pop("probability", None)
    write_result(
        paths_of(results.out, photo.stem),
        Path(photo.name),
        read_photo(photo),
        rows,
        facts,
        pictures=PICTURES in results.formats,
    )


def _write_format(kind: str, results: Results, aside: Path, photos: Sequence[Path]) -> None:
    """Write one of the other formats, with the photos where its programs look for them."""
    folder = aside / kind
    home = folder if kind == recognise.LABELME else folder / "images"
    queries = [home / photo.name for photo in photos]
    for photo, query in zip(photos, queries, strict=True):
        link(photo, query)
    results.write_format(kind, folder, queries, home)


def _zip(path: Path, aside: Path, formats: Sequence[str]) -> None:
    """Write the files of all formats; links to folders, such as COCO's to the photos, are none."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out:
        for kind in formats:
            made = aside / kind
            top = made if kind == PICTURES else aside
            for file in sorted(made.rglob("*")):
                if file.is_file():
                    out.write(file, writable(file.relative_to(top).as_posix()))
