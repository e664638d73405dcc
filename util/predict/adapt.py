"""``--adapt``: a linear probe on the network's encoder in place of the network, where cross-validation prefers it.

The supports are split into folds. Network and probe segment the photos of each fold given the supports of the others;
the one of larger IoU, mean over the classes, is used. Both then have all supports.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from model.common.with_encoder import WithEncoder
from model.episode import IGNORE
from model.probe.probe import Probe, ProbeSettings
from util.engine.evaluation import FINAL
from util.engine.network import new_model
from util.errors import UserError
from util.predict.encoded_class import encode_shots, some_shots
from util.predict.load_model import LoadedModel
from util.predict.segmenter import Segmenter

FOLDS = 5
MIN_SUPPORTS = 5  # of each class; with fewer, a fold says little


@dataclass
class Photo:
    """A photo among the supports, sized for the network.

    Attributes:
        image: (3, S, S).
        label: (S, S) int64, 0 background, the number of a class, 255 unknown.
        shots: class index -> index of its support.
        fold: 0 .. ``FOLDS`` - 1.
    """

    image: Tensor
    label: Tensor
    shots: dict[int, int]
    fold: int = 0


def adapted(segmenter: Segmenter) -> Segmenter:
    """Return the segmenter, or one by a probe on its encoder; ``notes`` and ``adaptation`` say which and why.

    With fewer than ``MIN_SUPPORTS`` supports of a class it is the segmenter.

    Raises:
        UserError: there are no supports, the model has no encoder, it takes one number of supports only, or the chosen
            one has no calibration for ``--min-score``.
    """
    model, fewest = segmenter.model, min(segmenter.classes, key=lambda known: len(known.sources), default=None)
    if fewest is None:
        raise UserError("--adapt: compares methods on the supports of a command line; omit it, or --serve")
    if not isinstance(model.network, WithEncoder):
        raise UserError(f"--adapt: {model.network.title} has no image encoder; omit --adapt")
    if (exactly := model.network.shots_of(model.network.state_dict())) not in (None, 1):
        raise UserError(
            f"--adapt: {model.source} takes exactly {exactly} supports, so parts of them cannot be tried; omit --adapt"
        )
    title, count = model.network.title, len(fewest.sources)
    if count < MIN_SUPPORTS:
        note = f"--adapt: needs {MIN_SUPPORTS} supports of each class, {fewest.name} has {count}; uses {title}"
        return _with_result(segmenter, note, {"chosen": title, "supports": count})
    probe, photos = _probe_of(segmenter, model.network), photos_of(segmenter)
    scores = {one.model.network.title: round(_cross_validated(one, photos), 2) for one in (segmenter, probe)}
    chosen = probe if scores[Probe.title] > scores[title] else segmenter
    found = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
    note = f"--adapt: IoU % in {FOLDS}-fold cross-validation over {len(photos)} photos: {found}"
    best = chosen.model.network.title
    chosen.decision.check(chosen.calibration, best)
    return _with_result(chosen, f"{note}; uses {best}", {"chosen": best, "iou": scores, "photos": len(photos)})


def _with_result(segmenter: Segmenter, note: str, adaptation: dict[str, object]) -> Segmenter:
    out = copy.copy(segmenter)
    out.notes, out.adaptation = [*segmenter.notes, note], adaptation
    return out


def _probe_of(segmenter: Segmenter, network: WithEncoder) -> Segmenter:
    """Return a segmenter of the same classes by a probe on the encoder of a segmenter's network."""
    model, settings = segmenter.model, ProbeSettings(encoder=network.settings.encoder)
    settings.stage = [stage for stage in settings.stages if stage in network.encoder.channels]
    context = replace(
        model.context, config=replace(model.context.config, model=settings), model_class=Probe, vectors=None
    )
    probe = new_model(context, model.view.side)
    probe.encoder = network.encoder
    out = copy.copy(segmenter)
    out.model = LoadedModel(context, probe.to(model.device).eval(), model.device, model.view, model.source)
    out.classes, out.output = [], FINAL
    out.calibration = out.own_calibration()
    for known in segmenter.classes:
        images, labels = (
            torch.cat([getattr(b, kind) for b in known.support_batches], 1) for kind in ("image", "label")
        )
        batches = encode_shots(known.name, images, labels, out.model)
        out.classes.append(replace(known, support_batches=batches))
    return out


def photos_of(segmenter: Segmenter) -> list[Photo]:
    """Return the photos of all supports, each once, whatever classes it supports, in folds that mix the classes."""
    photos: list[Photo] = []
    for number, known in enumerate(segmenter.classes):
        images, labels = (
            torch.cat([getattr(b, kind)[0] for b in known.support_batches]) for kind in ("image", "label")
        )
        for shot, (image, label) in enumerate(zip(images, labels.long())):
            photo = next((p for p in photos if number not in p.shots and torch.equal(p.image, image)), None)
            if photo is None:
                photo = Photo(image, torch.zeros_like(label), {})
                photos.append(photo)
            photo.shots[number] = shot
            photo.label[(label == IGNORE) & (photo.label == 0)] = IGNORE
            photo.label[label == 1] = number + 1
    for index, photo in enumerate(photos):
        photo.fold = min(range(FOLDS), key=partial(_crowding, photo, photos[:index]))
    return photos


def _crowding(photo: Photo, earlier: list[Photo], fold: int) -> tuple[int, int]:
    """Return how many photos of a fold show a class of the photo, and how many it has."""
    inside = [other for other in earlier if other.fold == fold]
    return sum(bool(other.shots.keys() & photo.shots.keys()) for other in inside), len(inside)


@torch.inference_mode()
def _cross_validated(segmenter: Segmenter, photos: list[Photo]) -> float:
    """Return the IoU in percent, mean over classes, of the photos of each fold given the supports of the others."""
    classes = range(len(segmenter.classes))
    both, either = torch.zeros(len(classes)), torch.zeros(len(classes))
    with tqdm(total=len(photos), desc=f"try {segmenter.model.network.title}", unit="photo", leave=False) as bar:
        for fold in range(FOLDS):
            trial = segmenter.without_classes()
            for number in classes:
                kept = [photo.shots[number] for photo in photos if photo.fold != fold and number in photo.shots]
                trial.classes.append(some_shots(segmenter.classes[number], kept, segmenter.model))
            for photo in (p for p in photos if p.fold == fold):
                margins = trial.margins(photo.image[None])[0]
                highest, best = margins.max(0)
                predicted = torch.where(highest > 0, best + 1, 0)
                for number in classes:
                    found, there = predicted == number + 1, photo.label == number + 1
                    known = photo.label != IGNORE
                    both[number] += (found & there).sum().cpu()
                    either[number] += ((found | there) & known).sum().cpu()
                bar.update()
    return float(100 * (both / either.clamp(min=1)).mean())
