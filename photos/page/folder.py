"""The page's folder: its open photos and what is said of them, by persons and the network; all of it lies in files.

The folder is that of ``predict.py --out``: a page that is started on it again shows the same, and the command goes on
with it. ``page/page.json`` has the photos that are open and those that were removed; ``persons`` has the classes.
"""

import shutil
import threading
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotations.annotation import content_errors
from annotations.pictures import read_image
from photos import persons
from photos.example_files import UPLOADS
from photos.examples import UNNAMED, Example, by_class
from photos.page.archive import write_archive
from photos.page.background import Background
from photos.page.classes import Classes
from photos.page.masks import PhotoMasks, label_by_row, runs_by_row
from photos.page.opened import OpenPhotos
from photos.page.regions import region_at, region_in_box
from photos.prediction import NETWORK
from photos.read_photos import read_photo
from photos.record import own_records
from photos.results_folder import PICTURES, Results, below, refuse_links
from photos.segmenter import Segmenter
from util.files.errors import UserError
from util.files.parallel import attempt
from util.files.writing import LONG_NAME, lock, write_atomically

EXAMPLES = 10  # photos of a class that Segment learns from, at most
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
        self.masks = PhotoMasks(segmenter, self.results, replaced=out / PAGE / "replaced.json")
        self.file = out / PAGE / "page.json"
        refuse_links(below([out, *(out / name for name in (persons.FOLDER, PAGE, UPLOADS))]))
        with content_errors(f"{out}: cannot be written (", "); free some space or name another --out"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self.opened = OpenPhotos(out, self.file)
        self.photos = self.opened.paths
        self.archive: Path | None = None
        self.work = Background()
        self._rows: dict[str, tuple[Any, dict[str, Any]]] = {}  # of photos, with the state of their files
        records = [record for _, record in own_records(out)]
        with content_errors(f"{self.file}: is damaged (", "); remove it"):
            self.opened.open_again(records)
        self.classes = Classes(self.masks, self.photos, self.work)
        self.classes.begin(records)

    # What the browser sees

    def row(self, name: str) -> dict[str, Any]:
        """Return what the grid shows of a photo: of each class by whom it is, its share and scores."""
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
        self.results.check([*files.values()], again=True)
        skipped = len(paths) - self.opened.take(paths)
        self.opened.keep()
        rest = f", {skipped} skipped: removed before, or of a name that is open" if skipped else ""
        return f"{len(paths) - skipped} added{rest}"

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends; the same one is added once."""
        file_name = unicodedata.normalize("NFC", Path(name).name)
        if file_name == ".." or not file_name.isprintable() or not 0 < len(file_name.encode()) <= LONG_NAME:
            raise UserError(f"{file_name!r}: is no name of a photo; give it 1 to {LONG_NAME} letters and digits")
        for path in self.photos.values():
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
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
        """Take a photo's mask as the browser has drawn it: of the classes named, each is a person's now.

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
        """Say of some photos that nothing of a class is there, but where a person has said something of the class.

        Where ``absent`` is false, take that back. Returns the photos that change, in the background.
        """
        name = self.classes.name_of(value)
        changed = [
            photo for photo in photos if absent != (value in persons.values_of(self.out, self.opened.path(photo)))
        ]
        self.work.start("marked", lambda: self._mark(changed, name, absent))
        return {"photos": changed}

    def _mark(self, photos: list[str], name: str, absent: bool) -> str:
        """Say of photos that nothing of a class is there, or take that back."""
        for photo in self.work.each("marked", photos):
            with self.lock:
                path = self.opened.path(photo)
                masks = persons.masks_of(self.out, path)
                said = {known: mask for known, mask in masks.items() if known != name or mask.any()}
                if absent:
                    said.setdefault(name, np.zeros(persons.size_of(path), bool))
                self.masks.say(path, said)
        return f"{len(photos)} photos: " + (f"nothing of {name} is there, by you" if absent else "given back")

    def remove(self, photo: str) -> str:
        """Close a photo for good: its result and masks go, its file stays."""
        self.masks.forget(self.opened.close(photo))
        return f"{photo} is removed"

    def add_class(self, name: str) -> None:
        """Add a class; UserError: as ``Classes.add``."""
        self.classes.add(name)

    def rename_class(self, value: int, name: str) -> str:
        """Rename a class; UserError: as ``Classes.rename``."""
        return self.classes.rename(value, name)

    def remove_class(self, value: int) -> str:
        """Remove a class; UserError: as ``Classes.remove``."""
        return self.classes.remove(value)

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

    def _wanted(self) -> list[str]:
        """Return the classes that are not a person's on some photo."""
        said = [persons.values_of(self.out, path) for path in self.photos.values()]
        return [name for name, value in persons.values(self.out).items() if not all(value in values for values in said)]

    def _examples(self) -> dict[str, list[Example]]:
        """Return the first examples of each class that a person has drawn somewhere, and not said of every photo."""
        values = persons.values(self.out)
        examples: dict[str, list[Example]] = {name: [] for name in self._wanted()}
        for path in self.photos.values():
            masks = attempt(partial(persons.masks_of, self.out), path)
            if isinstance(masks, UserError):  # which the search says
                continue
            file = str(persons.file_of(self.out, path))
            for name, mask in masks.items():
                if name in examples and mask.any():
                    examples[name].append(Example(name, path, file, mask_value=values[name]))
        return {name: of_class[:EXAMPLES] for name, of_class in examples.items() if of_class}

    def _with_examples(self) -> Segmenter:
        """Return a segmenter of the classes that have examples, whose masks are read; UserError: none has one."""
        segmenter = self.segmenter.without_classes()
        for name, of_class in self._examples().items():
            segmenter.add(name, of_class)
        if not segmenter.classes:
            raise UserError("no class has an example: paint over the object on one photo")
        return segmenter

    def segment(self, photo: str = "") -> None:
        """Search every photo for every class that is not a person's there, the photo named first."""
        if not self.photos:
            raise UserError("no photo is open: add one")
        self.results.check([*self.photos.values()], again=True)
        self.work.start("segmented", lambda: self._search(photo))

    def _search(self, first: str) -> str:
        """Search the photos whose results are not complete, and return what was found."""
        with self.lock:
            if not self._wanted():
                return "nothing to search: every class is yours on all photos"
            segmenter = self._with_examples()
        results = Results(self.out, segmenter.names)
        facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}
        unread: dict[Path, str] = {}
        with self.lock:
            waiting = results.waiting([*filter(Path.is_file, self.photos.values())], facts, unread)
            paths = {name: path for name, path in self.photos.items() if path in waiting or path in unread}
        names = sorted(paths, key=lambda name: name != first)
        for name in self.work.each("segmented", names):
            path = paths[name]
            found = [*segmenter.many([path], unread=unread)] if path in waiting else []
            with self.lock:
                if found and name in self.photos:
                    results.write(found[0], facts)
            self.masks.errors[path] = unread.get(path, "")
        self.results.write_summary({})
        searched = [path for path in paths.values() if path in results.made]
        return "; ".join([f"{len(searched)} of {len(names)} waiting photos searched", *[*unread.values()][:3]])

    def pack(self, formats: Sequence[str]) -> None:
        """Write a zip of the photos that were searched for every class that is known anywhere, in some formats."""
        if not formats:
            raise UserError("nothing to download: tick a format")
        known = {name: self.masks.looks(path).keys() for name, path in self.photos.items()}
        values = {value for of_photo in known.values() for value in of_photo}
        complete = [self.photos[name] for name, of_photo in known.items() if values and values <= of_photo]
        if not complete:
            raise UserError("nothing to download: annotate a photo, and press Segment")
        names = [name for name, value in persons.values(self.out).items() if value in values]
        results = Results(self.file.with_name("packing") / PICTURES, names, formats)
        self.work.start("packed", lambda: self._pack(results, complete))

    def _pack(self, results: Results, photos: Sequence[Path]) -> str:
        """Pack photos in a folder of their own, which goes."""
        self.archive = None
        aside = results.out.parent
        shutil.rmtree(aside, ignore_errors=True)  # of a page that was killed
        try:
            self.archive = write_archive(self.file.with_name("predictions.zip"), self.masks, self.lock, results, photos)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        unconfirmed = sum(
            by == NETWORK and share > 0 for path in photos for by, share, *_ in self.masks.looks(path).values()
        )
        left_out = [name for name, path in self.photos.items() if path not in photos]
        rest = f"; {len(left_out)} not searched for every class, so left out: {left_out[0]} ..." if left_out else ""
        return f"{len(photos)} photos packed, with {unconfirmed} masks that nobody confirmed{rest}"

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the overview."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.results.write_summary({})
