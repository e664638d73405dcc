"""Evaluation views: how a protocol sizes an image for the network, the label on which pixels are counted, and back.

Images and labels become tensors here: channels first, and class ids as labels of an episode.

The three rules are told apart here alone: a further one is a case in each method of ``View``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.episode import IGNORE

LETTERBOX, STRETCH, ORIGINAL = "letterbox", "stretch", "original"  # input rules
SQUARE = "square"  # a value of scored_on, beside LETTERBOX and ORIGINAL
BLOCK = 8  # the sides of an image inside the letterbox are whole multiples of it


@dataclass(frozen=True)
class View:
    """Rule that sizes an image for the network."""

    rule: str  # ``letterbox`` (longer side resized to S, at the top left of a square), ``stretch`` or ``original``
    side: int  # S of the input in pixels; 0 for ``original``
    # side of the stretched label that is scored; differs from ``side`` if the model cannot take that side as input
    label_side: int
    # whether stretching filters (Pillow's bilinear filter, rounded) instead of sampling (plain bilinear)
    smooth: bool = False

    def apply(self, image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the input (S, S, 3) float32 in 0..255 and its class ids (S, S) uint8; ``original`` resizes neither."""
        return self.image(image), self.label(classes, self.side)

    def image(self, image: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) uint8 as the input (S, S, 3) float32 in 0..255."""
        if self.rule == STRETCH and self.smooth:
            resized = Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BILINEAR)
            return np.asarray(resized, dtype=np.float32)
        values = image.astype(np.float32)
        if self.rule == STRETCH:
            return cv2.resize(values, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        return in_letterbox(values, self.side, cv2.INTER_LINEAR, 0) if self.rule == LETTERBOX else values

    def label(self, classes: np.ndarray, side: int) -> np.ndarray:
        """Return a map of class ids (H, W) uint8 laid out like the input, of side ``side``, by nearest neighbour.

        Stretched, row i is row floor(i * height / side) of the original.
        """
        if self.rule == LETTERBOX:
            return in_letterbox(classes, side, cv2.INTER_NEAREST, IGNORE)
        if self.rule == ORIGINAL:
            return classes
        rows, columns = (np.arange(side) * length // side for length in classes.shape)
        return classes[rows[:, None], columns]

    def shown(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of an image of ``shape`` (H, W, ...) within the input; a letterbox has padding."""
        height, width = shape[:2]
        if self.rule == LETTERBOX:
            return fitted_sides((height, width), self.side)
        return (height, width) if self.rule == ORIGINAL else (self.side, self.side)

    def scored(self, classes: np.ndarray, scored_on: str) -> np.ndarray:
        """Return the map of class ids, (H', W') uint8, to whose size logits are resized for counting."""
        if scored_on == LETTERBOX:
            return self.label(classes, self.label_side if self.rule == STRETCH else self.side)
        if scored_on == ORIGINAL and self.rule != LETTERBOX:
            return classes
        longer = max(classes.shape)  # the square's side corresponds to the letterbox's
        square = np.full((longer, longer), IGNORE, np.uint8)
        square[: classes.shape[0], : classes.shape[1]] = classes
        return square

    def back(self, scored: np.ndarray, shape: tuple[int, int], scored_on: str) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the pixels of a photo of ``shape``: cropped, resized.

        Class ids (uint8) take the nearest neighbour, other values are interpolated.
        """
        height, width = shape
        if scored_on == SQUARE:
            return np.ascontiguousarray(scored[:height, :width])
        if self.rule == LETTERBOX:
            rows, columns = fitted_sides(shape, self.side)
            scored = np.ascontiguousarray(scored[:rows, :columns])
        how = cv2.INTER_NEAREST if scored.dtype == np.uint8 else cv2.INTER_LINEAR
        return cv2.resize(scored, (width, height), interpolation=how)


def fitted_sides(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the height and width that an image of ``shape`` has inside the letterbox."""
    height, width = (max(int(side * size / max(shape)) // BLOCK * BLOCK, BLOCK) for side in shape)
    return height, width


def in_letterbox(values: np.ndarray, size: int, interpolation: int, padding: int) -> np.ndarray:
    """Return an array (H, W, ...) in a letterbox (size, size, ...): resized, at the top left of a square of padding.

    Both new sides are int(side * size / longer) // 8 * 8; pixels have half-pixel centres.
    """
    height, width = fitted_sides((values.shape[0], values.shape[1]), size)
    boxed = np.full((size, size, *values.shape[2:]), padding, values.dtype)
    boxed[:height, :width] = cv2.resize(values, (width, height), interpolation=interpolation)
    return boxed


def channels_first(image: np.ndarray) -> Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W) of the same dtype."""
    out = np.empty((3, *image.shape[:2]), image.dtype)
    cv2.split(image, list(out))  # several times faster than a transposed copy
    return torch.from_numpy(out)


def numbered(classes: np.ndarray, values: Sequence[int], ignored: Sequence[int] = ()) -> Tensor:
    """Return the label (H, W) uint8 in {0, .., N, 255} of N classes, by their values in a map of class ids.

    Pixels of the values ``ignored`` are 255.
    """
    table = np.zeros(256, np.uint8)
    table[[*values]] = range(1, len(values) + 1)
    table[[*ignored, IGNORE]] = IGNORE
    return relabelled(classes, table)


def relabelled(classes: np.ndarray, table: np.ndarray) -> Tensor:
    """Return ``table[classes]`` for a table (256,) uint8; OpenCV is several times faster than NumPy here."""
    return torch.from_numpy(cv2.LUT(classes, table))
