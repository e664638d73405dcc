"""``--adapt``: the supports choose the method, and how presence scores count.

Every support is segmented given the others (with more than five, in five folds), by the network and by candidates in
its place. The best of them is used if its IoU gains at least ``GAIN`` points over the network's on average, and more
photos gain than lose; it then has all supports. Smaller gains of five supports are not those of other photos. A support
that the network does not find, while it finds the others, is named, and a candidate does without it. The presence
scores of the supports given the others shift those of their class: half of the way to where they lie ``AHEAD`` of the
threshold on average. If it is asked for, the network whose encoder is adapted to two supports or more (TaP, arXiv
2512.10521; ``TAUGHT_GAIN``) competes, and the probe on that encoder; they segment a fold by an encoder that learnt from
the others.

With one support of each class nothing can be left out. A mark along much of the photo's border is of a material then
and not of an object, and the linear probe has it.
"""

import copy
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.baselines.probe import Probe, ProbeSettings
from model.common.adaptation import SETTINGS, adaptable, fit
from model.common.with_encoder import WithEncoder
from model.mismatch import Mismatch
from util.evaluate.calibration import logit
from util.evaluate.evaluate import FINAL
from util.predict.encoded_class import SupportBatch, encode_shots
from util.predict.left_out import Candidate, LeftOut, doubtful_in, left_out, photos_of, unpadded
from util.predict.load_model import LoadedModel
from util.predict.segmenter import Segmenter
from util.run.network import build_model

AUTO, NONE, ENCODER = "auto", "none", "encoder"  # the words of --adapt
INTERRUPTED = "interrupted"
FOLDS = 5
LEAST, LEAST_TO_CHOOSE = 3, 5  # supports of each class: for presence scores, for the rest
SCORED = 10  # supports of a class that are segmented, at most
GAIN, TAUGHT_GAIN = 10.0, 1.0  # points of IoU over the network; of the network with an adapted encoder
AHEAD = 1.0  # in logits
MATERIAL = 1 / 3  # share of the photo's border
A_STEP = 5.0  # time of a step of the encoder's learning, in encodings of a photo


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
    exactly = network.shots_of(network.state_dict())
    fixed = not counts or segmenter.kept or not isinstance(network, WithEncoder) or exactly not in (None, 1)
    if encoder and counts and (fixed or min(counts) == 1):
        encoder, why = False, "takes two supports or more of each class, and few-shot weights for any number"
        segmenter = _noted(copy.copy(segmenter), segmenter, {"encoder": why}, f"an adapted encoder {why}")
    if fixed:
        return segmenter
    along = min(along_border(known.labels[0, 0]) for known in segmenter.classes)
    if max(counts) == 1 and network.learns and along >= MATERIAL:
        note = f"a mark along {along:.0%} of the photo's border is of a material; uses {Probe.title}, not"
        return _noted(_probe_of(segmenter), segmenter, {"chosen": Probe.title}, f"{note} {network.title}")
    return _chosen(segmenter, min(counts), progress, encoder) if encoder or min(counts) >= LEAST else segmenter


def _chosen(segmenter: Segmenter, shots: int, progress: bool, encoder: bool) -> Segmenter:
    """Return the best candidate's segmenter; ``shots`` is the least number of supports of a class."""
    began, title, chooses = time.monotonic(), segmenter.model.network.title, shots >= LEAST_TO_CHOOSE
    photos = photos_of(segmenter, FOLDS)
    scored = [photo for photo in photos if min(photo.shots.values()) < SCORED]
    a_step = A_STEP * (time.monotonic() - began) / len(photos)
    steps = encoder * SETTINGS.steps * (1 + len({photo.fold for photo in scored}))
    total = (1 + chooses) * (1 + encoder) * len(scored) + steps
    with tqdm(desc="choose", leave=False, disable=not progress, total=total) as bar:
        trial_of = partial(left_out, photos=photos, scored=scored, bar=bar)
        trials = [trial_of(Candidate(title, partial(_of_some, segmenter), GAIN))]
        doubtful = doubtful_in(trials[0].iou) if shots >= LEAST else []
        without = {(scored[p].shots[n], n) for p, n in doubtful}
        kept = [p for p in range(len(scored)) if p not in dict(doubtful)]
        if chooses:
            trials.append(trial_of(Candidate(Probe.title, partial(_of_some, _probe_of(segmenter)), GAIN)))
        if chooses and doubtful:
            some = partial(_of_some, segmenter, without=without)
            trials.append(trial_of(Candidate(f"{title} without doubtful", some, GAIN)))
        (out, facts), refused = _best(segmenter, trials, kept), ""
        if encoder:
            try:
                adaptable(segmenter.model.network)
                if progress:
                    tqdm.write(f"--adapt: an encoder learns, about {steps * a_step:.0f} s; Ctrl-C does without")
                learnt = cache(partial(_of_encoder, segmenter, without, bar))
                learning = [Candidate(f"{title}, adapted", learnt, TAUGHT_GAIN, own_encoder=True)]
                learning.append(
                    Candidate(f"{Probe.title}, adapted", lambda shots: _probe_of(learnt(shots)), GAIN, own_encoder=True)
                )
                out, facts = _best(segmenter, [*trials, *map(trial_of, learning[: 1 + chooses])], kept)
            except (KeyboardInterrupt, Mismatch) as reason:
                refused = str(reason) or INTERRUPTED
    if segmenter.calibration is not None and shots >= LEAST:
        ahead = logit(segmenter.calibration.threshold) + AHEAD
        for known, presence in zip(out.classes, np.nanmean(trials[0].presence, 0)):
            known.presence_shift = float((ahead - presence) / 2)
    facts["presence_shift"] = {known.name: round(known.presence_shift, 3) for known in out.classes}
    facts["doubtful"] = [segmenter.classes[n].sources[scored[p].shots[n]] for p, n in doubtful]
    facts |= {"encoder": refused or f"{SETTINGS}, after the last step"} if encoder else segmenter.adaptation or {}
    facts["seconds"] = round(time.monotonic() - began, 1)
    scores = ", ".join(f"{name} {score:.1f}" for name, score in facts["iou"].items())
    note = f"without an adapted encoder: {refused}; " if refused else ""
    note += f"mean IoU % of {len(kept)} supports given the others: {scores}; uses {facts['chosen']}, "
    note += f"{facts['gain']:+.1f} ({facts['predictions']} predictions, {facts['seconds']:.0f} s)"
    doubt = "not found given the others, which find each other; is its mark right?"
    return _noted(out, segmenter, facts, note, *(f"{source}: {doubt}" for source in facts["doubtful"]))


def _best(segmenter: Segmenter, trials: list[LeftOut], kept: list[int]) -> tuple[Segmenter, dict]:
    """Return the segmenter of the best candidate, which has all supports, and facts; the first is the network itself.

    ``kept`` are the photos that count.
    """
    best, most, ious = trials[0].candidate, 0.0, dict[str, float]()
    plain = np.nanmean(trials[0].iou[kept], 1)
    for one, iou, _ in trials:
        score = np.nanmean(iou[kept], 1)
        gain, ious[one.title] = score - plain, round(float(score.mean()), 2)
        if gain.mean() >= max(one.gain, most) and (gain > 0).sum() > (gain < 0).sum():
            best, most = one, gain.mean()
    return best.of(tuple(tuple(range(len(known.sources))) for known in segmenter.classes)), {
        "chosen": best.title,
        "iou": ious,
        "gain": round(ious[best.title] - ious[trials[0].candidate.title], 2),
        "predictions": sum(len(trial.iou) for trial in trials),
    }


def _noted(out: Segmenter, segmenter: Segmenter, facts: dict[str, Any], *notes: str) -> Segmenter:
    """Return a segmenter with the notes of another, further ones, and the facts of the choice."""
    out.notes, out.adaptation = [*segmenter.notes, *(f"--adapt: {note}" for note in notes)], facts
    return out


def along_border(label: Tensor) -> float:
    """Return the share of the photo's border along which its mark lies, from the network's label (S, S)."""
    photo = unpadded(label, label)
    return float((torch.cat([photo[0], photo[-1], photo[:, 0], photo[:, -1]]) == 1).float().mean())


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
        images, labels = (torch.cat([x, x.flip(-1)], 1) if x.shape[1] == 1 else x for x in (known.images, known.labels))
        ways.append(known.episode(images[:, 0], SupportBatch(images, labels, None), network.reads_base_labels))
    with segmenter.model.forward_pass():
        network = fit(network, ways, SETTINGS, segmenter.model.context.config.run.seed, bar.update)
    return _by(replace(segmenter.model, network=network), out, segmenter, encode=True)


def _probe_of(segmenter: Segmenter) -> Segmenter:
    """Return a segmenter of the same classes by a probe on the encoder of a segmenter's network."""
    model, network = segmenter.model, cast(WithEncoder, segmenter.model.network)
    settings = ProbeSettings(encoder=network.settings.encoder)
    settings.stage = [stage for stage in settings.stages if stage in network.encoder.channels]
    config = replace(model.context.config, model=settings)
    context = replace(model.context, config=config, model_class=Probe, vectors=None)
    probe = build_model(config, context.text_width, model.view.side)
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
