"""The published lists of HSNet and DCAMA: their files, their form, and when a protocol or a method takes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from util.config.folds import Fold
from util.config.read import read_config
from util.data.lists.files import read_fold_list
from util.data.lists.image_list import ImageList, train_list
from util.data.lists.image_list import test_list as novel_list
from util.errors import UserError

TEST_PAIRS = {"pascal": (346, 451, 725, 346), "coco": (35783, 17912, 14563, 14315)}
EPOCHS = {"pascal": (11394, 10255, 7797, 11594), "coco": (62040, 74381, 73035, 73808)}  # pairs, or images


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_the_configs_name_the_published_lists_of_their_fold(dataset: str, fold: int) -> None:
    config = read_config(REPOSITORY / f"config/{dataset}/{dataset}_split{fold}_hsnet_resnet50.yaml")
    split = Fold.of(config.data)
    test = read_fold_list(config.protocols["hsnet"].list_file, split)
    assert config.protocols["dcama"].list_file == config.protocols["hsnet"].list_file
    assert len(test.stems) == TEST_PAIRS[dataset][fold] and set(test.classes) == set(split.novel)
    train = read_fold_list(config.meta_stage.list_file, split)
    length = len(train.stems) if dataset == "pascal" else len(set(train.stems))
    assert length == EPOCHS[dataset][fold] and set(train.classes) == set(split.base)
    assert config.protocols["symnet"].list_file is None


def pairs_file(path: Path, images: ImageList, pairs: list[tuple[int, int]]) -> str:
    """Write (row, class) pairs with the names of their images; return the path."""
    path.write_text("".join(f"{images.index.names[row]} {c}\n" for row, c in pairs))
    return str(path)


def test_a_list_that_fits_is_taken_in_its_order(tmp_path: Path, novel: ImageList, mini_data) -> None:
    data, chosen = mini_data(), list(novel.pairs[::-2])
    published = pairs_file(tmp_path / "val_fold0.txt", novel, chosen)
    images = novel_list(novel.index, Fold.of(data), data, str(tmp_path / "val_fold{fold}.txt"))
    assert (list(images.pairs), images.source, images.note) == (chosen, published, "")
    own = replace(data, test_fold_list=pairs_file(tmp_path / "own.txt", novel, list(novel.pairs[:3])))
    assert novel_list(novel.index, Fold.of(own), own, published).pairs == novel.pairs[:3]


@pytest.mark.parametrize(
    ("line", "says"),
    [("lost 1", "1 of its 2 images are not in the data set, such as lost"), ("{name} 8", "class 8, which is not of")],
)
def test_a_list_that_does_not_fit_is_named_and_the_masks_decide(
    tmp_path: Path, novel: ImageList, mini_data, line: str, says: str
) -> None:
    data, (row, c) = mini_data(), novel.pairs[0]
    path, name = tmp_path / "val.txt", novel.index.names[row]
    path.write_text(f"{name} {c}\n{line.format(name=name)}\n")
    images = novel_list(novel.index, Fold.of(data), data, str(path))
    assert (images.pairs, images.digest, images.source) == (novel.pairs, novel.digest, "")
    assert says in images.note and "data.min_pixels = 100" in images.note


def test_pairs_that_a_mask_does_not_show_are_left_out_and_counted(tmp_path: Path, novel: ImageList, mini_data) -> None:
    data, (row, _) = mini_data(), novel.pairs[0]
    hidden = next(c for c in novel.classes if not novel.index.areas[row, c])
    published = pairs_file(tmp_path / "val.txt", novel, [*novel.pairs, (row, hidden)])
    images = novel_list(novel.index, Fold.of(data), data, published)
    assert images.pairs == novel.pairs and f"left out 1 of {len(novel.pairs) + 1} pairs" in images.note


def test_a_training_list_joins_the_files_of_the_other_folds(tmp_path: Path, novel: ImageList, mini_data) -> None:
    """Its photos with novel classes stay, whatever data.exclude_novel says."""
    index = novel.index
    for n in range(4):
        fold = Fold.of(mini_data(fold=n))
        rows = [(r, c) for r in range(len(index)) for c in fold.novel if index.areas[r, c] >= 100]
        pairs_file(tmp_path / f"trn_fold{n}.txt", novel, rows)
    data = mini_data(fold=1, exclude_novel=True)
    images = train_list(index, Fold.of(data), data, str(tmp_path / "trn_fold{others}.txt"))
    assert {c for _, c in images.pairs} == set(Fold.of(data).base) and images.note == ""
    assert (index.areas[images.queries][:, Fold.of(data).novel] > 0).any()
    (tmp_path / "trn_fold3.txt").write_text("a.jpg a.png\n")
    with pytest.raises(UserError, match="both must have one form"):
        read_fold_list(str(tmp_path / "trn_fold{others}.txt"), Fold.of(data))
