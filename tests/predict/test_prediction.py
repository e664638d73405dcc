"""Classes and background compete for each pixel, and the summary counts the pixels of each class."""

from __future__ import annotations

import numpy as np
import torch

from util.evaluate.calibration import FORMAT, Calibration
from util.predict import Prediction
from util.predict.prediction import Decision

MARGINS = np.array([[[2.0, -1.0, 1.0, 3.0]], [[1.0, -2.0, 4.0, -1.0]]], np.float32)  # two classes, 1 x 4 pixels
IMAGE = np.zeros((1, 4, 3), np.uint8)
CALIBRATION = Calibration(FORMAT, "model", "key", "base classes", 2.0, 0.0, [1.0], 0.0, 0.5)


def _predicted(**decision: object) -> Prediction:
    scores = [CALIBRATION.presence(np.ones(1))] * 2
    return Prediction.from_margins(IMAGE, ["cat", "dog"], MARGINS, scores, CALIBRATION, Decision(**decision))


def test_probabilities_are_calibrated_and_the_threshold_is_one_of_them() -> None:
    logits = torch.from_numpy(np.concatenate([0 * MARGINS[:1], 2 * MARGINS]))
    assert np.allclose(_predicted().probability, logits.softmax(0)[1:].numpy())
    assert _predicted(threshold=0.9).mask.tolist() == [[0, 0, 2, 1]]  # the first cat has 0.87
    assert _predicted(threshold=0.1).mask.tolist() == [[1, 1, 2, 1]]  # a margin of -1 has 0.12
    assert _predicted(min_pixels=2).mask.tolist() == [[1, 0, 0, 1]]
