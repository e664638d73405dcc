"""Tests of ``prepare.py lists``: counts compared with published ones, export and comparison of list files."""

from pathlib import Path

import pytest


@pytest.fixture
def config(mini_yaml) -> Path:
    return mini_yaml("mini_split0_prototype_resnet18.yaml")


def test_counts_of_all_folds(prepare, config: Path, mini_root: Path) -> None:
    outcome = prepare("lists", config)
    lines = [line.strip() for line in outcome.output.splitlines()]
    assert outcome.code == 0 and sum(line.startswith("fold ") for line in lines) == 8


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
    assert f"{len(lines) - 2}, the list made from the masks has {len(lines)}\n    2 not in the file" in outcome.output


def test_wrong_fold_and_wrong_list(prepare, config: Path, tmp_path: Path) -> None:
    assert "allowed: 0..3" in prepare("lists", config, "--fold", 4).error
    (tmp_path / "list.txt").write_text("2007_000033__01\n")
    assert "not in the data set" in prepare("lists", config, "--import", tmp_path / "list.txt").error


@pytest.mark.parity
def test_sizes_of_shared_fold_0_are_those_of_a_count_of_all_pixels(prepare, shared: Path, voc_cache: Path) -> None:
    settings = ("--set", f"data.root={shared / 'data/VOC2012'}", "--set", f"data.cache={voc_cache}")
    output = prepare("lists", "--fold", 0, *settings).output
    assert "fold 0: 1031, published 4208: differs" in output and "fold 0: 364, published 364: OK" in output
