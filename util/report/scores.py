"""The definition of mIoU from counts, for results, comparisons and curves; the name of the prediction."""

from __future__ import annotations

import numpy as np

FINAL = "final"  # name of the output that is a model's prediction


def mean_iou(intersection: np.ndarray, union: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent over the last axis: the mean IoU of the classes that occurred in an episode.

    Args:
        intersection, union: summed foreground pixels (..., classes); a union of 0 gives an IoU of 0.
        episodes: number of episodes of each class (..., classes); a class without episodes is not in the mean.
    """
    occurred = episodes > 0
    iou = np.where(occurred, intersection / np.maximum(union, 1), 0)
    return 100 * iou.sum(-1) / np.maximum(occurred.sum(-1), 1)
