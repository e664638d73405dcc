"""Evaluation views: how a protocol sizes an image for the network, the label on which pixels are counted, and back.

Images and labels become tensors here: channels first, and class ids as labels of an episode.

A further rule is an entry of ``RULES``; ``PHOTO_RULE`` names the one that photos of one's own take (``predict.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.episode import IGNORE, Modality

# Input rules.
LETTERBOX = "letterbox"
STRETCH = "stretch"
ORIGINAL = "original"
PHOTO_RULE = LETTERBOX
SQUARE = "square"  # a value of scored_on, beside LETTERBOX and ORIGINAL
BLOCK = 8  # the sides of an image inside the letterbox are whole multiples of it
Sides = tuple[int, ...]  # height and width


def _letterbox(shape: Sides, side: int) -> Sides:
    scaled = [int(length * side / max(shape)) for length in shape]
    return tuple(max(length // BLOCK * BLOCK, BLOCK) for length in scaled)


# Rule -> function of an image's sides and the input's side S. It returns the image's height and width at the top left
# of the input, whose rest is padding.
RULES: dict[str, Callable[[Sides, int], Sides]] = {
    LETTERBOX: _letterbox,
    STRETCH: lambda shape, side: (side, side),
    ORIGINAL: lambda shape, side: shape,
}


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

    def beside(self, plane: np.ndarray, modality: Modality) -> np.ndarray:
        """Return a plane (H, W) float32 of a modality laid out like the input, (S, S)."""
        if modality.nearest:
            return self.label(plane, self.side, modality.padding)
        return self.image(plane, modality.padding)

    def image(self, image: np.ndarray, padding: float = 0) -> np.ndarray:
        """Return an image (H, W, 3) uint8 as the input (S, S, 3) float32 in 0..255; pixels have half-pixel centres."""
        if self.rule == STRETCH and self.smooth:
            smoothed = Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BILINEAR)
            return np.asarray(smoothed, dtype=np.float32)
        size = RULES[self.rule](image.shape[:2], self.side)
        resized = cv2.resize(image.astype(np.float32), size[::-1])
        return padded(resized, self.side, padding)

    def label(self, classes: np.ndarray, side: int, padding: float = IGNORE) -> np.ndarray:
        """Return a map of class ids (H, W) uint8 laid out like the input, of side ``side``, by nearest neighbour.

        Outside a letterbox, row i is row floor(i * height / side) of the original.
        """
        size = RULES[self.rule](classes.shape, side)
        if self.rule == LETTERBOX:
            resized = cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST)
        else:
            rows, columns = (np.arange(new) * old // new for new, old in zip(size, classes.shape))
            resized = classes[rows[:, None], columns]
        return padded(resized, side, padding)

    def shown(self, shape: Sides) -> Sides:
        """Return height and width of an image of ``shape`` (H, W, ...) within the input; a letterbox has padding."""
        return RULES[self.rule](shape[:2], self.side)

    def label_kind(self, wanted: str) -> str:
        """Return the kind of label that is scored where a protocol names one: squares for letterboxed originals."""
        return SQUARE if wanted == ORIGINAL and self.rule == LETTERBOX else wanted

    def scored(self, classes: np.ndarray, scored_on: str) -> np.ndarray:
        """Return the map of class ids, (H', W') uint8, to whose size logits are resized for counting.

        ``scored_on`` is a kind of this view, as of ``label_kind``.
        """
        if scored_on == LETTERBOX:
            return self.label(classes, self.side if self.rule == LETTERBOX else self.label_side)
        if scored_on == ORIGINAL:
            return classes
        return padded(classes, max(classes.shape), IGNORE)  # the square's side corresponds to the letterbox's

    def back(self, scored: np.ndarray, shape: Sides, scored_on: str) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the pixels of a photo of ``shape``: cropped, resized.

        Class ids (uint8) take the nearest neighbour, other values are interpolated.
        """
        if scored_on in (SQUARE, ORIGINAL):
            return np.ascontiguousarray(scored[: shape[0], : shape[1]])
        interpolation = cv2.INTER_NEAREST if scored.dtype == np.uint8 else cv2.INTER_LINEAR
        height, width = RULES[self.rule](shape, len(scored))
        return cv2.resize(np.ascontiguousarray(scored[:height, :width]), shape[::-1], interpolation=interpolation)


def padded(values: np.ndarray, side: int, padding: float) -> np.ndarray:
    """Return an array (H, W, ...) at the top left of a padded square; unchanged if it fills the square or side is 0."""
    if values.shape[:2] == (side, side) or not side:
        return values
    square = np.full((side, side, *values.shape[2:]), padding, values.dtype)
    square[: values.shape[0], : values.shape[1]] = values
    return square


def channels_first(image: np.ndarray) -> Tensor:
    """Return an image (H, W, C) as a tensor (C, H, W) of the same dtype."""
    out = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(out))  # several times faster than a transposed copy
    return torch.from_numpy(out)
