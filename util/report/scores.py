"""The definition of mIoU from counts, for results, comparisons and curves; the name of the prediction."""

import statistics
from typing import Any

import numpy as np

from util.data.lists.manifest import ways_of

FINAL = "final"  # name of the output that is a model's prediction
NETWORK = "network"  # of the prediction without the photo's edges, where it has them (``test.edges``)
SMALLER_IS_BETTER = {"hd95", "hausdorff", "assd", "mae", "seconds"}  # scores; a metric of that kind adds its name here
BASE = "base"  # and of logits over the base classes, whose ``per_class`` has no ids of the data set


def mean_iou(intersection: np.ndarray, union: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent over the last axis: the mean IoU of the classes that occurred in an episode.

    Args:
        intersection, union: summed foreground pixels (..., classes); a union of 0 gives an IoU of 0.
        episodes: number of episodes of each class (..., classes); a class without episodes is not in the mean.
    """
    occurred = episodes > 0
    iou = np.where(occurred, intersection / np.maximum(union, 1), 0)
    return 100 * iou.sum(-1) / np.maximum(occurred.sum(-1), 1)


def counts_of(episode: dict[str, Any], output: str) -> list[tuple[int, int, int, int]]:
    """Return (group, class id, intersection, union) of each class of a manifest's episode, scored with that output.

    The mIoU is the mean of the groups' (``mean_iou``). There is one, 0; in generalised segmentation there are two, 0 of
    base and 1 of novel classes, of which all that occur count.
    """
    counts, ways = episode["outputs"][output], [class_id for class_id, _ in ways_of(episode)]
    if isinstance(counts, dict):
        return [(int(int(c) in ways), int(c), *pair) for c, pair in counts.items() if c != "0"]
    return [(0, class_id, *counts[2 * i : 2 * i + 2]) for i, class_id in enumerate(ways)]


def over_seeds(per_seed: list[dict[str, Any]]) -> dict[str, dict]:
    """Return mean and standard deviation over seeds of every output's scores."""
    out: dict[str, dict] = {"mean": {}, "deviation": {}}
    for name, scores in per_seed[0].items():
        keys = [k for k in scores if k != "per_class" and all(k in s[name] for s in per_seed)]
        values = {k: [s[name][k] for s in per_seed] for k in keys}
        out["mean"][name] = {k: statistics.mean(v) for k, v in values.items()}
        out["deviation"][name] = {k: statistics.pstdev(v) for k, v in values.items()}
    return out
