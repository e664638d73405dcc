"""Tests of ``prepare.py lists``: counts compared with published ones, export and comparison of list files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def config(mini_yaml) -> Path:
    return mini_yaml("mini_split0_prototype_resnet18.yaml")


def test_counts_of_all_folds(prepare, config: Path, mini_root: Path) -> None:
    outcome = prepare("lists", config, "--candidates")
    lines = [line.strip() for line in outcome.output.splitlines()]
    assert outcome.code == 0 and sum(line.startswith("fold ") for line in lines) == 8
    assert any(line.startswith("candidates: striped disc ") for line in lines)


def test_export_is_read_back_as_the_same_list(prepare, config: Path, tmp_path: Path) -> None:
    assert prepare("lists", config, "--export", tmp_path / "lists", "--fold", 0).code == 0
    path = tmp_path / "lists/fold0_test.txt"
    first = path.read_text().splitlines()[0].split()
    assert first[0].startswith("JPEGImages/mini_") and first[1].startswith("SegmentationClassAug/mini_")
    outcome = prepare("lists", config, "--import", path)
    assert f"images: the same {len(path.read_text().splitlines())} as the list" in outcome.output
    assert f"data.test_fold_list={path}" in outcome.output


def test_differences_are_counted(prepare, config: Path, tmp_path: Path) -> None:
    prepare("lists", config, "--export", tmp_path)
    path = tmp_path / "fold1_train.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[2:]))
    outcome = prepare("lists", config, "--import", path, "--part", "train", "--fold", 1)
    assert f"{len(lines) - 2}, the list made from the masks has {len(lines)}; 2 not in the file" in outcome.output


def test_wrong_fold_and_wrong_list(prepare, config: Path, tmp_path: Path) -> None:
    assert "allowed: 0..3" in prepare("lists", config, "--fold", 4).error
    (tmp_path / "list.txt").write_text("2007_000033__01\n")
    assert "not in the data set" in prepare("lists", config, "--import", tmp_path / "list.txt").error


@pytest.mark.parity
def test_shared_fold_0_equals_a_brute_force_count(prepare, shared: Path, voc_cache: Path) -> None:
    root = shared / "data/VOC2012"
    settings = ("--set", f"data.root={root}", "--set", f"data.cache={voc_cache}")
    outcome = prepare("lists", "--fold", 0, *settings)
    test = _names(root, "val")
    novel = sum((np.bincount(_mask(root, n).ravel(), minlength=256)[1:6] >= 2048).any() for n in test)
    counts = [np.bincount(_mask(root, n).ravel(), minlength=256) for n in _names(root, "train")]
    base = sum((c[6:21] >= 2048).any() and not c[1:6].any() for c in counts)
    assert f"fold 0: {base}, published 4208: differs" in outcome.output
    assert f"fold 0: {novel}, published 364: OK" in outcome.output
    assert (base, novel) == (1031, 364)


def _names(root: Path, part: str) -> list[str]:
    return (root / f"ImageSets/Segmentation/{part}.txt").read_text().split()


def _mask(root: Path, name: str) -> np.ndarray:
    with Image.open(root / f"SegmentationClassAug/{name}.png") as image:
        return np.asarray(image)
