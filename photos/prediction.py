"""The network's result for one photo: a mask, a probability map and a presence score for each class, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotations.annotation import content_errors
from annotations.shapes import decoded, encoded
from photos.calibration import Calibration
from photos.examples import check_class_name
from photos.read_photos import QUERY_FILE
from photos.refine import without_specks
from util.files.errors import UserError
from util.files.mask_images import write_mask
from util.files.names import file_word
from util.files.overlay import PREDICTION_COLOUR, labelled, write_picture
from util.files.writing import write_atomically

NETWORK = "network"  # whom a mask is by that no person has confirmed
CRUMB, CRUMB_SHARE = 64, 0.0002  # a part of fewer pixels, or of less of its photo, is no object
LEAST_SHARE = 0.001  # of a class's mask in its photo; a smaller one is no object
DIGITS = 6  # after the decimal point, of shares and scores


@dataclass(frozen=True)
class Decision:
    """The rules that turn scores into a mask; UserError: ``min_presence`` is not in 0..1."""

    min_presence: float | None = None  # least presence score of a class that is shown; of a segmenter, None: as fitted
    refine: bool = True  # whether edges are moved to the photo's before, and specks dropped after (``refine.py``)

    def __post_init__(self) -> None:
        if self.min_presence is not None and not 0 <= self.min_presence <= 1:
            raise UserError(f"min_presence {self.min_presence:g}: is no presence score; give one from 0 to 1")


@dataclass(frozen=True)
class Part:
    """One connected part of a class."""

    name: str
    box: tuple[int, int, int, int]  # x0, y0, x1, y1; covers columns x0 .. x1 - 1 and rows y0 .. y1 - 1
    area: int  # in pixels
    score: float  # as that of a class's mask, of this part
    _parts: np.ndarray = field(repr=False)  # (H, W) int32, shared by all parts of the class
    _part: int = field(repr=False)

    @property
    def mask(self) -> np.ndarray:
        """Its pixels, (H, W) bool."""
        return self._parts == self._part


@dataclass(frozen=True, repr=False)
class Prediction:
    """The result for one photo.

    Attributes:
        image: the upright photo, (H, W, 3) uint8.
        names: the classes; class i has the value i + 1 in the mask.
        mask: (H, W) uint8, 0 is background.
        probability: (classes, H, W) float32; classes and background sum to 1. With a calibration they hold if the photo
            shows the class.
        presence: the probability that the photo shows each class; None without a calibration.
        photo: the photo's file, if it has one.
    """

    image: np.ndarray
    names: list[str]
    mask: np.ndarray
    probability: np.ndarray
    presence: Sequence[float] | None = None
    calibration: Calibration | None = None  # of the scores
    photo: Path | None = None
    # Entries of a result's JSON that say how it was made and of which file
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_margins(
        cls,
        image: np.ndarray,
        names: list[str],
        margins: np.ndarray,
        presence: Sequence[float] | None = None,
        calibration: Calibration | None = None,
        *,
        decision: Decision = Decision(),
    ) -> Prediction:
        """Return the softmax over classes and background at each pixel, and the mask that a decision makes of it.

        Args:
            image: RGB, (H, W, 3) uint8.
            names: of the classes.
            margins: each class's logit minus the background's, (classes, H, W) float32.
            presence: each class's score in 0..1.
            calibration: of the weights; it scales the margins to probabilities.
            decision: the rules that turn scores into a mask.
        """
        probability = _softmax(margins.astype(np.float32) if calibration is None else calibration.margins(margins))
        if presence is not None and decision.min_presence is not None:
            is_shown = np.array(presence) >= decision.min_presence
            margins = np.where(is_shown[:, None, None], margins, -np.inf)
        mask = np.where(margins.max(0) > 0, margins.argmax(0) + 1, 0).astype(np.uint8)
        mask = without_crumbs(without_specks(mask) if decision.refine else mask)
        is_little = np.bincount(mask.ravel()) < LEAST_SHARE * mask.size
        mask[is_little[mask]] = 0
        return cls(image, names, mask, probability, presence, calibration)

    @cached_property
    def _background(self) -> np.ndarray:
        """The probability of none of the classes, (H, W), above 0."""
        return np.clip(1 - self.probability.sum(0), np.finfo(np.float32).tiny, None)

    def _alone(self, index: int) -> np.ndarray:
        """Return the probability of a class as it would be without the others, (H, W), for which scores are fitted.

        It is less by the share of the class's pixels that others take.
        """
        own = self.probability[index]
        if len(self.names) == 1:
            return own
        alone = own / (own + self._background)
        kept = (self.mask == index + 1).sum()
        lost = ((self.mask > 0) & (self.mask != index + 1) & (alone > 0.5)).sum()
        return alone * (kept / max(kept + lost, 1))

    def _score(self, index: int, pixels: float) -> float:
        """Return the score of pixels of a class by its index, from their mean probability."""
        if self.calibration is not None and self.presence is not None:
            pixels = self.calibration.score(self.presence[index], pixels)
        return round(float(pixels), DIGITS)

    def instances(self) -> list[Part]:
        """Return the connected parts of each class, the largest first, with name, box, area, score and mask.

        A box is left, top, right, bottom; right and bottom are excluded.
        """
        instances: list[Part] = []
        for index, name in enumerate(self.names):
            inside = (self.mask == index + 1).astype(np.uint8)
            count, parts, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
            sums = np.bincount(parts.ravel(), self._alone(index).ravel(), count)
            by_area = sorted(range(1, count), key=lambda part: -facts[part, cv2.CC_STAT_AREA])
            for part in by_area:
                left, top, width, height, area = facts[part].tolist()
                box = (left, top, left + width, top + height)
                instances.append(Part(name, box, area, self._score(index, sums[part] / area), parts, part))
        return instances

    def save(self, folder: str | Path, name: str | None = None) -> list[Path]:
        """Write mask, overlay, probabilities and JSON, named by ``name`` or the photo; return their paths."""
        if name is None and self.photo is None:
            raise UserError("save: this photo has no file; name its results, as in save(folder, 'frame_0001')")
        query = self.photo or Path(str(name))
        stem = query.stem if name is None else check_class_name(str(name), "save:")
        paths = paths_of(Path(folder), stem, self.names)
        rows = self.summary(masks=True)
        self.write_probabilities(paths, rows)
        write_result(paths, query, self.image, rows, self.facts)
        return paths

    def write_probabilities(self, paths: Sequence[Path], rows: list[dict[str, Any]]) -> None:
        """Write the probability of each class to ``paths_of`` a photo, and name it in the class's row."""
        for row, probability, file in zip(rows, self.probability, paths[3:], strict=True):
            pixels = (probability * 255).round().astype(np.uint8)
            write_atomically(file, cv2.imencode(".png", pixels)[1].tobytes())
            row["probability"] = file.name

    def to_supervision(self) -> Any:
        """Return ``instances()`` as ``Detections`` of the package supervision; ids are indices of ``names``."""
        import supervision

        parts = self.instances()
        return supervision.Detections(
            xyxy=np.array([part.box for part in parts], np.float32).reshape(-1, 4),
            mask=np.array([part.mask for part in parts], bool).reshape(-1, *self.mask.shape),
            confidence=np.array([part.score for part in parts], np.float32),
            class_id=np.array([self.names.index(part.name) for part in parts], int),
            data={"class_name": np.array([part.name for part in parts], str)},
        )

    def overlay(self) -> np.ndarray:
        """Return the photo with the segmented pixels tinted and outlined, (H, W, 3) uint8."""
        return labelled(self.image, self.mask, PREDICTION_COLOUR, several=len(self.names) > 1)

    def summary(self, masks: bool = False, instances: bool = False) -> list[dict[str, Any]]:
        """Return a dictionary of each class: name, value in the mask, by, presence, pixels, parts, share, box, score.

        ``by`` is "network", ``parts`` the number of connected parts, ``share`` the mask's share of the photo. With
        ``masks`` there are ``runs`` too, the mask as COCO's run lengths, which JSON can hold, and with ``instances``
        these of each connected part.

        The score is the probability that the mask overlaps the object by half; without a calibration the mean
        probability of its pixels; in both cases as if there were no other class. Box and score are None for a class
        without pixels.
        """
        rows = []
        parts = self.instances() if instances else []
        for index, name in enumerate(self.names):
            inside = self.mask == index + 1
            score = None
            if inside.any():
                score = self._score(index, float(self._alone(index)[inside].mean(dtype=np.float64)))
            presence = None if self.presence is None else round(self.presence[index], DIGITS)
            row = {
                **{"name": name, "value": index + 1, "by": NETWORK, "presence": presence, "score": score},
                **extent_of(inside),
            }
            if masks:
                row["runs"] = encoded(inside)
            if instances:
                row["instances"] = [
                    {"pixels": part.area, "box": part.box, "score": part.score, "runs": encoded(part.mask)}
                    for part in parts
                    if part.name == name
                ]
            rows.append(row)
        return rows


def extent_of(inside: np.ndarray) -> dict[str, Any]:
    """Return the numbers of a class's mask (H, W) bool that its row in a result has: pixels, parts, share and box."""
    mask = inside.astype(np.uint8)
    pixels = int(mask.sum())
    count, _ = cv2.connectedComponents(mask, connectivity=8)
    left, top, width, height = cv2.boundingRect(mask)
    box = [left, top, left + width, top + height] if pixels else None
    return {"pixels": pixels, "parts": count - 1, "share": round(pixels / mask.size, DIGITS), "box": box}


def write_result(
    paths: Sequence[Path],
    query: Path,
    image: np.ndarray,
    rows: list[dict[str, Any]],
    facts: dict[str, Any],
    *,
    pictures: bool = True,
) -> None:
    """Write JSON, overlay and mask of a photo by the rows of its classes; a kill leaves no mask of another JSON.

    Args:
        paths: as ``paths_of``.
        query: the photo's file, or what names it.
        image: the photo, (H, W, 3) uint8.
        rows: of its classes, as ``Prediction.summary(masks=True)``.
        facts: entries of the JSON beside them, and facts of the photo's file from before it was read, if it has one.
        pictures: whether mask and overlay are written.
    """
    path, mask, overlay_path, *_ = paths
    remove(mask)
    height, width = image.shape[:2]
    record = {"query": str(query), "width": width, "height": height, QUERY_FILE: None}
    label = np.zeros((height, width), np.uint8)
    for row in rows:
        label[decoded(row["runs"])] = row["value"]
    if pictures:
        record |= {"mask": mask.name, "overlay": overlay_path.name}
    write_atomically(path, json.dumps({**record, "classes": rows, **facts}, indent=2) + "\n")
    if pictures:
        write_picture(overlay_path, labelled(image, label, PREDICTION_COLOUR, several=len(rows) > 1))
        write_mask(mask, label, stated=True)


def remove(file: Path) -> None:
    """Remove a file of a result, if it is there; UserError: it cannot be, as where a folder is in its place."""
    with content_errors(f"{file}: cannot be removed (", "); move it away"):
        file.unlink(missing_ok=True)


def _softmax(margins: np.ndarray) -> np.ndarray:
    """Return the probability of each class beside the background's logit 0, in place of margins (classes, H, W)."""
    highest = np.maximum(margins.max(0), 0)
    margins -= highest  # in place, since maps of the photo's size are large
    np.exp(margins, out=margins)
    margins /= margins.sum(0) + np.exp(-highest)
    return margins


def without_crumbs(mask: np.ndarray) -> np.ndarray:
    """Return a mask of classes (H, W) uint8 without the parts that are too small to be an object."""
    out = mask.copy()
    for value in np.unique(mask[mask > 0]):
        inside = (mask == value).astype(np.uint8)
        _, parts, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
        is_crumb = facts[:, cv2.CC_STAT_AREA] < max(CRUMB, CRUMB_SHARE * mask.size)
        is_crumb[0] = False
        out[is_crumb[parts]] = 0
    return out


def paths_of(folder: Path, stem: str, names: Sequence[str] = ()) -> list[Path]:
    """Return the paths of a photo's JSON, mask and overlay, and of the probabilities of each class."""
    endings = [".json", "_mask.png", "_overlay.jpg", *(f"_probability_{file_word(name)}.png" for name in names)]
    return [folder / f"{stem}{ending}" for ending in endings]


def percent(share: float) -> str:
    """Return a share in percent with two digits, as in ``31 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
