"""``--adapt``: a linear probe on the network's encoder in place of the network, where cross-validation prefers it.

The supports are split into folds. Network and probe segment the photos of each fold given the supports of the others.
The probe is used if its IoU is larger by more than chance, by a paired t-test; both then have all supports.
Whether a photo shows a class at all is said by the network in either case.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.baselines.probe import Probe, ProbeSettings
from model.common.with_encoder import WithEncoder
from model.episode import IGNORE
from util.errors import UserError
from util.evaluate.evaluate import FINAL
from util.predict.encoded_class import encode_shots
from util.predict.segmenter import Segmenter
from util.run.network import build_model

FOLDS = 5
MIN_SUPPORTS = 5  # of each class; with fewer, a fold says little
CHANCE = 0.05  # largest probability that the probe's advantage is one


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


def adapted(segmenter: Segmenter, progress: bool = False) -> Segmenter:
    """Return the segmenter, or one by a probe on its encoder; ``notes`` and ``adaptation`` say which and why.

    With fewer than ``MIN_SUPPORTS`` supports of a class it is the segmenter. ``progress`` shows bars.

    Raises:
        UserError: there are no supports, the model has no encoder, or it takes one number of supports only.
    """
    model, fewest = segmenter.model, min(segmenter.classes, key=lambda known: len(known.sources), default=None)
    exactly, title = model.network.shots_of(model.network.state_dict()), model.network.title
    if fewest is None or not isinstance(model.network, WithEncoder) or exactly not in (None, 1):
        raise UserError(
            f"--adapt: needs supports on the command line, an image encoder, and weights that take any number of "
            f"supports, which {model.weights.source} ({title}) may not; omit --adapt"
        )
    chosen, facts = segmenter, dict[str, Any](supports=len(fewest.sources))
    note = f"needs {MIN_SUPPORTS} supports of each class, {fewest.name} has {len(fewest.sources)}"
    if len(fewest.sources) >= MIN_SUPPORTS:
        probe, photos = _probe_of(segmenter, model.network), photos_of(segmenter)
        of_network, of_probe = (_cross_validated(one, photos, progress) for one in (segmenter, probe))
        better, chance = (of_probe - of_network).mean() > 0, _chance(of_probe, of_network)
        chosen = probe if better and chance <= CHANCE else segmenter
        scores = {title: round(float(of_network.mean()), 2), Probe.title: round(float(of_probe.mean()), 2)}
        facts = {"iou": scores, "photos": len(photos)}
        found = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
        note = f"mean IoU % of {len(photos)} photos in {FOLDS}-fold cross-validation: {found}"
        if better:
            note += f" (an advantage by chance: p = {chance:.2f})"
    out, title = copy.copy(chosen), chosen.model.network.title
    out.notes, out.adaptation = [*segmenter.notes, f"--adapt: {note}; uses {title}"], {"chosen": title, **facts}
    return out


def _chance(probe: np.ndarray, network: np.ndarray) -> float:
    """Return the probability that photos favour the probe at least so much by chance, from the IoU of each."""
    from scipy.stats import ttest_rel

    return float(ttest_rel(probe, network, alternative="greater").pvalue)


def _probe_of(segmenter: Segmenter, network: WithEncoder) -> Segmenter:
    """Return a segmenter of the same classes by a probe on the encoder of a segmenter's network."""
    model, settings = segmenter.model, ProbeSettings(encoder=network.settings.encoder)
    settings.stage = [stage for stage in settings.stages if stage in network.encoder.channels]
    context = replace(
        model.context, config=replace(model.context.config, model=settings), model_class=Probe, vectors=None
    )
    probe = build_model(context.config, context.text_width, model.view.side)
    probe.encoder = network.encoder
    out = segmenter.without_classes()
    out.model = replace(model, context=context, network=probe.to(model.device).eval())
    out.output, out.presence_by = FINAL, segmenter
    if segmenter.calibration is not None:
        out.calibration = replace(segmenter.calibration, scale=1.0, offset=0.0)  # its pixels are the network's
    for known in segmenter.classes:
        out.classes.append(
            replace(known, support_batches=encode_shots(known.name, known.images, known.labels, out.model))
        )
    return out


def photos_of(segmenter: Segmenter) -> list[Photo]:
    """Return the photos of all supports, each once, whatever classes it supports, in folds that mix the classes."""
    photos: list[Photo] = []
    for number, known in enumerate(segmenter.classes):
        for shot, (image, label) in enumerate(zip(known.images[0], known.labels[0].long())):
            photo = next((p for p in photos if number not in p.shots and torch.equal(p.image, image)), None)
            if photo is None:
                photo = Photo(image, torch.zeros_like(label), {})
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


@torch.inference_mode()
def _cross_validated(segmenter: Segmenter, photos: list[Photo], progress: bool) -> np.ndarray:
    """Return the IoU of each photo in percent, mean over its classes, given the supports of the other folds."""
    out = np.zeros(len(photos))
    title = f"try {segmenter.model.network.title}"
    with tqdm(total=len(photos), desc=title, unit="photo", leave=False, disable=not progress) as bar:
        for fold in range(FOLDS):
            trial = segmenter.without_classes()
            for number, known in enumerate(segmenter.classes):
                kept = [photo.shots[number] for photo in photos if photo.fold != fold and number in photo.shots]
                trial.classes.append(known.some(kept, segmenter.model))
            for index, photo in ((i, p) for i, p in enumerate(photos) if p.fold == fold):
                margins = trial.scores(photo.image[None])[0][0]
                highest, best = margins.max(0)
                predicted = torch.where(highest > 0, best + 1, 0)[photo.label != IGNORE]
                label = photo.label[photo.label != IGNORE]
                of_classes = [(predicted == n + 1, label == n + 1) for n in photo.shots]
                out[index] = 100 * np.mean([float((a & b).sum() / (a | b).sum().clamp(min=1)) for a, b in of_classes])
                bar.update()
    return out
