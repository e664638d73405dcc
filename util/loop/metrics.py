"""Intersections and unions as integers, and the scores that follow from their sums: IoU, mIoU and FB-IoU."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import IGNORE
from util.files.errors import call_foreign
from util.loop.mask_metrics import METRICS, EpisodeCounts, Metric, SeenEpisode

FINAL = "final"  # name of the output that is a model's prediction
ALL_FOREGROUND = "all_foreground"  # of a reference: every pixel called foreground
MIOU = "miou"  # the score of all classes together
BASE = "base"  # and of logits over the base classes, whose ``per_class`` has no ids of the data set

# Columns of a record: an episode has one for each of its classes. Columns 4 to 7 are the same in all of them; with one
# class the foreground is that class. From FURTHER on each further metric has two, a part and a whole.
NUMBER, CLASS, INTERSECTION, UNION = range(4)
SIDES, FURTHER = slice(4, 8), 8  # intersection and union of the background, then of the foreground


def predicted(logits_bnhw: Tensor) -> Tensor:
    """Return the channel with the greatest logit at every pixel, (B, H, W) int64, the first one of equals.

    On a CPU ``max`` takes a seventh to a fifteenth of ``argmax``'s time here.
    """
    return logits_bnhw.max(1).indices


def episode_records(
    number: int,
    class_id_n: Tensor,
    prediction_hw: Tensor,
    label_hw: Tensor,
    further: Sequence[str] = (),
    *,
    query: str = "",
    class_map_hw: Tensor | None = None,
) -> Tensor:
    """Return the records (N, 8 + 2 for each further metric) of one episode; pixels labelled 255 are ignored.

    ``class_id_n`` are the N classes, which prediction and label call 1..N; ``further`` are names of ``METRICS``;
    ``query`` names the photo, and ``class_map_hw`` has all of its classes, default those of the label. The records are
    int64; float64, whose integers are exact too, if a metric is a mean of episodes.
    """
    ways = len(class_id_n)
    intersection, union, true = class_counts(prediction_hw, label_hw, ways + 1)
    class_columns = [torch.full_like(class_id_n, number), class_id_n, intersection[1:], union[1:]]
    labelled = true.sum()
    foreground_intersection = labelled - union[0]  # pixels that neither calls background
    foreground_union = labelled - intersection[0]  # and those that not both do
    sides = torch.stack([intersection[0], union[0], foreground_intersection, foreground_union])
    columns = [torch.stack(class_columns, 1), sides.expand(ways, -1)]
    episodes: list[SeenEpisode] = []
    if further:
        class_map = (label_hw if class_map_hw is None else class_map_hw).cpu().numpy()
        episodes = [SeenEpisode(number, query, class_id, class_map) for class_id in class_id_n.tolist()]
    columns += [_parts_and_wholes(METRICS[name], prediction_hw, label_hw, episodes) for name in further]
    return torch.cat(columns, 1)


def _parts_and_wholes(
    metric: Metric, prediction_hw: Tensor, label_hw: Tensor, episodes: Sequence[SeenEpisode]
) -> Tensor:
    """Return part and whole of a metric for each class of an episode, (N, 2), on the label's device."""
    prediction = prediction_hw.byte().cpu().numpy()
    label = label_hw.byte().cpu().numpy()
    labelled = (label != IGNORE).astype(np.uint8)
    rows = []
    for value, episode in enumerate(episodes, start=1):
        mask = (prediction == value) * labelled
        true = (label == value) * labelled
        seen = [episode] if metric.sees_episode else []
        rows.append(
            call_foreign(f"metric {metric.facts['title']}", _part_and_whole, metric, mask, true, labelled, *seen)
        )
    values = np.array(rows)
    kind = np.int64 if values.dtype.kind in "iub" else np.float64  # beside counts, which stay exact in both
    return torch.from_numpy(values.astype(kind)).to(label_hw.device)


def _part_and_whole(metric: Metric, *arguments: Any) -> tuple[Any, Any]:
    """Return the part and the whole that a metric counts; ValueError, TypeError: they are no numbers of this kind."""
    part, whole = map(_finite, metric.part_and_whole(*arguments))
    if whole < 0 or (whole == 0 and part != 0):
        raise ValueError(f"{part} is no part of {whole}; return 0, 0 where nothing is counted")
    return part, whole


def _finite(value: Any) -> Any:
    """Return a number; ValueError, TypeError: it is none, or not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return value


def episode_scores(
    records: np.ndarray, classes: int, scales: Mapping[str, float] | None = None, at_end: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the scores of the records of all episodes of a data set, whose class ids are 1..``classes``.

    In percent: ``miou`` (see ``mean_iou``), ``fb_iou`` and ``per_class`` of ids that occurred (text). Of the further
    metrics of the records, by their ``scales``: the mean over the classes of which something was counted, and their
    values, in their units; none where nothing was. Of those ``at_end`` one value.
    """
    class_ids = records[:, CLASS].astype(np.int64)
    sums = np.zeros((classes + 1, records.shape[1]), records.dtype)
    np.add.at(sums, class_ids, records)
    intersection, union = sums[:, INTERSECTION], sums[:, UNION]
    episodes = np.bincount(class_ids, minlength=classes + 1)
    scores: dict[str, Any] = {
        MIOU: float(mean_iou(intersection, union, episodes)),
        "fb_iou": _fb_iou(records),
        per_class(MIOU): {str(c): percent(intersection[c], union[c]) for c in np.flatnonzero(episodes)},
    }
    parts = sums[:, FURTHER::2].T
    wholes = sums[:, FURTHER + 1 :: 2].T
    for (name, scale), part, whole in zip((scales or {}).items(), parts, wholes, strict=True):
        counted = {str(c): scale * float(part[c] / whole[c]) for c in np.flatnonzero(whole)}
        if counted:
            scores[name] = sum(counted.values()) / len(counted)
        scores[per_class(name)] = counted
    counts = EpisodeCounts(*records[:, NUMBER : UNION + 1].T.astype(np.int64))
    for name in at_end:
        score = call_foreign(f"metric {name}", lambda name=name: _finite(METRICS[name].part_and_whole(counts)))
        scores[name] = METRICS[name].facts["scale"] * float(score)
    return scores


def _fb_iou(records: np.ndarray) -> float:
    """Return the mean IoU of background and foreground over all episodes in percent."""
    _, first = np.unique(records[:, NUMBER], return_index=True)  # sides are the same in all records of an episode
    intersection_b, union_b, intersection_f, union_f = records[first, SIDES].sum(0)
    return (percent(intersection_b, union_b) + percent(intersection_f, union_f)) / 2


def class_counts(prediction: Tensor, label: Tensor, channels: int) -> Tensor:
    """Return intersection, union and labelled pixels, (3, channels) int64, of predictions and labels in 0..N.

    Pixels labelled 255 are ignored.
    """
    # pixels by predicted class, in 256 columns by the label's byte; one histogram is faster than three
    codes = (prediction.long() << 8).add_(label).flatten()
    pairs = codes.new_zeros(channels << 8).scatter_add_(0, codes, torch.ones_like(codes))
    pairs = pairs.view(channels, 256)[:, :channels]
    intersection = pairs.diagonal()
    true = pairs.sum(0)
    union = pairs.sum(1) + true - intersection
    return torch.stack([intersection, union, true])


def class_scores(counts: np.ndarray) -> dict[str, Any]:
    """Return ``miou`` over the classes 1..N that occur in the labels and ``per_class``; in percent."""
    intersection, union, labelled = counts
    ious = {str(c): percent(intersection[c], union[c]) for c in range(1, len(union)) if labelled[c]}
    return {MIOU: sum(ious.values()) / max(len(ious), 1), per_class(MIOU): ious}


def percent(part: np.integer, whole: np.integer) -> float:
    """Return a part in percent of a whole, 0 where both are 0."""
    return 100.0 * int(part) / max(int(whole), 1)


def mean_iou(intersection: np.ndarray, union: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent over the last axis: the mean IoU of the classes that occurred in an episode.

    Given are the summed pixels and the number of episodes of each class; a union of 0 gives an IoU of 0.
    """
    occurred = episodes > 0
    iou = np.where(occurred, intersection / np.where(union == 0, 1, union), 0)
    return 100 * iou.sum(-1) / np.maximum(occurred.sum(-1), 1)


def per_class(score: str) -> str:
    """Return the key of a score's values by class id: of mIoU the IoU of each class, of a further metric its own."""
    return "per_class" if score == MIOU else f"per_class_{score}"
