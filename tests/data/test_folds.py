"""Tests of folds: which classes each one tests and trains on, and the lookup to base-class ids."""

import numpy as np
import pytest

from util.config.folds import Fold

PASCAL, COCO, FOLDS, IGNORE = 20, 80, 4, 255
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
