"""Tests of the recipes of data sets on small trees in their published layouts: counts, odd files, bad input."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.helpers.outcome import Outcome
from tests.helpers.paths import REPOSITORY
from tests.prepare import class_trees as trees
from tests.prepare.class_trees import SIDE, save, save_photo
from util.config.folds import Fold
from util.config.read import read_config, read_data
from util.data.images.read import read_mask, write_mask
from util.data.lists.image_list import test_list as list_of_tests
from util.data.lists.index import load_index
from util.data.sampling import EpisodeSampler
from util.formats.shapes import encoded
from util.prepare.datasets import fss1000, isic
from util.prepare.datasets.pascalpart import objects_of
from util.prepare.datasets.recipe import classes_of, read_table

Made = Callable[..., Outcome]


def lines(out: Path, part: str = "test") -> list[list[str]]:
    """Return the words of each line of a prepared list."""
    return [line.split() for line in (out / "lists" / f"{part}.txt").read_text().splitlines()]


def masks_digest(out: Path) -> str:
    """Return a digest of the names and pixels of all prepared masks."""
    digest = hashlib.sha256()
    for path in sorted((out / "masks").rglob("*.png")):
        digest.update(f"{path.relative_to(out)}".encode() + read_mask(path).tobytes())
    return digest.hexdigest()


def test_fss1000(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = trees.fss(tmp_path / "raw/fewshot_data/fewshot_data")
    for part, of_part in names.items():
        (tmp_path / "lists/fss1000").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"lists/fss1000/{part}.txt").write_text("\n".join(of_part))
    monkeypatch.setattr(fss1000, "REPOSITORY", tmp_path)
    out, classes = tmp_path / "data", classes_of("fss1000")
    done = made("fss1000", tmp_path / "raw")
    assert done.code == 0 and "test: 30, published 2400: differs" in done.output
    test = lines(out)
    assert [words[0] for words in test[:3]] == ["abe's_flyingfish/1", "abe's_flyingfish/10", "abe's_flyingfish/2"]
    assert all(classes[int(number) - 1] == name.split("/")[0] for name, number, _ in test)
    for part, ids in (("test", range(761, 1001)), ("validation", range(521, 761)), ("train", range(1, 521))):
        assert {int(number) for _, number, _ in lines(out, part)} <= {*ids}
    assert any(name.startswith("assult_rifle/") for name, _, _ in lines(out, "train"))
    assert read_mask(out / "masks/bus/3.png").any()
    assert "nothing to do" in made("fss1000", tmp_path / "raw").output


def test_isic(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = trees.isic(tmp_path / "raw"), tmp_path / "data"
    known = {p.stem for p in root.rglob("*.jpg")}
    rows = [row for row in isic.read_table(isic.CLASSES) if row["ID"] in known]
    monkeypatch.setattr(isic, "read_table", lambda name: rows)
    done = made("isic", root)
    assert done.code == 0 and "nevus: 2, published 1867: differs" in done.output
    assert "3 masks had another size than their photo" in done.output
    (out / "prepared.json").unlink()  # as after an interruption
    assert made("isic", root).output == done.output
    assert [number for _, number, _ in lines(out)] == ["1", "1", "2", "2", "3", "3"]
    assert all(read_mask(p).shape == (trees.SIDE, trees.SIDE) for p in (out / "masks").rglob("*.png"))
    again = next(root.rglob("*.jpg"))
    (root / "copy").mkdir()
    (root / "copy" / again.name).write_bytes(again.read_bytes())
    twice = made("isic", root)
    assert twice.code == 2 and f"are both {again.stem}" in twice.errors


def test_chest_xray(made: Made, tmp_path: Path) -> None:
    trees.chest(tmp_path / "raw/Lung Segmentation")
    out = tmp_path / "data"
    done = made("chestxray", tmp_path / "raw")
    assert done.code == 0 and "shenzhen: 3, published 566: differs" in done.output
    assert "photos without a mask, left out: 1" in done.output
    assert [name for name, _, _ in lines(out)][-1] == "MCUCXR_0002_1"  # its mask has no suffix
    assert len(lines(out)) == 5 and len(lines(out, "shenzhen")) == 3
    whole = (out / "lists/test.txt").read_text()
    for edited in (whole.split("\n", 1)[1], "no line of a list at all\n"):
        (out / "lists/test.txt").write_text(edited)
        assert made("chestxray", tmp_path / "raw").code == 0 and (out / "lists/test.txt").read_text() == whole


def test_deepglobe_in_all_layouts(made: Made, tmp_path: Path) -> None:
    root, out = trees.deepglobe_raw(tmp_path / "raw"), tmp_path / "data"
    done = made("deepglobe", root)
    assert done.code == 0 and "published 5666: differs" in done.output
    tiles = {photo for _, _, photo in lines(out)}
    assert len(tiles) == 30 and "1000_sat_05.jpg" not in tiles  # the first row has one colour
    left, right = read_mask(out / "masks/1/1000_sat_10.png"), read_mask(out / "masks/2/1000_sat_10.png")
    assert np.array_equal(left, 1 - right) and left[:, :4].all() and not left[:, 4:].any()
    assert len(list((out / "masks").glob("*/1000_sat_13.png"))) == 1  # half of it is unknown, which is no class
    for form in ("Deepglobe", "04_train_cat", "filter_mask"):
        other = tmp_path / f"data_{form}"
        cut = made("deepglobe", trees.deepglobe_cut(tmp_path / form, form, out), "--out", other)
        assert cut.code == 0, cut.errors
        assert masks_digest(other) == masks_digest(out)
        assert sorted(lines(other)) == sorted(lines(out))


@pytest.mark.parametrize("coloured", [False, True])
def test_suim(made: Made, tmp_path: Path, coloured: bool) -> None:
    root, out = trees.suim_tree(tmp_path / "raw", coloured), tmp_path / "data"
    done = made("suim", root)
    assert done.code == 0 and "test: 4, published 3859: differs" in done.output
    assert sorted(name for name, _, _ in lines(out)) == ["FV/d_r_0_", "FV/d_r_1_", "RO/d_r_1_", "WR/d_r_0_"]


def test_a_folder_of_other_files_is_left_alone(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "data"
    trees.chest(root)
    (out / "lists").mkdir(parents=True)
    (out / "lists/mine.txt").write_text("mine")
    refused = made("chestxray", root)
    assert refused.code == 2 and "holds other files" in refused.errors and (out / "lists/mine.txt").exists()
    (tmp_path / "file").write_text("")
    assert "holds other files" in made("chestxray", root, "--out", tmp_path / "file").errors


SQUARE = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]


def runs(rows: slice, columns: slice) -> dict[str, Any]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows, columns] = True
    return encoded(mask)


@pytest.mark.parametrize("form", ["lvis_val.pkl", "lvis_v1_val.json"])
def test_lvis_has_other_folds_for_five_shots(made: Made, tmp_path: Path, form: str) -> None:
    root, shapes = tmp_path / "LVIS", [SQUARE, runs(slice(0, 8), slice(0, 8))]
    photos = {i: f"{'train' if i == 2 else 'val'}2017/{i:012}.jpg" for i in range(1, 7)}
    for seed, name in photos.items():
        save_photo(root / "coco" / name, seed)
    shown = {c: list(photos)[: {1: 2, 5: 1}.get(c, 6)] for c in range(1, 23)}  # class 5 has one photo
    marks = [{"image_id": i, "category_id": c, "segmentation": s} for c in shown for i in shown[c] for s in shapes]
    if form.endswith("json"):
        images = [{"id": i, "coco_url": f"http://images/{name}"} for i, name in photos.items()]
        content = {"images": images, "categories": [{"id": c, "name": f"thing_{c}"} for c in shown]}
        (root / form).write_text(json.dumps({**content, "annotations": marks}))
    else:
        in_photo = {"annotations": marks[:2]}
        (root / form).write_bytes(pickle.dumps({c: {photos[i]: in_photo for i in of} for c, of in shown.items()}))
    done = made("lvis92i", root)
    assert done.code == 0, done.errors
    assert "classes: 20, published 920: differs" in done.output and len(lines(tmp_path / "data")) == 2 + 19 * 6
    assert "ids of the classes, lists/lvis92i/classes.csv: differ" in done.output
    mask = read_mask(tmp_path / "data/masks/1/000000000002.png")
    assert mask[:8, :8].all() and mask[10, 10] == 1 and mask[30, 30] == 0
    data = read_data(tmp_path / "config/lvis92i/lvis92i.yaml")
    assert data.classes[5] == ("thing_7" if "v1" in form else "lvis_7") and data.class_photos == [2, *[6] * 19]
    of_fold = [[Fold.of(replace(data, shot=shot, fold=fold)).novel for fold in (0, 1)] for shot in (1, 5)]
    assert of_fold == [[(1, 11), (2, 12)], [(2,), (3,)]]  # 19 classes are left: one a fold, the rest is dropped
    index = load_index(data, "test", progress=False)
    one, five = (list_of_tests(index, Fold.of(d), d).digest for d in (data, replace(data, shot=5)))
    assert one != five


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
        mask = read_mask(out / f"masks/{line[0]}.png")
        kinds.add((mask.shape, int(mask.sum())))
        assert Image.open(out / f"images/{line[0]}.png").size == mask.shape[::-1]
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
    for part, number in product(("train", "val"), range(2)):
        name, (photos, masks) = f"P000{number}_0_896_0_896", (root / folder.format(part) for folder in folders)
        save_photo(photos / f"{name}.png", number)
        mask = np.full((SIDE, SIDE), 15 if number else 16 * (part == "val"), np.uint8)
        save(masks / f"{name}_instance_color_RGB.png", mask)
    refused = made("isaid5i", root)
    assert refused.code == 2 and "class id 16 is out of range" in refused.errors and not (out / "lists").exists()
    done = made("isaid5i", root, "--skip-bad")
    assert done.code == 0 and "test: 1, published 6363: differs" in done.output
    assert (out / "masks/val/P0001_0_896_0_896.png").exists()
    shutil.rmtree(out / "masks")
    again = made("isaid5i", root, "--skip-bad")
    assert again.code == 0 and (out / "masks/val/P0001_0_896_0_896.png").exists()
    assert "fold 2: no published test list (lists/isaid5i/val_fold2.txt)" in again.output
    (tmp_path / "lists/isaid5i").mkdir(parents=True)
    pairs = "P0001_0_896_0_896__15\nP0009_0_896_0_896__15\n"
    columns = "val/images/P0001_0_896_0_896.png val/semantic_png/P0001_0_896_0_896_instance_color_RGB.png\n"
    for fold, content, lines_here in ((2, pairs, "2 lines, 1"), (0, columns, "1 lines, 1")):
        (tmp_path / f"lists/isaid5i/val_fold{fold}.txt").write_text(content)
        told = made("isaid5i", root, "--skip-bad").output
        assert f"fold {fold}: published test list of {lines_here} of them with their patches" in told


def perseg_tree(root: Path) -> None:
    """Two objects of three and two photos: palette masks, one grey mask of 255."""
    for name, number in (("dog", 0), ("dog", 1), ("dog", 2), ("cat", 0), ("cat", 1)):
        save_photo(root / f"data/Images/{name}/{number:02}.jpg", number)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[4:12, 6:14] = 255 if (name, number) == ("dog", 2) else 1
        (save if mask.max() == 255 else write_mask)(root / f"data/Annotations/{name}/{number:02}.png", mask)
    for folder in ("Images", "Images/dog", "Annotations/cat"):
        (root / "data" / folder / ".DS_Store").write_bytes(b"x")


def test_perseg(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "run2000", tmp_path / "data"  # "00" in the path of every photo
    perseg_tree(root)
    done = made("perseg", root)
    assert done.code == 0, done.errors
    named = [("cat/00", "1"), ("cat/01", "1"), ("dog/00", "2"), ("dog/01", "2"), ("dog/02", "2")]
    assert lines(out) == [[name, number, f"{name}.jpg"] for name, number in named]
    for line in lines(out):
        assert read_mask(out / f"masks/{line[0]}.png").sum() == 64
    data = read_data(tmp_path / "config/perseg/perseg.yaml")
    images = list_of_tests(load_index(data, "test", progress=False), Fold.of(data), data)
    sampler = EpisodeSampler(images, "pairs", 1, 0, first=True)
    assert len(sampler.pairs) == 3
    episodes = [sampler(number) for number in range(3)]
    names = images.index.names
    assert [names[e.query] for e in episodes] == ["cat/01", "dog/01", "dog/02"]
    assert [names[e.supports[0]] for e in episodes] == ["cat/00", "dog/00", "dog/00"]
    for ending in ("cat/01.JPG", "dog/01.jpeg"):
        photo = root / "data/Images" / ending
        photo.with_suffix(".jpg").rename(photo)
    Image.new("L", (SIDE, SIDE)).save(root / "data/Annotations/dog/02.png")  # is left out
    done = made("perseg", root)
    assert done.code == 0 and len(lines(out)) == 4 and "1 masks show no pixel" in done.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: (d / "Images/dog/00.jpg").rename(d / "Images/dog/09.jpg"), "00"),
        (lambda d: (d / "Annotations/dog/01.png").unlink(), "01.png"),
        (lambda d: (d / "Images/dog/01.jpg").unlink(), "01.jpg"),
        (lambda d: [p.unlink() for k in ("Images", "Annotations") for p in d.glob(f"{k}/cat/01*")], "or no other"),
        (lambda d: Image.new("L", (9, 9), 255).save(d / "Annotations/dog/02.png"), "different sizes"),
        (lambda d: Image.new("L", (SIDE, SIDE)).save(d / "Annotations/dog/00.png"), "shows no pixel of the object"),
        (lambda d: (d / "Annotations/cat").rename(d / "Annotations/cow"), "cat"),
    ],
)
def test_perseg_refuses_what_is_not_whole(made: Made, tmp_path: Path, change: Callable[[Path], Any], told: str) -> None:
    perseg_tree(tmp_path / "PerSeg")
    change(tmp_path / "PerSeg/data")
    out = tmp_path / "data"
    done = made("perseg", tmp_path / "PerSeg")
    assert done.code == 2 and told in done.errors and done.errors.count("error: ") == 1
    assert not (out / "lists").exists() and not (tmp_path / "config/perseg").exists()


def thing(name: str, box: tuple[int, int, int, int], parts: dict[str, tuple[slice, slice]]) -> dict[str, Any]:
    """Return an object of an official annotation; the box is left, top, right, bottom."""
    left, top, right, bottom = box
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : bottom + 1, left : right + 1] = 1
    own = np.empty(len(parts), object)
    for i, (part, (rows, columns)) in enumerate(parts.items()):
        of_part = np.zeros((SIDE, SIDE), np.uint8)
        of_part[rows, columns] = 1
        own[i] = {"part_name": part, "mask": of_part}
    return {"class": name, "class_ind": 1, "mask": mask, "parts": own if len(parts) else np.zeros((0, 0))}


def official_tree(root: Path) -> Path:
    voc, square = root / "VOCdevkit/VOC2010", (slice(6, 10), slice(6, 10))
    bird = thing("bird", (2, 3, 30, 28), {"beak": square, "lwing": (slice(12, 16), slice(4, 20)), "muzzle": square})
    bottle, plant = thing("bottle", (2, 2, 20, 20), {"body": square}), thing("pottedplant", (1, 1, 9, 9), {})
    others = [thing("person", (2, 2, 20, 20), {"lhand": square}), thing("bus", (2, 2, 20, 20), {"door_1": square})]
    animals = [bird, thing("bird", (4, 4, 20, 20), {}), thing("table", (0, 0, 9, 9), {})]
    (voc / "Annotations_Part").mkdir(parents=True)
    for number, objects in enumerate((animals, [bird, bottle, plant], others, others), 1):
        save_photo(voc / f"JPEGImages/2008_00000{number}.jpg", number)
        held = np.empty(len(objects), object)
        held[:] = objects
        savemat(voc / f"Annotations_Part/2008_00000{number}.mat", {"anno": {"objects": held}})
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/val.txt").write_text("".join(f"2008_00000{number}\n" for number in (9, 1, 2, 3, 4)))
    return voc


def test_pascal_part_from_the_official_files(made: Made, tmp_path: Path) -> None:
    voc, out = official_tree(tmp_path / "official"), tmp_path / "data"
    done = made("pascalpart", tmp_path / "official")
    assert done.code == 0, done.errors
    data = read_data(tmp_path / "config/pascalpart/pascalpart.yaml")
    groups = [["bird+FACE", "bird+WINGS"], ["bottle+BODY"], ["person+ARMHAND"], ["bus+DOOR"]]
    assert data.fold_classes == groups and data.classes == [name for group in groups for name in group]
    assert "episodes by fold: [4, 1, 2, 2], published [2500, 959, 2500, 2500]" in done.output
    assert "episodes: [4, 1, 2, 2]" in (tmp_path / "config/pascalpart/pascalpart.yaml").read_text()
    episodes = "protocols.matcher.episodes=[2500, 959, 2500, 2500]"
    config = read_config(REPOSITORY / "config/pascal/pascal_split1_multiprototype_lite0.yaml", [episodes])
    assert config.protocols["matcher"].number(config.data.fold) == 959
    assert "classes: 5, published 56: differs" in done.output
    assert [line[:2] for line in lines(out)[:2]] == [["1/2008_000001", "1"], ["1/2008_000002", "1"]]
    mask = read_mask(out / "masks/1/2008_000001.png")
    assert mask.shape == (28 - 3, 30 - 2) and mask[6 - 3 : 10 - 3, 6 - 2 : 10 - 2].all() and mask.sum() == 16
    (voc / "ImageSets/Main/val.txt").unlink()
    refused = made("pascalpart", tmp_path / "official")
    assert refused.code == 2 and "val.txt: cannot read this list" in refused.errors
    official_tree(tmp_path / "other")
    (tmp_path / "other/VOCdevkit/VOC2010/Annotations_Part/2008_000002.mat").write_bytes(b"damaged")
    damaged = made("pascalpart", tmp_path / "other", "--out", tmp_path / "data2")
    assert damaged.code == 2 and "2008_000002.mat: is not in its published form" in damaged.errors
    one = thing("table", (1, 2, 8, 9), {"body": (slice(3, 5), slice(2, 4))})
    savemat(tmp_path / "a.mat", {"anno": {"imname": "a", "objects": one}})  # alone, it is stored in another way
    ((name, box, parts),) = objects_of(tmp_path / "a.mat")
    assert (name, box, list(dict(parts))) == ("diningtable", (1, 2, 8, 9), ["BODY"])
    assert len(read_table("pascal_part/classes.csv")) == 56 and len(read_table("lvis92i/classes.csv")) == 920
