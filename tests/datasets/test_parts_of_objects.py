"""Tests of the recipes of parts of objects, PACO-Part and PASCAL-Part: cut-out objects, bad input."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.datasets.class_trees import runs, save_photo
from tests.datasets.printed import assert_done, list_lines
from tests.helpers.outcome import Outcome
from tests.helpers.read import write_json
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
    parts = [part for class_id in range(10, 20) for part in paco_parts(class_id)]
    content = {"cid2img": dict.fromkeys(range(10, 20), entries), "img2anno": dict.fromkeys(names, parts)}
    (root / "paco").mkdir()
    for split in ("train", "val"):
        (root / f"paco/paco_part_{split}.pkl").write_bytes(pickle.dumps(content))
    said = ("classes: 8, published 448: differs", "by fold: [2, 2, 2, 2], published [79, 82, 66, 76]")
    assert_done(made("pacopart", root), *said)
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
    box = {"xmin": "-2", "ymin": "3", "xmax": "32", "ymax": "30"}
    objects = [{"name": name, "bndbox": box, "parts": [tail]} for name in THINGS.values()]
    for seed, stem in enumerate(STEMS):
        save_photo(root / f"JPEGImages/{stem}.jpg", seed)
        write_json(folder / f"{stem}.json", {"object": objects})
    both = {"train": STEMS, "val": STEMS}
    content = {}
    for group, name in THINGS.items():
        parts = {"TAIL": both, "HEAD": {"train": STEMS, "val": []}, "BODY": both}
        content[group] = {"object": {name: {"part": parts}}}
    write_part_list(root, content)
    return content


def write_part_list(root: Path, content: dict[str, Any]) -> None:
    write_json(root / "all_obj_part_to_image.json", content)


def test_pascal_part(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "Pascal-Part/VOCdevkit/VOC2010"
    content = write_pascal_part(root)
    assert_done(made("pascalpart", f"{tmp_path}/Pascal-Part"), "8 masks show no pixel")
    assert len(list_lines(tmp_path / "data")) == 3 * 2
    assert read_mask(tmp_path / f"data/masks/1/{STEMS[0]}.png").shape == (27, 32)
    assert "aeroplane+TAIL" not in (tmp_path / "config/pascalpart/pascalpart.yaml").read_text()
    shutil.rmtree(tmp_path / "data")
    content["animals"]["object"]["bird"]["part"]["BODY"] = {"train": STEMS, "val": ["../../../outside"]}
    write_part_list(root, content)
    assert "../../../outside: leads out" in made("pascalpart", f"{tmp_path}/Pascal-Part").errors
    content["person"] = {"object": {}}
    write_part_list(root, content)
    refused = made("pascalpart", f"{tmp_path}/Pascal-Part")
    assert "person has no part in training and validation photos" in refused.error
