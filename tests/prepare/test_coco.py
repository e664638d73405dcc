"""Tests of ``prepare.py coco``: a small COCO with real files, spoilt in all ways, and the shared part."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.helpers.paths import REPOSITORY
from util.data.images.read import read_mask
from util.prepare import make
from util.prepare.datasets import coco

CLASSES = yaml.safe_load((REPOSITORY / "config/coco/coco.yaml").read_text())["data"]["classes"]
CATEGORIES = [{"id": i + 1 + i // 8, "name": name} for i, name in enumerate(CLASSES)]  # with gaps, as COCO's ids have
SIDES = 24, 36
IMAGES = 6  # of each split; the last has no annotation


def name_of(split: str, number: int) -> str:
    return f"COCO_{split}_{number:012d}"


def json_of(root: Path, split: str) -> Path:
    return root / f"annotations/instances_{split}.json"


def draw_coco(out: Path) -> Path:
    """Write it to a folder and return that: image n shows a box of class n and one of class 80."""
    (out / "annotations").mkdir(parents=True)
    for split in coco.SPLITS:
        (out / split).mkdir()
        images, annotations = [], []
        for number in range(IMAGES, 0, -1):  # not by id
            name = f"{name_of(split, number)}.jpg"
            cv2.imwrite(str(out / split / name), np.full((*SIDES, 3), 40 * number, np.uint8))
            images.append({"id": number, "file_name": name, "height": SIDES[0], "width": SIDES[1]})
            for class_id, left in ((number, 0), (80, 20)) if number < IMAGES else ():
                box = [left, 4, left + 10, 4, left + 10, 20, left, 20]
                category = CATEGORIES[class_id - 1]["id"]
                annotations.append({"image_id": number, "category_id": category, "segmentation": [box], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        json_of(out, split).write_text(json.dumps(content))
    return out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small COCO as the official site gives it."""
    return draw_coco(tmp_path / "official")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made"


@pytest.fixture
def words(root: Path, out: Path) -> tuple[object, ...]:
    """Return the command's words."""
    return "coco", "--root", root, "--out", out


def _listed(out: Path, split: str) -> list[str]:
    return (out / f"lists/{split}.txt").read_text().splitlines()


def test_result_and_other_annotations(prepare, words, out: Path, root: Path) -> None:
    said = prepare(*words).output
    for split in coco.SPLITS:
        assert (out / split).is_symlink() and (out / split).resolve() == (root / split).resolve()
        names = [f"{split}/{name_of(split, n)}" for n in range(1, IMAGES)]  # annotated, by id
        assert _listed(out, split) == names
        for number, name in enumerate(names, start=1):
            expected = np.zeros(SIDES, np.uint8)
            expected[4:20, 0:10], expected[4:20, 20:30] = number, 80
            np.testing.assert_array_equal(read_mask(out / f"masks/{name}.png"), expected)
    assert "train2014: 5, published 82081: differs" in said and "val2014: 5, published 40137: differs" in said
    path = json_of(root, "train2014")
    content = json.loads(path.read_text())
    crowd = {"iscrowd": 1, "segmentation": {"size": list(SIDES), "counts": [0, SIDES[0] * SIDES[1]]}}
    content["annotations"] = [a | crowd for a in content["annotations"]]
    path.write_text(json.dumps(content))
    os.utime(path, (0, 0))  # older than the masks, as an unpacked official file is
    photo = (root / f"train2014/{name_of('train2014', 1)}.jpg").rename(root / "moved.jpg")
    assert "does not exist" in prepare(*words).error
    assert not (out / "lists/train2014.txt").exists()  # it would list masks of two kinds
    photo.rename(root / f"train2014/{name_of('train2014', 1)}.jpg")
    prepare(*words)
    assert all((read_mask(p) == 255).all() for p in (out / "masks/train2014").glob("*.png"))


def test_interrupted_and_repeated(prepare, words, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = make.write_mask, []

    def interrupted(path: Path, mask: np.ndarray, stated: bool) -> None:
        if len(written) == IMAGES + 1:
            raise KeyboardInterrupt
        write(path, mask, stated)
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(make, "write_mask", interrupted)
        assert prepare(*words).code == 130
    assert len(list(out.rglob("*.png"))) == IMAGES + 1
    assert not (out / "lists").exists() and not (out / "prepared.json").exists()
    before = {path: path.stat().st_mtime_ns for path in written}
    assert prepare(*words).code == 0 and len(_listed(out, "val2014")) == IMAGES - 1
    assert {path: path.stat().st_mtime_ns for path in written} == before  # finished masks are kept
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert "nothing to do" in prepare(*words).output
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("damage", ["missing", "cut", "of another size"])
def test_bad_photos(prepare, words, out: Path, root: Path, damage: str) -> None:
    photo = root / f"train2014/{name_of('train2014', 2)}.jpg"
    good = photo.read_bytes()
    photo.unlink()
    if damage == "cut":
        photo.write_bytes(good[:-200])
    elif damage == "of another size":
        cv2.imwrite(str(photo), np.zeros((SIDES[1], SIDES[0], 3), np.uint8))
    error = prepare(*words).error
    assert str(photo) in error and "--skip-bad" in error
    assert not (out / "lists").exists() and not (out / "prepared.json").exists()
    said = prepare(*words, "--skip-bad").output
    assert f"omitted: {photo}" in said and "1 omitted" in said
    kept = [f"train2014/{name_of('train2014', n)}" for n in range(1, IMAGES) if n != 2]
    assert _listed(out, "train2014") == kept and not (out / f"masks/train2014/{photo.stem}.png").exists()
    assert "nothing to do" in prepare(*words, "--skip-bad").output
    photo.write_bytes(good)
    prepare(*words)  # without --skip-bad it is tried again
    assert len(_listed(out, "train2014")) == IMAGES - 1


def test_download(prepare: Callable, words, out: Path, root: Path, tmp_path: Path, monkeypatch) -> None:
    official, asked = root.rename(tmp_path / "site"), []
    archives = {"annotations_trainval2014.zip": "annotations", "train2014.zip": "train2014", "val2014.zip": "val2014"}
    for archive, part in archives.items():
        shutil.make_archive(str(tmp_path / archive.removesuffix(".zip")), "zip", official, part)

    def fetch(url: str, target: Path) -> Path:
        asked.append(url.removeprefix("http://images.cocodataset.org/"))
        target.parent.mkdir(exist_ok=True)
        return Path(shutil.copy(tmp_path / target.name, target))

    monkeypatch.setattr(coco, "fetch", fetch)
    monkeypatch.setattr(coco, "PHOTOS", {"train2014": IMAGES, "val2014": IMAGES})
    for _ in range(2):  # existing files are not fetched again
        assert prepare(*words, "--download").code == 0 and len(_listed(out, "train2014")) == IMAGES - 1
        assert asked == ["annotations/annotations_trainval2014.zip", "zips/train2014.zip", "zips/val2014.zip"]


def test_photos_by_the_names_of_2017_serve_the_lists_of_2014(prepare, words, out: Path, root: Path) -> None:
    before = {file.stem: file.read_bytes() for file in root.rglob("*.jpg")}
    numbers = {}  # the same photos, in other splits and without the split in their names
    for photo in sorted(root.rglob("*.jpg")):
        number = numbers[photo.stem] = len(numbers) + 1
        home = root / ("val2017" if number % 3 else "train2017")
        home.mkdir(exist_ok=True)
        photo.rename(home / f"{number:012d}.jpg")
    for split in coco.SPLITS:
        (root / split).rmdir()
        text = json_of(root, split).read_text()
        for stem, number in numbers.items():
            text = text.replace(stem, f"COCO_{split}_{number:012d}") if split in stem else text
        json_of(root, split).write_text(text)
    assert "is --root; name another" in prepare("coco", "--root", root, "--out", root).error
    outcome = prepare(*words)
    assert outcome.code == 0 and "lists of 2017" not in outcome.output
    for split in coco.SPLITS:
        listed = _listed(out, split)
        assert len(listed) == IMAGES - 1 and all(name.startswith(f"{split}/COCO_{split}_") for name in listed)
        stems = {f"{split}/COCO_{split}_{number:012d}": stem for stem, number in numbers.items()}
        assert all((out / f"{name}.jpg").read_bytes() == before[stems[name]] for name in listed)
    assert "nothing to do" in prepare(*words).output


@pytest.mark.parametrize("with_2014", [False, True])
def test_annotations_of_2017_make_their_lists_where_2014_has_none(
    prepare, words, out: Path, root: Path, with_2014: bool
) -> None:
    for part in ("train", "val"):
        json_of(root, f"{part}2014").rename(json_of(root, f"{part}2017"))
        (root / f"{part}2014").rename(root / f"{part}2017")
    if with_2014:
        shutil.copytree(draw_coco(root.parent / "other"), root, dirs_exist_ok=True)
    outcome = prepare(*words)
    assert outcome.code == 0 and ("COCO-20i is scored on those of 2014" in outcome.output) != with_2014
    lists = {path.stem for path in (out / "lists").iterdir()}
    assert lists == {*coco.SPLITS} if with_2014 else lists == {*coco.SPLITS_2017}
    json_of(root, "val2014" if with_2014 else "val2017").unlink()
    if not with_2014:
        assert "instances_train2014.json: is missing" in prepare(*words).error
