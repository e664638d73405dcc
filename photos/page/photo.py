"""A photo of the page: its mask, the user's edits over it, its result, and its pictures for the browser.

The browser sends edits, not images (``drawing.py``). Beneath them lies what the network found, or what a file of
annotations says. Results are those of ``predict.py``, so that each can go on with the other's work. The folder ``page``
beside them holds the edits of each photo, and the mask beneath them once there are any; ``examples`` holds the examples
and their masks, for ``--supports``. Masks of the page have the values of its classes, those of results the values of
the result's classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from annotations.mask_files import OF_MASKS, OF_PHOTOS
from annotations.masks import NAME_FILES
from annotations.results import REJECTED
from photos.page.drawing import Edit, checked_edits, edits_without, is_empty, with_edits
from photos.photo_files import read_photo
from photos.prediction import EVEN, Prediction, at_most, file_facts, is_same_file, paths_of
from photos.results import Results, own_record
from util.engine import Calibration, without_specks
from util.files import kept_json, link, writable, write_atomically
from util.files.errors import UserError
from util.files.images import header_of, read_mask, upright_size, write_mask
from util.files.overlay import class_colour, class_map
from util.files.palette import IGNORE

# folders in that of the results
PAGE = "page"
EXAMPLES = "examples"
# pixels of the longer side, at most
PREVIEW = 2048
THUMBNAIL = 320
UNKNOWN_COLOUR = (128, 128, 128, 255)  # blue, green, red, opacity
OF_PREDICTION = ("query", "query_file", "width", "height", "mask", "overlay", "classes")  # keys that it writes itself


class Rule(NamedTuple):
    """The rule of a mask; None is the network's own."""

    threshold: float | None = None  # least share of a class beside the background in its pixels
    min_presence: float | None = None  # least presence score of a class; there is none without a calibration


def rule_of(values: Sequence[float | None]) -> Rule:
    """Return the rule of the sliders' values, each null or 0..1, none for those that lack; UserError: another value."""
    for value in values:
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise UserError("a slider has a value between 0 and 1; load the page again")
    return Rule(*values)


@dataclass
class Common:
    """The results, classes, rules and numbers that a page and all its photos share."""

    results: Results
    classes: list[str]  # by their values, from 1
    network_rule: Rule
    calibration: Calibration | None  # of the network
    rule: Rule  # of the sliders
    numbers: Iterator[int]  # of changes
    renewed: int = 0  # number of the last change of what is not of one photo

    def renew(self) -> None:
        """Note that what is not of one photo has changed."""
        self.renewed = next(self.numbers)


class Photo:
    """A photo of a session."""

    def __init__(self, path: Path, common: Common):
        self.path = path
        self.common = common
        self.results = common.results
        self.name = writable(path.name)  # in the page
        self.error = ""  # why it could not be read
        self.changed = 0  # number of the last change of anything
        self.drawn = 0  # number of the last change of its edits
        session = self.results.out / PAGE
        self.beneath_file = session / "beneath" / f"{path.stem}.png"
        self.edits_file = session / "edits" / f"{path.stem}.json"
        examples = self.results.out / EXAMPLES
        self.mask_file = examples / OF_MASKS[0] / f"{path.stem}.png"
        self.copy = examples / OF_PHOTOS[0] / path.name
        kept = kept_json(self.edits_file)
        self.edits: list[Edit] = []
        try:
            self.edits = checked_edits(kept.get("edits") or kept.get("marks", []))  # by their name in earlier versions
        except UserError as error:
            self.error = f"{self.edits_file}: {error}; its edits are left out"
        self._edited_file = kept.get("photo")  # the ``file_facts`` of what the user has annotated
        self._taught: list[str] | None = kept.get("taught")  # classes it is an example of, if none is rejected
        self._read_record()

    def _read_record(self) -> None:
        record = own_record(self.results.paths(self.path)[0])
        has_mask = record.get("query") == str(self.path) and "mask" in record
        rows = record["classes"] if has_mask else []
        self._result_file = record.get("query_file")  # the ``file_facts`` of what was segmented
        self.names = [row["name"] for row in rows]  # of its result's classes, in the order of their values
        self.presence = {row["name"]: row["presence"] for row in rows}
        self.share = {row["name"]: row["share"] for row in rows}
        self.inputs = record.get("inputs")  # digest of the examples and settings that the network had
        self._written_rule = Rule(record.get("threshold"), record.get("min_presence"))
        self._written_edits: list[Edit] | None = record.get("corrections", [])

    def touch(self, is_drawn: bool = False) -> None:
        """Note that anything of it has changed, ``is_drawn``: its edits."""
        self.changed = next(self.common.numbers)
        if is_drawn:
            self.drawn = self.changed

    @property
    def is_example(self) -> bool:
        """Whether the network learns from its mask."""
        return self.mask_file.is_file()

    @property
    def is_result_outdated(self) -> bool:
        """Whether its result is of another file, which has been replaced since."""
        return bool(self.names) and self.path.is_file() and not is_same_file(self._result_file, self.path)

    @property
    def is_example_outdated(self) -> bool:
        """Whether it is an example whose file was replaced since the user annotated it."""
        if not self.is_example or self._edited_file is None:
            return False
        return self.path.is_file() and not is_same_file(self._edited_file, self.path)

    @property
    def is_outdated(self) -> bool:
        """Whether its file is another one than its result or its annotation is of."""
        return self.is_result_outdated or self.is_example_outdated

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each class of its result that has one."""
        verdicts = {name: self.results.verdict(str(self.path), name) for name in self.names}
        return {name: verdict for name, verdict in verdicts.items() if verdict}

    @property
    def is_fixed(self) -> bool:
        """Whether network and sliders leave its mask alone: it is an example, or all classes have a verdict."""
        return self.is_example or len(self.verdicts) == len(self.names) > 0

    @property
    def rule(self) -> Rule:
        """The rule of its mask."""
        return self._written_rule if self.is_fixed else self.common.rule

    def row(self) -> dict[str, Any]:
        """Return what the browser shows of the photo in the grid."""
        return {
            "name": self.name,
            "found": bool(self.names),
            "example": self.is_example,
            "fixed": self.is_fixed,
            "presence": self.presence,
            "share": self.share,
            "verdicts": self.verdicts,
            "error": self.error,
            "changed": self.changed,
            "drawn": self.drawn,
            "fresh": self._written_rule == self.rule,
        }

    def scene(self) -> dict[str, Any]:
        """Return size and edits for the browser."""
        height, width = upright_size(*header_of(self.path))
        return {"height": height, "width": width, "edits": self.edits, "drawn": self.drawn}

    def beneath(self, rule: Rule) -> np.ndarray:
        """Return the mask without edits at a rule, (H, W) uint8 in the page's values, 255 where it is unknown."""
        label = self._unjudged(rule)
        label[np.isin(label, self._rejected())] = 0
        return label

    def _unjudged(self, rule: Rule) -> np.ndarray:
        """Return the mask without edits, as ``beneath``, with the classes that are rejected."""
        values = np.array([0, *map(self._value, self.names)], np.uint8)  # of the page, by those of the result
        if self.names and rule != Rule():
            return values[self._mask_by(rule)]
        if self.beneath_file.is_file():
            return read_mask(self.beneath_file).copy()
        size = upright_size(*header_of(self.path))
        return values[read_mask(self.files()[1])] if self.names else np.zeros(size, np.uint8)

    def _mask_by(self, rule: Rule) -> np.ndarray:
        """Return the mask of the result at a rule, (H, W) uint8 in the values of the result."""
        default = self.common.network_rule
        threshold = rule.threshold or default.threshold or EVEN
        least = default.min_presence if rule.min_presence is None else rule.min_presence
        shown = [least is None or score is None or score >= least for score in self.presence.values()]
        return mask_at(self._probability(), threshold, shown)

    def _value(self, name: str) -> int:
        """Return the value of a class in masks of the page."""
        return self.common.classes.index(name) + 1

    def label(self) -> np.ndarray:
        """Return the mask with its edits, as ``beneath``, without the classes that are rejected."""
        label = self._edited()
        label[np.isin(label, self._rejected())] = 0
        return label

    def _edited(self) -> np.ndarray:
        """Return the mask with its edits, as ``beneath``, with the classes that are rejected."""
        return with_edits(self._unjudged(self.rule), self.edits)

    def _rejected(self) -> list[int]:
        """Return the values of the classes that are rejected."""
        return [self._value(name) for name, verdict in self.verdicts.items() if verdict == REJECTED]

    def names_in(self, label: np.ndarray) -> list[str]:
        """Return the classes that a mask of the page shows."""
        return [name for value, name in enumerate(self.common.classes, 1) if (label == value).any()]

    @property
    def taught(self) -> list[str]:
        """The classes of which it is an example, or would be without a rejection."""
        if self._taught is None:  # of an earlier version
            self._taught = self.names_in(read_mask(self.mask_file)) if self.is_example else []
        return self._taught

    @taught.setter
    def taught(self, names: list[str]) -> None:
        self._taught = names

    def files(self) -> list[Path]:
        """Return the files of its result: JSON, mask, overlay, probabilities."""
        return paths_of(self.results.out, self.path.stem, self.names)

    def _probability(self) -> np.ndarray:
        _, _, _, *files = self.files()
        return np.stack([read_mask(file) for file in files]).astype(np.float32) / 255

    def draw(self, edits: list[Edit]) -> None:
        """Take edits in place of the earlier ones, and write them and what follows from them."""
        self.edits = edits
        shown = self.names_in(self._edited())
        self.taught = [name for name in self.taught if name in shown]
        self.make_example()
        self.write()

    def _keep_edits(self) -> None:
        self._edited_file = file_facts(self.path)
        kept = {"edits": self.edits, "photo": self._edited_file, "taught": self.taught}
        write_atomically(self.edits_file, json.dumps(kept))

    def make_example(self) -> None:
        """Make this an example of what it teaches in its present mask; none if nothing of that is left."""
        self._keep_edits()
        label = self.label()
        others = [value for value, name in enumerate(self.common.classes, 1) if name not in self.taught]
        label[np.isin(label, others)] = 0
        if is_empty(label):
            self.leave_examples()
            return
        names = "".join(f"{value}: {name}\n" for value, name in enumerate(self.common.classes, start=1))
        write_atomically(self.mask_file.parents[1] / NAME_FILES[0], names)
        link(self.path, self.copy)
        write_mask(self.mask_file, label, stated=True)

    def remove_class(self, value: int) -> None:
        """Remove a class from edits and mask after the session has; no longer an example if nothing else is on it."""
        self.taught = [name for name in self.taught if name in self.common.classes]
        if self.beneath_file.is_file():
            label = read_mask(self.beneath_file)
            known = np.arange(IGNORE + 1, dtype=np.uint8)
            new_values = np.where((known > value) & (known < IGNORE), known - 1, known)
            new_values[value] = 0
            write_mask(self.beneath_file, new_values[label])
        elif not (self.edits or self.is_example):
            return
        self.draw(edits_without(value, self.edits))
        if self.is_example and is_empty(self.label()):
            self.drop_example()
        self.touch(is_drawn=True)

    def lay(self, label: np.ndarray) -> None:
        """Make this an example of a mask, in place of what lay beneath the edits and of the edits."""
        write_mask(self.beneath_file, label)
        write_mask(self.mask_file, label)  # an example, which no slider changes
        self._written_rule = Rule()  # of no slider
        self._written_edits = None
        self.edits = []
        self.taught = self.names_in(label)
        self.draw([])

    def leave_examples(self) -> None:
        """Make this no example; its edits remain."""
        for file in (self.mask_file, self.copy):
            file.unlink(missing_ok=True)

    def drop_example(self) -> None:
        """Make this no example; without a result nothing is left of its mask."""
        self.taught = []
        self.leave_examples()
        if not self.names:
            self.beneath_file.unlink(missing_ok=True)
            self.draw([])

    def take(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        """Write what the network found; earlier edits lie over it, and a rejected class remains rejected."""
        self.beneath_file.unlink(missing_ok=True)
        self._write(prediction, facts)
        self.write()

    def forget(self) -> None:
        """Remove the result and the verdicts on it; edits remain."""
        self.judge(dict.fromkeys(self.verdicts, ""))
        for file in (self.files()[0], self.beneath_file):
            file.unlink(missing_ok=True)
        self._read_record()

    def write(self, facts: dict[str, Any] | None = None) -> None:
        """Write the result again where its rule or its edits have changed since, or with ``facts`` the first time."""
        is_changed = self._written_rule != self.rule or self._written_edits != self.edits
        if not facts and not (self.names and is_changed):
            return
        if self.names and not self.beneath_file.is_file():
            write_mask(self.beneath_file, self.beneath(Rule()))
        self._write(self.prediction(), {**(facts or {}), **self.facts()})

    def _write(self, prediction: Prediction, facts: dict[str, Any]) -> None:
        verdicts = self.verdicts
        self.results.names = prediction.names
        try:
            self.results.write(prediction, facts)
        finally:  # without space on the disk there is no result any more
            self._read_record()
        self.judge({name: verdict for name, verdict in verdicts.items() if name in self.names})  # they remain

    def facts(self) -> dict[str, Any]:
        """Return the entries of the result's JSON that say how it was made and changed."""
        record = own_record(self.files()[0]) if self.names else {}
        kept = {key: value for key, value in record.items() if key not in OF_PREDICTION}
        return {**kept, **self.rule._asdict(), "corrections": self.edits}

    def judge(self, verdicts: dict[str, str]) -> None:
        """Write verdicts on some classes; "" takes one back."""
        if verdicts:
            self.results.judge(self.files()[0], verdicts)
            self.results.write_verdicts()
            if self.taught:
                self.make_example()

    def prediction(self) -> Prediction:
        """Return the result with its edits; classes that only the user has drawn are certain."""
        label = self.label()
        names = list(self.names or self.common.classes)
        for value, name in enumerate(self.common.classes, 1):
            if name not in names and (label == value).any():
                names.append(name)
        masks = np.stack([label == self._value(name) for name in names])
        values = np.arange(1, len(names) + 1, dtype=np.uint8)
        probability = masks.astype(np.float32)
        if self.names:
            probability[: len(self.names)] = self._probability()
        presence = None
        min_presence = self.common.network_rule.min_presence
        if min_presence is not None:
            presence = [self._presence_of(name, mask) for name, mask in zip(names, masks, strict=True)]
        return Prediction(
            image=read_photo(self.path),
            names=names,
            mask=(masks * values[:, None, None]).max(0),
            probability=probability,
            presence=presence,
            min_presence=min_presence,
            calibration=self.common.calibration,
            photo=self.path,
        )

    def _presence_of(self, name: str, mask: np.ndarray) -> float:
        """Return the presence score of a class, 1 if only edits show it."""
        return self.presence.get(name) or float(mask.any())

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
        label = self.label() if self.names or self.is_example else np.zeros((1, 1), np.uint8)
        height, width, _ = picture.shape
        return class_map(picture, cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST))

    def layer(self) -> bytes:
        """Return the mask beneath the edits as a PNG, transparent where there is none."""
        colours = np.zeros((IGNORE + 1, 4), np.uint8)  # blue, green, red, opacity
        for value in range(1, IGNORE):
            red, green, blue = class_colour(value)
            colours[value] = (blue, green, red, 255)
        colours[IGNORE] = UNKNOWN_COLOUR
        _, png = cv2.imencode(".png", colours[self.beneath(self.rule)])
        return png.tobytes()


def jpeg(picture: np.ndarray) -> bytes:
    """Return an RGB picture (h, w, 3) uint8 as a JPEG."""
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return content.tobytes()


def mask_at(probability: np.ndarray, threshold: float, shown: Sequence[bool]) -> np.ndarray:
    """Return the classes of pixels (H, W) uint8 at a threshold among those shown, of probabilities (n, H, W)."""
    candidates = np.where(np.array(shown)[:, None, None], probability, 0)
    background = np.maximum(1 - probability.sum(0), 0)
    inside = candidates.max(0) * (1 - threshold) > background * threshold
    mask = np.where(inside, candidates.argmax(0) + 1, 0).astype(np.uint8)
    return without_specks(mask)
