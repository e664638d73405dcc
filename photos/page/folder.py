"""The page's folder: photos that are open, classes, persons' masks and results; all that the page knows lies in files.

The folder is that of ``predict.py --out``: a page that is started on it again shows the same, and the command goes on
with it. ``page/page.json`` has the photos that are open, those that were removed, and the classes by their values.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotations.pictures import read_image
from photos import persons
from photos.examples import UNNAMED, Example, LoadedExample, by_class, check_class_name
from photos.page.archive import write_archive
from photos.page.background import Background
from photos.page.masks import PhotoMasks, label_by_row, runs_by_row
from photos.page.regions import region_at, region_in_box
from photos.photo_files import read_photo
from photos.results import Results, own_record
from photos.segmenter import Segmenter
from util.files import LONG_NAME, file_word, kept_json, lock, writable, write_atomically
from util.files.errors import UserError
from util.files.images import header_of, upright_size

MAX_CLASSES = 8  # the colours of more are alike
EXAMPLES = 10  # photos of a class that Segment learns from, at most
UPLOADS = "photos"  # folder of what the browser has sent


class Folder:
    """A page's folder, with the network that searches it; a lock keeps other pages out."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.segmenter = segmenter
        self.out = out
        self.lock = threading.RLock()
        self.results = Results(out, [])
        self.masks = PhotoMasks(segmenter, self.results)
        self.file = out / "page" / "page.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        kept = kept_json(self.file)
        self.removed: list[str] = kept.get("removed", [])
        self.classes: list[str] = kept.get("classes", [])  # by their values, from 1; "" where one was removed
        self.photos: dict[str, Path] = {}  # by the names of their files
        self.errors: dict[str, str] = {}  # why a photo cannot be read, "" where it can
        self.archive: Path | None = None
        self.work = Background()
        self._rows: dict[str, tuple[Any, dict[str, Any]]] = {}  # of photos, with the state of their files
        self._take(Path(path) for path in kept.get("photos", []))
        records = [own_record(path) for path in sorted(out.glob("*.json"))]
        self._take(Path(record["query"]) for record in records if record)
        for path in self.photos.values():
            self.classes += [name for name in self.masks.looks(path) if name not in self.classes]
        if not self.names:
            self.classes.append(UNNAMED)
        self.results.names = self.names

    def _take(self, paths: Iterable[Path]) -> int:
        """Open the photos whose results have names of their own and that nobody removed; return how many."""
        stems = {path.stem.casefold() for path in self.photos.values()}
        before = len(self.photos)
        for path in paths:
            is_new = path.stem.casefold() not in stems and str(path) not in self.removed
            if is_new:
                stems.add(path.stem.casefold())
                self.photos[writable(path.name)] = path
        return len(self.photos) - before

    def _keep(self) -> None:
        self.results.names = self.names
        photos = [str(path) for path in self.photos.values()]
        content = {"photos": photos, "removed": self.removed, "classes": self.classes}
        write_atomically(self.file, json.dumps(content))

    @property
    def names(self) -> list[str]:
        """All classes."""
        return [name for name in self.classes if name]

    def path(self, name: str) -> Path:
        """Return the file of an open photo; UserError: it is not open."""
        if name not in self.photos:
            raise UserError(f"{name}: this photo is no longer open")
        return self.photos[name]

    def class_of(self, value: int) -> str:
        """Return a class by its value; UserError: there is none."""
        if type(value) is not int or not 1 <= value <= len(self.classes) or not self.classes[value - 1]:
            raise UserError("this class is no longer there; load the page again")
        return self.classes[value - 1]

    # What the browser sees

    def row(self, name: str) -> dict[str, Any]:
        """Return what the grid shows of a photo: of each class by whom it is, its share and presence."""
        path = self.photos[name]
        state = self.masks.version(path), tuple(self.classes)
        if name not in self._rows or self._rows[name][0] != state:
            looks = self.masks.looks(path).items()
            classes = {self.classes.index(key) + 1: look for key, look in looks if key in self.classes}
            self._rows[name] = state, {"name": name, "version": state[0], "classes": classes}
        return {**self._rows[name][1], "error": self.errors.get(name, "")}

    def scene(self, name: str) -> dict[str, Any]:
        """Return a photo's mask for the browser."""
        path = self.path(name)
        version = self.masks.version(path)
        label, values = self.masks.label(path, self.classes)
        height, width = label.shape
        return {"height": height, "width": width, "runs": runs_by_row(label), "persons": values, "version": version}

    # Actions

    def open(self, paths: Sequence[Path]) -> str:
        """Open photos; UserError: their results would be written over photos, or over files of other programs."""
        opened = {path.resolve() for path in self.photos.values()}
        others = [path for path in paths if path.resolve() not in opened]
        self.results.check([*self.photos.values(), *others], again=True)
        added = self._take(paths)
        self._keep()
        rest = (
            f", {len(paths) - added} skipped: removed before, or of a name that is open" if added < len(paths) else ""
        )
        return f"{added} added{rest}"

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends; the same one is added once."""
        file_name = Path(name).name
        if file_name == ".." or not file_name.isprintable() or not 0 < len(file_name.encode()) <= LONG_NAME:
            raise UserError(f"{file_name!r}: is no name of a photo; give it 1 to {LONG_NAME} letters and digits")
        for path in self.photos.values():
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
                return f"{file_name} is open already"
        read_image(Path(file_name), content)
        path = self._free_path(Path(file_name))
        self.results.check([path], again=True)
        write_atomically(path, content)
        self._take([path])
        self._keep()
        return "" if path.name == file_name else f"{file_name} is {path.name} here: another photo has its name"

    def _free_path(self, name: Path) -> Path:
        """Return a path for an upload whose stem no photo has, also of those that were removed."""
        home = self.out / UPLOADS
        others: list[Path | str] = [*self.photos.values(), *self.removed, *home.glob("*")]
        taken = {Path(path).stem.casefold() for path in others}
        stem, number = name.stem, 2
        while stem.casefold() in taken:
            stem, number = f"{name.stem}_{number}", number + 1
        return home / f"{stem}{name.suffix}"

    def samples(self) -> str:
        """Add photos of coins, and a photo without coins."""
        for photo in sorted(Path(__file__).with_name("example").iterdir()):
            self.upload(photo.name, photo.read_bytes())
        if "coin" not in self.names:
            self.add_class("coin")
        return "paint over the coins on one photo, then press Segment"

    def save(self, photo: str, runs: list[int], persons_values: list[int], version: str) -> dict[str, str]:
        """Take a photo's mask as the browser has drawn it: of the classes named, each is a person's now.

        Returns the photo's version, on which the browser's next change is.

        UserError: the mask does not fit, or the photo was changed meanwhile.
        """
        path = self.path(photo)
        self.masks.check_version(path, version)
        label = label_by_row(runs, upright_size(*header_of(path)))
        self.masks.say(path, {self.class_of(value): label == value for value in persons_values})
        return {"version": self.masks.version(path)}

    def remove(self, photo: str) -> str:
        """Close a photo for good: its result and masks go, its file stays."""
        path = self.path(photo)
        del self.photos[photo]
        self.removed.append(str(path))
        self._keep()
        self.masks.forget(path)
        return f"{photo} is removed"

    def add_class(self, name: str) -> str:
        """Add a class, in place of the unnamed one where nothing is known of that."""
        name = self._free_name(name)
        if len(self.names) >= MAX_CLASSES:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        if UNNAMED in self.classes and not self._photos_of(UNNAMED):
            self.classes[self.classes.index(UNNAMED)] = name
        else:
            self.classes.append(name)
        self._keep()
        return ""

    def _photos_of(self, name: str) -> list[Path]:
        """Return the photos of which a class is known: by the network or by a person."""
        return [path for path in self.photos.values() if name in self.masks.looks(path)]

    def _free_name(self, name: str, old: str = "") -> str:
        name = check_class_name(name, "the class name")
        for known in self.names:
            if name == known or (known != old and file_word(name) == file_word(known)):
                raise UserError(f"{name}: this name, or that of its files, is taken by '{known}'; give another one")
        return name

    def rename_class(self, value: int, name: str) -> str:
        """Rename a class; masks and results keep their pixels."""
        new = self._free_name(name, self.class_of(value))
        return f"{self._replace_class(value, new)} is {new} now"

    def remove_class(self, value: int) -> str:
        """Remove a class from all photos; masks and results of the others stay."""
        return f"{self._replace_class(value, '')} is removed"

    def _replace_class(self, value: int, new: str) -> str:
        """Give a class another name on all photos, or, by the name "", remove it; return its former name."""
        self.work.check_idle()
        old = self.class_of(value)
        is_last = self.names == [old]
        self.classes[value - 1] = new or (UNNAMED if is_last else "")
        self._keep()
        for path in self._photos_of(old):
            self.masks.rename(path, old, new)
        return old

    def take_examples(self, examples: Sequence[Example]) -> str:
        """Take annotations of open photos as a person's masks; those of others are counted."""
        left_out = 0
        opened = {path.resolve(): path for path in self.photos.values()}
        for name, of_class in by_class(examples, UNNAMED).items():
            of_opened = [example for example in of_class if example.photo.resolve() in opened]
            left_out += len(of_class) - len(of_opened)
            if of_opened and name not in self.classes:
                self.add_class(str(name))
            for example in of_opened:
                path = opened[example.photo.resolve()]
                (support,) = self.segmenter.without_classes().boxes_to_masks(None, [example.read()])
                self.masks.say(path, {**persons.masks_of(self.out, path), str(name): support.label == 1})
        rest = f"; {left_out} are of photos that are not open" if left_out else ""
        return f"{len(examples) - left_out} annotations taken{rest}"

    # The network

    def ask(self, photo: str, points: list[list[float]]) -> dict[str, Any]:
        """Return the object that the network sees about one place (x, y), or in a box of two corners: its runs."""
        path = self.path(photo)
        image = read_photo(path)
        if len(points) == 2:
            region = region_in_box(self.segmenter, image, points)
        else:
            height, width = image.shape[:2]
            column, row = np.array(points[0], int).clip(0, (width - 1, height - 1)).tolist()
            region = region_at(self.segmenter, image, column, row)
        return {"runs": runs_by_row(region.astype(np.uint8))}

    def with_examples(self) -> Segmenter:
        """Return the segmenter of the classes that a person has drawn somewhere."""
        segmenter = self.segmenter.without_classes()
        supports: dict[str, list[LoadedExample]] = {name: [] for name in self.names}
        for path in self.photos.values():
            for name, mask in persons.masks_of(self.out, path).items():
                if name in supports and mask.any() and len(supports[name]) < EXAMPLES:
                    source = f"{path}:{persons.file_of(self.out, path)}"
                    supports[name].append(LoadedExample(read_photo(path), mask.astype(np.uint8), source))
        for name, of_class in supports.items():
            if of_class:
                segmenter.add(name, of_class)
        return segmenter

    def segment(self, photo: str = "") -> str:
        """Search every photo for every class that is not a person's there, the photo named first."""
        self.results.check([*self.photos.values()], again=True)
        self.work.start("segmented", lambda: self._search(photo))
        return ""

    def _search(self, first: str) -> str:
        """Search the photos whose results are not complete, and return what was found."""
        with self.lock:
            segmenter = self.with_examples()
            if not segmenter.classes:
                raise UserError("no class has an example: paint over the object on one photo")
            results = Results(self.out, [known.name for known in segmenter.classes])
            facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}
            photos = {path: name for name, path in self.photos.items()}
            waiting = results.waiting([path for path in photos if path.is_file()], facts)
        names = sorted((photos[path] for path in waiting), key=lambda name: name != first)
        for name in self.work.each("segmented", names):
            try:
                prediction = segmenter(self.path(name))
                self.errors[name] = ""
            except UserError as error:
                self.errors[name] = str(error)
                continue
            with self.lock:
                if name in self.photos:
                    results.write(prediction, facts)
        self.results.write_summary({})
        failed = [self.errors[name] for name in names if self.errors.get(name)]
        return "; ".join([*self._counts(), *failed[:3]])

    def _counts(self) -> Iterator[str]:
        """Yield of each class how many photos show it and how many were not searched."""
        looks = [self.masks.looks(path) for path in [*self.photos.values()]]
        for name in self.names:
            known = [look[name] for look in looks if name in look]
            shown = sum(share > 0 for _, share, _ in known)
            lacking = len(looks) - len(known)
            rest = f", {lacking} not searched" if lacking else ""
            yield f"{name}: on {shown} of {len(known)} photos{rest}"

    def pack(self, formats: Sequence[str]) -> str:
        """Write a zip of the photos that were searched for every class that is known anywhere, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        known = {name: self.masks.looks(path).keys() for name, path in self.photos.items()}
        classes = [name for name in self.names if any(name in of_photo for of_photo in known.values())]
        complete = [self.photos[name] for name, of_photo in known.items() if classes and {*classes} <= of_photo]
        if not complete:
            raise UserError("nothing to download: annotate a photo, and press Segment")
        self.work.start("packed", lambda: self._pack(formats, classes, complete))
        return ""

    def _pack(self, formats: Sequence[str], classes: list[str], photos: Sequence[Path]) -> str:
        """Pack photos."""
        self.archive = write_archive(self.file.with_name("predictions.zip"), self.out, formats, classes, photos)
        left_out = len(self.photos) - len(photos)
        rest = f"; {left_out} left out: not searched for every class" if left_out else ""
        return f"{len(photos)} photos packed{rest}"

    def stop(self) -> str:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True
        return ""

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the overview."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.results.write_summary({})
