"""Tests of the evaluation view: equal to the measured one, and to the written rule."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.common.ops import normalise
from tests.data.drawn import drawn_label, noise, seeded
from util.data.images.read import read_image, read_mask
from util.data.images.views import View

MEAN_RGB, IGNORE = (124, 116, 104), 255


@pytest.mark.parametrize("size", [97, 473])
@pytest.mark.parametrize("tag", ["landscape", "portrait"])
def test_evaluation_view_equals_the_measured_one(shared: Path, tag: str, size: int) -> None:
    with np.load(shared / "parity/eval_transform.npz") as measured:
        name, label, image = (measured[f"{tag}_{size}_{part}"] for part in ("id", "label", "image"))
    root = shared / "data/VOC2012"
    photo, classes = read_image(root / f"JPEGImages/{name}.jpg"), read_mask(root / f"SegmentationClassAug/{name}.png")
    assert (photo.shape[0] < photo.shape[1]) == (tag == "landscape")
    boxed, our_label = View("letterbox", size, size).apply(photo, classes)
    ours = normalise(torch.from_numpy(boxed.transpose(2, 0, 1))).numpy()
    assert (our_label == label).all()
    step = 8 if size == 473 else 1
    assert np.abs(ours[:, ::step, ::step] - image).max() <= 1e-4


def test_evaluation_view_follows_the_written_rule() -> None:
    for seed in range(8):
        height, width, size = (int(v) for v in seeded(seed).integers((20, 20, 40), (120, 120, 100)))
        image, label = noise(height, width, seed), drawn_label(height, width, seed=seed)
        boxed, new_label = View("letterbox", size, size).apply(image, label)
        new_height, new_width = (int(s * size / max(height, width)) // 8 * 8 for s in (height, width))
        rows = np.floor(np.arange(new_height) * height / new_height).astype(int)
        columns = np.floor(np.arange(new_width) * width / new_width).astype(int)
        assert (new_label[:new_height, :new_width] == label[np.ix_(rows, columns)]).all()
        y, x = ((np.arange(n) + 0.5) * old / n - 0.5 for n, old in ((new_height, height), (new_width, width)))
        expected = _bilinear(_bilinear(image.astype(np.float64), y).swapaxes(0, 1), x).swapaxes(0, 1)
        assert np.abs(boxed[:new_height, :new_width] - expected).max() < 1e-2


def _bilinear(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the values interpolated linearly along the first axis, the border repeated."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(int), len(values) - 2)
    share = (at - low).reshape(-1, 1, 1)
    return (1 - share) * values[low] + share * values[low + 1]
