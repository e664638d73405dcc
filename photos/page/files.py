"""The files of a photo on the page beside the state: its result, its masks and its example; and its pictures.

Results are those of ``predict.py``, so that each can go on with the other's work. The folder ``page`` beside them holds
the state, and the mask beneath a photo's edits where its result has another one: what the network found, or what a file
of annotations says. ``examples`` holds the examples and their masks, for ``--supports``.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotations.mask_files import OF_MASKS, OF_PHOTOS
from annotations.masks import NAME_FILES
from annotations.pictures import header_of
from photos.page.drawing import with_edits, without_crumbs
from photos.page.state import Found, Photo, Rule, State
from photos.photo_files import read_photo
from photos.prediction import EVEN, Prediction, at_most, is_same_file, paths_of
from photos.refine import without_specks
from photos.results import Results, own_record
from photos.segmenter import Segmenter
from util.files import write_atomically
from util.files.images import upright_size
from util.files.made import link
from util.files.mask_images import read_mask, write_mask
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


class Files:
    """The files of all photos of a session, and the network's own rule."""

    def __init__(self, results: Results, segmenter: Segmenter):
        self.results = results
        self.calibration = segmenter.calibration
        own_threshold = EVEN if self.calibration is None else self.calibration.own_threshold
        self.network_rule = Rule(own_threshold, segmenter.min_presence)

    def beneath(self, photo: Photo) -> Path:
        """Return the file of the mask without edits."""
        return self.results.out / PAGE / "beneath" / f"{Path(photo.path).stem}.png"

    def example(self, photo: Photo) -> tuple[Path, Path]:
        """Return the files of a photo as an example: the photo and its mask."""
        home = self.results.out / EXAMPLES
        path = Path(photo.path)
        return home / OF_PHOTOS[0] / path.name, home / OF_MASKS[0] / f"{path.stem}.png"

    def of_result(self, photo: Photo, names: Sequence[str] = ()) -> list[Path]:
        """Return the files of its result: JSON, mask, overlay, probabilities of classes."""
        return paths_of(self.results.out, Path(photo.path).stem, names)

    def record(self, photo: Photo) -> dict[str, Any]:
        """Return the content of its result's JSON, empty where there is none."""
        return own_record(self.of_result(photo)[0])

    def found(self, photo: Photo) -> Found | None:
        """Return its result as the file states it; None where there is none."""
        record = self.record(photo)
        if record.get("query") != photo.path or "mask" not in record:
            return None
        rows = record["classes"]
        drawn = record.get("drawn", [])
        return Found(
            names=[row["name"] for row in rows if row["name"] not in drawn],
            drawn=[row["name"] for row in rows if row["name"] in drawn],
            presence={row["name"]: row["presence"] for row in rows},
            share={row["name"]: row["share"] for row in rows},
            inputs=record.get("inputs"),
            file=record.get("query_file"),
            rule=Rule(record.get("threshold"), record.get("min_presence")),
            edits=record.get("corrections", []),
        )

    def label(self, state: State, photo: Photo, is_judged: bool = True) -> np.ndarray:
        """Return its mask, (H, W) uint8 in the page's values, 255 where it is unknown.

        The classes that are rejected are left out where it ``is_judged``.
        """
        before = self._without_edits(state, photo, state.rule_of(photo))
        label = without_crumbs(before, with_edits(before, photo.edits))
        if is_judged:
            label[np.isin(label, [state.classes.index(name) + 1 for name in photo.rejected])] = 0
        return label

    def _without_edits(self, state: State, photo: Photo, rule: Rule) -> np.ndarray:
        """Return its mask without edits at a rule, as ``label``."""
        has_result = photo.found is not None and bool(photo.found.names)
        if has_result and rule != Rule():
            return _values(state, photo.names)[self._mask_by(photo, rule)]
        if photo.beneath is not None:
            return _values(state, photo.beneath)[read_mask(self.beneath(photo))]
        if has_result:
            return _values(state, photo.names)[read_mask(self.of_result(photo)[1])]
        return np.zeros(upright_size(*header_of(Path(photo.path))), np.uint8)

    def _mask_by(self, photo: Photo, rule: Rule) -> np.ndarray:
        """Return the mask of its result at a rule, (H, W) uint8 in the values of the result."""
        found = photo.found
        assert found is not None
        threshold = rule.threshold or self.network_rule.threshold or EVEN
        least = self.network_rule.min_presence if rule.min_presence is None else rule.min_presence
        scores = [found.presence[name] for name in found.names]
        shown = [least is None or score is None or score >= least for score in scores]
        return mask_at(self._probability(photo, found.names), threshold, shown)

    def _probability(self, photo: Photo, names: Sequence[str]) -> np.ndarray:
        _, _, _, *files = self.of_result(photo, names)
        return np.stack([read_mask(file) for file in files]).astype(np.float32) / 255

    def is_current(self, state: State, photo: Photo) -> bool:
        """Return whether its result, if it has one, holds its mask as it is now."""
        found = photo.found
        return found is None or (found.rule == state.rule_of(photo) and found.edits == photo.edits)

    def is_outdated(self, photo: Photo, of_result: bool = True, of_example: bool = True) -> bool:
        """Return whether its file was replaced since the network looked at it, or since it was annotated."""
        facts = [photo.found.file] if of_result and photo.found else []
        if of_example and photo.teaches and photo.annotated is not None:
            facts.append(photo.annotated)
        path = Path(photo.path)
        return path.is_file() and not all(is_same_file(of_file, path) for of_file in facts)

    def keep_beneath(self, photo: Photo) -> Photo:
        """Keep the mask that the network found, before the user's edits take its place in the result."""
        if photo.beneath is not None or photo.found is None or not photo.found.names:
            return photo
        write_mask(self.beneath(photo), read_mask(self.of_result(photo)[1]))
        return replace(photo, beneath=photo.names)

    def write_result(self, state: State, photo: Photo, facts: dict[str, Any]) -> Found | None:
        """Write its result with its edits, ``facts`` of one that has none yet; return what its file states then."""
        prediction = self.prediction(state, photo)
        searched = photo.found.names if photo.found else []
        drawn = [name for name in prediction.names if name not in searched]
        return self.write_prediction(photo, prediction, {**facts, **self.facts(state, photo), "drawn": drawn})

    def write_prediction(self, photo: Photo, prediction: Prediction, facts: dict[str, Any]) -> Found | None:
        """Write a prediction as its result, and return what its file states then."""
        self.results.names = prediction.names
        self.results.write(prediction, facts)
        return self.found(photo)

    def write_verdicts(self, photo: Photo) -> None:
        """Write the verdicts on its result as ``review.html`` does."""
        words = dict.fromkeys(photo.names, "") | photo.verdicts
        self.results.judge(self.of_result(photo)[0], words)
        self.results.write_verdicts()

    def remove_result(self, photo: Photo) -> None:
        """Remove its result, and the verdicts on it; its pictures remain."""
        record_file = self.of_result(photo)[0]
        self.results.judge(record_file, dict.fromkeys(photo.names, ""))
        record_file.unlink(missing_ok=True)

    def write_example(self, state: State, photo: Photo) -> None:
        """Write what it teaches as an example, or remove it."""
        copy, mask = self.example(photo)
        if not photo.teaches:
            mask.unlink(missing_ok=True)
            copy.unlink(missing_ok=True)
            return
        label = self.label(state, photo)
        others = [value for value, name in enumerate(state.classes, 1) if name not in photo.teaches]
        label[np.isin(label, others)] = 0
        names = "".join(f"{value}: {name}\n" for value, name in enumerate(state.classes, 1) if name)
        write_atomically(mask.parents[1] / NAME_FILES[0], names)
        link(Path(photo.path), copy)
        write_mask(mask, label, stated=True)

    def facts(self, state: State, photo: Photo) -> dict[str, Any]:
        """Return the entries of the result's JSON that say how it was made and changed."""
        record = self.record(photo) if photo.found else {}
        kept = {key: value for key, value in record.items() if key not in OF_PREDICTION}
        rule = state.rule_of(photo)
        changes = {"threshold": rule.threshold, "min_presence": rule.min_presence, "corrections": photo.edits}
        return {**kept, **changes}

    def prediction(self, state: State, photo: Photo) -> Prediction:
        """Return its result with its edits; classes that only the user has drawn are certain, without a score."""
        label = self.label(state, photo)
        searched = [] if photo.found is None else photo.found.names
        names = list(searched or state.names)
        names += [name for name in shown_in(state, label) if name not in names]
        masks = np.stack([label == state.classes.index(name) + 1 for name in names])
        probability = masks.astype(np.float32)
        if searched:
            probability[: len(searched)] = self._probability(photo, searched)
        values = np.arange(1, len(names) + 1, dtype=np.uint8)
        presence = None
        if self.network_rule.min_presence is not None:
            presence = [photo.found.presence[name] if photo.found and name in searched else None for name in names]
        return Prediction(
            image=read_photo(photo.path),
            names=names,
            mask=(masks * values[:, None, None]).max(0),
            probability=probability,
            presence=presence,
            min_presence=self.network_rule.min_presence,
            calibration=self.calibration,
            photo=Path(photo.path),
        )

    def thumbnail(self, state: State, photo: Photo) -> np.ndarray:
        """Return a small picture of the photo with its mask, (h, w, 3) uint8."""
        picture = at_most(read_photo(photo.path), THUMBNAIL)
        label = self.label(state, photo)
        height, width, _ = picture.shape
        return class_map(picture, cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST))

    def layer(self, state: State, photo: Photo) -> bytes:
        """Return its mask as a PNG, transparent where there is none."""
        colours = np.zeros((IGNORE + 1, 4), np.uint8)  # blue, green, red, opacity
        for value in range(1, IGNORE):
            red, green, blue = class_colour(value)
            colours[value] = (blue, green, red, 255)
        colours[IGNORE] = UNKNOWN_COLOUR
        _, png = cv2.imencode(".png", colours[self.label(state, photo)])
        return png.tobytes()


def _values(state: State, names: Sequence[str]) -> np.ndarray:
    """Return the page's values of the values of a mask by its classes, 0 of classes that are no longer there."""
    table = np.zeros(IGNORE + 1, np.uint8)
    table[IGNORE] = IGNORE
    for value, name in enumerate(names, 1):
        table[value] = state.classes.index(name) + 1 if name in state.classes else 0
    return table


def shown_in(state: State, label: np.ndarray) -> list[str]:
    """Return the classes that a mask of the page shows."""
    values = np.unique(label)
    return [name for value, name in enumerate(state.classes, 1) if name and value in values]


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
