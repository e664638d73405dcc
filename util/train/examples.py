"""Pictures of a validation's first episodes or images, for the curves of a training."""

from typing import Any

import numpy as np
from torch import Tensor

from model.episode import LabelledImages, Output
from util.files.overlay import (
    PREDICTION_COLOUR,
    SUPPORT_COLOUR,
    TRUTH_COLOUR,
    Colour,
    at_panel_size,
    labelled,
)


class Examples:
    """The observer that draws the first episodes or images of a validation, by number, each as one strip.

    The strip (H, W, 3) uint8 has the supports, the query, the truth and the prediction; images have no supports.
    """

    def __init__(self, count: int):
        self.count = count
        self.shown: dict[int, np.ndarray] = {}

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """Draw those of a batch, a ``Trial`` or ``LabelledImages``."""
        for item, number in enumerate(numbers):
            if number >= self.count:
                continue
            prediction = output.logits[item].argmax(0)
            if isinstance(batch, LabelledImages):
                strip = _strip([], batch.image[item], batch.label[item], prediction, several=True)
            else:
                episode = batch.episode
                strip = _strip(episode.supports_of(item), episode.query[item], episode.query_label[item], prediction)
            self.shown[number] = strip


def _strip(
    shots: list[tuple[Tensor, Tensor]], query: Tensor, truth: Tensor, prediction: Tensor, several: bool = False
) -> np.ndarray:
    """Return supports, the query, its truth and its prediction as one strip; ``several``: labels are class ids."""
    panels = [_panel(photo, label, SUPPORT_COLOUR, several) for photo, label in [*shots, (query, truth * 0)]]
    panels.append(_panel(query, truth, TRUTH_COLOUR, several))
    panels.append(_panel(query, prediction, PREDICTION_COLOUR, several))
    return np.hstack(panels)


def _panel(photo: Tensor, label: Tensor, colour: Colour, several: bool) -> np.ndarray:
    """Return a photo (3, H, W) with its label (H, W) at the size of a panel."""
    pixels = photo.permute(1, 2, 0).round().byte().cpu().numpy()
    ids = label.round().byte().cpu().numpy()
    return at_panel_size(labelled(pixels, ids, colour, several=several))
