"""Tests of ``prepare.py coco``: a small COCO with real files, spoilt in all ways, and the shared part."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.prepare.coco_tree import IMAGES, REPOSITORY, SIDES, draw_coco, json_of, name_of
from util.config.folds import Fold
from util.config.read import read_config
from util.data.images.read import read_mask
from util.data.lists.image_list import test_list as make_test_list
from util.data.lists.index import load_index
from util.errors import UserError
from util.prepare.datasets import coco


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a small COCO as the official site gives it."""
    return draw_coco(tmp_path / "official")


@pytest.fixture
def prepare(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that runs the command and gives the folder it has made."""

    def run(*words: str, out: str = "made") -> Path:
        parser = argparse.ArgumentParser()
        coco.add_options(parser)
        options = parser.parse_args(["--root", str(root), "--out", str(tmp_path / out), *words])
        assert coco.run(options) == 0
        return tmp_path / out

    return run


def _content(folder: Path) -> dict[str, bytes]:
    parts = (p for part in ("masks", "lists") for p in (folder / part).rglob("*.*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in parts if p.name}


def _times(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_result(prepare: Callable[..., Path], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prepare()
    for split in coco.SPLITS:
        assert (out / split).is_symlink() and (out / split).resolve() == (root / split).resolve()
        names = [f"{split}/{name_of(split, n)}" for n in range(1, IMAGES)]  # annotated, by id
        assert (out / f"lists/{split}.txt").read_text().splitlines() == names
        for number, name in enumerate(names, start=1):
            expected = np.zeros(SIDES, np.uint8)
            expected[4:20, 0:10], expected[4:20, 20:30] = number, 80
            np.testing.assert_array_equal(read_mask(out / f"masks/{name}.png"), expected)
    said = capsys.readouterr().out
    assert "train2014: 5, published 82081: differs" in said
    assert "val2014: 5, published 40137: differs" in said


def test_interrupted_and_repeated(
    prepare: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = _content(prepare(out="unbroken"))
    write, written = coco.write_mask, []

    def interrupted(path: Path, mask: np.ndarray, stated: bool) -> None:
        if len(written) == IMAGES + 1:
            raise KeyboardInterrupt
        write(path, mask, stated)
        written.append(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(coco, "write_mask", interrupted)
        prepare()
    out = tmp_path / "made"
    assert len(list(out.rglob("*.png"))) == IMAGES + 1
    assert not (out / "lists").exists() and not (out / "prepared.json").exists()
    before = _times(out / "masks/train2014")
    prepare()
    assert _content(out) == unbroken
    assert _times(out / "masks/train2014") == before  # finished masks are kept


def test_other_annotations_make_the_masks_anew(prepare: Callable[..., Path], root: Path) -> None:
    out = prepare()
    path = json_of(root, "train2014")
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    content["annotations"] = [
        a | {"segmentation": {"size": list(SIDES), "counts": [0, SIDES[0] * SIDES[1]]}} for a in content["annotations"]
    ]
    path.write_text(json.dumps(content))
    os.utime(path, (0, 0))  # older than the masks, as an unpacked official file is
    photo = (root / f"train2014/{name_of('train2014', 1)}.jpg").rename(root / "moved.jpg")
    with pytest.raises(UserError, match="does not exist"):
        prepare()
    assert not (out / "lists/train2014.txt").exists()  # it would list masks of two kinds
    photo.rename(root / f"train2014/{name_of('train2014', 1)}.jpg")
    prepare()
    assert all((read_mask(p) == 255).all() for p in (out / "masks/train2014").glob("*.png"))


def _spoil_missing(path: Path) -> None:
    path.unlink()


def _spoil_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _spoil_text(path: Path) -> None:
    path.write_text("<html>404</html>")


def _spoil_size(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((SIDES[1], SIDES[0], 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_spoil_missing, "does not exist"),
        (_spoil_cut, "damaged"),
        (_spoil_text, "damaged"),
        (_spoil_size, r"is 36 x 24 \(height, width\), its annotations are for 24 x 36"),
    ],
)
def test_bad_photos(
    prepare: Callable[..., Path],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    complaint: str,
) -> None:
    photo, out = root / f"train2014/{name_of('train2014', 2)}.jpg", tmp_path / "made"
    good = photo.read_bytes()
    spoil(photo)
    with pytest.raises(UserError, match=rf"{photo}: .*{complaint}.*--skip-bad"):
        prepare()
    assert not (out / "lists").exists() and not (out / "prepared.json").exists()
    prepare("--skip-bad")
    said = capsys.readouterr().out
    assert f"omitted: {photo}" in said and "1 omitted" in said
    kept = [f"train2014/{name_of('train2014', n)}" for n in range(1, IMAGES) if n != 2]
    assert (out / "lists/train2014.txt").read_text().splitlines() == kept
    assert not (out / f"masks/train2014/{photo.stem}.png").exists()
    before = _times(out)
    prepare("--skip-bad")
    assert "nothing to do" in capsys.readouterr().out and _times(out) == before
    photo.write_bytes(good)
    prepare()  # without --skip-bad it is tried again
    assert len((out / "lists/train2014.txt").read_text().splitlines()) == IMAGES - 1


def test_download(prepare: Callable[..., Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official, asked = root.rename(tmp_path / "site"), []
    archives = {"annotations_trainval2014.zip": "annotations", "train2014.zip": "train2014", "val2014.zip": "val2014"}
    for archive, part in archives.items():
        shutil.make_archive(str(tmp_path / archive.removesuffix(".zip")), "zip", official, part)

    def fetch(url: str, target: Path) -> Path:
        asked.append(url)
        target.parent.mkdir(exist_ok=True)
        return Path(shutil.copy(tmp_path / target.name, target))

    monkeypatch.setattr(coco, "fetch", fetch)
    monkeypatch.setattr(coco, "PHOTOS", {"train2014": IMAGES, "val2014": IMAGES})
    before = _content(prepare("--download"))
    assert asked == [
        "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
        "http://images.cocodataset.org/zips/train2014.zip",
        "http://images.cocodataset.org/zips/val2014.zip",
    ]
    for archive in archives:
        (root / archive).unlink()
    assert _content(prepare("--download")) == before
    assert len(asked) == 3  # existing files are not fetched again


@pytest.mark.parity
def test_the_shared_part_of_coco(shared: Path, prepare: Callable[..., Path], tmp_path: Path) -> None:
    out = prepare("--root", str(shared / "data/COCO2014"))
    settings = read_config(
        REPOSITORY / "config/coco/coco_split0_resnet50.yaml",
        [f"data.root={out}", f"data.cache={tmp_path / 'cache'}"],
    ).data
    for split, part in zip(coco.SPLITS, ("train", "test"), strict=True):
        content = json.loads(json_of(shared / "data/COCO2014", split).read_text())
        annotated = {a["image_id"] for a in content["annotations"]}
        index = load_index(settings, part, progress=False)
        assert [int(name[-12:]) for name in index.names] == sorted(annotated)
        ids = sorted(c["id"] for c in content["categories"])
        shown = np.zeros(index.areas.shape, bool)
        for annotation in content["annotations"]:
            if not annotation["iscrowd"]:
                shown[sorted(annotated).index(annotation["image_id"]), ids.index(annotation["category_id"]) + 1] = True
        assert not (index.areas[:, 1:] > 0)[~shown[:, 1:]].any()  # nothing that is not annotated,
        assert (index.areas[:, 1:] > 0)[shown[:, 1:]].mean() > 0.98  # and all that is not hidden by something smaller
    fold = Fold(len(settings.classes), settings.folds, settings.fold, settings.fold_rule)
    assert len(make_test_list(index, fold, settings).queries)
