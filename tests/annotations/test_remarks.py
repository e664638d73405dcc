"""Readers of annotations count and name all entries that are no plain objects."""

from pathlib import Path
from typing import Any

import pytest

from annotations import recognise, yolo
from annotations.shapes import encoded
from tests.annotations import drawn
from tests.annotations.drawn import (
    AREAS,
    CAT,
    DOG,
    areas,
    coco_json,
    corners,
    labelme_json,
    outline,
    photo,
    region,
)
from tests.helpers.read import json_of, write_json

CATS = {"cat": AREAS["cat"]}


def crowd(box: tuple[int, ...]) -> dict[str, Any]:
    return {"segmentation": [outline(box)], "iscrowd": 1}


def brush(box: tuple[int, ...]) -> dict[str, Any]:
    """Return an object that was painted, as Datumaro and CVAT export it."""
    return {"segmentation": encoded(region(box)), "iscrowd": 1}


def coco(folder: Path, *marks: dict[str, Any]) -> Path:
    """Write COCO's JSON of a photo; marks state their category, default cat."""
    photo(folder / "p0.jpg")
    return coco_json(folder, *({"category_id": 1} | mark for mark in marks))


OUTLINED_CAT = {"segmentation": [outline(CAT)]}
RIGHT = (60, 4, 90, 60)
BOXED = "read as boxes, upright or turned: objects that have no other outline (1)"


@pytest.mark.parametrize(
    ("marks", "expected", "said"),
    [
        *(
            ([OUTLINED_CAT, {"bbox": [52, 20, 36, 40], "category_id": 2} | mark], AREAS, BOXED)
            for mark in ({"segmentation": []}, {"segmentation": None}, {"segmentation": [[*DOG]]}, {})
        ),
        ([OUTLINED_CAT, {"segmentation": [[1, 1, 9, 9]]}], CATS, "left out: objects that cover no area (1)"),
        (
            [{"segmentation": [[9, 9, 99, 9, 99, 29]]}],
            {"cat": 841},
            "photos with outlines or boxes that reach outside, beyond their stated size (1)",
        ),
        (
            [OUTLINED_CAT, *[{"segmentation": [outline(DOG)], "image_id": 99}] * 2],
            CATS,
            "left out: annotations of photos that are not listed (2), see annotation 2",
        ),
        *(
            ([OUTLINED_CAT | {"bbox": box, "area": area}], CATS, "")
            for box, area in (
                *(([7, 11, 33, 39], 0), ([0, 0, 96, 72], "1"), ([0, 0, 1, 1], 1), ([1, 2, 3, 4, 0.5], None)),
                ([8, 10, 0, 40], 0),  # no width
            )
        ),
        ([{"segmentation": [outline(CAT), [0, 0], [0] * 6], "bbox": [8, 10, 32, 40]}], CATS, ""),
        (
            [{"segmentation": [[76, 9, 136, 9, 136, 29, 76, 29]], "bbox": [76, 9, 20, 20]}],
            {"cat": 400},
            "photos with outlines or boxes that reach outside, beyond their stated size (1)",
        ),
        ([{"bbox": [8, 10, 32, 40], "area": "1280", "attributes": {"rotation": "left"}}], CATS, BOXED),
        ([{"bbox": [0, 30, 96, 10], "attributes": {"rotation": 90.0}}], {"cat": 720}, "upright or turned"),
        ([OUTLINED_CAT, crowd(RIGHT)], CATS, "unknown (255): regions of cat (1), see p0.jpg"),
        ([OUTLINED_CAT, brush(RIGHT)], {"cat": 1280 + 1680}, "read as objects: crowds (iscrowd 1) of run lengths (1)"),
        (
            [brush(CAT), {"segmentation": [outline(DOG)], "category_id": 2}],
            AREAS,
            "read as objects: crowds (iscrowd 1) of run lengths (1)",
        ),
    ],
)
def test_marks_of_coco_that_are_no_plain_objects_are_said(tmp_path, capsys, marks, expected, said) -> None:
    assert areas(coco(tmp_path, *marks)) == expected
    assert said in capsys.readouterr().err


def test_crowds_stay_unknown_where_confirmed_masks_alone_are_taken(tmp_path: Path) -> None:
    (annotated,) = recognise.read(str(coco(tmp_path, OUTLINED_CAT, crowd(RIGHT))), unconfirmed=False).annotated
    assert [instance.unknown for instance in annotated.instances] == [False, True]


def shape(label: str, box: tuple[int, ...]) -> dict[str, Any]:
    return {"label": label, "points": corners(box), "shape_type": "polygon"}


def inside(box: tuple[int, ...], by: int) -> tuple[int, ...]:
    x0, y0, x1, y1 = box
    return x0 + by, y0 + by, x1 - by, y1 - by


HOLE = inside(CAT, 5)  # 22 x 30
KITTEN = inside(CAT, 10)  # 12 x 20
BACK = "_background_"


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([("cat", CAT), (BACK, HOLE)], {"cat": 1280 - 660}),
        ([(BACK, HOLE), ("cat", CAT)], CATS),  # painted over
        ([("cat", CAT), (BACK, HOLE), ("dog", KITTEN)], {"cat": 1280 - 660, "dog": 240}),
        ([("cat", CAT), (BACK, HOLE), ("cat", KITTEN)], {"cat": 1280 - 660 + 240}),
        ([("cat", CAT), ("dog", HOLE), ("__background__", KITTEN)], {"cat": 1280 - 240, "dog": 660 - 240}),
        ([("cat", CAT), ("dog", DOG), (BACK, (30, 0, 60, 72))], {"cat": 22 * 40, "dog": 28 * 40}),  # across two edges
        ([("cat", CAT), ("dog", KITTEN), ("Background", HOLE)], {"cat": 1280 - 660}),  # the dog is wholly covered
    ],
)
def test_labelmes_background_cuts_a_hole_into_lower_shapes(
    tmp_path: Path, capsys, shapes: list, expected: dict
) -> None:
    assert areas(labelme_json(tmp_path, *[shape(label, box) for label, box in shapes])) == expected
    assert "holes in the objects below: regions of " in capsys.readouterr().err


def test_parts_that_no_folder_says_are_counted(tmp_path: Path, capsys) -> None:
    folder = drawn.yolo(tmp_path)
    assert areas(folder) == AREAS
    assert "not read" not in capsys.readouterr().err
    (folder / "data.yaml").write_text("train: [train.txt]\nval: images/b\ntest: images/test\nnames: [cat, dog]\n")
    assert areas(folder) == AREAS
    assert "parts of the set, which are kept where folders are named so (2), see train" in capsys.readouterr().err


def test_predictions_of_tasks_that_nobody_annotated_are_unconfirmed(tmp_path: Path, capsys) -> None:
    path = drawn.labelstudio(tmp_path)
    task, _ = json_of(path)
    drawn.photo(tmp_path / "b.jpg")
    second = {"id": 7, "data": {"image": "b.jpg"}, "predictions": task["annotations"]}
    wrong = task | {"id": 9, "annotations": [{"result": [{"original_width": 1}]}]}
    write_json(path, [task, second, second | {"id": 8, "data": {"image": "gone.jpg"}}, wrong])
    confirmed, found = recognise.read(str(path)).photos
    assert {instance.confirmed for instance in confirmed.instances} == {True}
    assert {instance.confirmed for instance in found.instances} == {False}
    assert [photo.name for photo in recognise.read(str(path), unconfirmed=False).annotated] == [confirmed.name]
    notes = capsys.readouterr().err
    assert "left out: masks that nobody confirmed (--unconfirmed takes them) (2), see b.jpg" in notes
    assert "left out: predictions whose photo is not found (1), see task 8" in notes
    assert "(task 9: 'original_height' is missing); export it again; 1 of 3 annotated photos have an entry" in notes


def test_files_of_other_kinds_beside_labelme_s_are_counted(tmp_path: Path, capsys) -> None:
    folder = drawn.labelme(tmp_path)
    (folder / "prepared.json").write_text("[]")
    (folder / "cut.json").write_text('{"shapes": [')
    assert areas(folder) == AREAS
    notes = capsys.readouterr().err
    assert "cut.json: not in labelme's form (Expecting value" in notes and "other kinds (1), see prepared.json" in notes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: {1: cat, 2: dog}", {1: "cat", 2: "dog"}),
        ("names: {7: dog, 3: cat}", {3: "cat", 7: "dog"}),
        ("names: [no, yes]", {0: "no", 1: "yes"}),
        ("names: [on, 1e3, ~, 2020-01-01]", {0: "on", 1: "1e3", 2: "~", 3: "2020-01-01"}),
    ],
)
def test_written_names_equal_the_data_files(tmp_path: Path, text: str, names: dict[int, str]) -> None:
    (tmp_path / "data.yaml").write_text(text)
    assert yolo.read_data_file(tmp_path / "data.yaml")[:2] == (names, tmp_path)


def test_names_in_files_of_others_cannot_rule_the_terminal(tmp_path: Path, capsys) -> None:
    photo(tmp_path / "p0.jpg")
    marks = [
        {"segmentation": [outline(CAT)]},
        {"segmentation": [[1, 2]], "bbox": [1, 1, 9, 9]},
    ]
    recognise.read(str(coco_json(tmp_path, *marks, names=("cat", "void\x1b[31"))))
    said = capsys.readouterr().err
    assert "void?[31" in said and "\x1b" not in said
