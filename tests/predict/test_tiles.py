"""Tiles cover a photo, overlap, and give the whole photo's answer where that is local."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from util.predict import Segmenter
from util.predict.photos import OVERLAP, TiledPhoto, windows
from util.predict.prediction import Decision


@pytest.mark.parametrize(("shape", "tile"), [((50, 60), 64), ((200, 130), 64), ((65, 64), 64), ((64, 1000), 33)])
def test_tiles_cover_the_photo_and_overlap(shape: tuple[int, int], tile: int) -> None:
    cover = np.zeros(shape)
    for rows, columns in windows(shape, tile):
        assert rows.stop - rows.start <= tile and columns.stop - columns.start <= tile
        cover[rows, columns] += 1
    assert cover.min() > 0
    for axis in (0, 1):
        spans = sorted({(w[axis].start, w[axis].stop) for w in windows(shape, tile)})
        assert all(a[1] - b[0] >= OVERLAP * tile - 1 for a, b in itertools.pairwise(spans))


def test_tiles_of_a_local_answer_give_the_answer_of_the_whole_photo(baseline: Path, marked: dict, monkeypatch) -> None:
    """If the margin at a pixel depends on that pixel's brightness alone, tiles change only the resizing."""

    monkeypatch.setattr(Segmenter, "scores", lambda _, query: (query.mean(1, keepdim=True) / 50 - 2, None))
    y, x = np.mgrid[:150, :180] / 20
    photo = np.repeat((120 + 80 * np.sin(y) * np.cos(x))[..., None], 3, 2).astype(np.uint8)
    whole, tiled = (
        Segmenter(config=baseline, supports=[marked["box"]], tile=t, decision=Decision(refine=False))(photo)
        for t in (None, 48)
    )
    assert (whole.mask == tiled.mask).mean() > 0.95 and 0.2 < whole.mask.mean() < 0.8
    assert np.abs(whole.probability - tiled.probability).mean() < 0.02


@pytest.mark.parametrize("tile", [None, 150])
def test_edges_move_to_those_of_the_photo(tile: int | None) -> None:
    true = np.zeros((2, 130, 200), bool)
    true[0, 30:100, 25:90], true[1, 45:110, 115:175] = True, True
    image = np.random.default_rng(0).integers(120, 126, (130, 200, 3))
    image += 80 * np.stack([true[0], true[1], true[1]], axis=2)
    margins = np.stack([8 * cv2.GaussianBlur(np.float32(np.roll(one, 4, 1)), (0, 0), 6) - 4 for one in true])
    photo = TiledPhoto(image.astype(np.uint8), 2, tile)
    for rows, columns in photo.windows:
        photo.add((rows, columns), list(margins[:, rows, columns]))
    assert ((photo.refine() > 0) != true).sum() < ((margins > 0) != true).sum() / 4
