"""Supports judged by each other: which annotations are doubtful, and whether they are of a material.

With three supports of each class or more, each is segmented given the others (with more than five, in five folds). A
support that is not found while the others are is named, unless it is too small. With one support of each class, a line
asks whether an annotation along much of the photo's border is of a material; the method never changes by itself. The
only support of a class that masks many photos is judged by them: masks of its object find it as supports.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from annotations.shapes import decoded
from photos.encoded_class import EncodedClass, encode_shots
from photos.examples import Support
from photos.photo_files import read_photo
from photos.segmenter import SMALL, Segmenter
from util.engine import OUTLOOK
from util.files.errors import UserError
from util.files.palette import IGNORE
from util.files.progress import ProgressBar

FOLDS, LEAST = 5, 3  # supports of each class, for folds
SCORED = 10  # supports of a class that are segmented, at most
ALONG_BORDER = 1 / 3  # share of the photo's border along which a material lies
STEP = 4  # between the pixels that are compared
MANY, LEAST_PHOTOS = 0.5, 8  # share of the photos with a mask above which the only support is judged; of how many
TRIED = 3  # of these masks, from the best to the worst by their presence scores
WEAK = 25.0  # median IoU of the only support given one of these masks, below which it is weak
ClassRow = tuple[float, Path, dict[str, Any]]  # presence score, photo, and the class's row of the photo's result
AGREED, DOUBTFUL = 50.0, 0.1  # median IoU of the others, and the share of it below which a support is named


@dataclass
class SupportPhoto:
    """A photo among the supports, sized for the network."""

    image: Tensor  # (3, S, S)
    label: Tensor  # (S, S) int64, 0 background, the number of a class, 255 unknown
    shots: dict[int, int] = field(default_factory=dict)  # class index -> index of its support
    fold: int = 0  # .. ``FOLDS`` - 1

    def add(self, number: int, shot: int, label: Tensor) -> None:
        """Add the support of a class, by their indices, with its label (S, S)."""
        self.shots[number] = shot
        self.label[(label == IGNORE) & (self.label == 0)] = IGNORE
        self.label[label == 1] = number + 1


def check_supports(segmenter: Segmenter, progress: bool = False) -> Segmenter:
    """Check the examples as ``predict.py`` does; return the segmenter, or an equal one whose ``notes`` tell more.

    It is itself with two examples of a class, without an encoder, or of a fixed number of examples above one.
    """
    method = segmenter.model
    shots = [len(known.sources) for known in segmenter.classes]
    if not shots or not method.has_encoder or method.trained_shots not in (None, 1):
        return segmenter
    if hint := material_hint(segmenter):
        out = copy.copy(segmenter)
        out.notes = [*segmenter.notes, hint]
        return out
    if min(shots) < LEAST:
        return segmenter
    return _judge_supports(segmenter, progress)


def _judge_supports(segmenter: Segmenter, progress: bool) -> Segmenter:
    """Return a copy of the segmenter that states how well its supports are found given the others."""
    photos = photos_of(segmenter)
    scored = [photo for photo in photos if min(photo.shots.values()) < SCORED]
    iou = given_the_others(segmenter, photos, scored, progress)
    doubtful_photos = list[int]()
    names = list[str]()
    for index, number in np.argwhere(~np.isnan(iou)).tolist():
        photo = scored[index]
        if _is_doubtful(iou[:, number], index, share=(photo.label == number + 1).float().mean()):
            known, shot = segmenter.classes[number], photo.shots[number]
            doubtful_photos.append(index)
            names.append(f"{known.name}, example {shot + 1} ({known.sources[shot]})")
    iou_of_others = np.nanmean(np.delete(iou, doubtful_photos, 0), 1)
    mean = round(float(iou_of_others.mean()), 2)
    doubt = "not found by means of the others, which find each other; check its annotation"
    out = copy.copy(segmenter)
    found = f"{len(iou_of_others)} examples, each found by means of the others: mean IoU {mean:.1f} %"
    out.notes = [*segmenter.notes, found]
    out.notes += [f"{name}: {doubt}" for name in names]
    out.adaptation = {"iou": mean, "predictions": len(scored), "doubtful": names}
    return out


def _is_doubtful(iou: np.ndarray, index: int, share: Tensor) -> bool:
    """Return whether a support that covers a share of its photo is hardly found, while the others of its class are.

    ``iou`` (scored,) is of the class on all photos, NaN where it is not; ``index`` is the support's.
    """
    median = np.nanmedian(np.delete(iou, index))
    return bool(share >= SMALL and median >= AGREED and iou[index] < DOUBTFUL * median)


def photos_of(segmenter: Segmenter) -> list[SupportPhoto]:
    """Return the photos of all supports, each once, whatever classes it supports, in folds that mix the classes."""
    photos = list[SupportPhoto]()
    for number, known in enumerate(segmenter.classes):
        for shot, (image, label) in enumerate(zip(known.images[0], known.labels[0].long())):
            same = (photo for photo in photos if number not in photo.shots and torch.equal(photo.image, image))
            photo = next(same, None)
            if photo is None:
                photo = SupportPhoto(image, torch.zeros_like(label))
                photos.append(photo)
            photo.add(number, shot, label)
    for index, photo in enumerate(photos):
        photo.fold = _least_crowded_fold(photo, photos[:index])
    return photos


def _least_crowded_fold(photo: SupportPhoto, earlier: list[SupportPhoto]) -> int:
    """Return the fold with the fewest photos that show a class of this one; of several, with the fewest photos."""
    crowding = [[0, 0] for _ in range(FOLDS)]  # photos that show a class of this one, and all
    for other in earlier:
        crowding[other.fold][0] += bool(other.shots.keys() & photo.shots.keys())
        crowding[other.fold][1] += 1
    return crowding.index(min(crowding))


def given_the_others(
    segmenter: Segmenter, photos: list[SupportPhoto], scored: list[SupportPhoto], progress: bool
) -> np.ndarray:
    """Return the IoU in percent, (scored, classes), given the supports of the other folds; NaN of classes not there."""
    iou = np.full((len(scored), len(segmenter.classes)), np.nan)
    trial, fold = segmenter, -1
    by_fold = sorted(enumerate(scored), key=lambda pair: pair[1].fold)
    for index, photo in ProgressBar(by_fold, desc="check examples", leave=False, disable=not progress):
        if photo.fold != fold:
            fold = photo.fold
            trial = _without_fold(segmenter, photos, fold)
        margins = trial.scores(photo.image[None]).margins
        for number in photo.shots:
            iou[index, number] = _iou(margins[0], photo.label, number)
    return iou


def _without_fold(segmenter: Segmenter, photos: list[SupportPhoto], fold: int) -> Segmenter:
    """Return a segmenter of the supports in the other folds."""
    out = segmenter.without_classes()
    others = [photo for photo in photos if photo.fold != fold]
    for number, known in enumerate(segmenter.classes):
        shots = [photo.shots[number] for photo in others if number in photo.shots]
        out.classes.append(known.subset(shots, out.model))
    return out


def _iou(margins: Tensor, label: Tensor, number: int) -> Tensor:
    """Return the IoU in percent of a class on a photo, from margins (classes, S, S) and the label (S, S)."""
    margins, label = margins[:, ::STEP, ::STEP], label[::STEP, ::STEP]
    inside, margin = label == number + 1, margins[number]
    predicted = (label != IGNORE) & (margin >= margins.amax(0)) & (margin > 0)
    return 100 * (predicted & inside).sum() / (predicted | inside).sum().clamp(min=1)


def along_border(label: Tensor) -> float:
    """Return the share of the photo's border along which its object lies, from the network's label (S, S)."""
    known = label != IGNORE
    photo = label[known.any(1)][:, known.any(0)]  # without the padding
    return float((torch.cat([photo[0], photo[-1], photo[:, 0], photo[:, -1]]) == 1).float().mean())


def material_hint(segmenter: Segmenter) -> str:
    """Return a line that asks whether the only example of each class is of a material, "" if none looks like one."""
    classes = segmenter.classes
    if not classes or not segmenter.model.learns or any(len(known.sources) > 1 for known in classes):
        return ""
    filling = [known.name for known in classes if along_border(known.labels[0, 0]) >= ALONG_BORDER]
    if len(filling) < len(classes):
        return ""
    names = ", ".join(filling)
    return f"{names}: the example fills its photo; if it is a material, such as grass: --adapt material (for_materials)"


def for_materials(segmenter: Segmenter) -> Segmenter:
    """Return a segmenter of the same classes by the method for materials, a linear probe on the network's encoder.

    UserError: the network has no encoder.
    """
    if not segmenter.model.has_encoder:
        raise UserError(f"materials: {segmenter.model.title} has no encoder to segment them; name another method")
    out = segmenter.without_classes()
    out.model = segmenter.model.for_materials()
    out.presence_by = segmenter
    if segmenter.calibration is not None:
        out.calibration = segmenter.calibration.of_other_margins()
    for known in segmenter.classes:
        batches = encode_shots(known.name, known.images, known.labels, out.model)
        out.classes.append(replace(known, support_batches=batches))
    kept_notes = [note for note in segmenter.notes if note != OUTLOOK]  # which is the network's
    out.notes = [*kept_notes, f"{out.model.title} segments the material, not {segmenter.model.title}"]
    out.adaptation = {"method": out.model.title}
    return out


def weak_supports(segmenter: Segmenter, records: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line on each class whose only support masks many photos, but is not found by means of these masks.

    ``records`` are the results of photos (``Prediction.write``). UserError: one of these cannot be read.
    """
    method = segmenter.model
    if segmenter.presence_by or not method.has_encoder or method.trained_shots not in (None, 1):
        return []
    rows_of = _rows_by_class(records)
    of_one_support = [known for known in segmenter.classes if len(known.sources) == 1]
    lines = (_weakness(segmenter, known, rows_of.get(known.name, [])) for known in of_one_support)
    return [line for line in lines if line]


def _rows_by_class(records: Iterable[dict[str, Any]]) -> dict[str, list[ClassRow]]:
    """Return the rows of results by their class."""
    rows_of: dict[str, list[ClassRow]] = {}
    for record in records:
        for row in record.get("classes", ()):
            rows_of.setdefault(row["name"], []).append((row["presence"] or 0, Path(record["query"]), row))
    return rows_of


def _weakness(segmenter: Segmenter, known: EncodedClass, rows: list[ClassRow]) -> str:
    """Return the line of ``weak_supports`` on a class, '' if its support is not weak, or there are too few photos."""
    found = sorted((entry for entry in rows if entry[2]["pixels"]), key=lambda entry: entry[:2])
    if len(rows) < LEAST_PHOTOS or len(found) <= MANY * len(rows):
        return ""
    places = np.linspace(0, len(found) - 1, TRIED).round().astype(int)
    tried = [found[place] for place in places]
    iou = [_iou_given(segmenter, known, photo, row) for _, photo, row in tried]
    if np.median(iou) >= WEAK:
        return ""
    masked = f"{known.name}: this example is weak: it masks {len(found)} of {len(rows)} photos"
    return f"{masked}, whose masks do not find it; try another photo, or add a second"


def _iou_given(segmenter: Segmenter, known: EncodedClass, photo: Path, row: dict[str, Any]) -> float:
    """Return the IoU in percent of a class's only support given a photo and its mask, by its row of a result."""
    trial = segmenter.without_classes()
    try:
        trial.add(None, [Support(read_photo(photo), decoded(row["runs"]).astype(np.uint8), str(photo))])
    except UserError:  # its mask vanishes at the network's input size
        return 0.0
    margins = trial.scores(known.images[0, :1]).margins
    return float(_iou(margins[0], known.labels[0, 0].long(), number=0))
