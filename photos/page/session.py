"""All that the user of the page has marked, found and decided, in a folder of results: a session, and its actions.

``page/session.json`` names photos, classes and sliders; what belongs to a photo is in its own files (``photo.py``).
"""

import itertools
import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from annotations.recognise import MASKS
from annotations.remarks import BACKGROUND, IGNORED
from annotations.results import ACCEPTED, REJECTED
from annotations.shapes import polygons_of
from photos.page.archive import Archive
from photos.page.background import Background, Work
from photos.page.drawing import BRUSH, OUTLINE, Mark, is_empty
from photos.page.kept import Kept, read_kept
from photos.page.open_photos import MAX_PHOTOS, OpenPhotos, counted
from photos.page.photo import MARKED, PAGE, Common, Photo, Rule
from photos.page.regions import part_to_remove, region_at, region_in_box
from photos.photo_files import check_photo, photos_in, read_photo
from photos.prediction import EVEN, file_word
from photos.results import FORMATS, Results, own_record
from photos.segmenter import Segmenter
from photos.supports import MAX_SHOTS, UNNAMED, MarkedPhoto, by_class, check_class_name, read_supports
from util.errors import UserError
from util.files import content_digest, lock, writable, write_atomically
from util.files.overlay import class_colour
from util.files.palette import IGNORE

MAX_CLASSES = 8  # the colours of more are alike
UPLOADS = "photos"  # folder
ACTIONS = (
    *("example", "open", "upload", "annotations", "remove"),
    *("add_class", "rename_class", "remove_class", "keep_base"),
    *("draw", "click", "box", "mark", "judge", "slide"),
    *("segment", "stop", "pack"),
)
DOWNLOAD = "predictions.zip"  # in the folder of the session


class Session:
    """The state of the page, in a folder of earlier work, of results, or a new one; an action returns a note."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.given = segmenter
        self.out = out
        self.file = out / PAGE / "session.json"
        results = Results(out, [])
        results.check_folder()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self.lock = threading.RLock()
        self.work = Background()
        self.renewed = 0  # number of the last change of what is not of one photo
        self.archive: Path | None = None  # the download
        kept = read_kept(self.file)
        self.common = Common(
            results=results,
            classes=[],
            network_rule=self._network_rule(),
            calibration=segmenter.calibration,
            rule=Rule(*kept.rule),
            numbers=itertools.count(time.time_ns() // 1000),  # larger after a restart
        )
        self.photos = OpenPhotos(self.common)
        self._add([Path(path) for path in kept.photos])
        records = (own_record(file) for file in sorted(out.glob("*.json")))
        self._add([Path(record["query"]) for record in records if record])
        names = dict.fromkeys(kept.classes)
        for photo in self.photos:
            names |= dict.fromkeys(photo.names)
        self.common.classes = [*names] or [UNNAMED]
        self.base: dict[str, Any] = {"base": kept.base}
        self.trained = self._number_of_trained_classes()
        self.keep_base(kept.keeps_base)

    def _network_rule(self) -> Rule:
        """Return the network's own rule of masks."""
        calibration = self.given.calibration
        if calibration is None:
            return Rule(EVEN, None)
        stated = self.given.decision.min_presence
        return Rule(calibration.own_threshold, min_presence=calibration.threshold if stated is None else stated)

    def _number_of_trained_classes(self) -> int:
        """Return how many classes the weights label without an example; 0 if they have no base classes."""
        with suppress(UserError):
            return len(self.given.without_classes(keep_base=True).classes)
        return 0

    def save(self) -> None:
        """Write what is in no photo's own files; the server does after each action."""
        photos = [str(photo.path) for photo in self.photos]
        kept = Kept(photos, self.common.classes, [*self.common.rule], **self.base)
        write_atomically(self.file, json.dumps(asdict(kept), indent=1))

    def state(self, since: int) -> dict[str, Any]:
        """Return what the browser shows, of the photos, by name, those that changed since a number.

        All are there where their list changed.
        """
        common = self.common
        whole = self.renewed >= since
        photos = sorted(self.photos, key=lambda photo: photo.name.casefold())
        return {
            "title": self._title(),
            "out": str(self.out),
            "now": next(common.numbers),
            "whole": whole,
            "formats": FORMATS,
            "rule": common.rule,
            "own": common.network_rule,
            "job": self.work.state,
            "note": self.work.note,
            "trained": self.trained,
            "archive": self.has_archive,
            "photos": [photo.row() for photo in photos if whole or photo.changed >= since],
            "classes": [[name, f"rgb{class_colour(value)}"] for value, name in enumerate(common.classes, 1)],
            **self.base,
        }

    @property
    def has_archive(self) -> bool:
        """Whether there is a download."""
        return self.archive is not None and self.archive.is_file()

    def _title(self) -> str:
        model = self.segmenter.model
        return f"{model.title}, {Path(model.source).name}"

    def _add(self, paths: Sequence[Path]) -> str:
        note = self.photos.add(paths)
        self.renewed = next(self.common.numbers)
        return note

    def _check_files(self, paths: Sequence[Path]) -> None:
        """Refuse (UserError) photos whose results would be written over photos, or over files of other programs."""
        self.common.results.names = self.common.classes
        self.common.results.check(paths, again=True)

    def open(self, path: str) -> str:
        """Add a photo or all photos of a folder on the server's machine; none is read."""
        if not path.strip():
            raise UserError("Open folder: enter the path of a folder or a photo on the server's machine")
        paths = photos_in([Path(path.strip()).expanduser()])
        known = [photo.path for photo in self.photos]
        self._check_files([*known, *self.photos.new(paths)])
        return self._add(paths)

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends."""
        path = self.out / UPLOADS / Path(name).name
        if self.photos.is_full:
            raise UserError(f"{path.name}: {MAX_PHOTOS} photos are open; remove some, or name another --out")
        if path.exists() or not self.photos.new([path]):
            raise UserError(f"{path.name}: a photo of this name is open already; rename it")
        self._check_files([path])
        write_atomically(path, content)
        try:
            check_photo(path)
        except UserError as error:
            path.unlink()
            raise UserError(str(error).replace(str(path), path.name)) from None
        return self._add([path])

    def example(self) -> str:
        """Add photos of coins, one of which is marked, and a photo without coins."""
        for photo in Path(__file__).with_name("example").iterdir():
            copy = self.out / UPLOADS / photo.name
            if not copy.exists():
                write_atomically(copy, photo.read_bytes())
        self.open(str(self.out / UPLOADS))
        coin = Mark(tool=BRUSH, value=self._value("coin"), radius=22, points=[[157, 50]])
        return self.draw("coins_1.jpg", [coin], self.photos["coins_1.jpg"].drawn)

    def annotations(self, path: str) -> str:
        """Make the photos of annotations marked photos, found beside them or by name in a folder that is open."""
        if not path.strip():
            raise UserError("Import annotations: enter the path of a file or folder on the server's machine")
        supports, notes = self._read_annotations(path.strip())
        for support in supports:
            self._lay(support)
        photos = {support.photo for support in supports}
        return "; ".join([counted(len(photos), "example photo"), *notes])

    def _read_annotations(self, path: str) -> tuple[list[MarkedPhoto], list[str]]:
        """Return the marked photos of annotations, and lines on what is not understood.

        The photos lie where the annotations say, else in a folder that is open. UserError: there are none; it is that
        of the first search.
        """
        notes: dict[str, None] = {}  # each line once
        errors: list[UserError] = []
        folders = dict.fromkeys(photo.path.parent for photo in self.photos)
        for folder in (None, *folders):
            try:
                supports, _ = read_supports([path], folder, shots=MAX_SHOTS, say=lambda line: notes.setdefault(line))
                check_photo(supports[0].photo)
                return supports, [*notes]
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _lay(self, marked: MarkedPhoto) -> None:
        """Make the photo of an annotation a marked photo, over what is marked on it already.

        UserError: the photo cannot be read, or another one of its name is open.
        """
        (support,) = self.given.without_classes().boxes_to_masks(None, [marked.read()])
        value = self._value(marked.name or UNNAMED)
        self._add([marked.photo])
        photo = self.photos[writable(marked.photo.name)]
        if content_digest(photo.path) != content_digest(marked.photo):
            raise UserError(f"{marked.photo}: {photo.path} is open, which has the same name; rename one")
        label = photo.label() if photo.is_marked else np.zeros_like(support.label)
        label[(support.label == IGNORE) & (label == 0)] = IGNORE
        label[support.label == 1] = value
        photo.lay(label)

    def _value(self, name: str) -> int:
        """Return the value of a class, which is added if the page does not have it."""
        if name not in self.common.classes:
            self.add_class(name)
        return self.common.classes.index(name) + 1

    def add_class(self, name: str) -> None:
        """Add a class, in place of the unnamed one where nothing is marked yet."""
        name = self._free_name(name)
        classes = self.common.classes
        if len({*classes} - {*self.base["base"]}) >= MAX_CLASSES:
            raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
        is_used = any(photo.names or photo.marks or photo.is_marked for photo in self.photos)
        if not is_used:
            classes = [known for known in classes if known != UNNAMED]
        self.common.classes = [*classes, name]

    def keep_base(self, on: bool) -> None:
        """Take the base classes of the weights into the next results, or leave them out."""
        self.segmenter = self.given.without_classes(on)
        self.renewed = next(self.common.numbers)
        names = [known.name for known in self.segmenter.classes]
        self.base = {"base": names or self.base["base"], "keeps_base": bool(names)}
        self.common.classes += [name for name in names if name not in self.common.classes]

    def _free_name(self, name: str, old: str = "") -> str:
        """Return a class name that no class but ``old`` has, nor its files."""
        name = check_class_name(name, "the class name")
        for known in (*BACKGROUND, *IGNORED, *self.common.classes):
            if name == known:
                raise UserError(f"{name}: this name is taken; give another one")
            if known != old and file_word(name) == file_word(known):
                raise UserError(f"{name}: its files would have the same names as those of '{known}'; give another name")
        return name

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class; results of the old name that have no verdict are to be made again."""
        self.work.check_idle()
        old = self.common.classes[value - 1]
        new = self._free_name(name, old)
        if old in self.base["base"] or self.photos.judged(old):
            raise UserError(
                f"{old}: cannot be renamed, since it is a base class or has a verdict; add '{new}' as a new class"
            )
        self.common.classes[value - 1] = new
        self.renewed = next(self.common.numbers)
        for photo in self.photos:
            if old in photo.names:
                photo.forget()
            if photo.is_marked:
                photo.mark()

    def remove_class(self, value: int) -> str:
        """Remove a class and its marks; results of it are to be made again.

        UserError: it is labelled without examples, or a result of it has a verdict, or work is under way.
        """
        self.work.check_idle()
        name = self.common.classes[value - 1]
        if self.base["keeps_base"] and name in self.base["base"]:
            raise UserError(f"{name}: is a trained class; untick 'Also label the {self.trained} trained classes' first")
        judged = self.photos.judged(name)
        if judged:
            raise UserError(
                f"{name}: its result on {judged[0].name} has a verdict; undo the verdict, then remove the class"
            )
        for photo in self.photos:
            if name in photo.names:
                photo.forget()
        remaining = [known for known in self.common.classes if known != name]
        self.common.classes = remaining or [UNNAMED]
        for photo in self.photos:
            photo.remove_class(value)
        self.renewed = next(self.common.numbers)
        return f"{name} is removed"

    def remove(self, photo: str) -> str:
        """Take a photo out of the session; its file and its result remain."""
        self.photos.remove(photo)
        self.renewed = next(self.common.numbers)
        return f"{photo} is removed"

    def draw(self, photo: str, marks: list[Mark], before: int) -> str:
        """Take marks in place of those with a number; on a photo without a result they make it a marked photo.

        A marked photo on which nothing is left is none any more.
        """
        target = self.photos[photo]
        if before != target.drawn:
            raise UserError(f"{photo}: was changed in another window; it is shown as it is now")
        target.draw(marks)
        target.drawn = target.changed = next(self.common.numbers)
        if target.names and not target.is_marked:
            return ""  # a correction
        if is_empty(target.label()):
            target.leave_examples()
            return f"{photo} is no example any more: its annotation is empty"
        return "" if target.is_marked else self.mark(photo)

    def mark(self, photo: str) -> str:
        """Make a photo with a mask a marked photo, or take that back."""
        example = self.photos[photo]
        note = ""
        if example.is_marked:
            example.unmark()
        elif is_empty(example.label()):
            raise UserError(
                f"{photo}: has no annotation; paint over the object, drag a box around it, or click points on it"
            )
        else:
            example.mark()
            note = f"{photo} is an example now: press Segment"
        example.drawn = example.changed = next(self.common.numbers)
        return note

    def click(self, photo: str, x: float, y: float, value: int, before: int) -> str:
        """Mark the object about a place as the network sees it; of class 0, remove the part of the mask there."""
        target = self.photos[photo]
        column, row = int(x), int(y)
        label = target.label()
        if value:
            part = region_at(self.given, read_photo(target.path), column, row)
        elif label[row, column] == 0:
            raise UserError("there is no mask to remove at this place")
        else:
            part = part_to_remove(label, column, row)
        return self._outline(target, part, value, before)

    def box(self, photo: str, points: list[list[float]], value: int, before: int) -> str:
        """Mark the object that the network finds in a box."""
        target = self.photos[photo]
        part = region_in_box(self.given, read_photo(target.path), points)
        return self._outline(target, part, value, before)

    def _outline(self, photo: Photo, inside: np.ndarray, value: int, before: int) -> str:
        """Mark a region (H, W) bool of a photo by its outlines."""
        marks = list(photo.marks)
        for outline in polygons_of(inside):
            marks.append(Mark(tool=OUTLINE, value=value, radius=0, points=outline.tolist()))
        return self.draw(photo.name, marks, before)

    def judge(self, photo: str, verdict: str, value: int) -> None:
        """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("").

        UserError: nothing was looked for on the photo, or on another file of its name.
        """
        target = self.photos[photo]
        name = self.common.classes[value - 1]
        self._check_judged(target, name, verdict)
        if verdict == ACCEPTED and not target.names:
            self._check_files([target.path])
            target.write(self.segmenter.without_classes().facts)
        else:
            target.write()
        chosen = target.names
        if verdict == REJECTED:
            chosen = [name]
        elif verdict == ACCEPTED:
            chosen = [known for known in target.names if known not in target.verdicts]
        target.judge(dict.fromkeys(chosen, verdict))
        target.touch()

    def _check_judged(self, photo: Photo, name: str, verdict: str) -> None:
        """Refuse (UserError) a verdict on a class of a photo that was not looked at in its present form."""
        if verdict == REJECTED and name not in photo.names:
            raise UserError(f"{photo.name}: {name} was not searched for; press Segment")
        if verdict == ACCEPTED and not (photo.names or photo.is_marked):
            raise UserError(f"{photo.name}: was not segmented and has no mask to accept; press Segment")
        if verdict and (photo.is_result_outdated or photo.is_mark_outdated):
            raise UserError(f"{photo.name}: its file was replaced; press Segment")

    def slide(self, threshold: float | None, min_presence: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self.common.rule = Rule(threshold, min_presence)
        for photo in self.photos:
            if photo.names and not photo.is_fixed:
                photo.touch()

    def segment(self, photo: str = "") -> None:
        """Segment the photos that are neither marked nor accepted by the marked photos, the named one first."""
        photos = sorted(self.photos, key=lambda known: known.name != photo)
        if not any(known.is_marked for known in photos):
            raise UserError("no photo is an example: open one that shows the object, and annotate it")
        outdated = [known.name for known in photos if known.is_mark_outdated]
        if outdated:
            raise UserError(f"{outdated[0]}: was replaced since it was annotated; press M, and annotate it again")
        self._check_files([known.path for known in photos])
        self.work.start("segmented", lambda: self._segmentation(photos))

    def _segmentation(self, photos: list[Photo]) -> Work:
        """Return the work of segmenting those of some photos that are neither fixed nor segmented by these examples."""
        supports, _ = read_supports([f"{MASKS}:{self.out / MARKED}"], shots=MAX_SHOTS)
        examples = by_class(supports, None)
        segmenter = self.segmenter.without_classes()
        base = [known.name for known in self.segmenter.classes]
        for name, class_supports in examples.items():
            if name not in base:
                segmenter.add(name, class_supports)
        facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

        def segment_photo(photo: Photo) -> None:
            prediction = segmenter(photo.path)
            with self.lock:
                if not photo.is_fixed:
                    photo.take(prediction, facts)

        without_example = [name for name in self.common.classes if name not in (*examples, *self.base["base"])]
        notes = [f"{name}: skipped, no photo is an example of it" for name in without_example]
        notes += self._forget_replaced(photos)
        waiting = [photo for photo in photos if not photo.is_fixed and photo.inputs != facts["inputs"]]
        return Work(waiting, segment_photo, self._write_summary, notes + segmenter.notes)

    def _forget_replaced(self, photos: list[Photo]) -> list[str]:
        """Remove the results of photos whose files were replaced, and return a note if there are any."""
        replaced = [photo for photo in photos if photo.is_result_outdated]
        for photo in replaced:
            with self.lock:
                photo.forget()
        if not replaced:
            return []
        return [f"{counted(len(replaced), 'photo')} replaced on disk, such as {replaced[0].name}"]

    def _write_summary(self) -> None:
        self.common.results.write_summary({})

    def pack(self, formats: Sequence[str]) -> None:
        """Write an archive of all results, and of marked photos, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        Results(self.out, self.common.classes, formats)  # refuses an unknown one
        outdated: list[Photo] = []
        current: list[Photo] = []
        for photo in self.photos:
            if photo.is_result_outdated or photo.is_mark_outdated:
                outdated.append(photo)
            elif photo.names or photo.is_marked:
                current.append(photo)
        if not current:
            raise UserError("nothing to download: annotate a photo, and press Segment")
        notes = [f"{photo.name}: skipped, its file was replaced; press Segment" for photo in outdated]
        archive = Archive(self.file.with_name(DOWNLOAD), formats, self.given.model.title)

        def add(photo: Photo) -> None:
            with self.lock, archive.removed_on_error():
                photo.write()
                archive.add(photo)

        def finish() -> None:
            with archive.removed_on_error():
                if not self.work.is_stopped:
                    archive.write()
                    self.archive = archive.path
            self._write_summary()

        self.work.start("packed", lambda: Work(current, add, finish, notes))

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the review of the results."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self._write_summary()
