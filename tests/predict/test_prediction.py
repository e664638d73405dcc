"""Classes and background compete for each pixel, and the summary counts the pixels of each class."""

from __future__ import annotations

import numpy as np
import torch

from util.predict import Prediction

MARGINS = np.array([[[2.0, -1.0, 1.0, 3.0]], [[1.0, -2.0, 4.0, -1.0]]], np.float32)  # two classes, 1 x 4 pixels
IMAGE = np.zeros((1, 4, 3), np.uint8)


def test_the_probability_is_the_softmax_and_the_mask_its_argmax() -> None:
    found = Prediction.from_margins(IMAGE, ["cat", "dog"], MARGINS)
    assert found.mask.tolist() == [[1, 0, 2, 1]]
    logits = torch.from_numpy(np.concatenate([0 * MARGINS[:1], MARGINS]))
    assert np.allclose(found.probability, logits.softmax(0)[1:].numpy())


def test_the_summary_counts_pixels_and_boxes() -> None:
    cat, dog = Prediction.from_margins(IMAGE, ["cat", "dog"], MARGINS).summary()
    assert (cat["pixels"], cat["box"], dog["pixels"], dog["share"]) == (2, [0, 0, 4, 1], 1, 0.25)


def test_a_class_without_pixels_has_no_box() -> None:
    (cat,) = Prediction.from_margins(IMAGE, ["cat"], 0 * MARGINS[:1] - 1).summary()
    assert cat["pixels"] == 0 and cat["box"] is None and cat["confidence"] is None


def test_large_margins_stay_finite() -> None:
    assert np.isfinite(Prediction.from_margins(IMAGE, ["cat", "dog"], 1e4 * MARGINS).probability).all()
