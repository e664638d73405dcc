"""All that the user of the page has marked, found and decided, in a folder of results: a session, and its actions.

``page/session.json`` names photos, classes and sliders; what belongs to a photo is in its own files (``photo.py``).
"""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.episode import IGNORE
from util.errors import UserError
from util.evaluate.calibration import sigmoid
from util.files import kept_json, lock, write_atomically
from util.formats.annotations import BACKGROUND, IGNORED
from util.formats.recognise import MASKS
from util.formats.results import REJECTED
from util.formats.shapes import polygons_of
from util.page.background import Background, Work
from util.page.photo import BRUSH, MARKED, OUTLINE, PAGE, Mark, Photo, Rule
from util.page.regions import part_at, region_at, region_in_box
from util.parallel import attempt
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.prediction import EVEN, file_word
from util.predict.results import FORMATS, Results
from util.predict.segmenter import Segmenter
from util.predict.supports import MAX_SHOTS, UNNAMED, Marked, by_class, check_class_name, supports_in
from util.report.overlay import class_colour

MAX_CLASSES, MAX_PHOTOS = 8, 5000  # the colours of more classes are alike
UPLOADS = "photos"  # folder
ACTIONS = "example open upload annotations add_class rename_class keep_base remove draw click box mark judge slide "
ACTIONS += "segment stop pack"


class Session:
    """The state of the page, in a folder of earlier work, of results, or a new one; an action returns a note."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.given, self.out, self.file = segmenter, out, out / PAGE / "session.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self.numbers: Iterator[int] = itertools.count(time.time_ns() // 1000)  # larger after a restart
        self.lock, self.work, self.renewed = threading.RLock(), Background(), 0
        self.archive: Path | None = None  # the download
        known, least, kept = segmenter.calibration, segmenter.decision.min_score, kept_json(self.file)
        score = None if known is None else known.threshold if least is None else least
        # Of masks, the network's and the sliders'
        self.own, self.rule = Rule(sigmoid(known.offset) if known else EVEN, score), Rule(*kept.get("rule", ()))
        self.results, self.photos = Results(out, []), dict[str, Photo]()
        self._add([Path(path) for path in kept.get("photos", [])])
        self._add([Path(r["query"]) for r in map(kept_json, sorted(out.glob("*.json"))) if "query_file" in r])
        named = [*kept.get("classes", []), *(name for photo in self.photos.values() for name in photo.names)]
        self.classes, self.base = [*dict.fromkeys(named)] or [UNNAMED], {"base": kept.get("base", [])}
        self.keep_base(kept.get("keeps_base", False))

    def save(self) -> None:
        """Write what is in no photo's own files; the server does after each action."""
        photos = [str(photo.path) for photo in self.photos.values()]
        content = {"photos": photos, "classes": self.classes, "rule": self.rule, **self.base}
        write_atomically(self.file, json.dumps(content, indent=1))

    def state(self, since: int) -> dict[str, Any]:
        """Return what the browser shows, of the photos those that changed since a number; all where their list did."""
        model, whole = self.segmenter.model, self.renewed >= since
        title = f"{model.network.title}, {Path(model.weights.source).name}"
        facts = {"title": title, "out": str(self.out), "now": next(self.numbers), "whole": whole, "formats": FORMATS}
        facts |= {"rule": self.rule, "own": self.own, "job": self.work.state, "note": self.work.note}
        rows = [photo.row() for photo in self.photos.values() if whole or photo.changed >= since]
        classes = [[name, f"rgb{class_colour(value)}"] for value, name in enumerate(self.classes, 1)]
        return {**facts, "archive": bool(self.archive), "photos": rows, "classes": classes, **self.base}

    def photo(self, name: str) -> Photo:
        """Return a photo by the name of its file."""
        if name not in self.photos:
            raise UserError(f"{name}: this photo is no longer here")
        return self.photos[name]

    def _add(self, paths: Sequence[Path]) -> str:
        before, stems = len(self.photos), {photo.path.stem.casefold() for photo in self.photos.values()}
        for path in paths:
            if path.stem.casefold() not in stems and len(self.photos) < MAX_PHOTOS:
                stems.add(path.stem.casefold())
                self.photos[path.name] = Photo(path, self)
                self.photos[path.name].touch()
        self.renewed, added = next(self.numbers), len(self.photos) - before
        left = f", {len(paths) - added} left out: their names are here already, or {MAX_PHOTOS} photos are"
        return f"{added} photo(s) added{left if added < len(paths) else ''}"

    def open(self, path: str) -> str:
        """Add a photo or all photos of a folder on the server's machine; none is read."""
        if not path.strip():
            raise UserError("Open folder: name a folder or a photo on the machine of the server")
        return self._add(photos_in([Path(path.strip()).expanduser()]))

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends."""
        path = self.out / UPLOADS / Path(name).name
        if path.exists():
            raise UserError(f"{path.name}: a photo of this name is here already; rename it")
        write_atomically(path, content)
        return self.open(str(path))

    def example(self) -> str:
        """Add photos of coins, one of which is marked, and a photo without coins."""
        for photo in Path(__file__).with_name("example").iterdir():
            if not (copy := self.out / UPLOADS / photo.name).exists():
                write_atomically(copy, photo.read_bytes())
        self.open(str(self.out / UPLOADS))
        coin = Mark(tool=BRUSH, value=self._value("coin"), radius=22, points=[[157, 50]])
        return self.draw("coins_1.jpg", [coin], self.photo("coins_1.jpg").drawn)

    def annotations(self, path: str) -> str:
        """Make the photos of annotations marked photos, found beside them or by name in a folder that is open."""
        if not path.strip():
            raise UserError("Import annotations: name a file or folder on the machine of the server")
        said: dict[str, None] = {}  # of the annotations, each line once

        def find(folder: Path | None) -> list[Marked]:
            listed = supports_in([path.strip()], folder, shots=MAX_SHOTS, say=lambda line: said.setdefault(line))[0]
            check_photo(listed[0].photo)
            return listed

        tries = (attempt(find, folder) for folder in (None, *{photo.path.parent for photo in self.photos.values()}))
        first = next(tries)  # of the folder that the annotations name
        listed = next((found for found in itertools.chain([first], tries) if isinstance(found, list)), first)
        if isinstance(listed, UserError):
            raise listed
        for one in listed:
            (support,) = self.given.without_classes().unboxed(None, [one.read()])
            label, value = support.label, self._value(one.name or UNNAMED)
            self._add([one.photo])
            photo = self.photo(one.photo.name)
            whole = photo.label() if photo.is_marked else np.zeros_like(label)
            whole[(label == IGNORE) & (whole == 0)] = IGNORE
            whole[label == 1] = value
            photo.lay(whole)
        return "; ".join((f"{len({one.photo for one in listed})} marked photo(s)", *said))

    def _value(self, name: str) -> int:
        if name not in self.classes:
            self.add_class(name)
        return self.classes.index(name) + 1

    def add_class(self, name: str) -> None:
        """Add a class, in place of the unnamed one where nothing is marked yet."""
        name, photos = self._free_name(name), self.photos.values()
        is_used = any(photo.names or photo.marks or photo.is_marked for photo in photos)
        if len({*self.classes} - {*self.base["base"]}) >= MAX_CLASSES:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        self.classes = [*(known for known in self.classes if known != UNNAMED or is_used), name]

    def keep_base(self, on: bool) -> None:
        """Take the base classes of the weights into the next results, or leave them out."""
        self.segmenter, self.renewed = self.given.without_classes(on), next(self.numbers)
        names = [known.name for known in self.segmenter.classes]
        self.base = {"base": names or self.base["base"], "keeps_base": bool(names)}
        self.classes += [name for name in names if name not in self.classes]

    def _free_name(self, name: str, old: str = "") -> str:
        """Return a class name that no class but ``old`` has, nor its files."""
        name = check_class_name(name, "the class name")
        for known in (*BACKGROUND, *IGNORED, *self.classes):
            if name == known or (known != old and file_word(name) == file_word(known)):
                raise UserError(f"{name}: its files would have the names of those of '{known}'; give another name")
        return name

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class; results of the old name that have no verdict are to be made again."""
        old = self.classes[value - 1]
        new = self._free_name(name, old)
        if old in self.base["base"] or any(old in photo.names and photo.verdicts for photo in self.photos.values()):
            raise UserError(f"{old}: is a base class, or results of it are accepted; add '{new}' as a new class")
        self.classes[value - 1], self.renewed = new, next(self.numbers)
        for photo in self.photos.values():
            if old in photo.names:
                photo.forget()
            if photo.is_marked:
                photo.mark()

    def remove(self, photo: str) -> None:
        """Take a photo out of the session; its file and its result remain."""
        self.photo(photo).unmark()
        del self.photos[photo]
        self.renewed = next(self.numbers)

    def draw(self, photo: str, marks: list[Mark], before: int) -> str:
        """Take marks in place of those with a number; on a photo without a result they make it a marked photo."""
        one = self.photo(photo)
        if before != one.drawn:
            raise UserError(f"{photo}: was changed in another window; it is shown as it is now")
        one.draw(marks)
        if not marks and not one.names and one.is_marked and np.isin(one.label(), (0, IGNORE)).all():
            one.unmark()  # all is undone
        one.drawn = one.changed = next(self.numbers)
        return "" if one.names or one.is_marked or not marks else self.mark(photo)

    def mark(self, photo: str) -> str:
        """Make a photo with a mask a marked photo, or take that back."""
        one, was_marked = self.photo(photo), self.photo(photo).is_marked
        if not was_marked and np.isin(one.label(), (0, IGNORE)).all():
            raise UserError(f"{photo}: nothing is marked; paint over the object, or draw a box or points")
        (one.unmark if was_marked else one.mark)()
        one.drawn = one.changed = next(self.numbers)
        return "" if was_marked else f"{photo} is a marked photo now: press Segment"

    def click(self, photo: str, x: float, y: float, value: int, before: int) -> str:
        """Mark the object about a place as the network sees it; of class 0, remove the part of the mask there."""
        one, column, row = self.photo(photo), int(x), int(y)
        label = one.label()
        if value:
            part = region_at(self.given, read_photo(one.path), column, row)
        elif label[row, column] == 0:
            raise UserError("nothing is marked there")
        else:
            part = part_at(label == label[row, column], column, row)
        return self._outline(one, part, value, before)

    def box(self, photo: str, points: list[list[float]], value: int, before: int) -> str:
        """Mark the object that the network finds in a box."""
        one = self.photo(photo)
        return self._outline(one, region_in_box(self.given, read_photo(one.path), points), value, before)

    def _outline(self, one: Photo, inside: np.ndarray, value: int, before: int) -> str:
        marks = (Mark(tool=OUTLINE, value=value, radius=0, points=outline.tolist()) for outline in polygons_of(inside))
        return self.draw(one.path.name, [*one.marks, *marks], before)

    def judge(self, photo: str, verdict: str, value: int) -> None:
        """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("")."""
        one, name = self.photo(photo), self.classes[value - 1]
        one.write(None if one.names else self.segmenter.without_classes().facts)
        if verdict == REJECTED and name not in one.names:
            raise UserError(f"{photo}: no {name} was looked for; press Segment")
        chosen = [name] if verdict == REJECTED else [n for n in one.names if not (verdict and n in one.verdicts)]
        one.judge(dict.fromkeys(chosen, verdict))
        one.touch()

    def slide(self, threshold: float | None, min_score: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self.rule = Rule(threshold, min_score)
        for photo in self.photos.values():
            if photo.names and not photo.is_fixed:
                photo.touch()

    def segment(self, photo: str = "") -> None:
        """Segment the photos that are neither marked nor accepted by the marked photos, the named one first."""
        photos = sorted(self.photos.values(), key=lambda one: one.path.name != photo)
        if not any(one.is_marked for one in photos):
            raise UserError("no photo is marked: open one that shows the object, and mark the object")

        def prepare() -> Work:
            marked = by_class(supports_in([f"{MASKS}:{self.out / MARKED}"], shots=MAX_SHOTS)[0], None)
            segmenter, base = self.segmenter.without_classes(), [known.name for known in self.segmenter.classes]
            for name in (name for name in marked if name not in base):
                segmenter.add(name, marked[name])
            facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

            def segment_one(one: Photo) -> None:
                found = segmenter(one.path)
                with self.lock:
                    if not one.is_fixed:
                        one.take(found, facts)

            left = [n for n in self.classes if n not in (*marked, *self.base["base"])]
            left = [f"{n}: left out, since no photo of it is marked" for n in left]
            waiting = [one for one in photos if not one.is_fixed and one.inputs != facts["inputs"]]
            return waiting, segment_one, lambda: self.results.write_summary({}), left + segmenter.notes

        self.work.start("segmented", prepare)

    def pack(self, formats: Sequence[str]) -> None:
        """Write the results in some formats too, and an archive of the session beside its folder."""
        photos, self.archive = [one for one in self.photos.values() if one.names], None
        if not photos:
            raise UserError("nothing to download: press Segment, or accept marked photos")

        def write_one(one: Photo) -> None:
            with self.lock:
                one.write()

        def finish() -> None:
            names = dict.fromkeys(name for one in photos for name in one.names)
            Results(self.out, list(names), formats).write_formats([one.path for one in photos])
            self.results.write_summary({})
            self.archive = Path(shutil.make_archive(str(self.out), "zip", self.out))

        self.work.start("packed", lambda: (photos, write_one, finish, []))

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the review of the results."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.results.write_summary({})
