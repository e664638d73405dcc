"""The page's download: a zip of the formats that the user has ticked, of all photos that have a result or are examples.

It holds the results as the page shows them, without the session, and names photos by their files alone. ``png`` lies at
its top, each other format in a folder, with the photos where its programs look for them.
"""

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotations import recognise
from annotations.pictures import header_of
from photos.examples import file_names
from photos.page.background import Work
from photos.page.files import Files
from photos.page.segmentation import photos_of
from photos.page.state import Photo, State
from photos.page.writer import WrittenState
from photos.prediction import THUMBNAILS, paths_of
from photos.results import PICTURES, Results, own_record
from util.files import writable, write_atomically
from util.files.errors import WriteError
from util.files.made import link

DOWNLOAD = "predictions.zip"  # in the folder of the session
STORED = (".png", ".jpg")  # suffixes of files that compression makes no smaller
README = "README.txt"
LINES = {  # of it, on each format
    PICTURES: "PHOTO_mask.png: masks, in which 0 is background and a class has the value that PHOTO.json states.\n"
    "PHOTO_probability_CLASS.png: 255 is certain. review.html: all photos. summary.csv: all classes and scores.",
    recognise.COCO: "coco: annotations/instances_default.json, or instances.json, which is the same; photos in images.",
    recognise.YOLO: "yolo: outlines of YOLO; 'yolo segment train data=yolo/data.yaml' of Ultralytics reads them.",
    recognise.LABELME: "labelme: a JSON file beside each photo; labelme and X-AnyLabeling open the folder.",
    recognise.LABELSTUDIO: "labelstudio: make a project with config.xml, serve the photos as the folder photos of a\n"
    "local storage, then import tasks.json.",
    recognise.CUTOUT: "cutout: each object alone, as a PNG with transparency.",
}


class Archive:
    """A zip in the making, in a folder beside it; ``facts`` are those of the network's results, for records."""

    def __init__(self, path: Path, formats: Sequence[str], files: Files, facts: dict[str, Any]):
        self.path = path
        self.formats = formats
        self.files = files
        self.facts = facts
        self.aside = path.with_name("packing")
        self.photos: list[Photo] = []
        self.names: dict[str, None] = {}  # of all classes
        self.clear()  # what an interrupted run has left

    def clear(self) -> None:
        """Remove what lies beside the zip."""
        shutil.rmtree(self.aside, ignore_errors=True)

    def add(self, state: State, photo: Photo) -> None:
        """Add a photo's result as the page shows it; of an example without one, its mask.

        UserError: the photo cannot be read, or the result cannot be written.
        """
        if [*self.formats] != [PICTURES]:
            header_of(Path(photo.path))  # the other formats need the photo itself
        if photo.found:
            names = photo.names
            record = self._link_result(photo)
        else:
            prediction = self.files.prediction(state, photo)
            names = prediction.names
            paths = paths_of(self.aside / PICTURES, Path(photo.path).stem, names)
            prediction.write(paths, {**self.facts, **self.files.facts(state, photo)})
            record = own_record(paths[0])
        content = json.dumps(_public(record, photo.name), indent=2) + "\n"
        write_atomically(self.aside / PICTURES / f"{Path(photo.path).stem}.json", content)
        self.photos.append(photo)
        self.names |= dict.fromkeys(names)

    def _link_result(self, photo: Photo) -> dict[str, Any]:
        """Link the pictures of a photo's result, and return its record."""
        made = self.aside / PICTURES
        record_file, mask, overlay, *probabilities = self.files.of_result(photo, photo.names)
        _, *targets = paths_of(made, Path(photo.path).stem, photo.names)
        for source, target in zip((mask, overlay, *probabilities), targets, strict=True):
            link(source, target)
        thumbnail = f"{THUMBNAILS}/{overlay.name}"
        link(self.files.results.out / thumbnail, made / thumbnail)
        return own_record(record_file)

    def write(self) -> None:
        """Write the formats and the zip, in place of an earlier one; WriteError: there is no space."""
        results = Results(self.aside / PICTURES, list(self.names), self.formats)
        for kind in self.formats:
            if kind != PICTURES:
                self._write_format(kind, results)
        for photo in self.photos:
            results.judge(self.aside / PICTURES / f"{Path(photo.path).stem}.json", photo.verdicts)
        results.write_summary({})
        if results.verdicts:
            results.write_verdicts()
        write_atomically(self.path, self._zip)

    def _write_format(self, kind: str, results: Results) -> None:
        """Write one of the other formats, in which photos have the names of their files alone."""
        folder = self.aside / kind
        homes = {recognise.COCO: folder / "images", recognise.LABELME: folder}
        queries = [Path(photo.path) for photo in self.photos]
        if kind in homes:
            for query in queries:
                link(query, homes[kind] / query.name)
            queries = [homes[kind] / query.name for query in queries]
        elif kind == recognise.LABELSTUDIO:
            queries = [self.aside / "photos" / query.name for query in queries]
        results.write_format(kind, folder, queries, queries[0].parent)

    def _readme(self) -> str:
        """Return what lies where in the zip, and what opens it."""
        lines = [LINES[kind] for kind in self.formats]
        return "\n".join([f"Masks of {', '.join(self.names)} on {photos_of(len(self.photos))}.", *lines, ""])

    def _zip(self, path: Path) -> None:
        """Write the files of all formats; links to folders, such as COCO's to the photos, are none."""
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as out:
            out.writestr(README, self._readme())
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


def packing(session: WrittenState, formats: Sequence[str], photos: Sequence[Photo]) -> Work:
    """Return the work of packing some photos, without those whose files were replaced."""
    facts = session.segmenter.without_classes().facts
    archive = Archive(session.file.with_name(DOWNLOAD), formats, session.files, facts)

    def add(name: str) -> None:
        with session.lock:
            photo = session.state.photo(name)
            if photo.found and not session.files.is_current(session.state, photo):
                session.write_result(name)
            try:
                archive.add(session.state, session.state.photo(name))
            except WriteError:  # which ends the work
                archive.clear()
                raise

    def finish(done: int, errors: list[str]) -> str:
        try:
            if archive.photos and not session.work.is_stopped:
                archive.write()
                session.archive = archive.path
        finally:
            archive.clear()
        session.write_summary()
        return "; ".join([f"{done - len(errors)} of {len(current)} photos packed", *notes, *errors[:3]])

    outdated = [photo.name for photo in photos if session.files.is_outdated(photo)]
    notes = [f"{name}: skipped, its file was replaced; press Segment" for name in outdated]
    current = [photo.name for photo in photos if photo.name not in outdated]
    return Work(current, add, finish)
