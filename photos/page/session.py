"""The session of a page: its actions, which change the state and return notes; each runs alone (``lock``)."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotations.mask_files import LIKE_PHOTOS, NoPartner
from annotations.pictures import header_of, read_image
from annotations.results import ACCEPTED, REJECTED
from annotations.shapes import polygons_of
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import UNNAMED, Example
from photos.page import state as changes
from photos.page.archive import packing
from photos.page.drawing import BOX, BRUSH, OUTLINE, Edit, checked_edits
from photos.page.files import PAGE, shown_in
from photos.page.regions import part_to_remove, region_at, region_in_box
from photos.page.segmentation import photos_of, segmentation
from photos.page.state import MAX_PHOTOS, Photo, Rule, State, Step
from photos.page.writer import WrittenState
from photos.photo_files import photos_in, read_photo
from photos.prediction import file_facts
from photos.results import Results
from photos.segmenter import Segmenter
from util.files import LONG_NAME, content_digest, writable, write_atomically
from util.files.errors import UserError
from util.files.mask_images import write_mask
from util.files.palette import IGNORE
from util.files.photos import IMAGE_SUFFIXES

UPLOADS = "photos"  # folder


class Session(WrittenState):
    """A page's session: a written state, and what the user can do with it."""

    ACTIONS = (
        *("samples", "open", "upload", "upload_annotations", "annotations", "remove"),
        *("add_class", "rename_class", "remove_class"),
        *("draw", "click", "box", "clear", "undo", "redo", "use_as_example"),
        *("judge", "slide", "segment", "stop", "pack"),
    )

    def __init__(self, segmenter: Segmenter, out: Path):
        super().__init__(segmenter, out)
        self.imported = out / PAGE / "imported"
        self.drop = ""  # what tells the files of annotations that were sent together

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
        self.take(after)
        note = f"{photos_of(added)} added"
        skipped = len(paths) - added
        return f"{note}, {skipped} skipped: photos of these names are open, or {MAX_PHOTOS} in all" if skipped else note

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Add a photo that the browser sends, or name the one that is open already and is the same."""
        file_name = _file_name(name)
        for photo in self.state.photos.values():
            path = Path(photo.path)
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
                return {"photo": photo.name, "added": False}
        if len(self.state.photos) >= MAX_PHOTOS:
            raise UserError(f"{file_name}: {MAX_PHOTOS} photos are open; remove some, or name another --out")
        read_image(Path(file_name), content)
        path = self.out / UPLOADS / self._new_name(Path(file_name))
        write_atomically(path, content)
        self.files.results.check([path], again=True)
        self.take(changes.add_photos(self.state, [Photo(str(path))]))
        return {"photo": writable(path.name), "added": True}

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
        self.take(changes.remove_photo(self.state, photo))
        return f"{photo} is removed"

    # Annotations of other programs

    def upload_annotations(self, drop: str, name: str, content: bytes) -> None:
        """Keep a file of annotations that the browser sends, by its path in their folder, for ``annotations``.

        Those of another ``drop``, which was stopped, go.
        """
        if drop != self.drop:
            shutil.rmtree(self.imported, ignore_errors=True)
        self.drop = drop
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
            examples = [self._with_kept_photo(example) for example in examples]
            examples, reviewed = self._without_reviewed(examples)
            after = self.state
            for example in examples:
                after = self._with_example(after, example)
        except UserError as error:
            raise UserError(self._without_folder(str(error))) from None
        finally:
            if uploaded:
                shutil.rmtree(self.imported)
        self.take(after)
        photos = {example.photo for example in examples}
        return "; ".join([f"examples on {photos_of(len(photos))}", *reviewed, *notes])

    def _read_annotations(self, path: str) -> tuple[list[Example], list[str]]:
        """Return the examples in annotations, and lines on what is not understood.

        The photos lie where the annotations say, else in a folder that is open. UserError: there are none; it is that
        of the last search.
        """
        errors: list[UserError] = []
        folders = dict.fromkeys(Path(photo.path).parent for photo in self.state.photos.values())
        for folder in (None, *folders):
            notes: list[str] = []
            try:
                examples, _ = read_examples([path], folder, shots=MAX_SHOTS, say=notes.append)
                header_of(examples[0].photo)
                return examples, list(dict.fromkeys(map(self._without_folder, notes)))  # each line once
            except NoPartner:
                continue
            except UserError as error:
                errors.append(error)
        if errors:
            raise errors[-1]
        raise UserError(f"no mask has the name of a photo that is open; {LIKE_PHOTOS}")

    def _without_reviewed(self, examples: list[Example]) -> tuple[list[Example], list[str]]:
        """Return the examples on photos that are neither accepted nor rejected, and a line on the others."""
        reviewed = {photo.name for photo in self.state.photos.values() if photo.verdicts}
        kept = [example for example in examples if writable(example.photo.name) not in reviewed]
        left_out = sorted(reviewed & {writable(example.photo.name) for example in examples})
        if not left_out:
            return kept, []
        return kept, [f"left out, since it is reviewed: {', '.join(left_out)} (undo accept or reject first)"]

    def _without_folder(self, line: str) -> str:
        """Return a line without the server's folder of what was uploaded."""
        return line.replace(f"{self.imported}/", "").replace(f"{self.imported}: ", "")

    def _with_kept_photo(self, example: Example) -> Example:
        """Return an example of a photo that stays, where it was sent as one of the annotations."""
        if not example.photo.is_relative_to(self.imported):
            return example
        kept = self.upload(example.photo.name, example.photo.read_bytes())["photo"]
        return replace(example, photo=Path(self.state.photo(kept).path))

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
        self.take(changes.add_class(self.state, name))

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class."""
        self.work.check_idle()
        self.take(changes.rename_class(self.state, value, name))

    def remove_class(self, value: int) -> str:
        """Remove a class."""
        self.work.check_idle()
        name = self.state.class_of(value)
        self.take(changes.remove_class(self.state, value))
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
        self.take(after)
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
        self.take(changes.use_as_example(self.state, photo, value, shown))
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
        self.take(after)
        words = {ACCEPTED: "is accepted", REJECTED: f"shows no {self.state.class_of(value)}", "": "is to be reviewed"}
        return f"{photo} {words[verdict]}"

    def slide(self, threshold: float | None, min_presence: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self.take(replace(self.state, rule=Rule(threshold, min_presence)))

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
        self.work.start("segmented", lambda: segmentation(self, names))

    def pack(self, formats: Sequence[str]) -> None:
        """Write a zip of all results, and of examples, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        Results(self.out, self.state.names, formats)  # refuses an unknown one
        photos = [photo for photo in self.state.photos.values() if photo.found or photo.teaches]
        if all(self.files.is_outdated(photo) for photo in photos):
            raise UserError("nothing to download: annotate a photo, and press Segment")
        self.work.start("packed", lambda: packing(self, formats, photos))

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
    """Return what a folder holds if that is one folder, or one file that is no mask, else the folder."""
    entries = list(folder.iterdir())
    is_mask = entries[0].suffix.lower() in IMAGE_SUFFIXES
    return folder if is_mask or len(entries) > 1 else entries[0]
