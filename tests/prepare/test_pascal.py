"""Tests of ``prepare.py pascal`` on small trees of VOC and SBD, in each form in which SBD is distributed."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.prepare.trees import SBD_TRAIN, SBD_VAL, VOC_TRAIN, VOC_VAL, sbd_mask, voc_mask, write_names
from util.data.images.read import read_mask

TRAIN = [*VOC_TRAIN, "2008_000020", "2008_000021"]
TRAINAUG = [*TRAIN, "2008_000030"]
FORMS = ("benchmark_RELEASE", "torchvision", "palette", "grey")


def names(out: Path, part: str) -> list[str]:
    return (out / f"ImageSets/Segmentation/{part}.txt").read_text().split()


def masks(out: Path) -> dict[str, bytes]:
    return {p.stem: read_mask(p).tobytes() for p in (out / "SegmentationClassAug").glob("*.png")}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "VOC2012"


@pytest.mark.parametrize("form", FORMS)
def test_sets_and_masks_of_every_form(prepare, voc: Path, sbd, out: Path, form: str) -> None:
    outcome = prepare("pascal", "--voc", voc, "--sbd", sbd(form), "--out", out)
    assert outcome.code == 0, outcome.errors
    assert names(out, "trainaug") == TRAINAUG and names(out, "val") == list(VOC_VAL)
    if "benchmark" in form or form == "torchvision":
        assert names(out, "train") == TRAIN
        assert "train: 5, published 5953: differs" in outcome.output
    else:
        assert not (out / "ImageSets/Segmentation/train.txt").exists()
        assert "no train.txt" in outcome.output
    for name in TRAINAUG + list(VOC_VAL):
        expected = voc_mask(name) if name in VOC_TRAIN + VOC_VAL else sbd_mask(name)  # VOC comes first
        path = out / "SegmentationClassAug" / f"{name}.png"
        assert np.array_equal(read_mask(path), expected), name
        with Image.open(path) as image:
            assert image.mode == "P", name
        assert (out / "JPEGImages" / f"{name}.jpg").read_bytes() == (voc / "JPEGImages" / f"{name}.jpg").read_bytes()


def test_lists_beside_the_png_masks_give_the_train_set(prepare, voc: Path, sbd, out: Path) -> None:
    root = sbd("grey")
    write_names(root / "train.txt", SBD_TRAIN)
    write_names(root / "val.txt", SBD_VAL)
    assert prepare("pascal", "--voc", voc, "--sbd", root, "--out", out).code == 0
    assert names(out, "train") == TRAIN and names(out, "trainaug") == TRAINAUG


def test_voc_alone(prepare, voc: Path, out: Path) -> None:
    outcome = prepare("pascal", "--voc", voc, "--out", out)
    assert names(out, "train") == list(VOC_TRAIN)
    assert "without --sbd" in outcome.output


def test_archives_are_unpacked_beside_the_output(prepare, voc: Path, sbd, out: Path, tmp_path: Path) -> None:
    tar, tgz = tmp_path / "VOCtrainval.tar", tmp_path / "benchmark.tgz"
    with tarfile.open(tar, "w") as archive:
        archive.add(voc.parent, "VOCdevkit")
    with tarfile.open(tgz, "w:gz") as archive:
        archive.add(sbd("benchmark_RELEASE"), "benchmark_RELEASE")
    assert prepare("pascal", "--voc", tar, "--sbd", tgz, "--out", out).code == 0
    assert names(out, "train") == TRAIN and set(masks(out)) == {*TRAINAUG, *VOC_VAL}


@pytest.mark.parametrize("damage", ["photo lost", "mask lost", "mask damaged", "mat of something else"])
def test_bad_files_are_named_and_omitted_only_on_demand(prepare, voc: Path, sbd, out: Path, damage: str) -> None:
    root, name = sbd("torchvision"), "2008_000020"
    image, mat = voc / "JPEGImages" / f"{name}.jpg", root / "cls" / f"{name}.mat"
    if damage == "photo lost":
        image.unlink()
        (root / "img" / f"{name}.jpg").unlink()
    elif damage == "mask lost":
        mat.unlink()
    else:
        mat.write_bytes(b"MATLAB 5.0" if damage == "mask damaged" else (root / "train.txt").read_bytes())
    arguments = ("pascal", "--voc", voc, "--sbd", root, "--out", out)
    assert name in prepare(*arguments).error
    outcome = prepare(*arguments, "--skip-bad")
    assert outcome.code == 0 and f"{name}" in outcome.output
    assert names(out, "train") == [n for n in TRAIN if n != name]


def test_a_mask_of_voc_that_is_added_later_replaces_the_one_of_sbd(prepare, voc: Path, sbd, out: Path) -> None:
    path = voc / "SegmentationClass" / f"{VOC_TRAIN[1]}.png"  # SBD has that image as well
    content, times = path.read_bytes(), (path.stat().st_atime, path.stat().st_mtime)
    path.unlink()
    arguments = ("pascal", "--voc", voc, "--sbd", sbd("torchvision"), "--out", out)
    prepare(*arguments)
    made = out / "SegmentationClassAug" / path.name
    assert np.array_equal(read_mask(made), sbd_mask(path.stem))
    path.write_bytes(content)
    os.utime(path, times)  # as archives restore them
    prepare(*arguments)
    assert np.array_equal(read_mask(made), voc_mask(path.stem))
