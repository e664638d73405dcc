"""A photo of the page: its mask, the marks drawn over it, its result, and its pictures for the browser.

The browser sends strokes, boxes, points and outlines in pixels of the photo, not images. Beneath them lies what the
network found, or what a file of annotations says. Results are those of ``predict.py``, so that each can go on with the
other's work. The folder ``page`` beside them holds the marks of each photo, and the mask beneath them once there are
any; ``marked`` holds the marked photos and their masks, for ``--supports``. Masks of the page have the values of its
classes, those of results the values of the result's classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import cv2
import numpy as np
from pycocotools import mask as rle

from model.episode import IGNORE
from util.data.images.read import header_of, read_mask, upright_size, write_mask
from util.data.marks import point_label
from util.errors import UserError
from util.evaluate.refine import without_specks
from util.files import kept_json, link, writable, write_atomically
from util.formats.masks import MASK_FOLDERS, NAME_FILES, PHOTO_FOLDERS
from util.formats.results import REJECTED
from util.predict.photos import read_photo
from util.predict.prediction import EVEN, Prediction, at_most, file_facts, is_same_file, paths_of
from util.predict.results import Results, own_record
from util.report.overlay import class_colour, class_map

BRUSH, ERASER, BOX, POINT, OUTLINE = "brush", "eraser", "box", "point", "outline"  # tools
PAGE, MARKED = "page", "marked"
PREVIEW, THUMBNAIL = 2048, 320  # pixels of the longer side, at most


class Rule(NamedTuple):
    """The rule of a mask; None is the network's own."""

    threshold: float | None = None  # least share of a class beside the background in its pixels
    min_score: float | None = None  # least presence score of a class; there is none without a calibration


@dataclass
class Common:
    """The results, classes, rules and numbers that all photos of a page share."""

    results: Results
    classes: list[str]  # by their values, from 1
    own: Rule  # of the network
    rule: Rule  # of the sliders
    numbers: Iterator[int]  # of changes


class Mark(TypedDict):
    """One stroke, box, point or outline, as the browser sends it."""

    tool: str
    value: int  # the class, from 1; 0 makes pixels background
    radius: float  # of brush, eraser and point, in pixels of the photo
    points: list[list[float]]  # x, y; two opposite corners of a box


def drawn(label: np.ndarray, marks: Sequence[Mark]) -> np.ndarray:
    """Return a label (H, W) uint8 with marks drawn over it: 0 background, then the classes, 255 unknown.

    Strokes, boxes and outlines cover the object. Around points the object's extent is unknown. A later mark wins.
    """
    out = label.copy()
    for mark in marks:
        if mark["tool"] == POINT:
            near = point_label([(x, y) for x, y in mark["points"]], out.shape, False, mark["radius"])
            out[(near == IGNORE) & (out == 0)] = IGNORE
            out[near == 1] = mark["value"]
        elif mark["tool"] == OUTLINE:
            inside = rle.decode(rle.frPyObjects([np.ravel(mark["points"]).astype(np.float64)], *out.shape))[..., 0]
            out[inside > 0] = mark["value"]
        elif mark["tool"] == BOX:
            points, limits = np.array(mark["points"]), np.array(out.shape[::-1])
            (left, top), (right, bottom) = np.clip(points.min(0), 0, limits), np.clip(points.max(0), 0, limits)
            out[round(top) : round(bottom), round(left) : round(right)] = mark["value"]
        else:
            cells, radius = np.floor(np.array(mark["points"])).astype(np.int32), max(round(mark["radius"]), 0)
            value = 0 if mark["tool"] == ERASER else mark["value"]
            cv2.polylines(out, [cells], False, value, thickness=max(2 * radius, 1))
            for end in (cells[0], cells[-1]):
                cv2.circle(out, end.tolist(), radius, value, thickness=cv2.FILLED)
    return out


def marks_without(value: int, marks: Sequence[Mark]) -> list[Mark]:
    """Return marks without those of a class, the values above it one less; what the eraser did remains."""
    kept = (mark for mark in marks if mark["tool"] == ERASER or mark["value"] != value)
    return [{**mark, "value": mark["value"] - (mark["value"] > value)} for mark in kept]


class Photo:
    """A photo of a session."""

    def __init__(self, path: Path, common: Common):
        self.path, self.common, self.results = path, common, common.results
        self.name = writable(path.name)  # in the page
        self.error = ""  # why it could not be read
        self.changed = self.drawn = 0  # numbers of the last change of anything, and of its marks
        own, marked, mask = self.results.out / PAGE, self.results.out / MARKED, f"{path.stem}.png"
        self.beneath_file, self.marks_file = own / "beneath" / mask, own / "marks" / f"{path.stem}.json"
        self.mask_file, self.copy = marked / MASK_FOLDERS[0] / mask, marked / PHOTO_FOLDERS[0] / path.name
        kept = kept_json(self.marks_file)
        self.marks: list[Mark] = kept.get("marks", [])
        self._marked_file = kept.get("photo")  # the ``file_facts`` of what the user has marked
        self._read_record()

    def _read_record(self) -> None:
        record = own_record(self.results.paths(self.path)[0])
        rows = record["classes"] if record.get("query") == str(self.path) and "mask" in record else []
        self._found_file = record.get("query_file")
        self.names = [row["name"] for row in rows]  # of its result's classes, in the order of their values
        self.presence, self.share = ({row["name"]: row[key] for row in rows} for key in ("presence", "share"))
        self.inputs = record.get("inputs")  # digest of the marked photos and settings that the network had
        self._written = Rule(record.get("threshold"), record.get("min_score")), record.get("corrections", [])

    def touch(self) -> None:
        """Note that anything of it has changed."""
        self.changed = next(self.common.numbers)

    @property
    def is_marked(self) -> bool:
        """Whether the network learns from its mask."""
        return self.mask_file.is_file()

    @property
    def is_result_outdated(self) -> bool:
        """Whether its result is of another file, which has been replaced since."""
        return bool(self.names) and self.path.is_file() and not is_same_file(self._found_file, self.path)

    @property
    def is_mark_outdated(self) -> bool:
        """Whether it is a marked photo whose file was replaced since the user marked it."""
        known = self._marked_file
        return self.is_marked and known is not None and self.path.is_file() and not is_same_file(known, self.path)

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each class of its result that has one."""
        known = self.results.verdicts
        return {name: verdict for name in self.names if (verdict := known.get((str(self.path), name)))}

    @property
    def is_fixed(self) -> bool:
        """Whether network and sliders leave its mask alone: it is marked, or all classes have a verdict."""
        return self.is_marked or len(self.verdicts) == len(self.names) > 0

    @property
    def rule(self) -> Rule:
        """The rule of its mask."""
        return self._written[0] if self.is_fixed else self.common.rule

    def row(self) -> dict[str, Any]:
        """Return what the browser shows of the photo in the grid."""
        facts = {"name": self.name, "found": bool(self.names), "marked": self.is_marked, "fixed": self.is_fixed}
        facts |= {"presence": self.presence, "share": self.share, "verdicts": self.verdicts, "error": self.error}
        return {**facts, "changed": self.changed, "drawn": self.drawn, "fresh": self._written[0] == self.rule}

    def scene(self) -> dict[str, Any]:
        """Return size and marks for the browser."""
        height, width = upright_size(*header_of(self.path))
        return {"height": height, "width": width, "marks": self.marks, "drawn": self.drawn}

    def beneath(self, rule: Rule) -> np.ndarray:
        """Return the mask without marks at a rule, (H, W) uint8 in the page's values, 255 where it is unknown."""
        classes, own = self.common.classes, self.common.own
        values = np.array([0, *(classes.index(name) + 1 for name in self.names)], np.uint8)
        if self.names and rule != Rule():
            least = own.min_score if rule.min_score is None else rule.min_score
            shown = [least is None or score is None or score >= least for score in self.presence.values()]
            out = values[mask_at(self._probability(), rule.threshold or own.threshold or EVEN, shown)]
        elif self.beneath_file.is_file():
            out = read_mask(self.beneath_file).copy()
        else:
            shape = upright_size(*header_of(self.path))
            out = values[read_mask(self.files()[1])] if self.names else np.zeros(shape, np.uint8)
        for name, verdict in self.verdicts.items():
            if verdict == REJECTED:
                out[out == classes.index(name) + 1] = 0
        return out

    def label(self) -> np.ndarray:
        """Return the mask with its marks, as ``beneath``."""
        return drawn(self.beneath(self.rule), self.marks)

    def files(self) -> list[Path]:
        """Return the files of its result: JSON, mask, overlay, probabilities."""
        return paths_of(self.results.out, self.path.stem, self.names)

    def _probability(self) -> np.ndarray:
        return np.stack([read_mask(file) for file in self.files()[3:]]).astype(np.float32) / 255

    def draw(self, marks: list[Mark]) -> None:
        """Take marks in place of the earlier ones, and write them and what follows from them."""
        self.marks = marks
        if self.is_marked:
            self.mark()
        else:
            self._keep_marks()
        self.write()

    def _keep_marks(self) -> None:
        self._marked_file = file_facts(self.path)
        write_atomically(self.marks_file, json.dumps({"marks": self.marks, "photo": self._marked_file}))

    def mark(self) -> None:
        """Make this a marked photo, of its present mask."""
        write_atomically(self.mask_file.parents[1] / NAME_FILES[0], "".join(f"{n}\n" for n in self.common.classes))
        link(self.path, self.copy)
        write_mask(self.mask_file, self.label(), stated=True)
        self._keep_marks()

    def remove_class(self, value: int) -> None:
        """Remove a class from marks and mask after the session has; no longer an example if nothing else is marked."""
        if self.beneath_file.is_file():
            label = read_mask(self.beneath_file)
            known = np.arange(IGNORE + 1, dtype=np.uint8)
            new_values = np.where((known > value) & (known < IGNORE), known - 1, known)
            new_values[value] = 0
            write_mask(self.beneath_file, new_values[label])
        elif not (self.marks or self.is_marked):
            return
        self.draw(marks_without(value, self.marks))
        if self.is_marked and np.isin(self.label(), (0, IGNORE)).all():
            self.unmark()
        self.drawn = self.changed = next(self.common.numbers)

    def lay(self, label: np.ndarray) -> None:
        """Make this a marked photo of a mask, in place of what lay beneath the marks and of the marks."""
        write_mask(self.beneath_file, label)
        self._written = Rule(), None  # no slider's rule
        self.mark()
        self.draw([])

    def unmark(self) -> None:
        """Make this no marked photo; without a result nothing is left of its mask."""
        for file in (self.mask_file, self.copy, *([] if self.names else [self.beneath_file])):
            file.unlink(missing_ok=True)
        if not self.names:
            self.draw([])

    def take(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write what the network found; earlier marks lie over it, and a rejected class remains rejected."""
        self.beneath_file.unlink(missing_ok=True)
        self._write(prediction, facts)
        self.write()

    def forget(self) -> None:
        """Remove the result and the verdicts on it; marks remain."""
        self.judge(dict.fromkeys(self.verdicts, ""))
        for file in (self.files()[0], self.beneath_file):
            file.unlink(missing_ok=True)
        self._read_record()

    def write(self, facts: dict[str, Any] | None = None) -> None:
        """Write the result again where its rule or its marks have changed since, or with ``facts`` the first time."""
        if facts or (self.names and self._written != (self.rule, self.marks)):
            if self.names and not self.beneath_file.is_file():
                write_mask(self.beneath_file, self.beneath(Rule()))
            self._write(self.prediction(), {**(facts or {}), **self.facts()})

    def _write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        verdicts, self.results.names = self.verdicts, prediction.names
        try:
            self.results.write(prediction, facts)
        finally:  # without space on the disk there is no result any more
            self._read_record()
        self.judge({name: verdict for name, verdict in verdicts.items() if name in self.names})  # they remain

    def facts(self) -> dict[str, Any]:
        """Return the entries of the result's JSON that say how it was made and changed."""
        record = own_record(self.files()[0]) if self.names else {}
        written = ("query", "query_file", "width", "height", "mask", "overlay", "classes")  # by ``Prediction.write``
        kept = {key: value for key, value in record.items() if key not in written}
        return {**kept, **self.rule._asdict(), "corrections": self.marks}

    def judge(self, verdicts: dict[str, str]) -> None:
        """Write verdicts on some classes; "" takes one back."""
        for name, verdict in verdicts.items():
            self.results.verdicts[str(self.path), name] = verdict
        if verdicts:
            self.results.write_verdicts()

    def prediction(self) -> Prediction:
        """Return the result with its marks; classes that only the user has drawn are certain."""
        label, classes, least = self.label(), self.common.classes, self.common.own.min_score
        names = list(self.names or classes)
        names += [name for value, name in enumerate(classes, 1) if name not in names and (label == value).any()]
        masks = np.stack([label == classes.index(name) + 1 for name in names])
        probability, presence = masks.astype(np.float32), None
        if self.names:
            probability[: len(self.names)] = self._probability()
        if least is not None:
            scores = [self.presence.get(name, 0.0) for name in names]  # None of base classes
            presence = [s if s is None else s or float(m.any()) for s, m in zip(scores, masks, strict=True)]
        mask = (masks * np.arange(1, len(names) + 1, dtype=np.uint8)[:, None, None]).max(0)
        return Prediction(read_photo(self.path), names, mask, probability, presence, least, photo=self.path)

    def picture(self, side: int) -> np.ndarray:
        """Return the photo with at most ``side`` pixels on a side, (h, w, 3) uint8."""
        try:
            image = read_photo(self.path)
        except UserError as error:
            if not self.error:
                self.error = str(error)
                self.touch()
            raise
        return at_most(image, side)

    def thumbnail(self) -> np.ndarray:
        """Return a small picture of the photo with its mask, (h, w, 3) uint8."""
        picture = self.picture(THUMBNAIL)
        label = self.label() if self.names or self.is_marked else np.zeros((1, 1), np.uint8)
        return class_map(picture, cv2.resize(label, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST))

    def layer(self) -> bytes:
        """Return the mask beneath the marks as a PNG, transparent where there is none."""
        colours = np.zeros((IGNORE + 1, 4), np.uint8)  # blue, green, red, opacity
        colours[1:IGNORE] = [(*class_colour(value)[::-1], 255) for value in range(1, IGNORE)]
        colours[IGNORE] = 128, 128, 128, 255
        return cv2.imencode(".png", colours[self.beneath(self.rule)])[1].tobytes()


def jpeg(picture: np.ndarray) -> bytes:
    """Return an RGB picture (h, w, 3) uint8 as a JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def mask_at(probability: np.ndarray, threshold: float, shown: Sequence[bool]) -> np.ndarray:
    """Return the classes of pixels (H, W) uint8 at a threshold among those shown, of probabilities (n, H, W)."""
    of_shown = np.where(np.array(shown)[:, None, None], probability, 0)
    inside = of_shown.max(0) * (1 - threshold) > np.maximum(1 - probability.sum(0), 0) * threshold
    return without_specks(np.where(inside, of_shown.argmax(0) + 1, 0).astype(np.uint8))
