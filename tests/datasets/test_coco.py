"""Tests of ``prepare.py coco``: a small COCO with real files, spoilt in all ways, and the shared part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from datasets import make
from datasets.recipes import coco
from tests.annotations import drawn
from tests.datasets.printed import assert_done, times
from tests.helpers.paths import REPOSITORY
from tests.helpers.read import write_json
from util.files.mask_images import read_mask

CLASSES = yaml.safe_load((REPOSITORY / "config/coco/coco.yaml").read_text())["data"]["classes"]
CATEGORIES = [{"id": i + 1 + i // 8, "name": name} for i, name in enumerate(CLASSES)]  # with gaps, as COCO's ids have
SIDES = drawn.HEIGHT, drawn.WIDTH
TURNED = 5  # the number of an image that is stored turned left
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
        images = []
        annotations = []
        for number in range(IMAGES, 0, -1):  # not by id
            name = f"{name_of(split, number)}.jpg"
            drawn.photo(out / split / name, turned=number == TURNED)
            images.append({"id": number, "file_name": name, "height": SIDES[0], "width": SIDES[1]})
            if number < IMAGES:
                annotations += [
                    box_annotation(number, class_id=number, left=0),
                    box_annotation(number, class_id=80, left=20),
                ]
        write_json(json_of(out, split), {"images": images, "annotations": annotations, "categories": CATEGORIES})
    return out


def box_annotation(number: int, class_id: int, left: int) -> dict[str, Any]:
    """Return the annotation of a box of ten columns, rows 4 to 20, in an image."""
    box = [left, 4, left + 10, 4, left + 10, 20, left, 20]
    return {"image_id": number, "category_id": CATEGORIES[class_id - 1]["id"], "segmentation": [box], "iscrowd": 0}


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


def _has_lists(out: Path) -> bool:
    """Return whether a preparation has ended: with lists or a stamp."""
    return (out / "lists").exists() or (out / "prepared.json").exists()


def test_lists_and_masks_of_both_splits_which_a_repetition_leaves_alone(prepare, words, out: Path, root: Path) -> None:
    assert_done(prepare(*words), "train2014: 5, published 82081: differs", "val2014: 5, published 40137: differs")
    for split in coco.SPLITS:
        assert (out / split).is_symlink() and (out / split).resolve() == (root / split).resolve()
        names = [f"{split}/{name_of(split, n)}" for n in range(1, IMAGES)]  # annotated, by id
        assert _listed(out, split) == names
        for number, name in enumerate(names, start=1):
            expected = np.zeros(SIDES, np.uint8)
            expected[4:20, 0:10] = number
            expected[4:20, 20:30] = 80
            np.testing.assert_array_equal(read_mask(out / f"masks/{name}.png"), np.rot90(expected, -(number == TURNED)))
    before = times([*out.rglob("*")])
    assert "is made already" in prepare(*words).output
    assert times([*out.rglob("*")]) == before


def test_an_interrupted_preparation_leaves_no_list(prepare, words, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = make.write_mask
    written = []

    def interrupted(path: Path, mask: np.ndarray, stated: bool) -> None:
        if len(written) == IMAGES + 1:
            raise KeyboardInterrupt
        write(path, mask, stated)
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(make, "write_mask", interrupted)
        assert prepare(*words).code == 130
    assert len(list(out.rglob("*.png"))) == IMAGES + 1
    assert not _has_lists(out)
    assert_done(prepare(*words))
    assert len(_listed(out, "val2014")) == IMAGES - 1


DAMAGES = {
    "missing": Path.unlink,
    "cut": lambda photo: photo.write_bytes(photo.read_bytes()[:-200]),
    "of another size": lambda photo: cv2.imwrite(str(photo), np.zeros((SIDES[1], SIDES[0], 3), np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_bad_photos(prepare, words, out: Path, root: Path, damage: Callable[[Path], object]) -> None:
    photo = root / f"train2014/{name_of('train2014', 2)}.jpg"
    content = photo.read_bytes()
    damage(photo)
    refused = prepare(*words)
    assert str(photo) in refused.error and "--skip-bad" in refused.error
    assert not _has_lists(out)
    assert_done(prepare(*words, "--skip-bad"), f"left out: {photo}", "1 left out")
    assert _listed(out, "train2014") == [f"train2014/{name_of('train2014', number)}" for number in (1, 3, 4, 5)]
    assert not (out / f"masks/train2014/{photo.stem}.png").exists()
    assert "is made already" in prepare(*words, "--skip-bad").output
    photo.write_bytes(content)
    stamp = out / "prepared.json"
    assert f"was made with other options, or by an earlier version; remove {stamp}" in prepare(*words).error
    stamp.unlink()
    prepare(*words)
    assert len(_listed(out, "train2014")) == IMAGES - 1


def name_photos_as_2017(root: Path) -> dict[str, str]:
    """Give photos their names of 2017: in other splits, and without the split in a name.

    Return old stems by the names in lists of 2014, with whose new numbers the annotations are written.
    """
    stems = {}
    texts = {split: json_of(root, split).read_text() for split in coco.SPLITS}
    for number, photo in enumerate(sorted(root.rglob("*.jpg")), 1):
        split = photo.parent.name
        name = name_of(split, number)
        texts[split] = texts[split].replace(photo.stem, name)
        stems[f"{split}/{name}"] = photo.stem
        folder = root / ("val2017" if number % 3 else "train2017")
        folder.mkdir(exist_ok=True)
        photo.rename(folder / f"{number:012d}.jpg")
    for split, text in texts.items():
        (root / split).rmdir()
        json_of(root, split).write_text(text)
    return stems


def test_photos_named_as_in_2017_serve_the_lists_of_2014(prepare, words, out: Path, root: Path) -> None:
    contents = {file.stem: file.read_bytes() for file in root.rglob("*.jpg")}
    stems = name_photos_as_2017(root)
    assert "is the download (--root); name another" in prepare("coco", "--root", root, "--out", root).error
    assert_done(prepare(*words))
    for split in coco.SPLITS:
        names = _listed(out, split)
        assert len(names) == IMAGES - 1
        for name in names:
            assert name.startswith(f"{split}/COCO_{split}_")
            assert (out / f"{name}.jpg").read_bytes() == contents[stems[name]]
    assert "is made already" in prepare(*words).output
