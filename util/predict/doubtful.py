"""Supports judged by each other: which marks are doubtful, and whether they are of a material.

With three supports of each class or more, each is segmented given the others (with more than five, in five folds). A
support that is not found while the others are is named, unless it is too small. With one support of each class, a mark
along much of the photo's border is of a material, which the method ``for_materials`` segments on the network's encoder.
"""

import copy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from model.common.training_free import TrainingFreeSettings
from model.common.with_encoder import WithEncoder
from model.episode import IGNORE, CachedFeatures
from model.registry import models
from util.checkpoints.run import Run
from util.data.words.text import NO_TEXT
from util.evaluate.evaluate import FINAL
from util.predict.encoded_class import encode_shots
from util.predict.load_model import OUTLOOK
from util.predict.segmenter import SMALL, Segmenter
from util.progress import ProgressBar
from util.runtime.context import with_data
from util.runtime.network import build_model

FOLDS, LEAST = 5, 3  # supports of each class, for folds
SCORED = 10  # supports of a class that are segmented, at most
MATERIAL = 1 / 3  # share of the photo's border
STEP = 4  # between the pixels that are compared
AGREED, DOUBTFUL = 50.0, 0.1  # median IoU of the others, and the share of it below which a support is named


@dataclass
class SupportPhoto:
    """A photo among the supports, sized for the network."""

    image: Tensor  # (3, S, S)
    label: Tensor  # (S, S) int64, 0 background, the number of a class, 255 unknown
    shots: dict[int, int]  # class index -> index of its support
    cached: CachedFeatures | None  # what the network keeps of it as a query
    fold: int = 0  # .. ``FOLDS`` - 1


def drop_doubtful(segmenter: Segmenter, progress: bool = False) -> Segmenter:
    """Return the segmenter, or one in its place; ``notes`` and ``adaptation`` state what the supports show.

    It is itself with two supports of a class, without an encoder, or of a fixed number of supports above one.
    """
    network, shots = segmenter.model.network, [len(known.sources) for known in segmenter.own]
    exactly = network.shots_of(network.state_dict())
    if not shots or not isinstance(network, WithEncoder) or exactly not in (None, 1):
        return segmenter
    if max(shots) == 1 and network.learns:
        along = min(along_border(known.labels[0, 0]) for known in segmenter.own)
        return _for_materials(segmenter, along) if along >= MATERIAL else segmenter
    if min(shots) < LEAST:
        return segmenter
    photos = photos_of(segmenter)
    scored = [photo for photo in photos if min(photo.shots.values()) < SCORED]
    iou = given_the_others(segmenter, photos, scored, progress)
    judged = [(p, n, np.nanmedian(np.delete(iou[:, n], p))) for p, n in np.argwhere(~np.isnan(iou)).tolist()]
    judged = [(p, n, median) for p, n, median in judged if (scored[p].label == n + 1).float().mean() >= SMALL]
    doubtful = [(p, n) for p, n, median in judged if median >= AGREED and iou[p, n] < DOUBTFUL * median]
    counted = np.nanmean(np.delete(iou, [p for p, _ in doubtful], 0), 1)
    named = [
        f"{known.name}, support {shot + 1} ({known.sources[shot]})"
        for known, shot in ((segmenter.own[n], scored[p].shots[n]) for p, n in doubtful)
    ]
    mean, out = round(float(counted.mean()), 2), copy.copy(segmenter)
    doubt = "not found given the others, which find each other; is its mark right?"
    out.notes = [*segmenter.notes, f"supports: mean IoU {mean:.1f} % of {len(counted)} supports given the others"]
    out.notes += [f"supports: {one}: {doubt}" for one in named]
    out.adaptation = {"iou": mean, "predictions": len(scored), "doubtful": named}
    return out


def photos_of(segmenter: Segmenter) -> list[SupportPhoto]:
    """Return the photos of all supports, each once, whatever classes it supports, in folds that mix the classes."""
    model, photos = segmenter.model, list[SupportPhoto]()
    for number, known in enumerate(segmenter.own):
        for shot, (image, label) in enumerate(zip(known.images[0], known.labels[0].long())):
            photo = next((p for p in photos if number not in p.shots and torch.equal(p.image, image)), None)
            if photo is None:
                with model.forward_pass(), torch.inference_mode():
                    cached = model.network.cache_query(image[None])
                photo = SupportPhoto(image, torch.zeros_like(label), {}, cached)
                photos.append(photo)
            photo.shots[number] = shot
            photo.label[(label == IGNORE) & (photo.label == 0)] = IGNORE
            photo.label[label == 1] = number + 1
    for index, photo in enumerate(photos):
        crowding = np.zeros((FOLDS, 2), int)  # photos that show a class of this one, and all, in each fold
        for earlier in photos[:index]:
            crowding[earlier.fold] += bool(earlier.shots.keys() & photo.shots.keys()), 1
        photo.fold = min(range(FOLDS), key=crowding.tolist().__getitem__)
    return photos


def given_the_others(
    segmenter: Segmenter, photos: list[SupportPhoto], scored: list[SupportPhoto], progress: bool
) -> np.ndarray:
    """Return the IoU in percent, (scored, classes), given the supports of the other folds; NaN of classes not there."""
    iou = np.full((len(scored), len(segmenter.own)), np.nan)
    trial, fold = segmenter, -1
    pairs = sorted(enumerate(scored), key=lambda pair: pair[1].fold)
    for index, photo in ProgressBar(pairs, desc="supports", leave=False, disable=not progress):
        if photo.fold != fold:
            fold = photo.fold
            trial, others = segmenter.without_classes(), [other for other in photos if other.fold != fold]
            for number, known in enumerate(segmenter.own):
                shots = [other.shots[number] for other in others if number in other.shots]
                trial.classes.append(known.some(shots, trial.model))
        seen, _ = trial.scores(photo.image[None], photo.cached)
        margins, label = seen[0, :, ::STEP, ::STEP], photo.label[::STEP, ::STEP]
        for number in photo.shots:
            inside, margin = label == number + 1, margins[number]
            found = (label != IGNORE) & (margin >= margins.amax(0)) & (margin > 0)
            iou[index, number] = 100 * (found & inside).sum() / (found | inside).sum().clamp(min=1)
    return iou


def along_border(label: Tensor) -> float:
    """Return the share of the photo's border along which its mark lies, from the network's label (S, S)."""
    known = label != IGNORE
    photo = label[known.any(1)][:, known.any(0)]  # without the padding
    return float((torch.cat([photo[0], photo[-1], photo[:, 0], photo[:, -1]]) == 1).float().mean())


def _for_materials(segmenter: Segmenter, along: float) -> Segmenter:
    """Return a segmenter of the same classes by the method ``for_materials``, on the encoder of the network."""
    model, network = segmenter.model, cast(WithEncoder, segmenter.model.network)
    method = next(cls for cls in models().values() if cls.for_materials)
    settings = cast(TrainingFreeSettings, method.Settings(encoder=network.settings.encoder))  # type: ignore[call-arg]
    settings.stage = [stage for stage in settings.stages if stage in network.encoder.channels]
    run = Run(replace(with_data(model.run.config, text=NO_TEXT), model=settings))
    own = cast(WithEncoder, build_model(run.config, 0, model.view.side))
    own.encoder = network.encoder
    out = segmenter.without_classes()
    out.model, out.output, out.presence_by = replace(model, run=run, network=own), FINAL, segmenter
    own.to(model.device).eval()
    if segmenter.calibration is not None:
        out.calibration = replace(segmenter.calibration, scale=1.0, offset=0.0)  # its pixels are the network's
    for known in segmenter.own:
        batches = known.support_batches
        if network.masks_supports:  # it keeps other things of supports
            batches = encode_shots(known.name, known.images, known.labels, out.model)
        out.classes.append(replace(known, support_batches=batches))
    what = f"a mark along {along:.0%} of the photo's border means a material; uses {own.title}, not {network.title}"
    of_method = [note for note in segmenter.notes if note != OUTLOOK]  # which is the network's
    out.notes = [*of_method, f"supports: {what}"]
    out.adaptation = {"method": own.title}
    return out
