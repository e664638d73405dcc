"""The page's download: a zip of the formats that the user has ticked, of all photos with a result or with marks.

It holds the results as the page shows them, without the session, and names photos by their files alone. ``png`` lies at
its top, each other format in a folder; YOLO's has the photos too, since its programs look for them there.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from util.files import link, writable, write_atomically
from util.formats import recognise
from util.formats.annotations import Found
from util.formats.results import REJECTED, VERDICT_FILE
from util.page.photo import Photo
from util.predict.prediction import THUMBNAILS, paths_of
from util.predict.results import PICTURES, Results, own_record

STORED = (".png", ".jpg")  # suffixes of files that compression makes no smaller


class Archive:
    """A zip in the making, in a folder beside it; ``method`` is the name of the network's, for records."""

    def __init__(self, path: Path, formats: Sequence[str], method: str):
        self.path, self.formats, self.method = path, formats, method
        self.aside = path.with_name("packing")
        self.photos, self.verdicts = list[Photo](), dict[tuple[str, str], str]()
        self.names: dict[str, None] = {}  # of all classes
        shutil.rmtree(self.aside, ignore_errors=True)  # of an interrupted run

    @contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Remove what has been made so far if the block raises."""
        try:
            yield
        except BaseException:
            shutil.rmtree(self.aside, ignore_errors=True)
            raise

    def add(self, photo: Photo) -> None:
        """Add a photo's result as the page shows it; of a marked photo without one, its marks.

        UserError: the photo cannot be read, or the result cannot be written.
        """
        made, stem = self.aside / PICTURES, photo.path.stem
        is_rejected = REJECTED in photo.verdicts.values()
        if photo.names and not is_rejected:
            names, record = photo.names, own_record(photo.files()[0])
            pictures = zip(photo.files()[1:], paths_of(made, stem, names)[1:], strict=True)
            for source, target in pictures:
                link(source, target)
            thumbnail = f"{THUMBNAILS}/{record['overlay']}"
            link(photo.results.out / thumbnail, made / thumbnail)
        else:
            prediction = photo.prediction()
            names, paths = prediction.names, paths_of(made, stem, prediction.names)
            prediction.write(paths, {"model": self.method, **photo.facts()})
            record = own_record(paths[0])
        write_atomically(made / f"{stem}.json", json.dumps(_public(record, photo.name), indent=2) + "\n")
        self.photos.append(photo)
        self.names |= dict.fromkeys(names)
        self.verdicts |= {(photo.name, name): verdict for name, verdict in photo.verdicts.items()}

    def write(self) -> None:
        """Write the formats and the zip, in place of an earlier one; WriteError: there is no space."""
        results = Results(self.aside / PICTURES, list(self.names), self.formats)
        for kind in self.formats:
            if kind != PICTURES:
                self._write_format(kind, results)
        results.verdicts = self.verdicts
        results.write_summary({})
        if self.verdicts:
            results.write_verdicts()
        write_atomically(self.path, self._zip)
        shutil.rmtree(self.aside, ignore_errors=True)

    def _write_format(self, kind: str, results: Results) -> None:
        """Write one of the other formats, which names photos by their files alone."""
        if kind == recognise.YOLO:
            queries = [photo.path for photo in self.photos]
        else:
            home = self.aside / (kind if kind == recognise.LABELME else "photos")  # of labelme beside its file
            queries = [home / photo.path.name for photo in self.photos]
        model = own_record(results.paths(queries[0])[0])["model"]
        found = Found(results.found(queries, queries[0].parent), queries[0].parent, results.categories, model)
        recognise.WRITERS[kind](self.aside / kind, found)

    def _zip(self, path: Path) -> None:
        """Write the files of all formats; links to folders, such as COCO's to the photos, are none."""
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as out:
            for kind in self.formats:
                made = self.aside / kind
                top = made if kind == PICTURES else self.aside
                for file in sorted(made.rglob("*"), key=partial(_rank, made)):
                    if file.is_file():
                        compression = zipfile.ZIP_STORED if file.suffix in STORED else zipfile.ZIP_DEFLATED
                        out.write(file, writable(file.relative_to(top).as_posix()), compression)


def _rank(folder: Path, file: Path) -> tuple[bool, Path]:
    """Return the order of files: the verdicts come last, so that unpacked ones are no older than the results."""
    return file == folder / VERDICT_FILE, file


def _public(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a result without what says where it was made: paths become the names of their files."""
    out = {key: value for key, value in record.items() if key != "settings"} | {"query": name, "query_file": None}
    if "checkpoint" in out:
        out["checkpoint"] = Path(out["checkpoint"]).name
    if "supports" in out:
        supports = out["supports"].items()
        out["supports"] = {known: [_file_names(source) for source in sources] for known, sources in supports}
    return out


def _file_names(source: str) -> str:
    """Return a support's source, ``photo:marks``, without folders."""
    return re.sub(r"[^:]*[/\\]", "", source)
