"""The page's download: a zip of photos' results in the formats that the user has ticked.

It names photos by their files alone. ``png`` lies at its top, each other format in a folder, with the photos where its
programs look for them.
"""

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotations import recognise
from photos.examples import file_names
from photos.prediction import paths_of
from photos.results import PICTURES, Results, own_record, pictures_of
from util.files import writable, write_atomically
from util.files.made import link


def write_archive(file: Path, out: Path, formats: Sequence[str], classes: list[str], photos: Sequence[Path]) -> Path:
    """Write the zip of some photos' results in the folder ``out``, and return it.

    UserError: a photo cannot be read, or there is no space; nothing is left then.
    """
    aside = file.with_name("packing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        results = Results(aside / PICTURES, classes, formats)
        for photo in photos:
            _copy_result(photo, out, aside / PICTURES)
        for kind in formats:
            if kind != PICTURES:
                _write_format(kind, results, aside, photos)
        results.write_summary({})
        write_atomically(file, lambda path: _zip(path, aside, formats))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return file


def _copy_result(photo: Path, out: Path, folder: Path) -> None:
    """Link the pictures of a photo's result, and write its JSON without what says where it was made."""
    file = paths_of(out, photo.stem)[0]
    record = own_record(file)
    for name in pictures_of(record):
        link(out / name, folder / name)
    write_atomically(folder / file.name, json.dumps(_public(record, photo.name), indent=2) + "\n")


def _public(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a result without folders of this machine."""
    public = {key: value for key, value in record.items() if key != "settings"}
    sources = record.get("supports", {}).items()
    supports = {class_name: [file_names(source) for source in of_class] for class_name, of_class in sources}
    checkpoint = Path(record.get("checkpoint", "")).name
    return {**public, "query": name, "query_file": None, "checkpoint": checkpoint, "supports": supports}


def _write_format(kind: str, results: Results, aside: Path, photos: Sequence[Path]) -> None:
    """Write one of the other formats, with the photos where its programs look for them."""
    folder = aside / kind
    home = {recognise.COCO: folder / "images", recognise.LABELME: folder}.get(kind, aside / "photos")
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
