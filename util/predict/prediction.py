"""What was found in one photo: a mask, a probability for each class, and their summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from util.report.pictures import PREDICTION_COLOUR, class_map, overlay

DIGITS = 6


@dataclass(frozen=True)
class Prediction:
    """The classes of a photo's pixels.

    Attributes:
        image: the upright photo, (H, W, 3) uint8.
        names: the classes; class i has the value i + 1 in the mask.
        mask: (H, W) uint8, 0 is background.
        probability: (classes, H, W) float32; with the background's they add up to 1.
    """

    image: np.ndarray
    names: list[str]
    mask: np.ndarray
    probability: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, names: list[str], margins: np.ndarray) -> Prediction:
        """Let classes (n, H, W), by their logits less the background's, and the background compete for each pixel."""
        highest = np.maximum(margins.max(0), 0)
        mask = np.where(margins.max(0) > 0, margins.argmax(0) + 1, 0).astype(np.uint8)
        exponentials = np.exp(margins - highest)
        total = exponentials.sum(0) + np.exp(-highest)
        return cls(image, names, mask, exponentials / total)

    def overlay(self) -> np.ndarray:
        """Return the photo with what was found tinted and outlined, (H, W, 3) uint8."""
        if len(self.names) == 1:
            return overlay(self.image, self.mask, PREDICTION_COLOUR)
        return class_map(self.image, self.mask)

    def summary(self) -> list[dict[str, Any]]:
        """Return of each class: value in the mask, pixels, share of the photo, box and confidence.

        The box is [x0, y0, x1, y1], columns x0 .. x1 - 1 and rows y0 .. y1 - 1; the confidence is the class's mean
        probability over the pixels it has. Both are None where it has none.
        """
        out = []
        for value, name in enumerate(self.names, 1):
            where = self.mask == value
            pixels = int(where.sum())
            rows, columns = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
            box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if pixels else None
            sure = round(float(self.probability[value - 1][where].mean(dtype=np.float64)), DIGITS) if pixels else None
            share = round(pixels / where.size, DIGITS)
            row = {"name": name, "value": value, "pixels": pixels, "share": share, "box": box, "confidence": sure}
            out.append(row)
        return out
