"""Tests of ``prepare.py lists``: counts compared with published ones, and list files of other projects."""

from pathlib import Path

import pytest


@pytest.fixture
def config(mini_yaml) -> Path:
    return mini_yaml("mini_split0_prototype_resnet18.yaml")


def test_counts_of_all_folds(prepare, config: Path, mini_root: Path) -> None:
    outcome = prepare("lists", config)
    lines = [line.strip() for line in outcome.output.splitlines()]
    assert outcome.code == 0 and sum(line.startswith("fold ") for line in lines) == 8


def test_a_list_file_of_another_project_replaces_the_list(prepare, config: Path, mini_root: Path, tmp_path) -> None:
    names = sorted((mini_root / "ImageSets/Segmentation/val.txt").read_text().split())
    lines = [f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png" for name in names]
    (tmp_path / "list.txt").write_text("\n".join(lines[:1]))
    words = ("--set", f"data.test_fold_list={tmp_path / 'list.txt'}")
    found = [prepare("lists", config, *words, "--fold", fold) for fold in range(4)]
    assert any("fold" in one.output and ": 1\n" in one.output for one in found), found


def test_wrong_fold_and_wrong_list(prepare, config: Path, tmp_path: Path) -> None:
    assert "allowed: 0..3" in prepare("lists", config, "--fold", 4).error
    (tmp_path / "list.txt").write_text("2007_000033__01\n")
    assert (
        "not in the data set" in prepare("lists", config, "--set", f"data.test_fold_list={tmp_path / 'list.txt'}").error
    )


@pytest.mark.parity
def test_sizes_of_shared_fold_0_are_those_of_a_count_of_all_pixels(prepare, shared: Path, tmp_path: Path) -> None:
    settings = ("--set", f"data.root={shared / 'data/VOC2012'}", "--set", f"data.cache={tmp_path}")
    output = prepare("lists", "--fold", 0, *settings).output
    assert "fold 0: 1031, published 4208: differs" in output and "fold 0: 364, published 364: OK" in output
