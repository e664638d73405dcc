"""PerSeg, PASCAL-Part's official files, and LVIS-92i's folds by shots, on small trees in the official layouts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.outcome import Outcome
from tests.prepare.class_trees import SIDE, save_photo
from util.config.folds import Fold
from util.config.read import read_config, read_data
from util.data.images.read import read_mask
from util.data.lists.image_list import test_list as list_of_tests
from util.data.lists.index import load_index
from util.data.sampling import EpisodeSampler
from util.prepare.datasets.pascalpart import objects_of
from util.prepare.datasets.recipe import listed

Made = Callable[..., Outcome]


def lines(out: Path) -> list[str]:
    return (out / "lists/test.txt").read_text().splitlines()


def perseg_tree(root: Path) -> None:
    """Two objects of three and two photos: palette masks of VOC's colours, one grey mask of 255."""
    for name, count in (("dog", 3), ("cat", 2)):
        for number in range(count):
            save_photo(root / f"data/Images/{name}/{number:02}.jpg", number)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[4:12, 6:14] = 255 if (name, number) == ("dog", 2) else 1
            image = Image.fromarray(mask)
            if mask.max() == 1:
                image.putpalette([0, 0, 0, 128, 0, 0])
            path = root / f"data/Annotations/{name}/{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        for kind in ("Images", "Annotations"):
            (root / f"data/{kind}/{name}/.DS_Store").write_bytes(b"x")
    (root / "data/Images/.DS_Store").write_bytes(b"x")


def test_perseg(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "run2000", tmp_path / "data"  # "00" in the path of every photo
    perseg_tree(root)
    done = made("perseg", root)
    assert done.code == 0, done.errors
    assert lines(out) == ["cat/00 1 cat/00.jpg", "cat/01 1 cat/01.jpg", *(f"dog/0{i} 2 dog/0{i}.jpg" for i in range(3))]
    for line in lines(out):
        assert read_mask(out / f"masks/{line.split()[0]}.png").sum() == 64
    data = read_data(tmp_path / "config/perseg/perseg.yaml")
    images = list_of_tests(load_index(data, "test", progress=False), Fold.of(data), data)
    sampler = EpisodeSampler(images, "pairs", 1, 0, first=True)
    assert len(sampler.pairs) == 3
    episodes = [sampler(number) for number in range(3)]
    names = images.index.names
    assert [names[e.query] for e in episodes] == ["cat/01", "dog/01", "dog/02"]
    assert [names[e.supports[0]] for e in episodes] == ["cat/00", "dog/00", "dog/00"]


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
    assert not (out / "lists").exists() and not (tmp_path / "config").exists()


def test_perseg_takes_other_endings_and_leaves_out_empty_masks(made: Made, tmp_path: Path) -> None:
    perseg_tree(tmp_path / "PerSeg")
    data = tmp_path / "PerSeg/data"
    (data / "Images/cat/01.jpg").rename(data / "Images/cat/01.JPG")
    (data / "Images/dog/01.jpg").rename(data / "Images/dog/01.jpeg")
    Image.new("L", (SIDE, SIDE)).save(data / "Annotations/dog/02.png")
    out = tmp_path / "data"
    done = made("perseg", tmp_path / "PerSeg")
    assert done.code == 0 and len(lines(out)) == 4 and "1 masks show no pixel" in done.output


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
    voc = root / "VOCdevkit/VOC2010"
    (voc / "Annotations_Part").mkdir(parents=True)
    (voc / "ImageSets/Main").mkdir(parents=True)
    square = slice(6, 10), slice(6, 10)
    animals = [
        thing("bird", (2, 3, 30, 28), {"beak": square, "lwing": (slice(12, 16), slice(4, 20)), "muzzle": square})
    ]
    animals += [thing("bird", (4, 4, 20, 20), {}), thing("table", (0, 0, 9, 9), {})]
    indoor = [thing("bottle", (2, 2, 20, 20), {"body": square}), thing("pottedplant", (1, 1, 9, 9), {})]
    others = [thing("person", (2, 2, 20, 20), {"lhand": square}), thing("bus", (2, 2, 20, 20), {"door_1": square})]
    photos = {
        "2008_000001": animals,
        "2008_000002": [*animals[:1], *indoor],
        "2008_000003": others,
        "2008_000004": others,
    }
    for seed, (stem, objects) in enumerate(photos.items()):
        save_photo(voc / f"JPEGImages/{stem}.jpg", seed)
        held = np.empty(len(objects), object)
        held[:] = objects
        savemat(voc / f"Annotations_Part/{stem}.mat", {"anno": {"imname": stem, "objects": held}})
    (voc / "ImageSets/Main/val.txt").write_text("".join(f"{stem}\n" for stem in ["2008_000009", *photos]))
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
    assert "classes: 5, published 56: differs" in done.output
    assert [line.split()[:2] for line in lines(out)][:2] == [["1/2008_000001", "1"], ["1/2008_000002", "1"]]
    mask = read_mask(out / "masks/1/2008_000001.png")
    assert mask.shape == (28 - 3, 30 - 2) and mask[6 - 3 : 10 - 3, 6 - 2 : 10 - 2].all() and mask.sum() == 16
    (voc / "ImageSets/Main/val.txt").unlink()
    refused = made("pascalpart", tmp_path / "official")
    assert refused.code == 2 and "val.txt: cannot read this list" in refused.errors
    official_tree(tmp_path / "other")
    (tmp_path / "other/VOCdevkit/VOC2010/Annotations_Part/2008_000002.mat").write_bytes(b"damaged")
    damaged = made("pascalpart", tmp_path / "other", "--out", tmp_path / "data2")
    assert damaged.code == 2 and "2008_000002.mat: is not in its published form" in damaged.errors


def test_a_single_object_with_a_single_part_is_read(tmp_path: Path) -> None:
    one = thing("table", (1, 2, 8, 9), {"body": (slice(3, 5), slice(2, 4))})
    savemat(tmp_path / "a.mat", {"anno": {"imname": "a", "objects": one}})
    ((name, box, parts),) = objects_of(tmp_path / "a.mat")
    assert (name, box, list(dict(parts))) == ("diningtable", (1, 2, 8, 9), ["BODY"])
    assert len(listed("pascal_part/classes.csv")) == 56 and len(listed("lvis92i/classes.csv")) == 920


def test_a_fold_has_its_own_number_of_episodes(tmp_path: Path) -> None:
    path = "config/pascal/pascal_split1_multiprototype_lite0.yaml"
    changed = ["protocols.matcher.episodes=[2500, 959, 2500, 2500]"]
    config = read_config(Path(path), changed)
    assert config.protocols["matcher"].number(config.data.fold) == 959
    with pytest.raises(Exception, match=r"protocols.matcher.episodes holds 2 numbers; data.folds = 4"):
        read_config(Path(path), ["protocols.matcher.episodes=[2500, 959]"])
    with pytest.raises(Exception, match="goes with query: pairs"):
        read_config(Path(path), ["protocols.matcher.supports=first"])
    with pytest.raises(Exception, match="give a number"):
        read_config(Path(path), ["protocols.matcher.episodes=null"])


def test_lvis_has_other_folds_for_five_shots(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "LVIS"
    photos = {i: f"val2017/{i:012}.jpg" for i in range(1, 7)}
    for seed, name in photos.items():
        save_photo(root / "coco" / name, seed)
    box = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]
    shown = {c: list(photos)[: 2 if c == 1 else 6] for c in range(1, 22)}
    content = {
        "images": [{"id": i, "coco_url": f"http://images/{name}"} for i, name in photos.items()],
        "categories": [{"id": c, "name": f"thing_{c}"} for c in shown],
        "annotations": [{"image_id": i, "category_id": c, "segmentation": box} for c in shown for i in shown[c]],
    }
    (root / "lvis_v1_val.json").write_text(json.dumps(content))
    done = made("lvis92i", root)
    assert done.code == 0, done.errors
    assert "ids of the classes, lists/lvis92i/classes.csv: differ" in done.output
    assert read_mask(tmp_path / "data/masks/1/000000000002.png").sum() == 16 * 16
    data = read_data(tmp_path / "config/lvis92i/lvis92i.yaml")
    assert data.classes[5] == "thing_6" and data.class_photos == [2, *[6] * 19]
    of_fold = [[Fold.of(_with(data, shot, fold)).novel for fold in (0, 1)] for shot in (1, 5)]
    assert of_fold == [[(1, 11), (2, 12)], [(2,), (3,)]]  # 19 classes are left: one a fold, the rest is dropped
    index = load_index(data, "test", progress=False)
    one, five = (list_of_tests(index, Fold.of(d), d).digest for d in (data, _with(data, 5)))
    assert one != five


def _with(data: Any, shot: int, fold: int = 0) -> Any:
    return replace(data, shot=shot, fold=fold)
