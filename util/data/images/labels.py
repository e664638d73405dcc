"""Images and label maps as tensors: channels first, and class ids as labels of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from model.episode import IGNORE


def channels_first(image: np.ndarray) -> Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W) of the same dtype."""
    out = np.empty((3, *image.shape[:2]), image.dtype)
    cv2.split(image, list(out))  # several times faster than a transposed copy
    return torch.from_numpy(out)


def binary(classes: np.ndarray, value: int, ignored: Sequence[int] = ()) -> Tensor:
    """Return the label (H, W) uint8 in {0, 1, 255} of the class that is ``value`` in a map of class ids.

    Pixels of the values ``ignored`` are 255.
    """
    table = np.zeros(256, np.uint8)
    table[[value, *ignored, IGNORE]] = [1, *[IGNORE] * len(ignored), IGNORE]
    return relabelled(classes, table)


def numbered(classes: np.ndarray, values: Sequence[int]) -> Tensor:
    """Return the label (H, W) uint8 in {0, .., N, 255} of N classes, by their values in a map of class ids."""
    table = np.zeros(256, np.uint8)
    table[[*values, IGNORE]] = [*range(1, len(values) + 1), IGNORE]
    return relabelled(classes, table)


def relabelled(classes: np.ndarray, table: np.ndarray) -> Tensor:
    """Return ``table[classes]`` for a table (256,) uint8; OpenCV is several times faster than NumPy here."""
    return torch.from_numpy(cv2.LUT(classes, table))
