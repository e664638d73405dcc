"""Classes and background compete for each pixel, and the summary counts the pixels of each class."""

from __future__ import annotations

import numpy as np
import torch

from util.evaluate.calibration import FORMAT, Calibration
from util.predict import Prediction
from util.predict.prediction import Decision

MARGINS = np.array([[[2.0, -1.0, 1.0, 3.0]], [[1.0, -2.0, 4.0, -1.0]]], np.float32)  # two classes, 1 x 4 pixels
IMAGE = np.zeros((1, 4, 3), np.uint8)


def _calibration(scale: float = 2.0, threshold: float = 0.5) -> Calibration:
    """Return a calibration whose presence score is the sigmoid of the evidence's only number."""
    return Calibration(FORMAT, "model", "key", "base classes", scale, 0.0, [1.0], 0.0, threshold)


def _predicted(evidence: tuple[float, float], **decision: object) -> Prediction:
    scores = [_calibration().presence(np.array([x])) for x in evidence]
    return Prediction.from_margins(IMAGE, ["cat", "dog"], MARGINS, scores, _calibration(), Decision(**decision))


def test_probabilities_are_calibrated_and_the_threshold_is_one_of_them() -> None:
    logits = torch.from_numpy(np.concatenate([0 * MARGINS[:1], 2 * MARGINS]))
    assert np.allclose(_predicted((1, 1)).probability, logits.softmax(0)[1:].numpy())
    assert _predicted((1, 1), threshold=0.9).mask.tolist() == [[0, 0, 2, 1]]  # the first cat has 0.87
    assert _predicted((1, 1), threshold=0.1).mask.tolist() == [[1, 1, 2, 1]]  # a margin of -1 has 0.12
    assert _predicted((1, 1), min_pixels=2).mask.tolist() == [[1, 0, 0, 1]]
