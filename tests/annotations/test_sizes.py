"""Every reader asks for the size of photos, masks and outlines before it takes memory for them."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from annotations.annotation import AnnotatedPhoto, Instance, class_mask
from annotations.mask_formats import read_indices
from tests.annotations import drawn
from tests.annotations.drawn import HEIGHT, PHOTO, WIDTH
from tests.helpers.read import json_of
from util.files import sizes
from util.files.errors import UserError

SIDE = 8000  # stated of a photo that is smaller: within the limit
STATED = (SIDE, SIDE)
MEGABYTES = 20  # far less than a mask of the stated size takes
ZIGZAG = [[float(i % 2 * 90), float(i % 70)] for i in range(40)]  # about 3600 pixels long
ROUND = drawn.corners((0, 0, WIDTH, HEIGHT))  # 336 pixels long
READERS: dict[str, Callable[[Path], Path]] = {**drawn.WRITERS, "masks": drawn.masks}


@pytest.mark.parametrize("kind", READERS)
def test_a_photo_or_mask_of_too_many_pixels_is_refused_in_every_format(kind: str, tmp_path: Path, monkeypatch) -> None:
    path = READERS[kind](tmp_path)
    monkeypatch.setattr(sizes, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    assert f"{WIDTH} x {HEIGHT} pixels, the limit is {WIDTH * HEIGHT - 1}" in drawn.refusal(f"{kind}:{path}")


def labelme_hole(folder: Path) -> Path:
    return drawn.labelme_json(folder, drawn.polygon("cat"), drawn.polygon("dog") | {"label": "background"}, size=STATED)


def labelme_mask(folder: Path) -> Path:
    *_, entry = json_of(drawn.labelme(folder) / "a.json")["shapes"]
    return drawn.labelme_json(folder, entry, size=STATED)


def coco_runs(folder: Path) -> Path:
    drawn.photo(folder / PHOTO)
    runs = {"size": [SIDE, SIDE], "counts": [0, SIDE * SIDE]}
    return drawn.coco_json(folder, {"segmentation": runs}, file=PHOTO, size=STATED)


def results(folder: Path) -> Path:
    path = drawn.results(folder) / "a.json"
    text = path.read_text().replace(f'"height": {HEIGHT}, "width": {WIDTH}', f'"height": {SIDE}, "width": {SIDE}')
    runs = f'{{"size": [{SIDE}, {SIDE}], "counts": "`h9`WjPm1"}}'
    path.write_text(text.replace('"value": 1', f'"value": 1, "runs": {runs}').replace('"mask": "a_mask.png", ', ""))
    return path


@pytest.mark.parametrize("write", [labelme_hole, labelme_mask, coco_runs, results])
def test_nothing_is_painted_at_a_stated_size_that_is_not_the_photo_s(write: Callable[[Path], Path], tmp_path) -> None:
    path = write(tmp_path)
    tracemalloc.start()
    try:
        line = drawn.refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"different sizes (height, width): {(HEIGHT, WIDTH)} and {(SIDE, SIDE)}" in line
    assert peak < MEGABYTES * 2**20


def outlines_of_coco(folder: Path, outlines: list[Any]) -> Path:
    drawn.photo(folder / PHOTO)
    return drawn.coco_json(folder, {"segmentation": [np.ravel(o).tolist() for o in outlines]}, file=PHOTO)


def outlines_of_labelme(folder: Path, outlines: list[Any]) -> Path:
    return drawn.labelme_json(folder, *({"label": "cat", "points": outline} for outline in outlines))


@pytest.mark.parametrize("write", [outlines_of_coco, outlines_of_labelme])
@pytest.mark.parametrize("outlines", [[ZIGZAG], [ROUND] * 30], ids=["one", "many"])
def test_long_outlines_are_refused(
    write: Callable[[Path, list[Any]], Path], outlines: list[Any], tmp_path: Path, monkeypatch
) -> None:
    path = write(tmp_path, outlines)
    assert drawn.areas(path)["cat"]
    monkeypatch.setattr(sizes, "MAX_LENGTH", 2500)
    assert "its outlines are longer than 2500 pixels" in drawn.refusal(path)


@pytest.mark.parametrize("places", [[np.nan, 0, 9, 0, 9, 9], [0, 0, 2e5, 0, 9, 9]])
def test_an_outline_far_beyond_the_photo_or_of_no_place_is_refused(places: list[float]) -> None:
    instance = Instance(1, (np.array(places),))
    with pytest.raises(UserError, match="reach far beyond"):
        class_mask(AnnotatedPhoto("a.jpg", HEIGHT, WIDTH, (instance,)), {1: 1})


def test_the_tiles_of_a_tiff_have_a_limit_too(tmp_path: Path, monkeypatch) -> None:
    values = np.eye(HEIGHT, WIDTH).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(256, 256))
    np.testing.assert_array_equal(read_indices(tmp_path / "a.tif")[0], values)
    monkeypatch.setattr(sizes, "MAX_PIXELS", 2**16 - 1)
    with pytest.raises(UserError, match=r"256 x 256 pixels, the limit is 65535"):
        read_indices(tmp_path / "a.tif")
