"""Tests of folds: which classes each one tests and trains on, and the lookup to base-class ids."""

from __future__ import annotations

import numpy as np
import pytest

from util.config.folds import Fold

PASCAL, COCO, FOLDS, IGNORE = 20, 80, 4, 255
EVERY_FOLD = [
    Fold(classes, FOLDS, number, rule)
    for classes, rule in [(PASCAL, "contiguous"), (COCO, "interleaved"), (COCO, "contiguous"), (8, "interleaved")]
    for number in range(FOLDS)
]


def _name(fold: Fold) -> str:
    return f"{fold.classes}-{fold.rule}-{fold.number}"


@pytest.mark.parametrize(
    ("number", "novel"),
    [(0, (1, 2, 3, 4, 5)), (1, (6, 7, 8, 9, 10)), (2, (11, 12, 13, 14, 15)), (3, (16, 17, 18, 19, 20))],
)
def test_pascal_folds_are_blocks_of_five(number: int, novel: tuple[int, ...]) -> None:
    assert Fold(PASCAL, FOLDS, number, "contiguous").novel == novel


@pytest.mark.parametrize("number", range(FOLDS))
def test_interleaved_coco_folds_take_every_fourth_class(number: int) -> None:
    novel = Fold(COCO, FOLDS, number, "interleaved").novel
    assert novel == tuple(number + 1 + 4 * k for k in range(20))
    assert (novel[0], novel[1], novel[-1]) == (number + 1, number + 5, number + 77)


@pytest.mark.parametrize("number", range(FOLDS))
def test_contiguous_coco_folds_are_blocks_of_twenty(number: int) -> None:
    assert Fold(COCO, FOLDS, number, "contiguous").novel == tuple(range(20 * number + 1, 20 * number + 21))


@pytest.mark.parametrize("fold", EVERY_FOLD, ids=_name)
def test_novel_and_base_partition_the_classes(fold: Fold) -> None:
    assert not set(fold.novel) & set(fold.base)
    assert sorted(fold.novel + fold.base) == list(range(1, fold.classes + 1))
    assert len(fold.novel) == fold.classes // FOLDS
    assert list(fold.base) == sorted(fold.base) and list(fold.novel) == sorted(fold.novel)


@pytest.mark.parametrize("rule", ["contiguous", "interleaved"])
def test_every_class_is_novel_in_exactly_one_fold(rule: str) -> None:
    novel = [c for number in range(FOLDS) for c in Fold(COCO, FOLDS, number, rule).novel]
    assert sorted(novel) == list(range(1, COCO + 1))


@pytest.mark.parametrize("fold", EVERY_FOLD, ids=_name)
def test_base_table_numbers_base_classes_in_ascending_order(fold: Fold) -> None:
    table = fold.base_table
    assert table.shape == (256,) and table.dtype == np.uint8
    assert (table[0], table[IGNORE]) == (0, IGNORE)
    assert all(table[c] == 0 for c in fold.novel)
    assert [int(table[c]) for c in fold.base] == list(range(1, len(fold.base) + 1))
    assert not table[fold.classes + 1 : IGNORE].any()


def test_base_table_of_known_folds() -> None:
    pascal = Fold(PASCAL, FOLDS, 1, "contiguous").base_table  # novel 6..10
    assert [int(pascal[c]) for c in (1, 5, 6, 10, 11, 20)] == [1, 5, 0, 0, 6, 15]
    coco = Fold(COCO, FOLDS, 0, "interleaved").base_table  # novel 1, 5, 9, ...
    assert [int(coco[c]) for c in (1, 2, 3, 4, 5, 6, 77, 78, 80)] == [0, 1, 2, 3, 0, 4, 0, 58, 60]


def test_base_table_maps_a_whole_label_at_once() -> None:
    label = np.array([[0, 3, 8], [255, 1, 20]], np.uint8)
    assert Fold(PASCAL, FOLDS, 0, "contiguous").base_table[label].tolist() == [[0, 0, 3], [255, 0, 15]]
