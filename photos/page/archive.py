"""The page's download: a zip of the formats that the user has ticked, of all photos that have a result or are examples.

It holds the results as the page shows them, without the session, and names photos by their files alone. ``png`` lies at
its top, each other format in a folder; YOLO's has the photos too, since its programs look for them there.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotations import recognise
from annotations.results import REJECTED
from photos.examples import file_names
from photos.page.photo import Photo
from photos.prediction import THUMBNAILS, Prediction, paths_of
from photos.results import PICTURES, Results, own_record
from util.files import link, writable, write_atomically

STORED = (".png", ".jpg")  # suffixes of files that compression makes no smaller


class Archive:
    """A zip in the making, in a folder beside it; ``method`` is the name of the network's, for records."""

    def __init__(self, path: Path, formats: Sequence[str], method: str):
        self.path = path
        self.formats = formats
        self.method = method
        self.aside = path.with_name("packing")
        self.photos: list[Photo] = []
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
        """Add a photo's result as the page shows it; of an example without one, its mask.

        UserError: the photo cannot be read, or the result cannot be written.
        """
        is_rejected = REJECTED in photo.verdicts.values()
        if photo.names and not is_rejected:
            names = photo.names
            record = self._link_result(photo)
        else:
            prediction = photo.prediction()
            names = prediction.names
            record = self._write_result(photo, prediction)
        content = json.dumps(_public(record, photo.name), indent=2) + "\n"
        write_atomically(self.aside / PICTURES / f"{photo.path.stem}.json", content)
        self.photos.append(photo)
        self.names |= dict.fromkeys(names)

    def _link_result(self, photo: Photo) -> dict[str, Any]:
        """Link the pictures of a photo's result, and return its record."""
        made = self.aside / PICTURES
        record_file, mask, overlay, *probabilities = photo.files()
        _, *targets = paths_of(made, photo.path.stem, photo.names)
        for source, target in zip((mask, overlay, *probabilities), targets, strict=True):
            link(source, target)
        thumbnail = f"{THUMBNAILS}/{overlay.name}"
        link(photo.results.out / thumbnail, made / thumbnail)
        return own_record(record_file)

    def _write_result(self, photo: Photo, prediction: Prediction) -> dict[str, Any]:
        """Write a result that the page does not hold in this form, and return its record."""
        paths = paths_of(self.aside / PICTURES, photo.path.stem, prediction.names)
        prediction.write(paths, {"model": self.method, **photo.facts()})
        return own_record(paths[0])

    def write(self) -> None:
        """Write the formats and the zip, in place of an earlier one; WriteError: there is no space."""
        results = Results(self.aside / PICTURES, list(self.names), self.formats)
        for kind in self.formats:
            if kind != PICTURES:
                self._write_format(kind, results)
        for photo in self.photos:
            results.judge(self.aside / PICTURES / f"{photo.path.stem}.json", photo.verdicts)
        results.write_summary({})
        if results.verdicts:
            results.write_verdicts()
        write_atomically(self.path, self._zip)
        shutil.rmtree(self.aside, ignore_errors=True)

    def _write_format(self, kind: str, results: Results) -> None:
        """Write one of the other formats, in which photos have the names of their files alone."""
        if kind in (recognise.YOLO, recognise.CUTOUT):  # which read or hold the photos
            queries = [photo.path for photo in self.photos]
        else:
            folder = kind if kind == recognise.LABELME else "photos"  # of labelme beside its file
            queries = [self.aside / folder / photo.path.name for photo in self.photos]
        results.write_format(kind, self.aside / kind, queries, queries[0].parent)

    def _zip(self, path: Path) -> None:
        """Write the files of all formats; links to folders, such as COCO's to the photos, are none."""
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as out:
            for kind in self.formats:
                made = self.aside / kind
                top = made if kind == PICTURES else self.aside
                for file in sorted(made.rglob("*")):
                    if file.is_file():
                        compression = zipfile.ZIP_STORED if file.suffix in STORED else zipfile.ZIP_DEFLATED
                        out.write(file, writable(file.relative_to(top).as_posix()), compression)


def _public(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a result without what says where it was made: paths become the names of their files."""
    public = {key: value for key, value in record.items() if key != "settings"}
    public["query"] = name
    public["query_file"] = None
    if "checkpoint" in public:
        public["checkpoint"] = Path(public["checkpoint"]).name
    if "supports" in public:
        public["supports"] = {}
        for class_name, sources in record["supports"].items():
            public["supports"][class_name] = [file_names(source) for source in sources]
    return public
