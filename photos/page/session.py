"""The session of a page: its actions, which change the state, and the files that follow it.

Each action runs alone (``lock``), and what it changes passes through ``_take``, which alone writes.
"""

import shlex
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotations.results import ACCEPTED, REJECTED
from annotations.shapes import polygons_of
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import UNNAMED, Example
from photos.page import kept
from photos.page import state as changes
from photos.page.archive import Archive
from photos.page.background import Background, Work
from photos.page.drawing import BOX, BRUSH, OUTLINE, Edit, checked_edits
from photos.page.files import EXAMPLES, PAGE, Files, shown_in
from photos.page.regions import part_to_remove, region_at, region_in_box
from photos.page.segmentation import found_line, is_waiting, photos_of, with_examples
from photos.page.state import MAX_PHOTOS, Photo, Rule, State, Step, forgotten
from photos.photo_files import photos_in, read_photo
from photos.prediction import Prediction, at_most, file_facts
from photos.results import FORMATS, Results
from photos.segmenter import Segmenter
from photos.support_check import for_materials, material_hint
from util.files import LONG_NAME, content_digest, lock, writable, write_atomically
from util.files.errors import UserError
from util.files.images import header_of, read_image, upright_size, write_mask
from util.files.overlay import class_colour
from util.files.palette import IGNORE

UPLOADS = "photos"  # folder
DOWNLOAD = "predictions.zip"  # in the folder of the session


class Session:
    """A page's session in a folder of earlier work, of results, or a new one; actions return notes."""

    ACTIONS = (
        *("samples", "open", "upload", "upload_annotations", "annotations", "remove"),
        *("add_class", "rename_class", "remove_class"),
        *("draw", "click", "box", "clear", "undo", "redo", "use_as_example"),
        *("judge", "slide", "segment", "stop", "pack"),
    )

    def __init__(self, segmenter: Segmenter, out: Path, is_material: bool = False):
        self.segmenter = segmenter
        self.is_material = is_material  # whether the classes are materials, of ``support_check.for_materials``
        self.out = out
        self.lock = threading.RLock()
        self.archive: Path | None = None  # the download
        self.errors: dict[str, str] = {}  # why a photo could not be read, by its name
        self.changed: dict[str, int] = {}  # number of the last change of a photo, by its name
        self.renewed = 0  # number of the last change of what is not of one photo
        self.number = time.time_ns() // 1000  # of the last change; larger after a restart
        results = Results(out, [])
        results.check_folder()
        self.file = out / PAGE / "session.json"
        self.imported = out / PAGE / "imported"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self.files = Files(results, segmenter)
        self.work = Background(self.note_error)
        self.state = kept.read_state(self.file, self.files, self.errors)
        self.renew()

    # The state, and the files that follow it

    def touch(self, *names: str) -> None:
        """Note a change of photos."""
        self.number += 1
        self.changed |= dict.fromkeys(names, self.number)

    def renew(self) -> None:
        """Note a change of all."""
        self.touch(*self.state.photos)
        self.renewed = self.number

    def note_error(self, name: str, error: str) -> None:
        """Note why a photo cannot be read, "" where it can."""
        if error != self.errors.get(name, ""):
            self.errors[name] = error
            self.touch(name)

    def _take(self, after: State) -> None:
        """Make a state the present one: write it, and the files of the photos that it changes."""
        before, self.state = self.state, after
        kept.write_state(self.file, after)
        for name, photo in after.photos.items():
            earlier = before.photos.get(name)
            if earlier is not None and earlier is not photo:
                self._write(earlier, name)
        for name in before.photos.keys() - after.photos.keys():
            self.files.write_example(after, replace(before.photos[name], taught=[]))
        if before.classes != after.classes or [*before.photos] != [*after.photos]:
            self.renew()
        elif before.rule != after.rule:
            loose = [name for name, photo in after.photos.items() if photo.found and not photo.is_fixed]
            self.touch(*loose)

    def _write(self, before: Photo, name: str) -> None:
        """Write the result, the verdicts and the example of a photo that was changed."""
        photo = self.state.photos[name]
        if before.found and not photo.found:
            self.files.results.judge(self.files.of_result(before, ())[0], dict.fromkeys(before.names, ""))
            self.files.of_result(before, ())[0].unlink(missing_ok=True)
        is_first = photo.found is None and bool(photo.verdicts)
        if is_first or before.rejected != photo.rejected or not self.files.is_current(self.state, photo):
            self.write_result(name)
        photo = self.state.photos[name]
        if before.verdicts or photo.verdicts:
            self.files.write_verdicts(photo)
        self.files.write_example(self.state, photo)
        self.touch(name)

    def write_result(self, name: str) -> None:
        """Write the result of a photo as it is now."""
        photo = self.files.keep_beneath(self.state.photos[name])
        facts = {} if photo.found else self.segmenter.without_classes().facts
        try:
            found = self.files.write_result(self.state, photo, facts)
        except BaseException:
            self._keep(replace(photo, found=self.files.found(photo)))
            raise
        self._keep(replace(photo, found=found))
        self.files.write_verdicts(self.state.photos[name])

    def take_result(self, photo: Photo, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write what the network found on a photo; earlier edits lie over it, and what is rejected remains so."""
        found = self.files.write_prediction(photo, prediction, facts)
        self._keep(replace(photo, found=found, beneath=None))
        if photo.rejected or not self.files.is_current(self.state, self.state.photos[photo.name]):
            self.write_result(photo.name)
        self.files.write_verdicts(self.state.photos[photo.name])

    def change(self, name: str, function: Callable[[Photo], Photo]) -> None:
        """Change a photo."""
        self._take(replace(self.state, photos={**self.state.photos, name: function(self.state.photo(name))}))

    def _keep(self, photo: Photo) -> None:
        """Keep what became of a photo's files, which nothing else follows."""
        self.state = replace(self.state, photos={**self.state.photos, photo.name: photo})
        self.touch(photo.name)
        kept.write_state(self.file, self.state)

    def label(self, name: str, state: State | None = None) -> np.ndarray:
        """Return the mask of a photo with the classes that are rejected, (H, W) uint8."""
        state = state or self.state
        return self.files.label(state, state.photo(name), is_judged=False)

    # The browser's view of the state

    def view(self, since: int) -> dict[str, Any]:
        """Return what the browser shows, of the photos, by name, those that changed since a number.

        All are there where their list changed.
        """
        state = self.state
        whole = self.renewed >= since
        photos = sorted(state.photos.values(), key=lambda photo: photo.name.casefold())
        now, self.number = self.number, self.number + 1
        return {
            "about": self._about(),
            "out": str(self.out),
            "now": now + 1,
            "whole": whole,
            "formats": FORMATS,
            "rule": [state.rule.threshold, state.rule.min_presence],
            "network_rule": [self.files.network_rule.threshold, self.files.network_rule.min_presence],
            "job": self.work.state,
            "note": self.work.note,
            "archive": self.has_archive,
            "photos": [self.row(photo) for photo in photos if whole or self.changed.get(photo.name, 0) >= since],
            "classes": [[i, name, f"rgb{class_colour(i)}"] for i, name in enumerate(state.classes, 1) if name],
        }

    def row(self, photo: Photo) -> dict[str, Any]:
        """Return what the browser shows of a photo in the grid."""
        return {
            "name": photo.name,
            "found": bool(photo.found and photo.found.names),
            "example": photo.teaches,
            "fixed": photo.is_fixed,
            "presence": photo.found.presence if photo.found else {},
            "share": photo.found.share if photo.found else {},
            "verdicts": photo.verdicts,
            "error": self.errors.get(photo.name, ""),
            "changed": self.changed.get(photo.name, 0),
            "fresh": self.files.is_current(self.state, photo),
        }

    def _about(self) -> dict[str, str]:
        """Return what the weights are, what they can do with other objects, and a command that does better."""
        model = self.segmenter.model
        folders = [str(Path(photo.path).parent) for photo in self.state.photos.values()]
        query = max(folders, key=folders.count, default="my_photos")
        options = {"--supports": self.out / EXAMPLES, "--query": query, "--out": f"{self.out}_gfsam"}
        words = " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options.items())
        is_measured = bool(model.outlook(None))
        return {
            "title": f"{model.title}, {Path(model.source).name}",
            "outlook": model.outlook(None).partition(";")[0],
            "command": f"python predict.py --config 'split0 pascal --model gfsam' {words}" if is_measured else "",
        }

    def scene(self, name: str) -> dict[str, int]:
        """Return the size of a photo."""
        height, width = upright_size(*header_of(Path(self.state.photo(name).path)))
        return {"height": height, "width": width}

    def picture(self, name: str, side: int) -> np.ndarray:
        """Return a photo with at most ``side`` pixels on a side, (h, w, 3) uint8."""
        path = self.state.photo(name).path
        try:
            return at_most(read_photo(path), side)
        except UserError as error:
            line = str(error).replace(path, name)
            self.note_error(name, line)
            raise UserError(line) from None

    @property
    def has_archive(self) -> bool:
        """Whether there is a download."""
        return self.archive is not None and self.archive.is_file()

    # Photos

    def open(self, path: str) -> str:
        """Add a photo or all photos of a folder on the server's machine; none is read."""
        if not path.strip():
            raise UserError("Open folder: enter the path of a folder or a photo on the server's machine")
        return self._add(photos_in([Path(path.strip()).expanduser()]))

    def _add(self, paths: Sequence[Path]) -> str:
        """Open photos; UserError: their results would be written over photos, or over files of other programs."""
        after = changes.add_photos(self.state, [Photo(str(path)) for path in paths])
        self.files.results.names = self.state.names
        self.files.results.check([Path(photo.path) for photo in after.photos.values()], again=True)
        added = len(after.photos) - len(self.state.photos)
        self._take(after)
        note = f"{photos_of(added)} added"
        skipped = len(paths) - added
        return f"{note}, {skipped} skipped: photos of these names are open, or {MAX_PHOTOS} in all" if skipped else note

    def upload(self, name: str, content: bytes) -> str:
        """Add a photo that the browser sends; one that is open already is left out."""
        file_name = _file_name(name)
        if len(self.state.photos) >= MAX_PHOTOS:
            raise UserError(f"{file_name}: {MAX_PHOTOS} photos are open; remove some, or name another --out")
        for photo in self.state.photos.values():
            path = Path(photo.path)
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
                raise UserError(f"{file_name}: left out, {photo.name} is the same photo")
        read_image(Path(file_name), content)
        path = self.out / UPLOADS / self._new_name(Path(file_name))
        write_atomically(path, content)
        return self._add([path])

    def _new_name(self, name: Path) -> str:
        """Return a name for an upload that no photo has, of another kind neither."""
        taken = {Path(photo.path).stem.casefold() for photo in self.state.photos.values()}
        taken |= {path.stem.casefold() for path in (self.out / UPLOADS).glob("*")}
        stem, number = name.stem, 2
        while stem.casefold() in taken:
            stem, number = f"{name.stem}_{number}", number + 1
        return f"{stem}{name.suffix}"

    def samples(self) -> str:
        """Add photos of coins, one of which is an example, and a photo without coins."""
        for photo in Path(__file__).with_name("example").iterdir():
            copy = self.out / UPLOADS / photo.name
            if not copy.exists():
                write_atomically(copy, photo.read_bytes())
        self.open(str(self.out / UPLOADS))
        if "coin" not in self.state.names:
            self.add_class("coin")
        value = self.state.classes.index("coin") + 1
        return self._draw("coins_1.jpg", Step([Edit(tool=BRUSH, value=value, radius=22, points=[[157, 50]])]))

    def remove(self, photo: str) -> str:
        """Take a photo out of the session; its file and its result remain."""
        self._take(changes.remove_photo(self.state, photo))
        return f"{photo} is removed"

    # Annotations of other programs

    def upload_annotations(self, name: str, content: bytes) -> None:
        """Keep a file of annotations that the browser sends, by its path in their folder, for ``annotations``."""
        parts = [_file_name(part) for part in name.split("/") if part]
        write_atomically(self.imported.joinpath(*parts), content)

    def annotations(self, path: str = "") -> str:
        """Make the photos of annotations examples; they lie beside them, or in a folder that is open.

        Args:
            path: on the server's machine; "" for what was uploaded.
        """
        uploaded = not path.strip()
        if uploaded and not self.imported.is_dir():
            raise UserError("Import annotations: enter the path of a file or folder on the server's machine")
        source = _only_entry(self.imported) if uploaded else Path(path.strip()).expanduser()
        try:
            examples, notes = self._read_annotations(str(source))
            after = self.state
            for example in examples:
                after = self._with_example(after, example)
        except UserError as error:
            raise UserError(str(error).replace(f"{self.imported}/", "")) from None
        finally:
            if uploaded:
                shutil.rmtree(self.imported)
        self._take(after)
        photos = {example.photo for example in examples}
        return "; ".join([f"examples on {photos_of(len(photos))}", *notes])

    def _read_annotations(self, path: str) -> tuple[list[Example], list[str]]:
        """Return the examples in annotations, and lines on what is not understood.

        The photos lie where the annotations say, else in a folder that is open. UserError: there are none; it is that
        of the first search.
        """
        notes: dict[str, None] = {}  # each line once
        errors: list[UserError] = []
        folders = dict.fromkeys(Path(photo.path).parent for photo in self.state.photos.values())
        for folder in (None, *folders):
            try:
                examples, _ = read_examples([path], folder, shots=MAX_SHOTS, say=lambda line: notes.setdefault(line))
                header_of(examples[0].photo)
                return examples, [line.replace(f"{self.imported}/", "") for line in notes]
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _with_example(self, state: State, example: Example) -> State:
        """Return the state with an example, over what its photo teaches already.

        UserError: the photo cannot be read, or another one of its name is open.
        """
        (support,) = self.segmenter.without_classes().boxes_to_masks(None, [example.read()])
        class_name = example.name or UNNAMED
        if class_name not in state.names:
            state = changes.add_class(state, class_name)
        state = changes.add_photos(state, [Photo(str(example.photo))])
        photo = state.photo(writable(example.photo.name))
        if content_digest(Path(photo.path)) != content_digest(example.photo):
            raise UserError(f"{example.photo}: {photo.path} is open, which has the same name; rename one")
        label = self.files.label(state, photo) if photo.teaches else np.zeros_like(support.label)
        label[(support.label == IGNORE) & (label == 0)] = IGNORE
        label[support.label == 1] = state.classes.index(class_name) + 1
        write_mask(self.files.beneath(photo), label)
        laid = {"beneath": list(state.classes), "steps": [], "undone": [], "rule": Rule()}
        return changes.with_photo(
            state, photo.name, **laid, taught=shown_in(state, label), annotated=file_facts(Path(photo.path))
        )

    # Classes

    def add_class(self, name: str) -> None:
        """Add a class."""
        self._take(changes.add_class(self.state, name))

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class."""
        self.work.check_idle()
        self._take(changes.rename_class(self.state, value, name))

    def remove_class(self, value: int) -> str:
        """Remove a class."""
        self.work.check_idle()
        name = self.state.class_of(value)
        self._take(changes.remove_class(self.state, value))
        return f"{name} is removed"

    # Edits

    def draw(self, photo: str, edit: Edit) -> str:
        """Draw on a photo; where that is no correction it becomes an example."""
        return self._draw(photo, Step(checked_edits([edit])))

    def _draw(self, name: str, step: Step) -> str:
        for edit in step.edits:
            if edit["value"]:
                self.state.class_of(edit["value"])
        photo = self.state.photo(name)
        return self._redrawn(name, changes.draw(self.state, name, step, file_facts(Path(photo.path))))

    def _redrawn(self, name: str, after: State) -> str:
        """Take a state in which a photo is drawn anew, and return a note on what it teaches."""
        before = self.state.photo(name)
        shown = shown_in(after, self.label(name, after))
        after = changes.teach(after, name, changes.drawn_on(after.photo(name), before), shown)
        self._take(after)
        return self._taught(before, name)

    def _taught(self, before: Photo, name: str) -> str:
        """Return a note on what a photo teaches, and did not before."""
        teaches = self.state.photo(name).teaches
        new = [known for known in teaches if known not in before.teaches]
        if new:
            label = self.label(name)
            shares = [(label == self.state.classes.index(known) + 1).mean() for known in new]
            sizes = [f"{known} ({percent(share)} of it)" for known, share in zip(new, shares, strict=True)]
            return f"{name} is an example of {' and '.join(sizes)} now: press Segment"
        return f"{name} is no example any more" if before.teaches and not teaches else ""

    def undo(self, photo: str) -> str:
        """Take the last step on a photo back."""
        return self._redrawn(photo, changes.undo(self.state, photo))

    def redo(self, photo: str) -> str:
        """Draw again what was taken back last."""
        return self._redrawn(photo, changes.redo(self.state, photo))

    def clear(self, photo: str) -> str:
        """Remove all edits of a photo."""
        if not self.state.photo(photo).edits:
            raise UserError("nothing is left to clear on this photo")
        return self._draw(photo, Step(instead="all"))

    def use_as_example(self, photo: str, value: int) -> str:
        """Make a photo an example of a class, and of those that are accepted on it; or take all of that back."""
        before = self.state.photo(photo)
        shown = shown_in(self.state, self.files.label(self.state, before))
        self._take(changes.use_as_example(self.state, photo, value, shown))
        return self._taught(before, photo)

    def click(self, photo: str, x: float, y: float, value: int) -> str:
        """Outline the object about a place as the network sees it; of class 0, remove the part of the mask there.

        A click in the box that was drawn last refines what was found in it.
        """
        target = self.state.photo(photo)
        label = self.label(photo)
        height, width = label.shape
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"{photo}: this place is not on the photo; click on it")
        column, row = int(x), int(y)
        if not value:
            if label[row, column] == 0:
                raise UserError("there is no mask to remove at this place")
            return self._draw(photo, Step(_outlines(part_to_remove(label, column, row), 0)))
        self.state.class_of(value)
        part = region_at(self.segmenter, read_photo(target.path), column, row)
        box = _box_about(target, value, x, y)
        if box is None:
            return self._draw(photo, Step(_outlines(part, value)))
        (left, top), (right, bottom) = np.sort(np.array(box), axis=0).round().astype(int)
        in_box = np.zeros_like(part)
        in_box[max(top, 0) : bottom, max(left, 0) : right] = True
        return self._draw(photo, Step(_outlines(part & in_box, value), "last", box))

    def box(self, photo: str, points: list[list[float]], value: int) -> str:
        """Outline the object that the network finds in a box."""
        target = self.state.photo(photo)
        self.state.class_of(value)
        (box,) = checked_edits([Edit(tool=BOX, value=value, radius=0, points=points)])
        part = region_in_box(self.segmenter, read_photo(target.path), box["points"])
        return self._draw(photo, Step(_outlines(part, value), box=box["points"]))

    # The review

    def judge(self, photo: str, verdict: str, value: int) -> str:
        """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("")."""
        after = changes.judge(self.state, photo, verdict, value)
        if after is self.state:
            return f"{photo}: has no verdict"
        target = self.state.photo(photo)
        if verdict and self.files.is_outdated(target):
            raise UserError(f"{photo}: its file was replaced; press Segment")
        self._take(after)
        words = {ACCEPTED: "is accepted", REJECTED: f"shows no {self.state.class_of(value)}", "": "is to be reviewed"}
        return f"{photo} {words[verdict]}"

    def slide(self, threshold: float | None, min_presence: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self._take(replace(self.state, rule=Rule(threshold, min_presence)))

    # Work on many photos

    def segment(self, photo: str = "") -> None:
        """Segment the photos that are neither examples nor accepted by the examples, the named one first."""
        photos = self.state.photos
        if not any(known.teaches for known in photos.values()):
            raise UserError("no photo is an example: open one that shows the object, and annotate it")
        for known in photos.values():
            if self.files.is_outdated(known, of_result=False):
                raise UserError(f"{known.name}: was replaced since it was annotated; press M, and annotate it again")
        self.files.results.names = self.state.names
        self.files.results.check([Path(known.path) for known in photos.values()], again=True)
        names = sorted(photos, key=lambda name: name != photo)
        self.work.start("segmented", lambda: self._segmentation(names))

    def _segmentation(self, photos: Sequence[str]) -> Work:
        """Return the work of segmenting those of some photos that are neither fixed nor segmented by these examples."""
        with self.lock:
            state = self.state
            segmenter = with_examples(self.segmenter, self.files, state)
        hint = material_hint(segmenter)
        if self.is_material:
            segmenter = for_materials(segmenter)
        facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

        def segment(name: str) -> None:
            prediction = segmenter(Path(state.photos[name].path))
            with self.lock:
                photo = self.state.photos.get(name)
                if photo is not None and not photo.is_fixed:
                    self.take_result(photo, prediction, facts)

        def finish(done: int, errors: list[str]) -> str:
            self.write_summary()
            lines = [found_line(self.state) if waiting else "no photo is left to be segmented"]
            if len(errors) or done < len(waiting):
                lines.append(f"{done - len(errors)} of {len(waiting)} photos segmented")
            return "; ".join([*lines, *notes, *errors[:3]])

        notes = [f"{name}: skipped, no photo is an example of it" for name in state.names if state.needs_example(name)]
        if hint and not self.is_material:
            notes.append(hint)
        notes += self._forget_replaced(photos)
        with self.lock:
            waiting = [name for name in photos if is_waiting(self.state.photos[name], facts["inputs"])]
        return Work(waiting, segment, finish)

    def _forget_replaced(self, photos: Sequence[str]) -> list[str]:
        """Remove the results of photos whose files were replaced, and return a note if there are any."""
        replaced = [name for name in photos if self.files.is_outdated(self.state.photos[name], of_example=False)]
        for name in replaced:
            with self.lock:
                self.change(name, forgotten)
        if not replaced:
            return []
        return [f"{photos_of(len(replaced))} replaced since, such as {replaced[0]}: segmented anew"]

    def pack(self, formats: Sequence[str]) -> None:
        """Write a zip of all results, and of examples, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        Results(self.out, self.state.names, formats)  # refuses an unknown one
        photos = [photo for photo in self.state.photos.values() if photo.found or photo.teaches]
        if all(self.files.is_outdated(photo) for photo in photos):
            raise UserError("nothing to download: annotate a photo, and press Segment")
        self.work.start("packed", lambda: self._packing(formats, photos))

    def _packing(self, formats: Sequence[str], photos: Sequence[Photo]) -> Work:
        """Return the work of packing some photos, without those whose files were replaced."""
        archive = Archive(self.file.with_name(DOWNLOAD), formats, self.files, self.segmenter.without_classes().facts)

        def add(name: str) -> None:
            with self.lock, archive.removed_on_error():
                photo = self.state.photo(name)
                if photo.found and not self.files.is_current(self.state, photo):
                    self.write_result(name)
                archive.add(self.state, self.state.photo(name))

        def finish(done: int, errors: list[str]) -> str:
            with archive.removed_on_error():
                if not self.work.is_stopped:
                    archive.write()
                    self.archive = archive.path
            self.write_summary()
            return "; ".join([f"{done - len(errors)} of {len(current)} photos packed", *notes, *errors[:3]])

        outdated = [photo.name for photo in photos if self.files.is_outdated(photo)]
        notes = [f"{name}: skipped, its file was replaced; press Segment" for name in outdated]
        current = [photo.name for photo in photos if photo.name not in outdated]
        return Work(current, add, finish)

    def write_summary(self) -> None:
        """Write the table and the review of the results."""
        self.files.results.write_summary({})

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the review of the results."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.write_summary()


def percent(share: float) -> str:
    """Return a share as a whole percentage."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else "< 1 %"


def _outlines(inside: np.ndarray, value: int) -> list[Edit]:
    """Return the outlines of a region (H, W) bool as edits of a class."""
    return [Edit(tool=OUTLINE, value=value, radius=0, points=outline.tolist()) for outline in polygons_of(inside)]


def _box_about(photo: Photo, value: int, x: float, y: float) -> list[list[float]] | None:
    """Return the box that was drawn last on a photo, if it is of a class and holds a place."""
    last = photo.steps[-1] if photo.steps else Step()
    if last.box is None or not last.edits or last.edits[0]["value"] != value:
        return None
    (left, top), (right, bottom) = np.sort(np.array(last.box), axis=0)
    return last.box if left <= x < right and top <= y < bottom else None


def _file_name(name: str) -> str:
    """Return the name of a file that a browser sends, without folders; UserError: it cannot be that of a file."""
    file_name = Path(name).name
    if file_name == ".." or not file_name.isprintable() or not 0 < len(file_name.encode()) <= LONG_NAME:
        raise UserError(f"{file_name!r}: is no name of a photo; give it 1 to {LONG_NAME} letters and digits")
    return file_name


def _only_entry(folder: Path) -> Path:
    """Return what a folder holds if that is one file or folder, else the folder."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder
