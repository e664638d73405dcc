"""All that the user of the page has annotated, found and decided, in a folder of results: a session, and its actions.

``page/session.json`` names photos, classes and sliders; what belongs to a photo is in its own files (``photo.py``).
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from annotations.results import ACCEPTED, REJECTED, VERDICTS
from annotations.shapes import polygons_of
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import UNNAMED, Example
from photos.page.background import Background
from photos.page.classes import Classes
from photos.page.drawing import BOX, BRUSH, ERASER, OUTLINE, Edit, checked_edits
from photos.page.kept import Kept, read_kept
from photos.page.open_photos import MAX_PHOTOS, OpenPhotos, counted
from photos.page.photo import EXAMPLES, PAGE, Common, Photo, Rule, rule_of
from photos.page.regions import part_to_remove, region_at, region_in_box
from photos.page.tasks import packing, segmentation
from photos.photo_files import photos_in, read_photo
from photos.prediction import EVEN, percent
from photos.results import FORMATS, Results, own_record
from photos.segmenter import Segmenter
from util.files import LONG_NAME, content_digest, lock, writable, write_atomically
from util.files.errors import UserError, nearest
from util.files.images import header_of
from util.files.overlay import class_colour
from util.files.palette import IGNORE

UPLOADS = "photos"  # folder
FORMER = {"marked": EXAMPLES, f"{PAGE}/marks": f"{PAGE}/edits"}  # folders by their names in earlier versions


class Session:
    """The state of the page, in a folder of earlier work, of results, or a new one; ``actions`` return notes."""

    def __init__(self, segmenter: Segmenter, out: Path, is_material: bool = False):
        self.segmenter = segmenter
        self.is_material = is_material  # whether the classes are materials, of ``support_check.for_materials``
        self.out = out
        self.file = out / PAGE / "session.json"
        results = Results(out, [])
        results.check_folder()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._only = lock(self.file.with_name("lock"), f"{out}: another page is open there; name another --out")
        self.lock = threading.RLock()
        self.work = Background()
        self.archive: Path | None = None  # the download
        if self.file.exists():
            self._rename_former()
        kept = read_kept(self.file)
        own_threshold = EVEN if segmenter.calibration is None else segmenter.calibration.own_threshold
        self.common = Common(
            results=results,
            classes=[],
            network_rule=Rule(own_threshold, segmenter.min_presence),
            calibration=segmenter.calibration,
            rule=rule_of(kept.rule),
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
        self.classes = Classes(self.common, self.photos, self.work)
        self.actions: dict[str, Callable[..., str | None]] = {
            "samples": self.samples,
            "open": self.open,
            "upload": self.upload,
            "annotations": self.annotations,
            "remove": self.remove,
            "draw": self.draw,
            "click": self.click,
            "box": self.box,
            "use_as_example": self.use_as_example,
            "judge": self.judge,
            "slide": self.slide,
            "segment": self.segment,
            "stop": self.stop,
            "pack": self.pack,
            "add_class": self.classes.add,
            "rename_class": self.classes.rename,
            "remove_class": self.classes.remove,
        }

    def _rename_former(self) -> None:
        """Rename the folders of an earlier version."""
        for old, new in FORMER.items():
            if (self.out / old).is_dir() and not (self.out / new).exists():
                (self.out / old).rename(self.out / new)

    def save(self) -> None:
        """Write what is in no photo's own files; the server does after each action."""
        photos = [str(photo.path) for photo in self.photos]
        common = self.common
        kept = Kept(photos, common.classes, [*common.rule])
        write_atomically(self.file, json.dumps(asdict(kept), indent=1))

    def state(self, since: int) -> dict[str, Any]:
        """Return what the browser shows, of the photos, by name, those that changed since a number.

        All are there where their list changed.
        """
        common = self.common
        whole = common.renewed >= since
        photos = sorted(self.photos, key=lambda photo: photo.name.casefold())
        return {
            "title": f"{self.segmenter.model.title}, {Path(self.segmenter.model.source).name}",
            "out": str(self.out),
            "now": next(common.numbers),
            "whole": whole,
            "formats": FORMATS,
            "rule": common.rule,
            "network_rule": common.network_rule,
            "job": self.work.state,
            "note": self.work.note,
            "archive": self.has_archive,
            "photos": [photo.row() for photo in photos if whole or photo.changed >= since],
            "classes": [[name, f"rgb{class_colour(value)}"] for value, name in enumerate(common.classes, 1)],
        }

    @property
    def has_archive(self) -> bool:
        """Whether there is a download."""
        return self.archive is not None and self.archive.is_file()

    def _add(self, paths: Sequence[Path]) -> str:
        note = self.photos.add(paths)
        self.common.renew()
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
        path = self.out / UPLOADS / _file_name(name)
        if self.photos.is_full:
            raise UserError(f"{path.name}: {MAX_PHOTOS} photos are open; remove some, or name another --out")
        if path.exists() or not self.photos.new([path]):
            raise UserError(f"{path.name}: a photo of this name is open already; rename it")
        self._check_files([path])
        write_atomically(path, content)
        try:
            header_of(path)
        except UserError as error:
            path.unlink()
            raise UserError(str(error).replace(str(path), path.name)) from None
        return self._add([path])

    def samples(self) -> str:
        """Add photos of coins, one of which is an example, and a photo without coins."""
        for photo in Path(__file__).with_name("example").iterdir():
            copy = self.out / UPLOADS / photo.name
            if not copy.exists():
                write_atomically(copy, photo.read_bytes())
        self.open(str(self.out / UPLOADS))
        coin = Edit(tool=BRUSH, value=self.classes.value("coin"), radius=22, points=[[157, 50]])
        return self.draw("coins_1.jpg", [coin], self.photos["coins_1.jpg"].drawn)

    def annotations(self, path: str) -> str:
        """Make the photos of annotations examples; they lie beside them, or in a folder that is open."""
        if not path.strip():
            raise UserError("Import annotations: enter the path of a file or folder on the server's machine")
        examples, notes = self._read_annotations(path.strip())
        for example in examples:
            self._lay(example)
        photos = {example.photo for example in examples}
        return "; ".join([counted(len(photos), "example photo"), *notes])

    def _read_annotations(self, path: str) -> tuple[list[Example], list[str]]:
        """Return the examples in annotations, and lines on what is not understood.

        The photos lie where the annotations say, else in a folder that is open. UserError: there are none; it is that
        of the first search.
        """
        notes: dict[str, None] = {}  # each line once
        errors: list[UserError] = []
        folders = dict.fromkeys(photo.path.parent for photo in self.photos)
        for folder in (None, *folders):
            try:
                examples, _ = read_examples([path], folder, shots=MAX_SHOTS, say=lambda line: notes.setdefault(line))
                header_of(examples[0].photo)
                return examples, [*notes]
            except UserError as error:
                errors.append(error)
        raise errors[0]

    def _lay(self, example: Example) -> None:
        """Make the photo of an example one on the page, over what is annotated there already.

        UserError: the photo cannot be read, or another one of its name is open.
        """
        (support,) = self.segmenter.without_classes().boxes_to_masks(None, [example.read()])
        value = self.classes.value(example.name or UNNAMED)
        self._add([example.photo])
        photo = self.photos[writable(example.photo.name)]
        if content_digest(photo.path) != content_digest(example.photo):
            raise UserError(f"{example.photo}: {photo.path} is open, which has the same name; rename one")
        label = photo.label() if photo.is_example else np.zeros_like(support.label)
        label[(support.label == IGNORE) & (label == 0)] = IGNORE
        label[support.label == 1] = value
        photo.lay(label)

    def remove(self, photo: str) -> str:
        """Take a photo out of the session; its file and its result remain."""
        self.photos.remove(photo)
        self.common.renew()
        return f"{photo} is removed"

    def draw(self, photo: str, edits: list[Edit], before: int) -> str:
        """Take edits in place of those with a number; on a photo without a result they make it an example.

        An example on which nothing is left is none any more.
        """
        target = self.photos[photo]
        if before != target.drawn:
            raise UserError(f"{photo}: was changed in another window; it is shown as it is now")
        edits = checked_edits(edits)
        for edit in edits:
            self._check_value(edit["value"])
        earlier = target.edits if target.names else []
        drawn = {edit["value"] for edit in edits if edit["tool"] != ERASER and edit not in earlier}
        was_example = target.is_example
        target.draw(edits)
        target.touch(is_drawn=True)
        shown = target.names_in(target.label())
        new = [name for name in shown if self.classes.value(name) in drawn and self._is_taught_by(target, name)]
        if new:
            return self._teach(target, new)
        if was_example and not target.is_example:
            return f"{photo} is no example any more: its annotation is empty"
        return ""

    def _is_taught_by(self, photo: Photo, name: str) -> bool:
        """Return whether what is drawn of a class on a photo makes it an example of the class; else it is a correction.

        It does on a photo that was not segmented, on an example, and where no other photo is an example of the class.
        """
        if name in photo.taught:
            return False
        return not photo.names or photo.is_example or not any(name in known.taught for known in self.photos)

    def _teach(self, photo: Photo, names: Sequence[str]) -> str:
        """Make a photo an example of further classes, and return a note."""
        photo.taught = list(dict.fromkeys([*photo.taught, *names]))
        photo.make_example()
        photo.touch(is_drawn=True)
        label = photo.label()
        shares = [f"{name} ({percent((label == self.classes.value(name)).mean())} of it)" for name in names]
        return f"{photo.name} is an example of {' and '.join(shares)} now: press Segment"

    def _check_value(self, value: int, least: int = 0) -> None:
        """Refuse (UserError) a value that no class of the page has; 0 is background."""
        if type(value) is not int or not least <= value <= len(self.common.classes):
            raise UserError("this class is no longer there; load the page again")

    def use_as_example(self, photo: str, value: int) -> str:
        """Make a photo an example of a class, and of those that are accepted on it; or take all of that back."""
        target = self.photos[photo]
        self._check_value(value, least=1)
        name = self.common.classes[value - 1]
        if name in target.taught:
            target.drop_example()
            target.touch(is_drawn=True)
            return f"{photo} is no example any more"
        if not (target.label() == value).any():
            fix = "paint over the object, drag a box around it, or click points on it"
            raise UserError(f"{photo}: has no annotation of {name}; {fix}")
        accepted = [known for known, verdict in target.verdicts.items() if verdict == ACCEPTED and known != name]
        shown = target.names_in(target.label())
        return self._teach(target, [name, *(known for known in accepted if known in shown)])

    def click(self, photo: str, x: float, y: float, value: int, before: int) -> str:
        """Outline the object about a place as the network sees it; of class 0, remove the part of the mask there."""
        target = self.photos[photo]
        self._check_value(value)
        label = target.label()
        height, width = label.shape
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"{photo}: this place is not on the photo; click on it")
        column, row = int(x), int(y)
        if value:
            part = region_at(self.segmenter, read_photo(target.path), column, row)
        elif label[row, column] == 0:
            raise UserError("there is no mask to remove at this place")
        else:
            part = part_to_remove(label, column, row)
        return self._outline(target, part, value, before)

    def box(self, photo: str, points: list[list[float]], value: int, before: int) -> str:
        """Outline the object that the network finds in a box."""
        target = self.photos[photo]
        self._check_value(value, least=1)
        (box,) = checked_edits([Edit(tool=BOX, value=value, radius=0, points=points)])
        part = region_in_box(self.segmenter, read_photo(target.path), box["points"])
        return self._outline(target, part, value, before)

    def _outline(self, photo: Photo, inside: np.ndarray, value: int, before: int) -> str:
        """Draw a region (H, W) bool of a photo by its outlines."""
        edits = list(photo.edits)
        for outline in polygons_of(inside):
            edits.append(Edit(tool=OUTLINE, value=value, radius=0, points=outline.tolist()))
        return self.draw(photo.name, edits, before)

    def judge(self, photo: str, verdict: str, value: int) -> None:
        """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("").

        UserError: nothing was looked for on the photo, or on another file of its name.
        """
        target = self.photos[photo]
        self._check_value(value, least=1)
        if verdict not in ("", *VERDICTS):
            raise UserError(f"'{verdict}' is no verdict{nearest(verdict, VERDICTS)}")
        name = self.common.classes[value - 1]
        self._check_judged(target, name, verdict)
        if verdict and not target.names:
            self._check_files([target.path])
            target.write(self.segmenter.without_classes().facts)
        else:
            target.write()
        judged = target.names
        if verdict == REJECTED:
            judged = [name]
        elif verdict == ACCEPTED:
            judged = [known for known in target.names if known not in target.verdicts]
        target.judge(dict.fromkeys(judged, verdict))
        target.touch()

    def _check_judged(self, photo: Photo, name: str, verdict: str) -> None:
        """Refuse (UserError) a verdict on a class of a photo that was not looked at in its present form."""
        if verdict == REJECTED and name not in (*photo.names, *photo.taught):
            raise UserError(f"{photo.name}: {name} was not searched for; press Segment")
        if verdict == ACCEPTED and not (photo.names or photo.is_example):
            raise UserError(f"{photo.name}: was not segmented and has no mask to accept; press Segment")
        if verdict and photo.is_outdated:
            raise UserError(f"{photo.name}: its file was replaced; press Segment")

    def slide(self, threshold: float | None, min_presence: float | None) -> None:
        """Set the rule of all masks that are not fixed."""
        self.common.rule = rule_of([threshold, min_presence])
        for photo in self.photos:
            if photo.names and not photo.is_fixed:
                photo.touch()

    def segment(self, photo: str = "") -> None:
        """Segment the photos that are neither examples nor accepted by the examples, the named one first."""
        photos = sorted(self.photos, key=lambda known: known.name != photo)
        if not any(known.is_example for known in photos):
            raise UserError("no photo is an example: open one that shows the object, and annotate it")
        outdated = [known.name for known in photos if known.is_example_outdated]
        if outdated:
            raise UserError(f"{outdated[0]}: was replaced since it was annotated; press M, and annotate it again")
        self._check_files([known.path for known in photos])
        self.work.start("segmented", lambda: segmentation(self, photos))

    def pack(self, formats: Sequence[str]) -> None:
        """Write a zip of all results, and of examples, in some formats."""
        self.archive = None
        if not formats:
            raise UserError("nothing to download: tick a format")
        Results(self.out, self.common.classes, formats)  # refuses an unknown one
        photos = [photo for photo in self.photos if photo.names or photo.is_example]
        if all(photo.is_outdated for photo in photos):
            raise UserError("nothing to download: annotate a photo, and press Segment")
        self.work.start("packed", lambda: packing(self, formats, photos))

    def write_summary(self) -> None:
        """Write the table and the review of the results."""
        self.common.results.write_summary({})

    def stop(self) -> None:
        """End the work in the background after the present photo."""
        self.work.is_stopped = True

    def end(self) -> None:
        """Let the present photo be finished, and write the table and the review of the results."""
        self.stop()
        if self.work.state:
            self.work.thread.join()
        self.write_summary()


def _file_name(name: str) -> str:
    """Return the name of a file that a browser sends, without folders; UserError: it cannot be that of a file."""
    file_name = Path(name).name
    if file_name == ".." or not file_name.isprintable() or not 0 < len(file_name.encode()) <= LONG_NAME:
        raise UserError(f"{file_name!r}: is no name of a photo; give it 1 to {LONG_NAME} letters and digits")
    return file_name
