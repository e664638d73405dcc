"""Tests of the recipes of parts of objects, PACO-Part and PASCAL-Part: cut-out objects, official files, bad input."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from datasets.recipes.pascalpart import objects_of
from tests.datasets.class_trees import SIDE, runs, save_photo
from tests.datasets.printed import assert_done, assert_refused, list_lines
from tests.helpers.outcome import Outcome
from util.config.read import read_data
from util.files.mask_images import read_mask

Made = Callable[..., Outcome]


def paco_parts(class_id: int) -> list[dict[str, Any]]:
    """Return a part of each of two objects of a class."""
    small = {"obj_ann_id": 1, "obj_bbox": [0, 0, 9, 9], "segmentation": runs(slice(0, 2), slice(0, 2)), "area": 4}
    large = {"obj_ann_id": 2, "obj_bbox": [10.5, 12, 20, 16], "segmentation": runs(slice(14, 20), slice(12, 18))}
    large["area"] = 36
    return [{**part, "category_id": class_id} for part in (small, large)]


def test_paco_part_cuts_out_an_object_drawn_at_random(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "PACO-Part"
    out = tmp_path / "data"
    names = {7: "val2017/7.jpg", 8: "val2017/8.jpg"}
    for seed, name in names.items():
        save_photo(root / "coco" / name, seed)
    entries = [{key: name} for key, name in names.items()] * 2  # each photo twice
    parts = [part for class_id in range(10, 18) for part in paco_parts(class_id)]
    content = {"cid2img": dict.fromkeys(range(10, 18), entries), "img2anno": dict.fromkeys(names, parts)}
    (root / "paco").mkdir()
    for split in ("train", "val"):
        (root / "paco" / f"paco_part_{split}.pkl").write_bytes(pickle.dumps(content))
    done = made("pacopart", root)
    assert_done(done, "classes: 8, published 448: differs", "by fold: [2, 2, 2, 2], published [79, 82, 66, 76]")
    lines = list_lines(out)
    assert len(lines) == 16
    kinds = set()
    for name, _, photo in lines:
        mask = read_mask(out / f"masks/{name}.png")
        kinds.add((mask.shape, int(mask.sum())))
        assert Image.open(out / f"images/{photo}").size == mask.shape[::-1]
    assert kinds == {((16, 20), 36), ((9, 9), 4)}  # either object, not the larger one alone


THINGS = {"animals": "bird", "indoor": "bottle", "person": "person", "vehicles": "aeroplane"}
STEMS = ["2008_000001", "2008_000002"]


def write_pascal_part(root: Path) -> dict[str, Any]:
    """Write two photos with an object of each group, which shows its part TAIL; return the content of their list."""
    folder = root / "Annotations_Part_json_merged_part_classes"
    folder.mkdir(parents=True)
    tail = {"name": "TAIL", "mask": [runs(slice(5, 9), slice(5, 9))]}
    box = {"xmin": "2", "ymin": "3", "xmax": "32", "ymax": "30"}
    objects = [{"name": name, "bndbox": box, "parts": [tail]} for name in THINGS.values()]
    for seed, stem in enumerate(STEMS):
        save_photo(root / f"JPEGImages/{stem}.jpg", seed)
        (folder / f"{stem}.json").write_text(json.dumps({"object": objects}))
    both = {"train": STEMS, "val": STEMS}
    content = {}
    for group, name in THINGS.items():
        parts = {"TAIL": both, "HEAD": {"train": STEMS, "val": []}, "BODY": both}
        content[group] = {"object": {name: {"part": parts}}}
    write_part_list(root, content)
    return content


def write_part_list(root: Path, content: dict[str, Any]) -> None:
    (root / "all_obj_part_to_image.json").write_text(json.dumps(content))


def test_pascal_part(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "Pascal-Part/VOCdevkit/VOC2010"
    content = write_pascal_part(root)
    assert_done(made("pascalpart", tmp_path / "Pascal-Part"), "8 masks show no pixel")
    assert len(list_lines(tmp_path / "data")) == 3 * 2
    assert read_mask(tmp_path / f"data/masks/1/{STEMS[0]}.png").shape == (27, 30)
    assert "aeroplane+TAIL" not in (tmp_path / "config/pascalpart/pascalpart.yaml").read_text()
    content["animals"]["object"]["bird"]["part"]["BODY"] = {"train": STEMS, "val": ["../../../outside"]}
    write_part_list(root, content)
    assert "../../../outside: leads out" in made("pascalpart", tmp_path / "Pascal-Part").errors
    content["person"] = {"object": {}}
    write_part_list(root, content)
    refused = made("pascalpart", tmp_path / "Pascal-Part")
    assert_refused(refused, "person has no part in training and validation photos")


def thing(name: str, box: tuple[int, int, int, int], parts: dict[str, tuple[slice, slice]]) -> dict[str, Any]:
    """Return an object of an official annotation; the box is left, top, right, bottom."""
    left, top, right, bottom = box
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : bottom + 1, left : right + 1] = 1
    entries = np.empty(len(parts), object)
    for number, (part, (rows, columns)) in enumerate(parts.items()):
        part_mask = np.zeros((SIDE, SIDE), np.uint8)
        part_mask[rows, columns] = 1
        entries[number] = {"part_name": part, "mask": part_mask}
    return {"class": name, "class_ind": 1, "mask": mask, "parts": entries if parts else np.zeros((0, 0))}


def official_tree(root: Path) -> Path:
    """Write the official annotations of four photos; return the folder of VOC."""
    voc = root / "VOCdevkit/VOC2010"
    square = (slice(6, 10), slice(6, 10))
    wing = (slice(12, 16), slice(4, 20))
    bird = thing("bird", (2, 3, 30, 28), {"beak": square, "lwing": wing, "muzzle": square})
    bottle = thing("bottle", (2, 2, 20, 20), {"body": square})
    plant = thing("pottedplant", (1, 1, 9, 9), {})
    others = [thing("person", (2, 2, 20, 20), {"lhand": square}), thing("bus", (2, 2, 20, 20), {"door_1": square})]
    animals = [bird, thing("bird", (4, 4, 20, 20), {}), thing("table", (0, 0, 9, 9), {})]
    (voc / "Annotations_Part").mkdir(parents=True)
    for number, objects in enumerate((animals, [bird, bottle, plant], others, others), 1):
        save_photo(voc / f"JPEGImages/2008_00000{number}.jpg", number)
        array = np.empty(len(objects), object)
        array[:] = objects
        savemat(voc / f"Annotations_Part/2008_00000{number}.mat", {"anno": {"objects": array}})
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/val.txt").write_text("".join(f"2008_00000{number}\n" for number in (9, 1, 2, 3, 4)))
    return voc


def test_pascal_part_from_the_official_files(made: Made, tmp_path: Path) -> None:
    official_tree(tmp_path / "official")
    out = tmp_path / "data"
    done = made("pascalpart", tmp_path / "official")
    assert_done(done, "episodes by fold: [4, 1, 2, 2], published [2500, 959, 2500, 2500]")
    assert_done(done, "classes: 5, published 56: differs")
    config = tmp_path / "config/pascalpart/pascalpart.yaml"
    data = read_data(config)
    assert data.fold_classes == [["bird+FACE", "bird+WINGS"], ["bottle+BODY"], ["person+ARMHAND"], ["bus+DOOR"]]
    assert data.classes == ["bird+FACE", "bird+WINGS", "bottle+BODY", "person+ARMHAND", "bus+DOOR"]
    assert "episodes: [4, 1, 2, 2]" in config.read_text()
    assert [line[:2] for line in list_lines(out)[:2]] == [["1/2008_000001", "1"], ["1/2008_000002", "1"]]
    mask = read_mask(out / "masks/1/2008_000001.png")
    assert mask.shape == (28 - 3, 30 - 2)
    assert mask[6 - 3 : 10 - 3, 6 - 2 : 10 - 2].all()
    assert mask.sum() == 16


def test_bad_official_files_of_pascal_part_are_named(made: Made, tmp_path: Path) -> None:
    voc = official_tree(tmp_path / "official")
    (voc / "Annotations_Part/2008_000002.mat").write_bytes(b"damaged")
    refused = made("pascalpart", tmp_path / "official")
    assert_refused(refused, "2008_000002.mat: is not in its published form")
    (voc / "ImageSets/Main/val.txt").unlink()
    assert_refused(made("pascalpart", tmp_path / "official"), "val.txt: cannot read this list")


def test_a_single_object_of_an_official_file_is_read(tmp_path: Path) -> None:
    table = thing("table", (1, 2, 8, 9), {"body": (slice(3, 5), slice(2, 4))})
    savemat(tmp_path / "a.mat", {"anno": {"imname": "a", "objects": table}})  # alone, it is stored in another way
    ((name, box, parts),) = objects_of(tmp_path / "a.mat")
    assert (name, box, list(dict(parts))) == ("diningtable", (1, 2, 8, 9), ["BODY"])
