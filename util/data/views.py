"""Evaluation views: how a protocol sizes a photo for the network, and the label that its score is counted on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from model.contract import IGNORE
from util.data.warp import fit_letterbox, fitted_sides

LETTERBOX, STRETCH, ORIGINAL = "letterbox", "stretch", "original"  # input rules
SQUARE = "square"  # scored on, beside canvas and original


@dataclass(frozen=True)
class View:
    """How an image becomes the network's input.

    Attributes:
        rule: ``letterbox``, ``stretch`` or ``original``.
        side: S of the input in pixels; 0 for ``original``.
        label_side: side of the squeezed label that is scored on; differs from ``side`` where a model could not take it.
        smooth: whether squeezing averages (Pillow's bilinear filter) instead of sampling (plain bilinear).
    """

    rule: str
    side: int
    label_side: int
    smooth: bool = False

    def sized(self, image: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the input (S, S, 3) float32 in 0..255 and its map of class ids (S, S) uint8; or both as they were."""
        if self.rule == ORIGINAL:
            return image.astype(np.float32), classes
        if self.rule == LETTERBOX:
            return fit_letterbox(image, classes, self.side)
        return stretch_image(image, self.side, self.smooth), stretch_label(classes, self.side)

    def scored(self, classes: np.ndarray, scored_on: str) -> np.ndarray:
        """Return the map of class ids, (H', W') uint8, that logits are resized to and counted on."""
        if scored_on == ORIGINAL and self.rule != LETTERBOX:
            return classes
        if scored_on in (ORIGINAL, SQUARE):  # the longer side of image and canvas correspond
            return at_top_left(classes)
        if self.rule == STRETCH:
            return stretch_label(classes, self.label_side)
        return fit_letterbox(np.zeros((*classes.shape, 3), np.uint8), classes, self.side)[1]


def stretch_image(image: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """Return the image at side x side, aspect not kept, float32; ``smooth`` rounds to whole values as Pillow does."""
    if smooth:
        resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.float32)
    return cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)


def stretch_label(classes: np.ndarray, side: int) -> np.ndarray:
    """Return the label at side x side by nearest neighbour: row i comes from row floor(i * height / side)."""
    rows, columns = (np.arange(side) * length // side for length in classes.shape)
    return classes[rows[:, None], columns]


def at_top_left(classes: np.ndarray) -> np.ndarray:
    """Return a square of the longer side that holds the label at its top left and 255 elsewhere."""
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
