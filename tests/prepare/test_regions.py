"""Tests of LVIS-92i, PACO-Part, PASCAL-Part and iSAID-5i on small trees in their published forms."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.outcome import Outcome
from tests.prepare.class_trees import SIDE, save_photo
from util.data.images.read import read_mask
from util.formats.shapes import encoded

Made = Callable[..., Outcome]
SQUARE = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]


def runs(rows: slice, columns: slice) -> dict[str, Any]:
    """Return the run lengths of a rectangle."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows, columns] = True
    return encoded(mask)


def lines(out: Path) -> list[str]:
    return (out / "lists/test.txt").read_text().splitlines()


def test_lvis(made: Made, tmp_path: Path) -> None:
    root, out, classes = tmp_path / "LVIS", tmp_path / "data", 21
    photos = ["val2017/000000000001.jpg", "train2017/000000000002.jpg", "val2017/000000000003.jpg"]
    for seed, name in enumerate(photos):
        save_photo(root / "coco" / name, seed)
    in_photo = {"annotations": [{"segmentation": s} for s in (SQUARE, runs(slice(0, 8), slice(0, 8)))]}
    content = {c: dict.fromkeys(photos[:1] if c == 5 else photos, in_photo) for c in range(1, classes + 1)}
    (root / "lvis_val.pkl").write_bytes(pickle.dumps(content))
    done = made("lvis92i", root)
    assert done.code == 0, done.errors
    assert "classes: 20, published 920: differs" in done.output and len(lines(out)) == 20 * 3  # class 5 has one photo
    mask = read_mask(out / "masks/1/000000000002.png")
    assert mask[:8, :8].all() and mask[10, 10] == 1 and mask[30, 30] == 0
    text = (tmp_path / "config/lvis92i/lvis92i.yaml").read_text()
    assert "query: class_in_turn" in text and "thing_6" not in text


def test_paco_part_cuts_out_an_object_drawn_at_random(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "PACO-Part", tmp_path / "data"
    names = {7: "val2017/7.jpg", 8: "val2017/8.jpg"}
    for seed, name in names.items():
        save_photo(root / "coco" / name, seed)

    def parts(number: int) -> list[dict[str, Any]]:
        small = {"obj_ann_id": 1, "obj_bbox": [0, 0, 9, 9], "segmentation": runs(slice(0, 2), slice(0, 2)), "area": 4}
        large = {"obj_ann_id": 2, "obj_bbox": [10.5, 12, 20, 16], "segmentation": runs(slice(14, 20), slice(12, 18))}
        return [{**small, "category_id": number}, {**large, "area": 36, "category_id": number}]

    of_class = {c: [{k: n} for k, n in names.items()] * 2 for c in range(10, 18)}  # each photo twice
    content = {"cid2img": of_class, "img2anno": {k: [p for c in of_class for p in parts(c)] for k in names}}
    (root / "paco").mkdir()
    for part in ("train", "val"):
        (root / "paco" / f"paco_part_{part}.pkl").write_bytes(pickle.dumps(content))
    done = made("pacopart", root)
    assert done.code == 0, done.errors
    assert "classes: 8, published 448: differs" in done.output and len(lines(out)) == 16
    assert "by fold: [2, 2, 2, 2], published [79, 82, 66, 76]" in done.output
    kinds = set()
    for line in lines(out):
        mask = read_mask(out / f"masks/{line.split()[0]}.png")
        kinds.add((mask.shape, int(mask.sum())))
        assert Image.open(out / f"images/{line.split()[0]}.png").size == mask.shape[::-1]
    assert kinds == {((16, 20), 36), ((9, 9), 4)}  # either object, not the larger one alone


def test_pascal_part(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "Pascal-Part/VOCdevkit/VOC2010", tmp_path / "data"
    stems = ["2008_000001", "2008_000002"]
    folder = root / "Annotations_Part_json_merged_part_classes"
    folder.mkdir(parents=True)
    box = {"xmin": "2", "ymin": "3", "xmax": "32", "ymax": "30"}
    things = {"animals": "bird", "indoor": "bottle", "person": "person", "vehicles": "aeroplane"}
    for seed, stem in enumerate(stems):
        save_photo(root / f"JPEGImages/{stem}.jpg", seed)
        objects = [
            {"name": thing, "bndbox": box, "parts": [{"name": "TAIL", "mask": [runs(slice(5, 9), slice(5, 9))]}]}
            for thing in things.values()
        ]
        (folder / f"{stem}.json").write_text(json.dumps({"object": objects}))
    both = {"train": stems, "val": stems}
    content = {
        group: {"object": {thing: {"part": {"TAIL": both, "HEAD": {"train": stems, "val": []}, "BODY": both}}}}
        for group, thing in things.items()
    }
    (root / "all_obj_part_to_image.json").write_text(json.dumps(content))
    done = made("pascalpart", tmp_path / "Pascal-Part")
    assert done.code == 0, done.errors
    assert len(lines(out)) == 3 * 2 and "8 masks show no pixel" in done.output
    assert read_mask(out / f"masks/1/{stems[0]}.png").shape == (27, 30)
    assert "aeroplane+TAIL" not in (tmp_path / "config/pascalpart/pascalpart.yaml").read_text()
    bird = content["animals"]["object"]["bird"]["part"]["BODY"] = {"train": stems, "val": ["../../../outside"]}
    (root / "all_obj_part_to_image.json").write_text(json.dumps(content))
    assert f"{bird['val'][0]}: leads out" in made("pascalpart", tmp_path / "Pascal-Part").errors
    content["person"] = {"object": {}}
    (root / "all_obj_part_to_image.json").write_text(json.dumps(content))
    refused = made("pascalpart", tmp_path / "Pascal-Part")
    assert refused.code == 2 and "person has no part in training and validation photos" in refused.errors


@pytest.mark.parametrize("form", ["img_dir", "semantic_png"])
def test_isaid(made: Made, tmp_path: Path, form: str) -> None:
    root, out = tmp_path / "iSAID", tmp_path / "data"
    folders = {"img_dir": ("img_dir/{}", "ann_dir/{}"), "semantic_png": ("{}/images", "{}/semantic_png")}[form]
    for part in ("train", "val"):
        for number in range(2):
            name = f"P000{number}_0_896_0_896"
            photos, masks = (root / folder.format(part) for folder in folders)
            photos.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(photos / f"{name}.png")
            mask = np.full((SIDE, SIDE), 15 if number else 16 * (part == "val"), np.uint8)
            Image.fromarray(mask).save(masks / f"{name}_instance_color_RGB.png")
    refused = made("isaid5i", root)
    assert refused.code == 2 and "class id 16 is out of range" in refused.errors and not (out / "lists").exists()
    done = made("isaid5i", root, "--skip-bad")
    assert done.code == 0 and "test: 1, published 6363: differs" in done.output
    assert (out / "masks/val/P0001_0_896_0_896.png").exists()
    shutil.rmtree(out / "masks")
    again = made("isaid5i", root, "--skip-bad")
    assert again.code == 0 and (out / "masks/val/P0001_0_896_0_896.png").exists()
