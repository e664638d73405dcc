"""The result for one photo: a mask, a probability map for each class, and a summary of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from util.report.overlay import PREDICTION_COLOUR, class_map, overlay

DIGITS = 6  # after the decimal point, of shares and confidences


@dataclass(frozen=True)
class Prediction:
    """The classes of a photo's pixels.

    Attributes:
        image: the upright photo, (H, W, 3) uint8.
        names: the classes; class i has the value i + 1 in the mask.
        mask: (H, W) uint8, 0 is background.
        probability: (classes, H, W) float32; together with the background's they sum to 1.
    """

    image: np.ndarray
    names: list[str]
    mask: np.ndarray
    probability: np.ndarray

    @classmethod
    def from_margins(cls, image: np.ndarray, names: list[str], margins: np.ndarray) -> Prediction:
        """Return the softmax over classes and background at each pixel, and its argmax.

        Args:
            margins: each class's logit minus the background's, (classes, H, W) float32.
        """
        highest = np.maximum(margins.max(0), 0)
        mask = np.where(margins.max(0) > 0, margins.argmax(0) + 1, 0).astype(np.uint8)
        exponentials = np.exp(margins - highest)
        total = exponentials.sum(0) + np.exp(-highest)
        return cls(image, names, mask, exponentials / total)

    def overlay(self) -> np.ndarray:
        """Return the photo with the segmented pixels tinted and outlined, (H, W, 3) uint8."""
        if len(self.names) == 1:
            return overlay(self.image, self.mask, PREDICTION_COLOUR)
        return class_map(self.image, self.mask)

    def summary(self) -> list[dict[str, Any]]:
        """Return name, value in the mask, pixels, share of the photo, box and confidence of each class.

        The box [x0, y0, x1, y1] covers columns x0 .. x1 - 1 and rows y0 .. y1 - 1. The confidence is the mean
        probability of the class over its pixels. Both are None for a class without pixels.
        """
        return [self._summary_of(value, name) for value, name in enumerate(self.names, 1)]

    def _summary_of(self, value: int, name: str) -> dict[str, Any]:
        inside = self.mask == value
        pixels = int(inside.sum())
        box = confidence = None
        if pixels:
            rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
            box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
            confidence = round(float(self.probability[value - 1][inside].mean(dtype=np.float64)), DIGITS)
        share = round(pixels / inside.size, DIGITS)
        return {"name": name, "value": value, "pixels": pixels, "share": share, "box": box, "confidence": confidence}
