"""Supports segmented given the others, for ``--adapt``: the photos in folds, candidates, and their IoU and presence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.episode import IGNORE, CachedFeatures
from util.evaluate.calibration import evidence_of, logit
from util.predict.segmenter import Segmenter

STEP = 4  # between the pixels that are compared
AGREED, DOUBTFUL = 50.0, 0.1  # median IoU of the others, and the share of it below which a support is named


@dataclass
class Photo:
    """A photo among the supports, sized for the network.

    Attributes:
        image: (3, S, S).
        label: (S, S) int64, 0 background, the number of a class, 255 unknown.
        shots: class index -> index of its support.
        cached: what the network keeps of it as a query.
        fold: 0 .. ``FOLDS`` - 1.
    """

    image: Tensor
    label: Tensor
    shots: dict[int, int]
    cached: CachedFeatures | None
    fold: int = 0


class Candidate(NamedTuple):
    """A way to segment; ``of`` returns the segmenter that has some supports of each class, by index."""

    title: str
    of: Callable[[tuple[tuple[int, ...], ...]], Segmenter]
    gain: float  # least points of IoU over the network for which it is used
    own_encoder: bool = False  # what the network keeps of photos is of no use to it


class LeftOut(NamedTuple):
    """Photos p segmented given the supports of other folds, for classes n; NaN where p does not support n."""

    candidate: Candidate
    iou: np.ndarray  # (p, n), percent
    presence: np.ndarray  # logits (p, n); NaN without a calibration


def photos_of(segmenter: Segmenter, folds: int) -> list[Photo]:
    """Return the photos of all supports, each once, whatever classes it supports, in folds that mix the classes."""
    model = segmenter.model
    photos: list[Photo] = []
    for number, known in enumerate(segmenter.classes):
        for shot, (image, label) in enumerate(zip(known.images[0], known.labels[0].long())):
            photo = next((p for p in photos if number not in p.shots and torch.equal(p.image, image)), None)
            if photo is None:
                with model.forward_pass(), torch.inference_mode():
                    cached = model.network.cache_query(image[None])
                photo = Photo(image, torch.zeros_like(label), {}, cached)
                photos.append(photo)
            photo.shots[number] = shot
            photo.label[(label == IGNORE) & (photo.label == 0)] = IGNORE
            photo.label[label == 1] = number + 1
    for index, photo in enumerate(photos):
        crowding = np.zeros((folds, 2), int)  # photos that show a class of this one, and all, in each fold
        for earlier in photos[:index]:
            crowding[earlier.fold] += bool(earlier.shots.keys() & photo.shots.keys()), 1
        photo.fold = min(range(folds), key=crowding.tolist().__getitem__)
    return photos


def left_out(candidate: Candidate, photos: list[Photo], scored: list[Photo], bar: tqdm) -> LeftOut:
    """Return how a candidate segments some of the photos given the supports of the other folds."""
    classes = 1 + max(number for photo in photos for number in photo.shots)
    iou, presence = np.full((2, len(scored), classes), np.nan)
    for fold in sorted({photo.fold for photo in scored}):
        others = [photo for photo in photos if photo.fold != fold]
        trial = candidate.of(tuple(tuple(p.shots[n] for p in others if n in p.shots) for n in range(classes)))
        calibration = trial.calibration if trial.presence_by is None else None
        for index, photo in ((i, p) for i, p in enumerate(scored) if p.fold == fold):
            seen, own = trial.scores(photo.image[None], None if candidate.own_encoder else photo.cached)
            margins, label = seen[0, :, ::STEP, ::STEP], photo.label[::STEP, ::STEP]
            for number in photo.shots:
                inside, margin = label == number + 1, margins[number]
                found = (label != IGNORE) & (margin >= margins.amax(0)) & (margin > 0)
                iou[index, number] = 100 * (found & inside).sum() / (found | inside).sum().clamp(min=1)
                if calibration is not None:
                    numbers = None if own is None else own[0, number]
                    evidence = evidence_of(unpadded(seen[0, number], photo.label), numbers).cpu().numpy()
                    presence[index, number] = logit(calibration.presence(evidence))
            bar.update()
    return LeftOut(candidate, iou, presence)


def doubtful_in(iou: np.ndarray) -> list[tuple[int, int]]:
    """Return (photo, class) of the supports that the others contradict, from the IoU (photos, classes)."""
    out = []
    for photo, number in np.argwhere(~np.isnan(iou)).tolist():
        others = np.nanmedian(np.delete(iou[:, number], photo))
        if others >= AGREED and iou[photo, number] < DOUBTFUL * others:
            out.append((photo, number))
    return out


def unpadded(values: Tensor, label: Tensor) -> Tensor:
    """Return the part of a map (S, S) that shows the photo, whose label is unknown beside it."""
    known = label != IGNORE
    return values[known.any(1)][:, known.any(0)]
