"""The page's download: a zip of photos' results in the formats that the user has ticked.

Results are made again in a temporary folder, and name photos by their files alone. ``png`` lies at its top, each other
format in a folder, with the photos where its programs look for them.
"""

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from annotations import recognise
from annotations.photo_files import file_facts
from photos import export, persons
from photos.page.background import Background
from photos.page.masks import PhotoMasks
from photos.prediction import NETWORK, paths_of, write_result
from photos.read_photos import QUERY_FILE, read_photo
from photos.record import SAID
from photos.results_folder import PICTURES, Results
from photos.summary import write_summary
from util.files.errors import UserError
from util.files.output_folders import link
from util.files.writing import writable, write_atomically

PUBLIC = ("model", "input", "precision", "calibration", "decision", SAID)  # entries of a result that go into the zip


@dataclass
class Archive:
    """The zip of photos' results, and its file once it is written."""

    masks: PhotoMasks
    work: Background
    lock: RLock
    folder: Path  # of the page's own files
    file: Path | None = None

    def pack(self, formats: Sequence[str]) -> None:
        """Write, in the background, a zip of the photos that were searched for every class that is known anywhere.

        The masks of a photo are all of one moment. UserError: there is no such photo, or no format. A photo that cannot
        be read, or was changed meanwhile, and a full disk end the work with a line.
        """
        if not formats:
            raise UserError("nothing to download: tick a format")
        known = {path: self.masks.looks(path).keys() for path in self.masks.photos.values()}
        values = {value for of_photo in known.values() for value in of_photo}
        complete = [path for path, of_photo in known.items() if values and values <= of_photo]
        if not complete:
            raise UserError("nothing to download: annotate a photo, and press Segment")
        names = [name for name, value in persons.values(self.masks.out).items() if value in values]
        results = Results(self.folder / "packing" / PICTURES, names, formats)
        self.work.start("packed", lambda: self._pack(results, complete))

    def _pack(self, results: Results, photos: Sequence[Path]) -> str:
        """Pack photos by way of a temporary folder, and return a line on them."""
        self.file = None
        aside = results.out.parent
        shutil.rmtree(aside, ignore_errors=True)  # of a page that was killed
        try:
            for photo in photos:
                with self.lock:
                    _write_result(photo, self.masks, results)
            for kind in results.formats:
                if kind != PICTURES:
                    _write_format(kind, results, photos)
            write_summary(results.out, {})
            file = self.folder / "predictions.zip"
            write_atomically(file, lambda path: _zip(path, aside, results.formats))
            self.file = file
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        unconfirmed = sum(
            by == NETWORK and share > 0 for path in photos for by, share, *_ in self.masks.looks(path).values()
        )
        left_out = [name for name, path in self.masks.photos.items() if path not in photos]
        rest = f"; {len(left_out)} not searched for every class, so left out: {left_out[0]} ..." if left_out else ""
        return f"{len(photos)} photos packed, with {unconfirmed} masks that nobody confirmed{rest}"


def _write_result(photo: Path, masks: PhotoMasks, results: Results) -> None:
    """Write a photo's result without paths of this machine and without probabilities."""
    digest = file_facts(photo)["digest"]  # before it is read: it may be replaced meanwhile
    public = {key: value for key, value in masks.record(photo).items() if key in PUBLIC}
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
        public | {QUERY_FILE: {"digest": digest}},
        pictures=PICTURES in results.formats,
    )


def _write_format(kind: str, results: Results, photos: Sequence[Path]) -> None:
    """Write one of the other formats, with the photos where its programs look for them."""
    folder = results.out.with_name(kind)
    home = folder if kind == recognise.LABELME else folder / "images"
    queries = [home / photo.name for photo in photos]
    for photo, query in zip(photos, queries, strict=True):
        link(photo, query)
    export.write_format(results, kind, folder, queries, home)


def _zip(path: Path, aside: Path, formats: Sequence[str]) -> None:
    """Write the files of all formats, without links to folders, such as COCO's to the photos."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out:
        for kind in formats:
            made = aside / kind
            top = made if kind == PICTURES else aside
            for file in sorted(made.rglob("*")):
                if file.is_file():
                    out.write(file, writable(file.relative_to(top).as_posix()))
