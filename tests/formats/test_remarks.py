"""Readers of annotations count and name all entries that are no plain objects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats.drawn import (
    AREAS,
    CAT,
    DOG,
    HEIGHT,
    WIDTH,
    areas,
    coco_json,
    corners,
    labelme_json,
    outline,
    photo,
    region,
)
from tests.formats.drawn import yolo as yolo_folder
from util.errors import UserError
from util.formats import yolo
from util.formats.shapes import encoded
from util.predict.supports import parse_support, read_supports

CATS = {"cat": AREAS["cat"]}


def crowd(box: tuple[int, ...]) -> dict[str, Any]:
    return {"segmentation": encoded(region(box)), "iscrowd": 1}


def coco(folder: Path, *marks: dict[str, Any], **more: Any) -> Path:
    """Write COCO's JSON of a photo; marks state their category, default cat."""
    for name in ("p0.jpg", "p1.jpg"):
        photo(folder / name)
    path = coco_json(folder)
    content = json.loads(path.read_text())
    content["annotations"] = [{"id": n, "image_id": 7, "category_id": 1} | mark for n, mark in enumerate(marks, 1)]
    content["images"] += more.get("images", [])
    path.write_text(json.dumps(content))
    return path


def refusal(text: object) -> str:
    with pytest.raises(UserError) as caught:
        areas(text)
    return str(caught.value)


OUTLINED = {"segmentation": [outline(DOG)], "category_id": 2}
RIGHT, LEFT = (60, 4, 90, 60), (8, 10, 30, 50)


@pytest.mark.parametrize(
    ("marks", "found", "said"),
    [
        ([crowd(CAT), OUTLINED], AREAS, "read as objects: crowd regions of cat, which has no other objects (1)"),
        ([crowd(CAT), crowd(DOG) | {"category_id": 2}], AREAS, "regions of dog, which has no other objects (1)"),
        ([crowd(LEFT), crowd(RIGHT)], {"cat": 22 * 40 + 30 * 56}, "cat, which has no other objects (2)"),
        ([{"segmentation": [outline(CAT)]}, crowd(RIGHT)], CATS, "unknown (255): crowd regions of cat (1)"),
    ],
)
def test_crowds_are_objects_where_their_category_has_no_others(tmp_path, capsys, marks, found, said) -> None:
    assert areas(coco(tmp_path, *marks)) == found
    assert said in capsys.readouterr().err


def test_a_photo_with_crowds_alone_says_so(tmp_path: Path) -> None:
    other = {"id": 8, "file_name": "p1.jpg", "width": WIDTH, "height": HEIGHT}
    path = coco(tmp_path, crowd(CAT), {"segmentation": [outline(DOG)], "image_id": 8}, images=[other])
    with pytest.raises(UserError, match=r"marks 'p0.jpg' with crowd regions alone \(iscrowd 1\)"):
        parse_support(f"{tmp_path / 'p0.jpg'}:{path}").read("cat")


def shape(label: str, box: tuple[int, ...]) -> dict[str, Any]:
    return {"label": label, "points": corners(box), "shape_type": "polygon"}


def inside(box: tuple[int, ...], by: int) -> tuple[int, ...]:
    return box[0] + by, box[1] + by, box[2] - by, box[3] - by


HOLE, KITTEN = inside(CAT, 5), inside(CAT, 10)  # 22 x 30 and 12 x 20
BACK = "_background_"


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ([("cat", CAT), (BACK, HOLE)], {"cat": 1280 - 660}),
        ([(BACK, HOLE), ("cat", CAT)], CATS),  # painted over
        ([("cat", CAT), (BACK, HOLE), ("dog", KITTEN)], {"cat": 1280 - 660, "dog": 240}),
        ([("cat", CAT), (BACK, HOLE), ("cat", KITTEN)], {"cat": 1280 - 660 + 240}),
        ([("cat", CAT), ("dog", HOLE), ("__background__", KITTEN)], {"cat": 1280 - 240, "dog": 660 - 240}),
        ([("cat", CAT), ("dog", DOG), (BACK, (30, 0, 60, 72))], {"cat": 22 * 40, "dog": 28 * 40}),  # across two edges
        ([("cat", CAT), ("dog", KITTEN), ("Background", HOLE)], {"cat": 1280 - 660}),  # the dog is wholly covered
        ([("cat", CAT), (BACK, (0, 0, WIDTH, HEIGHT))], CATS),  # no hole, but all of the photo
    ],
)
def test_labelmes_background_is_a_hole_in_what_lies_below(tmp_path: Path, shapes: list, found: dict) -> None:
    assert areas(labelme_json(tmp_path, *(shape(*one) for one in shapes))) == found


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, capsys) -> None:
    gone = {"segmentation": [outline(DOG)], "image_id": 99}
    assert areas(coco(tmp_path / "coco", {"segmentation": [outline(CAT)]}, gone, gone)) == CATS
    said = capsys.readouterr().err
    assert "left out: annotations of photos that are not listed (2, such as of image_id 99)" in said
    folder = yolo_folder(tmp_path / "yolo")
    photo(folder / "images/train/b.jpg"), photo(folder / "images/val/c.jpg")
    assert areas(folder) == AREAS
    assert "left out: photos without a text file (2, such as b.jpg)" in capsys.readouterr().err
    folder = labelme_json(tmp_path / "labelme", shape("cat", CAT), shape("cat", DOG), shape(BACK, HOLE))
    photo(folder / "b.jpg")
    areas(folder)
    said = capsys.readouterr().err
    assert "left out: photos without a JSON file (1, such as b.jpg)" in said
    assert "holes in the objects below: regions of _background_ (1)" in said


def test_a_photo_under_two_ids_is_one_photo(tmp_path: Path, capsys) -> None:
    again = {"id": 8, "file_name": "./p0.jpg", "width": WIDTH, "height": HEIGHT}
    marks = {"segmentation": [outline(CAT)]}, OUTLINED | {"image_id": 8}
    path = coco(tmp_path, *marks, images=[again])
    listed, _ = read_supports([str(path)])
    assert {one.photo.resolve() for one in listed} == {tmp_path / "p0.jpg"} and areas(path) == AREAS
    assert "joined: photos that are listed more than once (1" in capsys.readouterr().err
    assert parse_support(f"{tmp_path / 'p0.jpg'}:{path}").read("dog").label.sum() == AREAS["dog"]
    path = coco(tmp_path, *marks, images=[again | {"width": 50}])
    assert "'./p0.jpg' is listed as 96 x 72 and as 50 x 72" in refusal(path)


FOREIGN = {
    "Datumaro": {"info": {}, "categories": {"label": {"labels": []}}, "items": [{"id": "a", "annotations": []}]},
    "Supervisely": {"size": {"height": 72, "width": 96}, "objects": [{"classTitle": "cat", "points": {}}]},
    "VGG Image Annotator": {"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "polygon"}}]}},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "img/a.jpg")
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/a.json").write_text(json.dumps(FOREIGN[name]))
    for place in (tmp_path / "ann/a.json", tmp_path / "ann", tmp_path):
        assert f"a.json: is {'JSON of the ' * ('VGG' in name)}{name}" in refusal(place)
        assert "export it in COCO's format" in refusal(place)


def test_xml_and_what_stands_in_place_of_a_file_are_named(tmp_path: Path) -> None:
    for content, said in (
        ("<annotations><version>1.1</version></annotations>", "XML of CVAT or PASCAL VOC"),
        ("<?xml version='1.0'?>\n<annotation></annotation>", "XML of CVAT or PASCAL VOC"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        ("\n<!DOCTYPE html><html></html>", "a web page"),
    ):
        (tmp_path / "a.json").write_text(content)
        assert f"a.json: is {said}" in refusal(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: {1: cat, 2: dog}", {1: "cat", 2: "dog"}),
        ("names: {7: dog, 3: cat}", {3: "cat", 7: "dog"}),
        ("names: [no, yes]", {0: "no", 1: "yes"}),
        ("names: [on, 1e3, ~, 2020-01-01]", {0: "on", 1: "1e3", 2: "~", 3: "2020-01-01"}),
        ('path: "D:\\data"\nnames: [cat]', {0: "cat"}),
        ('path: "C:\\Users\\new\\pets"\nnames:\n- cat\n- "no"', {0: "cat", 1: "no"}),
    ],
)
def test_names_of_a_data_file_are_what_is_written(tmp_path: Path, text: str, names: dict[int, str]) -> None:
    (tmp_path / "data.yaml").write_text(text)
    assert yolo.read_data_file(tmp_path / "data.yaml") == (names, tmp_path)


def test_numbers_of_classes_may_begin_with_any(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path)
    (folder / "data.yaml").write_text("names: {1: cat, 2: dog}\n")
    assert "class 0 is not among the classes 1..2" in refusal(folder)
    labels = folder / "labels/train/a.txt"
    labels.write_text("\n".join(f"{int(row[0]) + 1}{row[1:]}" for row in labels.read_text().splitlines()))
    assert areas(folder) == AREAS
    (listed, *_), categories = read_supports([str(folder)])
    assert categories == {2: "cat", 3: "dog"} and np.count_nonzero(listed.read().label) == AREAS["cat"]
