"""Tests of folds and their lists: published classes and sizes, the pixel rule by brute force, impossible lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.paths import REPOSITORY
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.images.read import read_mask
from util.data.lists.image_list import ImageList, base_validation_list, check_shots, train_list
from util.data.lists.image_list import test_list as novel_list  # under its own name pytest would collect it
from util.data.lists.index import Index, load_index
from util.errors import UserError

FOLDS = 4
PIXELS = 500  # of mini's 64 x 64: some objects are smaller
PASCAL, COCO, IGNORE = 20, 80, 255
EVERY_FOLD = [
    Fold(classes, FOLDS, number, rule)
    for classes, rule in [(PASCAL, "contiguous"), (COCO, "interleaved"), (COCO, "contiguous"), (8, "interleaved")]
    for number in range(FOLDS)
]


@pytest.mark.parametrize("number", range(FOLDS))
def test_folds_are_blocks_of_five_or_every_fourth_class(number: int) -> None:
    assert Fold(PASCAL, FOLDS, number, "contiguous").novel == tuple(range(5 * number + 1, 5 * number + 6))
    assert Fold(COCO, FOLDS, number, "interleaved").novel == tuple(number + 1 + 4 * k for k in range(20))


@pytest.mark.parametrize("fold", EVERY_FOLD, ids=str)
def test_base_table_numbers_base_classes_in_ascending_order(fold: Fold) -> None:
    table = fold.base_table
    assert table.shape == (256,) and table.dtype == np.uint8
    assert (table[0], table[IGNORE]) == (0, IGNORE)
    assert all(table[c] == 0 for c in fold.novel)
    assert [int(table[c]) for c in fold.base] == list(range(1, len(fold.base) + 1))
    assert not table[fold.classes + 1 : IGNORE].any()


@pytest.mark.parity
def test_lists_of_the_voc_subset(shared: Path, tmp_path: Path) -> None:
    """The test list is the published one."""
    overrides = [f"data.root={shared / 'data/VOC2012'}", f"data.cache={tmp_path}"]
    data = read_config(REPOSITORY / "config/pascal/pascal_split0_resnet50.yaml", overrides).data
    training, test, fold = load_index(data, "train", False), load_index(data, "test", False), Fold.of(data)
    for exclude_novel, images in ((True, 1031), (False, 1153)):
        assert len(train_list(training, fold, replace(data, exclude_novel=exclude_novel)).queries) == images
    novel = novel_list(test, fold, data)
    assert len(training) == 1464 and len(novel.queries) == 364 and novel.classes == (1, 2, 3, 4, 5)


def _truth(data: DataSettings, file: str) -> list[dict[int, int]]:
    """Return, for every image of a list file, class -> pixels, counted from the mask itself."""
    names = (Path(data.root) / f"ImageSets/Segmentation/{file}.txt").read_text().split()
    masks = (read_mask(Path(data.root) / data.masks / f"{n}.png") for n in names)
    return [dict(zip(*(a.tolist() for a in np.unique(m, return_counts=True)), strict=True)) for m in masks]


def _expected(truth: list[dict[int, int]], classes: tuple[int, ...], exclude: tuple[int, ...]) -> list[int]:
    return [
        row
        for row, areas in enumerate(truth)
        if any(areas.get(c, 0) >= PIXELS for c in classes) and not any(areas.get(c, 0) for c in exclude)
    ]


def _check(images: ImageList, truth: list[dict[int, int]], classes: tuple[int, ...], exclude: tuple[int, ...]) -> None:
    assert images.classes == classes
    assert images.queries.tolist() == _expected(truth, classes, exclude)
    assert set(images.candidates) == set(classes)
    for c, rows in images.candidates.items():
        assert rows.tolist() == _expected(truth, (c,), exclude)
    for row in images.queries:
        assert images.classes_in(row) == [c for c in classes if truth[row].get(c, 0) > 0]


@pytest.mark.parametrize("fold_rule", ["contiguous", "interleaved"])
@pytest.mark.parametrize("fold", range(FOLDS))
def test_lists_agree_with_brute_force(mini_data, fold: int, fold_rule: str) -> None:
    data = mini_data(fold=fold, fold_rule=fold_rule, min_pixels=PIXELS)
    split = Fold.of(data)
    train, test = (load_index(data, part, progress=False) for part in ("train", "test"))
    train_truth, test_truth = _truth(data, "train"), _truth(data, "val")
    assert any(0 < n < PIXELS for areas in train_truth for n in areas.values())  # else the rule is not exercised
    _check(train_list(train, split, data), train_truth, split.base, ())
    _check(novel_list(test, split, data), test_truth, split.novel, ())
    _check(base_validation_list(test, split.base, data), test_truth, split.base, ())
    strict = mini_data(fold=fold, fold_rule=fold_rule, min_pixels=PIXELS, exclude_novel=True)
    _check(train_list(train, split, strict), train_truth, split.base, split.novel)


def _index(areas: list[list[int]]) -> Index:
    names = tuple(f"photo{n}" for n in range(len(areas)))
    paths = tuple(Path(n) for n in names)
    return Index(names, np.array(areas, np.int64), paths, paths, "none")


def _settings(**changes) -> DataSettings:
    values = {"classes": ["cat", "dog"], "folds": 2, **changes}
    return DataSettings("tiny", "data/tiny", "train.txt", "test.txt", **values)


def test_rare_classes_are_left_out_where_settings_say_so() -> None:
    index = _index([[0, 0, 0, 50, 0], [0, 0, 0, 50, 30], [0, 0, 0, 60, 0], [0, 0, 0, 0, 40]])  # class 4 in 2 images
    fold, data = Fold(4, 2, 0, "contiguous"), _settings(min_pixels=10, shot=2, classes=["cat", "dog", "cow", "car"])
    with pytest.raises(UserError, match=r"fold 0 .* car \(2\); 2-shot needs 3"):
        check_shots(train_list(index, fold, data), data)
    images = train_list(index, fold, replace(data, rare_classes="skip"))
    assert images.classes == (3,) and images.rare == (4,) and list(images.queries) == [0, 1, 2]
    check_shots(images, data)
    assert images.classes_in(1) == [3]  # episodes are never of a class that is left out
    with pytest.raises(UserError, match="empty"):
        train_list(index, fold, replace(data, rare_classes="skip", shot=3))
