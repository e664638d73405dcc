"""Tests of the masks that annotations stand for, against masks made by hand and the official code."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from annotations.annotation import class_mask
from annotations.coco import read_annotations
from annotations.shapes import encoded
from tests.helpers.read import write_json

H, W = 20, 30
CATEGORIES = [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
# class ids, which follow the categories' ids
CAT = 1
CUP = 2
DOG = 3
COMPARED = 10  # shared photos of each split


def _box(top: int, left: int, bottom: int, right: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def _region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    inside = np.zeros((H, W), bool)
    inside[top:bottom, left:right] = True
    return inside


def _uncompressed(region: np.ndarray) -> dict[str, Any]:
    pixels = region.T.ravel()  # column by column, starting with the pixels outside
    borders = np.flatnonzero(np.diff(np.concatenate(([0], pixels))))
    return {"size": list(region.shape), "counts": np.diff([0, *borders, pixels.size]).tolist()}


def _mark(category: int, shape: Any, crowd: bool = False) -> dict[str, Any]:
    return {"image_id": 5, "category_id": category, "segmentation": shape, "iscrowd": int(crowd)}


def _file(tmp_path: Path, *marks: dict[str, Any]) -> Path:
    content = {
        "images": [{"id": 5, "file_name": "000000000005.jpg", "height": H, "width": W}],
        "annotations": [{"id": number, **mark} for number, mark in enumerate(marks)],
        "categories": CATEGORIES,
    }
    path = tmp_path / "instances.json"
    write_json(path, content)
    return path


def _mask(path: Path) -> np.ndarray:
    content = read_annotations(path)
    return class_mask(content.photos[0], _table(content.categories))


def _table(categories: Iterable[int]) -> dict[int, int]:
    return {category: number for number, category in enumerate(categories, 1)}


def test_polygons_become_classes_by_ascending_category_id(tmp_path: Path) -> None:
    expected = np.zeros((H, W), np.uint8)
    expected[2:6, 3:9] = CAT
    expected[10:15, 1:4] = CUP
    expected[10:15, 6:9] = CUP
    expected[18:, 25:] = DOG
    cat = _mark(3, [_box(2, 3, 6, 9)])
    cup = _mark(7, [_box(10, 1, 15, 4), _box(9.6, 5.6, 14.6, 8.6)])
    dog = _mark(90, [_box(18, 25, 40, 50)])  # it leaves the photo
    path = _file(tmp_path, cat, cup, dog)
    np.testing.assert_array_equal(_mask(path), expected)
    assert [*read_annotations(path).categories.items()] == [(3, "cat"), (7, "cup"), (90, "dog")]


@pytest.mark.parametrize("encode", [_uncompressed, encoded])
@pytest.mark.parametrize("first", [True, False])
def test_run_lengths(tmp_path: Path, encode: Any, first: bool) -> None:
    region = np.random.default_rng(0).random((H, W)) < 0.4
    region[:, 5:20] = True  # long runs take more than one character
    region[:7, 0] = first  # where it is True the first run, of pixels outside, is empty
    np.testing.assert_array_equal(_mask(_file(tmp_path, _mark(7, encode(region)))), region * np.uint8(CUP))


OUTLINES_WITHOUT_AREA = [
    [],
    [[]],
    [[4, 4]],
    [[4, 4, 9, 9]],  # two points, which the official code takes for a box
    [[4, 4, 4, 4, 4, 4]],
    [[1, 1, 15, 15, 8, 8]],
    [[1, 19, 29, 0, 15, 9.5]],  # on one line, of which the official code paints three pixels
    [[1.1, 1.3, 11.1, 16.3, 5.1, 7.3]],
    [_box(4, 4, 4, 9)],
]


@pytest.mark.parametrize("outlines", OUTLINES_WITHOUT_AREA)
def test_outlines_without_area_cover_nothing(tmp_path: Path, outlines: list[list[float]]) -> None:
    assert not _mask(_file(tmp_path, _mark(3, outlines))).any()
    path = _file(tmp_path, _mark(3, [*outlines, _box(2, 3, 6, 9)]))
    np.testing.assert_array_equal(_mask(path), _region(2, 3, 6, 9) * np.uint8(CAT))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_the_smaller_is_on_top_and_crowds_are_below(tmp_path: Path, order: tuple[int, ...]) -> None:
    marks = [
        _mark(3, [_box(0, 0, 10, 20)]),
        _mark(90, [_box(5, 5, 15, 15), _box(5, 5, 15, 14)]),  # 100 pixels, though its polygons' areas sum up to 190
        _mark(7, _uncompressed(_region(8, 8, 9, 30)), crowd=True),  # the smallest
    ]
    expected = np.zeros((H, W), np.uint8)
    expected[8:9, 8:30] = 255
    expected[0:10, 0:20] = CAT
    expected[5:15, 5:15] = DOG
    ordered = [marks[number] for number in order]
    np.testing.assert_array_equal(_mask(_file(tmp_path, *ordered)), expected)


@pytest.mark.parity
@pytest.mark.parametrize("split", ["train2014", "val2014"])
def test_real_annotations_against_the_official_reader(shared: Path, split: str) -> None:
    path = shared / f"data/COCO2014/annotations/instances_{split}.json"
    content = read_annotations(path)
    official = COCO(path)
    image_ids = {image["file_name"]: number for number, image in official.imgs.items()}
    crowded = {annotation["image_id"] for annotation in official.anns.values() if annotation["iscrowd"]}
    photos = sorted(content.annotated, key=lambda photo: image_ids[photo.name] not in crowded)
    for photo in photos[: COMPARED + 2]:
        expected = _official_mask(official, image_ids[photo.name])
        np.testing.assert_array_equal(class_mask(photo, _table(content.categories)), expected)


def _official_mask(official: COCO, image_id: int) -> np.ndarray:
    """Return the class ids of a photo by pycocotools' masks, (H, W): the smallest object on top, crowds below all."""
    class_ids = _table(sorted(official.cats))
    shown = [(annotation, official.annToMask(annotation).astype(bool)) for annotation in official.imgToAnns[image_id]]
    mask = np.zeros(shown[0][1].shape, np.uint8)
    for annotation, region in sorted(shown, key=lambda entry: (not entry[0]["iscrowd"], -entry[1].sum())):
        mask[region] = 255 if annotation["iscrowd"] else class_ids[annotation["category_id"]]
    return mask
