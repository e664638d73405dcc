"""The result for one photo: a mask, a probability map and a presence score for each class, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotations.results import PERSON
from annotations.shapes import encoded
from photos.calibration import Calibration
from photos.examples import check_class_name
from photos.refine import without_specks
from util.files import content_digest, file_word, state_of, write_atomically
from util.files.errors import UserError
from util.files.mask_images import write_mask
from util.files.overlay import PREDICTION_COLOUR, class_map, overlay, write_picture

THUMBNAILS, THUMBNAIL_SIDE = "review", 320  # their folder; pixels of the longer side
EVEN = 0.5  # share of a class beside the background at which both are equally probable
NETWORK = "network"  # whom a mask is by that no person has confirmed
CRUMB, CRUMB_SHARE = 64, 0.0002  # a part of fewer pixels, or of less of its photo, is no object
DIGITS = 6  # after the decimal point, of shares and scores


@dataclass(frozen=True)
class Decision:
    """The rules that turn scores into a mask."""

    min_presence: float | None = None  # least presence score of a class that is shown; None: that of the calibration
    threshold: float | None = None  # least probability of a class's pixels; None: where its logit is the largest
    refine: bool = True  # whether edges are moved to the photo's before, and specks dropped after (``refine.py``)


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
        presence: the probability that the photo shows each class; None without a calibration, and for a class that the
            user has drawn.
        min_presence: the presence score below which a class has no pixel; None without a calibration.
        own_threshold: the network's own ``threshold``, the least probability of an object's pixel.
        photo: the photo's file, if it has one.
    """

    image: np.ndarray
    names: list[str]
    mask: np.ndarray
    probability: np.ndarray
    presence: Sequence[float | None] | None = None
    min_presence: float | None = None
    own_threshold: float = EVEN
    calibration: Calibration | None = None  # of the scores
    photo: Path | None = None
    persons: frozenset[str] = frozenset()  # classes whose masks are a person's
    facts: dict[str, Any] = field(default_factory=dict)  # entries of a result's JSON that say how it was made

    @classmethod
    def from_margins(
        cls,
        image: np.ndarray,
        names: list[str],
        margins: np.ndarray,
        presence: Sequence[float | None] | None = None,
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
        min_presence = None
        if calibration is not None and presence is not None:
            min_presence = calibration.threshold if decision.min_presence is None else decision.min_presence
            is_shown = np.array([score is None or score >= min_presence for score in presence])
            margins = np.where(is_shown[:, None, None], margins, -np.inf)
        mask = _decide(margins, probability, decision)
        own_threshold = EVEN if calibration is None else calibration.own_threshold
        return cls(image, names, mask, probability, presence, min_presence, own_threshold, calibration)

    @classmethod
    def blank(cls, image: np.ndarray, photo: Path) -> Prediction:
        """Return a prediction of no class."""
        shape = image.shape[:2]
        return cls(image, [], np.zeros(shape, np.uint8), np.zeros((0, *shape), np.float32), [], photo=photo)

    def with_persons(self, masks: Mapping[str, np.ndarray], order: Sequence[str] = ()) -> Prediction:
        """Return the prediction with a person's masks, class -> (H, W) bool, over the network's, in some order.

        The probability of a class that the network has searched stays.
        """
        known_names = {*self.names, *masks}
        names = [name for name in dict.fromkeys([*order, *self.names, *masks]) if name in known_names]
        mask = np.zeros_like(self.mask)
        probability = np.zeros((len(names), *mask.shape), np.float32)
        for value, name in enumerate(self.names, 1):
            probability[names.index(name)] = self.probability[value - 1]
            if name not in masks:
                mask[self.mask == value] = names.index(name) + 1
        for name, inside in masks.items():
            mask[inside] = names.index(name) + 1
            if name not in self.names:
                probability[names.index(name)] = inside
        known = dict(zip(self.names, self._presences()))
        presence = [None if name in masks else known[name] for name in names]
        persons = self.persons | masks.keys()
        return replace(
            self, names=names, mask=mask, probability=probability, presence=presence, persons=frozenset(persons)
        )

    def __repr__(self) -> str:
        classes = [f"{row['name']}: {percent(row['share'])}" for row in self.summary()]
        return f"<Prediction {self.mask.shape[1]} x {self.mask.shape[0]}, {', '.join(classes)}>"

    def _score(self, index: int, pixels: float) -> float:
        """Return the score of pixels of a class by its index, from their mean probability."""
        if self.names[index] in self.persons:
            return 1.0
        presence = self._presences()[index]
        if self.calibration is not None and presence is not None:
            pixels = self.calibration.score(presence, pixels)
        return round(float(pixels), DIGITS)

    def _presences(self) -> Sequence[float | None]:
        """Return ``presence``, None for each class where there is none."""
        return self.presence or [None] * len(self.names)

    def instances(self) -> list[Part]:
        """Return the connected parts of each class, the largest first, with name, box, area, score and mask.

        A box is left, top, right, bottom; right and bottom are excluded.
        """
        instances = list[Part]()
        for value, name in enumerate(self.names, 1):
            inside = (self.mask == value).astype(np.uint8)
            count, parts, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
            sums = np.bincount(parts.ravel(), self.probability[value - 1].ravel(), count)
            by_area = sorted(range(1, count), key=lambda part: -facts[part, cv2.CC_STAT_AREA])
            for part in by_area:
                left, top, width, height, area = facts[part].tolist()
                box = (left, top, left + width, top + height)
                score = self._score(value - 1, sums[part] / area)
                instances.append(Part(name, box, area, score, parts, part))
        return instances

    def save(self, folder: str | Path, name: str | None = None) -> list[Path]:
        """Write mask, overlay, probabilities and JSON, named by ``name`` or the photo; return their paths."""
        if name is not None:
            stem = check_class_name(str(name), "save:")
        elif self.photo is not None:
            stem = self.photo.stem
        else:
            raise UserError("save: this photo has no file; name its results, as in save(folder, 'frame_0001')")
        paths = paths_of(Path(folder), stem, self.names)
        self.write(paths, self.facts)
        return paths

    def write(self, paths: list[Path], facts: dict[str, Any], pictures: bool = True, instances: bool = False) -> None:
        """Write the files of ``paths_of``, the JSON last, so that it never is there without the others.

        ``pictures`` are those files, ``instances`` rows of the JSON.
        """
        path, mask, overlay_path, *probabilities = paths
        path.unlink(missing_ok=True)
        query = self.photo or Path(path.stem)
        height, width = self.mask.shape
        record = {"query": str(query), "width": width, "height": height, "query_file": file_facts(query)}
        if pictures:
            write_mask(mask, self.mask, stated=True)
            shown = self.overlay()
            write_picture(overlay_path, shown)
            write_picture(path.parent / THUMBNAILS / overlay_path.name, at_most(shown, THUMBNAIL_SIDE))
            record |= {"mask": mask.name, "overlay": overlay_path.name}
        rows = self.summary(masks=True)
        if instances:
            self._add_instances(rows)
        if pictures:
            for row, probability, file in zip(rows, self.probability, probabilities, strict=True):
                pixels = (probability * 255).round().astype(np.uint8)
                write_atomically(file, cv2.imencode(".png", pixels)[1].tobytes())
                row["probability"] = file.name
        write_atomically(path, json.dumps({**record, "classes": rows, **facts}, indent=2) + "\n")

    def _add_instances(self, rows: list[dict[str, Any]]) -> None:
        """Add the connected parts of each class to its row of the JSON."""
        parts = self.instances()
        for row in rows:
            row["instances"] = [
                {"pixels": part.area, "box": part.box, "score": part.score, "runs": encoded(part.mask)}
                for part in parts
                if part.name == row["name"]
            ]

    def to_supervision(self) -> Any:
        """Return ``instances()`` as ``Detections`` of the package supervision; ids are places in ``names``."""
        try:
            import supervision
        except ModuleNotFoundError:
            raise UserError("to_supervision: supervision is not installed; pip install supervision") from None
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
        if len(self.names) == 1:
            return overlay(self.image, self.mask, PREDICTION_COLOUR)
        return class_map(self.image, self.mask)

    def summary(self, masks: bool = False) -> list[dict[str, Any]]:
        """Return a dictionary of each class: name, value in the mask, by, presence, pixels, parts, share, box, score.

        ``by`` is whom the mask is by, ``parts`` the number of connected parts, ``share`` that of the photo. With
        ``masks`` there are ``runs`` too, the mask as COCO's run lengths, which JSON can hold.

        The score is the probability that the mask overlaps the object by half; without a calibration, and of base
        classes, the mean probability of its pixels. Box and score are None for a class without pixels.
        """
        rows = []
        for value, (name, presence) in enumerate(zip(self.names, self._presences()), 1):
            inside = self.mask == value
            pixels = int(inside.sum())
            parts = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)[0] - 1
            box = score = None
            if pixels:
                left, top, width, height = cv2.boundingRect(inside.astype(np.uint8))
                box = [left, top, left + width, top + height]
                score = self._score(value - 1, float(self.probability[value - 1][inside].mean(dtype=np.float64)))
            row = {
                "name": name,
                "value": value,
                "by": PERSON if name in self.persons else NETWORK,
                "presence": None if presence is None else round(presence, DIGITS),
                "pixels": pixels,
                "parts": parts,
                "share": round(pixels / inside.size, DIGITS),
                "box": box,
                "score": score,
            }
            if masks:
                row["runs"] = encoded(inside)
            rows.append(row)
        return rows


def _softmax(margins: np.ndarray) -> np.ndarray:
    """Return the probability of each class beside the background's logit 0, in place of margins (classes, H, W)."""
    highest = np.maximum(margins.max(0), 0)
    margins -= highest  # in place, since maps of the photo's size are large
    np.exp(margins, out=margins)
    margins /= margins.sum(0) + np.exp(-highest)
    return margins


def _decide(margins: np.ndarray, probability: np.ndarray, decision: Decision) -> np.ndarray:
    """Return the mask (H, W) uint8 of margins, -inf of hidden classes, and probabilities, both (classes, H, W)."""
    best = margins.argmax(0)
    largest = margins.max(0)
    inside = largest > 0
    if decision.threshold is not None:
        probability_of_best = np.take_along_axis(probability, best[None], 0)[0]
        inside = (probability_of_best >= decision.threshold) & (largest > -np.inf)
    mask = np.where(inside, best + 1, 0).astype(np.uint8)
    return without_crumbs(without_specks(mask) if decision.refine else mask)


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


def at_most(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture with at most ``side`` pixels on its longer side."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(round(scale * width), 1), max(round(scale * height), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def paths_of(folder: Path, stem: str, names: Sequence[str]) -> list[Path]:
    """Return the paths of a photo's JSON, mask and overlay, and of the probabilities of each class."""
    endings = [".json", "_mask.png", "_overlay.jpg", *(f"_probability_{file_word(name)}.png" for name in names)]
    return [folder / f"{stem}{ending}" for ending in endings]


def percent(share: float) -> str:
    """Return a share in percent with two digits, as in ``31 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"


def file_facts(query: Path) -> dict[str, Any] | None:
    """Return the state of a photo's file and the digest of its content; None for a photo without one."""
    if not query.is_file():
        return None
    return {"state": [*state_of(query)], "digest": content_digest(query).hex()}


def is_same_file(facts: Any, query: Path) -> bool:
    """Return whether a photo's file holds what its ``file_facts`` say; it is read where its state is another one."""
    if not (isinstance(facts, dict) and query.is_file()):
        return False
    return facts.get("state") == [*state_of(query)] or facts.get("digest") == content_digest(query).hex()
