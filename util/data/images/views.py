"""Evaluation views: how a protocol sizes an image for the network, and the label on which pixels are counted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from model.episode import IGNORE
from util.data.images.warp import fit_letterbox, fitted_sides

LETTERBOX, STRETCH, ORIGINAL = "letterbox", "stretch", "original"  # input rules
SQUARE = "square"  # a value of scored_on, beside LETTERBOX and ORIGINAL


@dataclass(frozen=True)
class View:
    """Rule that sizes an image for the network.

    Attributes:
        rule: ``letterbox``, ``stretch`` or ``original``.
        side: S of the input in pixels; 0 for ``original``.
        label_side: side of the stretched label that is scored; differs from ``side`` if the model cannot take that
            side as input.
        smooth: whether stretching filters (Pillow's bilinear filter) instead of sampling (plain bilinear).
    """

    rule: str
    side: int
    label_side: int
    smooth: bool = False

    def sized(self, image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the input (S, S, 3) float32 in 0..255 and its class ids (S, S) uint8; ``original`` resizes neither."""
        if self.rule == ORIGINAL:
            return image.astype(np.float32), classes
        if self.rule == LETTERBOX:
            return fit_letterbox(image, classes, self.side)
        return stretch_image(image, self.side, self.smooth), stretch_label(classes, self.side)

    def shown(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of an image of ``shape`` (H, W, ...) within the input; a letterbox has padding."""
        height, width = shape[:2]
        if self.rule == LETTERBOX:
            return fitted_sides((height, width), self.side)
        return (height, width) if self.rule == ORIGINAL else (self.side, self.side)

    def scored(self, classes: np.ndarray, scored_on: str) -> np.ndarray:
        """Return the map of class ids, (H', W') uint8, to whose size logits are resized for counting."""
        if scored_on == ORIGINAL and self.rule != LETTERBOX:
            return classes
        if scored_on in (ORIGINAL, SQUARE):  # the image's longer side corresponds to the letterbox's side
            return at_top_left(classes)
        if self.rule == STRETCH:
            return stretch_label(classes, self.label_side)
        return fit_letterbox(np.zeros((*classes.shape, 3), np.uint8), classes, self.side)[1]


def stretch_image(image: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """Return the image at side x side, aspect not kept, float32; ``smooth`` rounds to integers, as Pillow does."""
    if smooth:
        resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.float32)
    return cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)


def stretch_label(classes: np.ndarray, side: int) -> np.ndarray:
    """Return the label at side x side by nearest neighbour: row i is row floor(i * height / side) of the original."""
    rows, columns = (np.arange(side) * length // side for length in classes.shape)
    return classes[rows[:, None], columns]


def at_top_left(classes: np.ndarray) -> np.ndarray:
    """Return a square of the label's longer side with the label at its top left and 255 elsewhere."""
    longer = max(classes.shape)
    out = np.full((longer, longer), IGNORE, np.uint8)
    out[: classes.shape[0], : classes.shape[1]] = classes
    return out


def to_photo(scored: np.ndarray, shape: tuple[int, int], rule: str, scored_on: str, side: int) -> np.ndarray:
    """Return a map (H', W') of the scored label's size on the pixels of a photo of ``shape``: cropped, then resized."""
    height, width = shape
    if scored_on == SQUARE:
        return np.ascontiguousarray(scored[:height, :width])
    if rule == LETTERBOX:
        rows, columns = fitted_sides(shape, side)
        scored = np.ascontiguousarray(scored[:rows, :columns])
    nearest_neighbour = scored.dtype == np.uint8
    how = cv2.INTER_NEAREST if nearest_neighbour else cv2.INTER_LINEAR
    return cv2.resize(scored, (width, height), interpolation=how)
