"""All that the user of the page has marked, found and decided, in a folder of results: a session, and its actions.

``page/session.json`` names photos, classes and sliders; what belongs to a photo is in its own files (``photo.py``).
"""

import itertools
import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.episode import IGNORE
from util.errors import UserError
from util.evaluate.calibration import sigmoid
from util.files import content_digest, lock, read_json, writable, write_atomically
from util.formats.recognise import MASKS
from util.formats.remarks import BACKGROUND, IGNORED
from util.formats.results import ACCEPTED, REJECTED
from util.formats.shapes import polygons_of
from util.page.archive import Archive
from util.page.background import Background, Work
from util.page.photo import BRUSH, MARKED, OUTLINE, PAGE, Common, Mark, Photo, Rule
from util.page.regions import part_at, region_at, region_in_box
from util.predict.photos import check_photo, photos_in, read_photo
from util.predict.prediction import EVEN, file_word
from util.predict.results import FORMATS, Results, own_record
from util.predict.segmenter import Segmenter
from util.predict.supports import MAX_SHOTS, UNNAMED, MarkedPhoto, by_class, check_class_name, read_supports
from util.report.overlay import class_colour
from util.typecheck import Misfit, convert

MAX_CLASSES, MAX_PHOTOS = 8, 5000  # the colours of more classes are alike
UPLOADS = "photos"  # folder
ACTIONS = "example open upload annotations add_class rename_class remove_class keep_base remove draw click box mark "
ACTIONS += "judge slide segment stop pack"
DOWNLOAD = "predictions.zip"  # in the folder of the session


@dataclass
class Kept:
    """The content of ``session.json``."""

    photos: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    rule: list[float | None] = field(default_factory=list, metadata={"length": (0, 2)})
    base: list[str] = field(default_factory=list)
    keeps_base: bool = False


def read_kept(file: Path) -> Kept:
    """Return the content of a session's file, of a new session where there is none; UserError if it is damaged."""
    if not file.exists():
        return Kept()
    fix = "remove it: marks and results stay, photos can be opened again"
    content = read_json(file, "the state of the page", fix)
    try:
        return convert(Kept, content, "the session")
    except Misfit as misfit:
        raise UserError(f"{file}: is damaged ({misfit}); {fix}") from None


def counted(number: int, what: str) -> str:
    """Return a number of things in words, such as ``1 photo`` or ``2 photos``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class Session:
    """The state of the page, in a folder of earlier work, of results, or a new one; an action returns a note."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.given, self.out, self.file = segmenter, out, out / PAGE / "session.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        numbers = itertools.count(time.time_ns() // 1000)  # larger after a restart
        self.lock, self.work, self.renewed = threading.RLock(), Background(), 0
        self.archive: Path | None = None  # the download
        kept = read_kept(self.file)
        rule = Rule(*kept.rule)
        self.common = Common(Results(out, []), [], self._networks_rule(), rule, numbers)
        self.photos: dict[str, Photo] = {}  # by their names in the page
        self._add([Path(path) for path in kept.photos])
        self._add([Path(record["query"]) for record in map(own_record, sorted(out.glob("*.json"))) if record])
        names = [*kept.classes, *(name for photo in self.photos.values() for name in photo.names)]
        self.common.classes = [*dict.fromkeys(names)] or [UNNAMED]
        self.base: dict[str, Any] = {"base": kept.base}
        self.trained = self._number_of_trained_classes()
        self.keep_base(kept.keeps_base)

    def _networks_rule(self) -> Rule:
        """Return the network's own rule of masks."""
        known, least = self.given.calibration, self.given.decision.min_score
        if known is None:
            return Rule(EVEN, None)
        return Rule(sigmoid(known.offset), known.threshold if least is None else least)

    def _number_of_trained_classes(self) -> int:
        """Return how many classes the weights label without an example; 0 if they have no base classes."""
        with suppress(UserError):
            return len(self.given.without_classes(keep_base=True).classes)
        return 0

    def save(self) -> None:
        """Write what is in no photo's own files; the server does after each action."""
        photos = [str(photo.path) for photo in self.photos.values()]
        kept = Kept(photos, self.common.classes, [*self.common.rule], **self.base)
        write_atomically(self.file, json.dumps(asdict(kept), indent=1))

    def state(self, since: int) -> dict[str, Any]:
        """Return what the browser shows, of the photos, by name, those that changed since a number.

        All are there where their list changed.
        """
        model, whole = self.segmenter.model, self.renewed >= since
        title = f"{model.network.title}, {Path(model.weights.source).name}"
        common = self.common
        facts = {"title": title, "out": str(self.out), "now": next(common.numbers), "whole": whole, "formats": FORMATS}
        facts |= {"rule": common.rule, "own": common.own, "job": self.work.state, "note": self.work.note}
        facts["trained"] = self.trained
        photos = sorted(self.photos.values(), key=lambda photo: photo.name.casefold())
        rows = [photo.row() for photo in photos if whole or photo.changed >= since]
        classes = [[name, f"rgb{class_colour(value)}"] for value, name in enumerate(self.common.classes, 1)]
        return {**facts, "archive": bool(self.archive), "photos": rows, "classes": classes, **self.base}

    def photo(self, name: str) -> Photo:
        """Return a photo by the name of its file."""
        if name not in self.photos:
            raise UserError(f"{name}: this photo is no longer open")
        return self.photos[name]

    def _add(self, paths: Sequence[Path]) -> str:
        new = self._new(paths)
        for path in new:
            photo = Photo(path, self.common)
            photo.touch()
            self.photos[photo.name] = photo
        self.renewed = next(self.common.numbers)
        note = f"{counted(len(new), 'photo')} added"
        if len(new) == len(paths):
            return note
        return f"{note}, {len(paths) - len(new)} skipped: their names are open already, or {MAX_PHOTOS} photos are"

    def _new(self, paths: Sequence[Path]) -> list[Path]:
        """Return the paths whose results would have names of their own, as many as the page takes."""
        stems, out = {photo.path.stem.casefold() for photo in self.photos.values()}, list[Path]()
        for path in paths:
            if path.stem.casefold() not in stems:
                stems.add(path.stem.casefold())
                out.append(path)
        return out[: MAX_PHOTOS - len(self.photos)]

    def _check_files(self, paths: Sequence[Path]) -> None:
        """Refuse (UserError) photos whose results would be written over photos, or over files of other programs."""
        self.common.results.names = self.common.classes
        self.common.results.check(paths, again=True)

    def open(self, path: str) -> str:
        """Add a photo or all photos of a folder on the server's machine; none is read."""
        if not path.strip():
            raise UserError("Open folder: enter the path of a folder or a photo on the server's machine")
        found = photos_in([Path(path.strip()).expanduser()])
        self._check_files([*(photo.path for photo in self.photos.values()), *self._new(found)])
        return self._add(found)

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends."""
        path = self.out / UPLOADS / Path(name).name
        if len(self.photos) >= MAX_PHOTOS:
            raise UserError(f"{path.name}: {MAX_PHOTOS} photos are open; remove some, or name another --out")
        if path.exists() or not self._new([path]):
            raise UserError(f"{path.name}: a photo of this name is open already; rename it")
        self._check_files([path])
        write_atomically(path, content)
        return self._add([path])

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
            raise UserError("Import annotations: enter the path of a file or folder on the server's machine")
        said: dict[str, None] = {}  # of the annotations, each line once
        found = self._marked_by(path.strip(), said)
        for marked in found:
            self._lay(marked)
        return "; ".join((counted(len({marked.photo for marked in found}), "example photo"), *said))

    def _marked_by(self, path: str, said: dict[str, None]) -> list[MarkedPhoto]:
        """Return the marked photos of annotations; the photos lie where these say, else in a folder that is open.

        ``said`` takes each line on what is not understood. UserError: there are none; it is that of the first search.
        """
        errors = list[UserError]()
        for folder in (None, *dict.fromkeys(photo.path.parent for photo in self.photos.values())):
            try:
                found, _ = read_supports([path], folder, shots=MAX_SHOTS, say=lambda line: said.setdefault(line))
                check_photo(found[0].photo)
                return found
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _lay(self, marked: MarkedPhoto) -> None:
        """Make the photo of an annotation a marked photo, over what is marked on it already.

        UserError: the photo cannot be read, or another one of its name is open.
        """
        (support,) = self.given.without_classes().boxes_to_masks(None, [marked.read()])
        label, value = support.label, self._value(marked.name or UNNAMED)
        self._add([marked.photo])
        photo = self.photo(writable(marked.photo.name))
        if content_digest(photo.path) != content_digest(marked.photo):
            raise UserError(f"{marked.photo}: {photo.path} is open, which has the same name; rename one")
        whole = photo.label() if photo.is_marked else np.zeros_like(label)
        whole[(label == IGNORE) & (whole == 0)] = IGNORE
        whole[label == 1] = value
        photo.lay(whole)

    def _value(self, name: str) -> int:
        if name not in self.common.classes:
            self.add_class(name)
        return self.common.classes.index(name) + 1

    def add_class(self, name: str) -> None:
        """Add a class, in place of the unnamed one where nothing is marked yet."""
        name, photos = self._free_name(name), self.photos.values()
        is_used = any(photo.names or photo.marks or photo.is_marked for photo in photos)
        if len({*self.common.classes} - {*self.base["base"]}) >= MAX_CLASSES:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        self.common.classes = [*(known for known in self.common.classes if known != UNNAMED or is_used), name]

    def keep_base(self, on: bool) -> None:
        """Take the base classes of the weights into the next results, or leave them out."""
        self.segmenter, self.renewed = self.given.without_classes(on), next(self.common.numbers)
        names = [known.name for known in self.segmenter.classes]
        self.base = {"base": names or self.base["base"], "keeps_base": bool(names)}
        self.common.classes += [name for name in names if name not in self.common.classes]

    def _free_name(self, name: str, old: str = "") -> str:
        """Return a class name that no class but ``old`` has, nor its files."""
        name = check_class_name(name, "the class name")
        for known in (*BACKGROUND, *IGNORED, *self.common.classes):
            if name == known or (known != old and file_word(name) == file_word(known)):
                raise UserError(f"{name}: its files would have the names of those of '{known}'; give another name")
        return name

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class; results of the old name that have no verdict are to be made again."""
        self.work.check_idle()
        old = self.common.classes[value - 1]
        new = self._free_name(name, old)
        if old in self.base["base"] or any(old in photo.names and photo.verdicts for photo in self.photos.values()):
            raise UserError(f"{old}: is a base class, or results of it are accepted; add '{new}' as a new class")
        self.common.classes[value - 1], self.renewed = new, next(self.common.numbers)
        for photo in self.photos.values():
            if old in photo.names:
                photo.forget()
            if photo.is_marked:
                photo.mark()

    def remove_class(self, value: int) -> str:
        """Remove a class and its marks; results of it are to be made again.

        UserError: it is labelled without examples, or a result of it has a verdict, or work is under way.
        """
        self.work.check_idle()
        name, photos = self.common.classes[value - 1], self.photos.values()
        if self.base["keeps_base"] and name in self.base["base"]:
            raise UserError(f"{name}: is a trained class; untick 'Also label the {self.trained} trained classes' first")
        if judged := [photo.name for photo in photos if name in photo.names and photo.verdicts]:
            raise UserError(f"{name}: its result on {judged[0]} has a verdict; undo the verdict, then remove the class")
        for photo in photos:
            if name in photo.names:
                photo.forget()
        left = [known for known in self.common.classes if known != name]
        self.common.classes = left or [UNNAMED]
        for photo in photos:
            photo.remove_class(value)
        self.renewed = next(self.common.numbers)
        return f"{name} is removed"

    def remove(self, photo: str) -> str:
        """Take a photo out of the session; its file and its result remain."""
        self.photo(photo).unmark()
        del self.photos[photo]
        self.renewed = next(self.common.numbers)
        return f"{photo} is removed"

    def draw(self, photo: str, marks: list[Mark], before: int) -> str:
        """Take marks in place of those with a number; on a photo without a result they make it a marked photo."""
        one = self.photo(photo)
        if before != one.drawn:
            raise UserError(f"{photo}: was changed in another window; it is shown as it is now")
        one.draw(marks)
        if not marks and not one.names and one.is_marked and np.isin(one.label(), (0, IGNORE)).all():
            one.unmark()  # all is undone
        one.drawn = one.changed = next(self.common.numbers)
        return "" if one.names or one.is_marked or not marks else self.mark(photo)

    def mark(self, photo: str) -> str:
        """Make a photo with a mask a marked photo, or take that back."""
        one, was_marked = self.photo(photo), self.photo(photo).is_marked
        if not was_marked and np.isin(one.label(), (0, IGNORE)).all():
            raise UserError(f"{photo}: nothing is marked; paint over the object, draw a box, or set points")
        (one.unmark if was_marked else one.mark)()
        one.drawn = one.changed = next(self.common.numbers)
        return "" if was_marked else f"{photo} is an example now: press Segment"

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
        return self.draw(one.name, [*one.marks, *marks], before)

    def judge(self, photo: str, verdict: str, value: int) -> None:
        """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("").

        UserError: nothing was looked for on the photo, or on another file of its name.
        """
        one, name = self.photo(photo), self.common.classes[value - 1]
        if verdict == REJECTED and name not in one.names:
            raise UserError(f"{photo}: {name} was not searched for; press Segment")
        if verdict == ACCEPTED and not (one.names or one.is_marked):
            raise UserError(f"{photo}: was not segmented and has no mask to accept; press Segment")
        if verdict and (one.is_result_outdated or one.is_mark_outdated):
            raise UserError(f"{photo}: its file was replaced; press Segment")
        if verdict == ACCEPTED and not one.names:
            self._check_files([one.path])
            one.write(self.segmenter.without_classes().facts)
        else:
            one.write()
        chosen = [name] if verdict == REJECTED else [n for n in one.names if not (verdict and n in one.verdicts)]
        one.judge(dict.fromkeys(chosen, verdict))
        one.touch()

    def slide(self, threshold: float | None, min_score: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self.common.rule = Rule(threshold, min_score)
        for photo in self.photos.values():
            if photo.names and not photo.is_fixed:
                photo.touch()

    def segment(self, photo: str = "") -> None:
        """Segment the photos that are neither marked nor accepted by the marked photos, the named one first."""
        photos = sorted(self.photos.values(), key=lambda one: one.name != photo)
        if not any(one.is_marked for one in photos):
            raise UserError("no photo is an example: open one that shows the object, and mark the object")
        if outdated := [one.name for one in photos if one.is_mark_outdated]:
            raise UserError(f"{outdated[0]}: was replaced since it was marked; press M, and mark the object again")
        self._check_files([one.path for one in photos])

        def prepare() -> Work:
            marked = by_class(read_supports([f"{MASKS}:{self.out / MARKED}"], shots=MAX_SHOTS)[0], None)
            segmenter, base = self.segmenter.without_classes(), [known.name for known in self.segmenter.classes]
            for name in (name for name in marked if name not in base):
                segmenter.add(name, marked[name])
            facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

            def segment_one(one: Photo) -> None:
                found = segmenter(one.path)
                with self.lock:
                    if not one.is_fixed:
                        one.take(found, facts)

            unmarked = [name for name in self.common.classes if name not in (*marked, *self.base["base"])]
            notes = [f"{name}: skipped, no photo is an example of it" for name in unmarked]
            replaced = [one for one in photos if one.is_result_outdated]
            for one in replaced:
                with self.lock:
                    one.forget()
            if replaced:
                notes.append(f"{counted(len(replaced), 'photo')} replaced on disk, such as {replaced[0].name}")
            waiting = [one for one in photos if not one.is_fixed and one.inputs != facts["inputs"]]
            return waiting, segment_one, lambda: self.common.results.write_summary({}), notes + segmenter.notes

        self.work.start("segmented", prepare)

    def pack(self, formats: Sequence[str]) -> None:
        """Write an archive of all results, and of marked photos, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        Results(self.out, self.common.classes, formats)  # refuses an unknown one
        photos = [one for one in self.photos.values() if one.names or one.is_marked]
        outdated = [one for one in photos if one.is_result_outdated or one.is_mark_outdated]
        current = [one for one in photos if one not in outdated]
        if not current:
            raise UserError("nothing to download: mark photos, and press Segment")
        notes = [f"{one.name}: skipped, its file was replaced; press Segment" for one in outdated]
        archive = Archive(self.file.with_name(DOWNLOAD), formats, self.given.model.network.title)

        def add(one: Photo) -> None:
            with self.lock, archive.removed_on_error():
                one.write()
                archive.add(one)

        def finish() -> None:
            with archive.removed_on_error():
                if not self.work.is_stopped:
                    archive.write()
                    self.archive = archive.path
            self.common.results.write_summary({})

        self.work.start("packed", lambda: (current, add, finish, notes))

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the review of the results."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.common.results.write_summary({})
