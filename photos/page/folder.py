"""The page's folder: its open photos and what is said of them, by persons and the network; all of it lies in files.

The folder is that of ``predict.py --out``: a page that is started on it again shows the same, and the command goes on
with it. ``page/page.json`` has the photos that are open and those that were removed; ``persons`` has the classes.
"""

import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.pictures import read_image
from photos import persons
from photos.example_files import UPLOADS
from photos.examples import UNNAMED, Example, by_class
from photos.page.archive import Archive
from photos.page.background import Background
from photos.page.classes import REMOVED, Classes
from photos.page.masks import PhotoMasks, label_by_row, runs_by_row
from photos.page.opened import OpenPhotos
from photos.page.regions import region_at, region_in_box
from photos.page.search import search
from photos.read_photos import read_photo
from photos.record import own_records
from photos.results_folder import Results, below, refuse_links
from photos.segmenter import Segmenter
from photos.summary import write_summary
from util.files.errors import UserError
from util.files.writing import LONG_NAME, lock, write_atomically

PAGE = "page"  # folder of the page's own files


class Folder:
    """The photos of a page's folder and the verdicts on them, with the network that searches; a lock keeps others out.

    UserError: another page is open there, a link lies in it, or a file is damaged.
    """

    def __init__(self, segmenter: Segmenter, out: Path):
        self.segmenter = segmenter
        self.out = out
        self.lock = threading.RLock()
        self.results = Results(out, [])
        home = out / PAGE
        refuse_links(below([out, *(out / name for name in (persons.FOLDER, PAGE, UPLOADS))]))
        with content_errors(f"{out}: cannot be written (", "); free some space or name another --out"):
            home.mkdir(parents=True, exist_ok=True)
            self._only = lock(home / "lock", f"{out}: another page is open there; name another --out")
        self.opened = OpenPhotos(out, home / "page.json")
        self.photos = self.opened.paths
        self.masks = PhotoMasks(segmenter, self.results, self.photos, replaced=home / "replaced.json")
        self.work = Background()
        self.download = Archive(self.masks, self.work, self.lock, home)
        self._rows: dict[str, tuple[Any, dict[str, Any]]] = {}  # of photos, with the state of their files
        records = [record for _, record in own_records(out)]
        with content_errors(f"{self.opened.file}: is damaged (", "); remove it"):
            self.opened.open_again(records)
        self.classes = Classes(self.masks, self.work)
        self.classes.begin(records)

    # What the browser sees

    @property
    def archive(self) -> Path | None:
        """The zip that was packed last; None before."""
        return self.download.file

    def row(self, name: str) -> dict[str, Any]:
        """Return what the grid shows of a photo: by whom the mask of each class is, its share and scores."""
        path = self.photos[name]
        state = self.masks.version(path), tuple(self.classes.names)
        if name not in self._rows or self._rows[name][0] != state:
            self._rows[name] = state, {"name": name, "version": state[0], "classes": self.masks.looks(path)}
        return {**self._rows[name][1], "error": self.masks.errors.get(path, "")}

    def scene(self, name: str) -> dict[str, Any]:
        """Return a photo's mask for the browser."""
        path = self.opened.path(name)
        version = self.masks.version(path)
        label = self.masks.label(path)
        height, width = label.shape
        return {
            "height": height,
            "width": width,
            "runs": runs_by_row(label),
            "persons": persons.values_of(self.out, path),
            "version": version,
        }

    # Actions

    def open(self, paths: Sequence[Path]) -> str:
        """Open photos; the grid says which cannot be read.

        UserError: results would be written over photos, or over files of other programs.
        """
        files = {path.resolve(): path for path in (*paths, *self.photos.values())}
        self.results.check(files.values(), again=True)
        skipped = len(paths) - self.opened.take(paths)
        self.opened.keep()
        rest = f", {skipped} skipped: removed before, or of a name that is open" if skipped else ""
        return f"{len(paths) - skipped} added{rest}"

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends; the same one is added once."""
        file_name = unicodedata.normalize("NFC", Path(name).name)
        if file_name == ".." or not file_name.isprintable() or not 0 < len(file_name.encode()) <= LONG_NAME:
            raise UserError(f"{file_name!r}: is no name of a photo; give it 1 to {LONG_NAME} letters and digits")
        there = filter(Path.is_file, self.photos.values())
        if any(path.stat().st_size == len(content) and path.read_bytes() == content for path in there):
            return f"{file_name} is open already"
        read_image(Path(file_name), content)
        path = self.opened.free_path(Path(file_name), content)
        self.results.check([path], again=True)
        write_atomically(path, content)
        self.photos[path.name] = path
        self.opened.keep()
        return "" if path.name == file_name else f"{file_name} is {path.name} here: another photo has its name"

    def samples(self) -> str:
        """Add photos of coins, and a photo without coins."""
        for photo in sorted(Path(__file__).with_name("example").iterdir()):
            self.upload(photo.name, photo.read_bytes())
        if "coin" not in self.classes.names:
            self.add_class("coin")
        return "paint over the coins on one photo, then press Segment"

    def save(self, photo: str, runs: list[int], persons_values: list[int], version: str) -> dict[str, str]:
        """Keep a photo's mask as the browser has drawn it; those of the classes ``persons_values`` are a person's now.

        Returns the photo's version, on which the browser's next change is.

        UserError: the mask does not fit, or the photo was changed meanwhile.
        """
        path = self.opened.path(photo)
        if not self.masks.has_contents_of(path, str(version)):
            raise UserError(f"{photo}: was changed meanwhile, in another window; look at it, and do it again")
        label = label_by_row(runs, persons.size_of(path))
        self.masks.say(path, {self.classes.name_of(value): label == value for value in persons_values})
        return {"version": self.masks.version(path)}

    def absent(self, value: int, photos: list[str], absent: bool) -> dict[str, Any]:
        """Say that some photos show nothing of a class, except where a person has said something of it.

        Where ``absent`` is false, take that back. Returns the photos that change, in the background.
        """
        name = self.classes.name_of(value)
        changed = [
            photo for photo in photos if absent != (value in persons.values_of(self.out, self.opened.path(photo)))
        ]
        self.work.start("marked", lambda: self._mark(changed, name, absent))
        return {"photos": changed}

    def _mark(self, photos: list[str], name: str, absent: bool) -> str:
        """Say that photos show nothing of a class, or take that back."""
        for photo in self.work.each("marked", photos):
            with self.lock:
                self.masks.say_absent(self.opened.path(photo), name, absent)
        return f"{len(photos)} photos: " + (f"nothing of {name} is there, by you" if absent else "given back")

    def remove(self, photo: str) -> str:
        """Close a photo for good: its result and masks go, its file stays."""
        self.masks.forget(self.opened.close(photo))
        return f"{photo} is removed"

    def add_class(self, name: str) -> None:
        """Add a class; UserError: as ``Classes.add``."""
        self.classes.add(name)

    def rename_class(self, value: int, name: str) -> str:
        """Rename a class; masks and results keep their pixels. UserError: as ``Classes.free_name`` and ``put``."""
        new = self.classes.free_name(name, self.classes.name_of(value))
        return f"{self.classes.put(value, new)} is {new} now"

    def remove_class(self, value: int) -> str:
        """Remove a class from all photos; masks and results of the others stay. UserError: as ``Classes.put``."""
        return f"{self.classes.put(value, REMOVED)} is removed"

    def take_examples(self, examples: Sequence[Example]) -> str:
        """Take annotations of open photos as a person's masks; those of others are counted."""
        opened = {path.resolve(): path for path in self.photos.values()}
        of_opened = [example for example in examples if example.photo.resolve() in opened]
        for name, of_class in by_class(of_opened, UNNAMED).items():
            if name not in self.classes.names:
                self.add_class(str(name))
            for example in of_class:
                path = opened[example.photo.resolve()]
                (support,) = self.segmenter.without_classes().boxes_to_masks(None, [example.read()])
                self.masks.say(path, {**persons.masks_of(self.out, path), str(name): support.label == 1})
        rest = "; the others are of photos that are not open (--photos DIR names their folder)"
        return f"{len(of_opened)} of {len(examples)} annotations taken{rest if len(of_opened) < len(examples) else ''}"

    # The network

    def ask(self, photo: str, points: list[list[float]]) -> dict[str, Any]:
        """Return the object that the network sees about one place (x, y), or in a box of two corners: its runs."""
        image = read_photo(self.opened.path(photo))
        if len(points) == 2:
            region = region_in_box(self.segmenter, image, points)
        else:
            height, width = image.shape[:2]
            column, row = np.array(points[0], int).clip(0, (width - 1, height - 1)).tolist()
            region = region_at(self.segmenter, image, column, row)
        return {"runs": runs_by_row(region.astype(np.uint8))}

    def segment(self, photo: str = "") -> None:
        """Search every photo for every class that has no mask by a person there, the photo named first."""
        if not self.photos:
            raise UserError("no photo is open: add one")
        self.results.check(self.photos.values(), again=True)
        self.work.start("segmented", lambda: search(self.masks, self.work, self.lock, first=photo))

    def pack(self, formats: Sequence[str]) -> None:
        """Write the download in some formats; UserError: as ``Archive.pack``."""
        self.download.pack(formats)

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the overview."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        write_summary(self.out, {})
