"""``--adapt``: the supports choose the method, the least margin of a pixel, and how presence scores count.

Every support is segmented given the others (with more than five, in five folds), by the network and by candidates in
its place, and the margin from which on a pixel is of a class may move. The best of them is used if its IoU gains at
least ``GAIN`` points over the network's on average, and more photos gain than lose; it then has all supports. A support
that the network does not find, while it finds the others, is named, and a candidate does without it. The presence
scores of the supports given the others shift those of their class: half of the way to where they lie ``AHEAD`` of the
threshold on average. If it is asked for, the network whose encoder is adapted to two supports or more (TaP, arXiv
2512.10521) competes, and the probe on that encoder; they segment a fold by an encoder that learnt from the others, and
must be ``GAIN`` points ahead of those without.

With one support of each class nothing can be left out. A mark along much of the photo's border is of a material then
and not of an object, and the linear probe has it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.baselines.probe import Probe, ProbeSettings
from model.common.adaptation import SETTINGS, adaptable, fit
from model.common.with_encoder import WithEncoder
from model.episode import IGNORE, CachedFeatures
from model.mismatch import Mismatch
from util.evaluate.calibration import evidence_of, logit
from util.evaluate.evaluate import FINAL
from util.predict.encoded_class import SupportBatch, encode_shots
from util.predict.load_model import LoadedModel
from util.predict.segmenter import Segmenter
from util.run.network import build_model

AUTO, NONE, ENCODER = "auto", "none", "encoder"  # the words of --adapt
INTERRUPTED = "interrupted"
FOLDS = 5
LEAST, LEAST_TO_CHOOSE = 3, 5  # supports of each class: for presence scores, for the rest
SCORED = 10  # supports of a class that are segmented, at most
GAIN = 1.0  # points of IoU
MOVES = np.array([0, -0.2, 0.2, -0.4, 0.4])  # of the least margin, in deviations of the margins
AHEAD = 1.0  # in logits
STEP = 4  # between the pixels that are compared
MATERIAL = 1 / 3  # share of the photo's border
A_STEP = 5.0  # time of a step of the encoder's learning, in encodings of a photo
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
    own_encoder: bool = False  # what the network keeps of photos is of no use to it


class LeftOut(NamedTuple):
    """Photos p segmented given the supports of other folds, for classes n; NaN where p does not support n."""

    iou: np.ndarray  # (p, n, moves), percent
    presence: np.ndarray  # logits (p, n); NaN without a calibration
    deviation: float  # of the margins


def adapted(segmenter: Segmenter, progress: bool = False, encoder: bool = False) -> Segmenter:
    """Return the segmenter, or one in its place; ``notes`` and ``adaptation`` say which and why.

    It is the segmenter itself with two supports of a class, for networks without an encoder or for one number of
    supports above one. Kept base classes stay as they are. ``progress`` shows a bar. With ``encoder`` the network
    whose encoder is adapted competes, from two supports on; an interrupt of its learning leaves the others.
    """
    if (kept_base := segmenter.kept) is not None and kept_base.fits is None:
        new = copy.copy(segmenter)
        new.kept, new.classes = None, segmenter.classes[len(kept_base.classes) :]
        out = copy.copy(adapted(new, progress, encoder))
        out.kept, out.classes = kept_base, [*kept_base.classes, *out.classes]
        return out
    network, counts = segmenter.model.network, [len(known.sources) for known in segmenter.classes]
    exactly, title, began = network.shots_of(network.state_dict()), network.title, time.monotonic()
    fixed = not counts or segmenter.kept or not isinstance(network, WithEncoder) or exactly not in (None, 1)
    if encoder and counts and (fixed or min(counts) == 1):
        encoder, why = False, "takes two supports or more of each class, and few-shot weights for any number"
        segmenter = _noted(copy.copy(segmenter), segmenter, {"encoder": why}, f"an adapted encoder {why}")
    if fixed:
        return segmenter
    along = min(along_border(known.labels[0, 0]) for known in segmenter.classes)
    if max(counts) == 1 and network.learns and along >= MATERIAL:
        note = f"a mark along {along:.0%} of the photo's border is of a material; uses {Probe.title}, not {title}"
        return _noted(_probe_of(segmenter), segmenter, {"chosen": Probe.title}, note)
    if min(counts) < LEAST and not encoder:
        return segmenter

    photos, candidates = photos_of(segmenter, FOLDS), [Candidate(title, partial(_of_some, segmenter))]
    scored = [photo for photo in photos if min(photo.shots.values()) < SCORED]
    a_step = A_STEP * (time.monotonic() - began) / len(photos)
    if chooses := min(counts) >= LEAST_TO_CHOOSE:
        candidates.append(Candidate(Probe.title, partial(_of_some, _probe_of(segmenter))))
    with tqdm(desc="choose", leave=False, disable=not progress) as bar:
        bar.total = len(candidates) * len(scored)
        found = [_left_out(one, photos, scored, bar) for one in candidates]
        doubtful = _doubtful(found[0].iou[:, :, 0]) if min(counts) >= LEAST else []
        without = {(scored[p].shots[n], n) for p, n in doubtful}
        if doubtful and chooses:
            candidates.append(Candidate(f"{title} without doubtful", partial(_of_some, segmenter, without=without)))
            bar.total += len(scored)
            found.append(_left_out(candidates[-1], photos, scored, bar))

        kept = [p for p in range(len(scored)) if p not in {p for p, _ in doubtful}]
        plain, classes = np.nanmean(found[0].iou[kept, :, 0], 1), np.arange(len(counts))
        learnt = cache(partial(_of_encoder, segmenter, without, bar))
        of_probe = Candidate(f"{Probe.title}, adapted", lambda shots: _probe_of(learnt(shots)), True)
        own, of_encoder = [Candidate(f"{title}, adapted", learnt, True), of_probe], f"{SETTINGS}, after the last step"
        for more, ends in ((own[: 1 + chooses] if encoder else [], (KeyboardInterrupt, Mismatch)), ([], ())):
            try:
                if more:
                    adaptable(network)
                    steps = SETTINGS.steps * (1 + len({photo.fold for photo in scored}))
                    bar.total += len(more) * len(scored) + steps
                    if progress:
                        tqdm.write(f"--adapt: an encoder learns, about {steps * a_step:.0f} s; Ctrl-C does without")
                tried = [*found, *(_left_out(one, photos, scored, bar) for one in more)]
                best, chosen, scores = candidates[0], title, {title: plain.mean()}
                moved, most = np.zeros(len(counts)), 0.0
                for one, left_out in zip([*candidates, *more], tried):
                    iou = left_out.iou[kept] if chooses else left_out.iou[kept, :, :1]
                    moves = np.nanmean(iou, 0).argmax(1)
                    score = np.nanmean(iou[:, classes, moves], 1)
                    name, gain = f"{one.title}, moved" if moves.any() else one.title, score - plain
                    scores[name] = score.mean()
                    least = most + GAIN * (not most or one.own_encoder > best.own_encoder)
                    if gain.mean() >= least and (gain > 0).sum() > (gain < 0).sum():
                        best, moved, most, chosen = one, left_out.deviation * MOVES[moves], gain.mean(), name
                out = best.of(tuple(tuple(range(count)) for count in counts))
                break
            except ends as reason:
                of_encoder = str(reason) or INTERRUPTED

    shifts = np.zeros(len(counts))
    if segmenter.calibration is not None and min(counts) >= LEAST:
        shifts = (logit(segmenter.calibration.threshold) + AHEAD - np.nanmean(found[0].presence, 0)) / 2
    out.classes = [
        replace(known, least_margin=float(least), presence_shift=float(shift))
        for known, least, shift in zip(out.classes, moved, shifts)
    ]
    ious = {name: round(float(score), 2) for name, score in scores.items()}
    doubts = [segmenter.classes[n].sources[scored[p].shots[n]] for p, n in doubtful]
    facts = {
        "chosen": chosen,
        "iou": ious,
        "gain": round(ious[chosen] - ious[title], 2),
        "predictions": len(tried) * len(scored),
        "least_margin": {known.name: round(known.least_margin, 3) for known in out.classes},
        "presence_shift": {known.name: round(known.presence_shift, 3) for known in out.classes},
        "doubtful": doubts,
        **({"encoder": of_encoder} if encoder else segmenter.adaptation or {}),
        "seconds": round(time.monotonic() - began, 1),
    }
    scored_by = ", ".join(f"{name} {score:.1f}" for name, score in ious.items())
    note = f"mean IoU % of {len(kept)} supports given the others: {scored_by}"
    note += f"; uses {chosen}, {facts['gain']:+.1f} ({facts['predictions']} predictions, {facts['seconds']:.0f} s)"
    if encoder and len(tried) == len(candidates):
        note = f"without an adapted encoder: {of_encoder}; {note}"
    doubt = "not found given the others, which find each other; is its mark right?"
    return _noted(out, segmenter, facts, note, *(f"{source}: {doubt}" for source in doubts))


def _noted(out: Segmenter, segmenter: Segmenter, facts: dict[str, Any], *notes: str) -> Segmenter:
    """Return a segmenter with the notes of another, further ones, and the facts of the choice."""
    out.notes, out.adaptation = [*segmenter.notes, *(f"--adapt: {note}" for note in notes)], facts
    return out


def along_border(label: Tensor) -> float:
    """Return the share of the photo's border along which its mark lies, from the network's label (S, S)."""
    photo = _unpadded(label, label)
    return float((torch.cat([photo[0], photo[-1], photo[:, 0], photo[:, -1]]) == 1).float().mean())


def _unpadded(values: Tensor, label: Tensor) -> Tensor:
    """Return the part of a map (S, S) that shows the photo, whose label is unknown beside it."""
    known = label != IGNORE
    return values[known.any(1)][:, known.any(0)]


def _of_some(
    segmenter: Segmenter, shots: Sequence[Sequence[int]], without: Collection[tuple[int, int]] = ()
) -> Segmenter:
    """Return a segmenter that has some supports of each class, by index, without pairs of a support and its class."""
    out = segmenter.without_classes()
    for number, (known, own) in enumerate(zip(segmenter.classes, shots, strict=True)):
        out.classes.append(known.some([shot for shot in own if (shot, number) not in without], out.model))
    return out


def _of_encoder(segmenter: Segmenter, without: Collection, bar: tqdm, shots: Sequence[Sequence[int]]) -> Segmenter:
    """Return a segmenter that has some of the supports, whose encoder is adapted to them; errors as ``fit``.

    A support that is alone in its class has its mirror image beside it to learn from.
    """
    out, network, ways = _of_some(segmenter, shots, without), segmenter.model.network, []
    for known in out.classes:
        each = known.images, known.labels
        images, labels = (torch.cat([x, x.flip(-1)], 1) if x.shape[1] == 1 else x for x in each)
        ways.append(known.episode(images[:, 0], SupportBatch(images, labels, None), network.reads_base_labels))
    with segmenter.model.forward_pass():
        network = fit(network, ways, SETTINGS, segmenter.model.context.config.run.seed, bar.update)
    return _by(replace(segmenter.model, network=network), out, segmenter, encode=True)


def _probe_of(segmenter: Segmenter) -> Segmenter:
    """Return a segmenter of the same classes by a probe on the encoder of a segmenter's network."""
    model, network = segmenter.model, cast(WithEncoder, segmenter.model.network)
    settings = ProbeSettings(encoder=network.settings.encoder)
    settings.stage = [stage for stage in settings.stages if stage in network.encoder.channels]
    context = replace(
        model.context, config=replace(model.context.config, model=settings), model_class=Probe, vectors=None
    )
    probe = build_model(context.config, context.text_width, model.view.side)
    probe.encoder = network.encoder
    model = replace(model, context=context, network=probe.to(model.device).eval())
    out = _by(model, segmenter, segmenter.presence_by or segmenter, encode=network.masks_supports)
    out.output = FINAL
    return out


def _by(model: LoadedModel, segmenter: Segmenter, presence_by: Segmenter, encode: bool) -> Segmenter:
    """Return a segmenter of the same classes by another model; ``encode``: it keeps other things of supports."""
    out = segmenter.without_classes()
    out.model, out.presence_by = model, presence_by
    if segmenter.calibration is not None:
        out.calibration = replace(segmenter.calibration, scale=1.0, offset=0.0)  # its pixels are the network's
    for known in segmenter.classes:
        batches = encode_shots(known.name, known.images, known.labels, model) if encode else known.support_batches
        out.classes.append(replace(known, support_batches=batches))
    return out


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


def _left_out(candidate: Candidate, photos: list[Photo], scored: list[Photo], bar: tqdm) -> LeftOut:
    """Return how a candidate segments some of the photos given the supports of the other folds."""
    margins, classes = dict[int, Tensor](), 1 + max(number for photo in photos for number in photo.shots)
    presence = np.full((len(scored), classes), np.nan)
    for fold in sorted({photo.fold for photo in scored}):
        others = [photo for photo in photos if photo.fold != fold]
        trial = candidate.of(tuple(tuple(p.shots[n] for p in others if n in p.shots) for n in range(classes)))
        calibration = trial.calibration if trial.presence_by is None else None
        for index, photo in ((i, p) for i, p in enumerate(scored) if p.fold == fold):
            seen, own = trial.scores(photo.image[None], None if candidate.own_encoder else photo.cached)
            margins[index] = seen[0, :, ::STEP, ::STEP].cpu()
            if calibration is not None:
                for number in photo.shots:
                    numbers = None if own is None else own[0, number]
                    evidence = evidence_of(_unpadded(seen[0, number], photo.label), numbers).cpu().numpy()
                    presence[index, number] = logit(calibration.presence(evidence))
            bar.update()

    labels = [photo.label[::STEP, ::STEP].cpu() for photo in scored]
    deviation = float(torch.cat([margins[i][:, label != IGNORE].flatten() for i, label in enumerate(labels)]).std())
    iou = np.full((len(scored), classes, len(MOVES)), np.nan)
    for index, (photo, label) in enumerate(zip(scored, labels)):
        of_photo, known = margins[index], label != IGNORE
        for number in photo.shots:
            inside, first = label == number + 1, known & (of_photo[number] >= of_photo.amax(0))
            for move, least in enumerate(deviation * MOVES):
                found = first & (of_photo[number] > least)
                iou[index, number, move] = 100 * (found & inside).sum() / (found | inside).sum().clamp(min=1)
    return LeftOut(iou, presence, deviation)


def _doubtful(iou: np.ndarray) -> list[tuple[int, int]]:
    """Return (photo, class) of the supports that the others contradict, from the IoU (photos, classes)."""
    out = []
    for photo, number in np.argwhere(~np.isnan(iou)).tolist():
        others = np.nanmedian(np.delete(iou[:, number], photo))
        if others >= AGREED and iou[photo, number] < DOUBTFUL * others:
            out.append((photo, number))
    return out
