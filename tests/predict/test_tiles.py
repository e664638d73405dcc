"""Tiles cover a photo, overlap, and give the whole photo's answer where that is local."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from model.episode import Output
from util.predict import Segmenter
from util.predict.prediction import Decision
from util.predict.tiles import OVERLAP, blend_weight, windows


@pytest.mark.parametrize(("shape", "tile"), [((50, 60), 64), ((200, 130), 64), ((65, 64), 64), ((64, 1000), 33)])
def test_tiles_cover_the_photo_and_overlap(shape: tuple[int, int], tile: int) -> None:
    cover = np.zeros(shape)
    for rows, columns in windows(shape, tile):
        assert rows.stop - rows.start <= tile and columns.stop - columns.start <= tile
        cover[rows, columns] += blend_weight((rows.stop - rows.start, columns.stop - columns.start))
    assert cover.min() > 0
    for axis in (0, 1):
        spans = sorted({(w[axis].start, w[axis].stop) for w in windows(shape, tile)})
        assert all(a[1] - b[0] >= OVERLAP * tile - 1 for a, b in itertools.pairwise(spans))


def test_tiles_of_a_local_answer_give_the_answer_of_the_whole_photo(baseline: Path, marked: dict, monkeypatch) -> None:
    """If the margin at a pixel depends on that pixel's brightness alone, tiles change only the resizing."""

    def local(_: Segmenter, query: torch.Tensor) -> Output:
        margin = query.mean(1) / 50 - 2
        return Output(torch.stack([torch.zeros_like(margin), margin], 1))

    monkeypatch.setattr(Segmenter, "_output", local)
    y, x = np.mgrid[:150, :180] / 20
    photo = np.repeat((120 + 80 * np.sin(y) * np.cos(x))[..., None], 3, 2).astype(np.uint8)
    whole, tiled = (
        Segmenter(config=baseline, supports=[marked["box"]], tile=t, decision=Decision(refine=False))(photo)
        for t in (None, 48)
    )
    assert (whole.mask == tiled.mask).mean() > 0.95 and 0.2 < whole.mask.mean() < 0.8
    assert np.abs(whole.probability - tiled.probability).mean() < 0.02
