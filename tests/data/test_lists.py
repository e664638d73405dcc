"""Tests of lists: the pixel rule by brute force, published lists and files of other projects, impossible lists."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.paths import REPOSITORY
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.images.read import read_mask
from util.data.lists.files import read_fold_list
from util.data.lists.image_list import ImageList, base_validation_list, check_shots, train_list
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import Index, load_index
from util.errors import UserError

FOLDS = 4
PIXELS = 500  # of mini's 64 x 64: some objects are smaller
PASCAL, COCO, IGNORE = 20, 80, 255


@pytest.mark.parametrize("number", range(FOLDS))
def test_folds_are_blocks_of_five_or_every_fourth_class(number: int) -> None:
    """Their base table numbers the base classes in ascending order."""
    assert Fold(PASCAL, FOLDS, number, "contiguous").novel == tuple(range(5 * number + 1, 5 * number + 6))
    fold = Fold(COCO, FOLDS, number, "interleaved")
    assert fold.novel == tuple(number + 1 + 4 * k for k in range(20))
    table, base = fold.base_table.tolist(), [c for c in range(1, COCO + 1) if c not in fold.novel]
    assert table == [base.index(c) + 1 if c in base else 0 for c in range(255)] + [IGNORE]


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


def test_rare_classes_are_left_out_where_settings_say_so() -> None:
    areas = np.array([[0, 0, 0, 50, 0], [0, 0, 0, 50, 30], [0, 0, 0, 60, 0], [0, 0, 0, 0, 40]])  # class 4 in 2 images
    index, classes = Index(("a", "b", "c", "d"), areas, (Path(),) * 4, (Path(),) * 4, ""), ["cat", "dog", "cow", "car"]
    data = DataSettings("tiny", "data/tiny", "train.txt", "test.txt", classes, folds=2, min_pixels=10, shot=2)
    fold = Fold.of(data)
    with pytest.raises(UserError, match=r"fold 0 .* car \(2\); 2-shot needs 3"):
        check_shots(train_list(index, fold, data), data)
    images = train_list(index, fold, replace(data, rare_classes="skip"))
    assert images.classes == (3,) and images.rare == (4,) and list(images.queries) == [0, 1, 2]
    check_shots(images, data)
    assert images.classes_in(1) == [3]  # episodes are never of a class that is left out
    with pytest.raises(UserError, match="empty"):
        train_list(index, fold, replace(data, rare_classes="skip", shot=3))


TEST_PAIRS = {"pascal": (346, 451, 725, 346), "coco": (35783, 17912, 14563, 14315)}
EPOCHS = {"pascal": (11394, 10255, 7797, 11594), "coco": (62040, 74381, 73035, 73808)}  # pairs, or images


def write_pairs(path: Path, images: ImageList, pairs=None, form: str = "{} {}") -> str:
    """Write (row, class) pairs, default all of the list, with the names of their images; return the path."""
    pairs = images.pairs if pairs is None else pairs
    path.write_text("".join(form.format(images.index.names[row], c) + "\n" for row, c in pairs))
    return str(path)


def listed(path: Path, novel: ImageList, data: DataSettings) -> ImageList:
    """Return the test list that a run makes of a file of its own."""
    return novel_list(novel.index, Fold.of(data), replace(data, test_fold_list=str(path)))


@pytest.mark.parametrize("form", ["{}__{:02d}", "{} {}", "JPEGImages/{}.jpg {}"])
def test_queries_pairs_and_candidates_are_the_files(tmp_path: Path, novel: ImageList, mini_data, form: str) -> None:
    half = novel.pairs[::-2]
    path = write_pairs(tmp_path / "fold0.txt", novel, half, form)
    images = listed(tmp_path / "fold{fold}.txt", novel, mini_data())
    assert images.pairs == half and images.source == path and images.digest != novel.digest
    assert list(images.queries) == list(dict.fromkeys(r for r, _ in half))
    for c in images.classes:
        assert list(images.candidates[c]) == [r for r, its in half if its == c]


def test_pickles_count_classes_from_zero_and_two_columns_keep_the_pixel_rule(tmp_path, novel, mini_data) -> None:
    names = novel.index.names
    table = {c - 1: [f"val2014/{names[row]}.jpg" for row, its in novel.pairs if its == c] for c in novel.classes}
    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps(table))
    assert sorted(listed(path, novel, mini_data()).listed_pairs) == sorted(novel.pairs)
    rows = novel.queries[::2]
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{names[r]}.jpg {names[r]}.png\n" for r in rows))
    images = listed(path, novel, mini_data())
    assert np.array_equal(images.queries, rows)
    for c in images.classes:
        assert set(images.candidates[c]) == set(novel.candidates[c]) & set(rows)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ": this list is empty"),
        ("a.jpg a.png\nb__3\n", ": .* only some"),
        ("a__1\nimport os\n", ":2: neither"),
        ("{name} {own}\n{name} 8\n", ": .*not of this fold"),
        ("{name} {own}\n{name} {other}\n", ": .*no pixel"),
        ("{name} {own}\nlost 1\n", ": .*lost"),
        ("{name} {own}\n{name}.jpg {own}\n", ": 1 pairs are named more than once, such as"),
        ("{name} {own}\n{name}\0 {own}\n", ":2: holds a NUL"),
    ],
)
def test_what_is_no_list_of_the_data_is_named(tmp_path: Path, novel: ImageList, mini_data, content: str, place: str):
    row, own = novel.pairs[0]
    other = next(c for c in novel.classes if not novel.index.areas[row, c])
    path = tmp_path / "list.txt"
    path.write_text(content.format(name=novel.index.names[row], own=own, other=other))
    with pytest.raises(UserError, match=f"list.txt{place}"):
        listed(path, novel, mini_data())


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


def test_a_published_list_is_taken_unless_there_is_an_own(tmp_path: Path, novel: ImageList, mini_data) -> None:
    data, chosen = mini_data(), novel.pairs[::-2]
    published = write_pairs(tmp_path / "val_fold0.txt", novel, chosen)
    images = novel_list(novel.index, Fold.of(data), data, str(tmp_path / "val_fold{fold}.txt"))
    assert (images.pairs, images.source, images.note) == (chosen, published, "")
    own = replace(data, test_fold_list=write_pairs(tmp_path / "own.txt", novel, novel.pairs[:3]))
    assert novel_list(novel.index, Fold.of(own), own, published).pairs == novel.pairs[:3]


def test_a_published_list_that_does_not_fit_is_named_and_the_masks_decide(tmp_path, novel, mini_data) -> None:
    """Of one that fits, pairs that a mask does not show are left out and counted."""
    data, (row, c) = mini_data(), novel.pairs[0]
    path, name = tmp_path / "val.txt", novel.index.names[row]
    for line, says in (("lost 1", "1 of its 2 images .*lost"), (f"{name} 8", "class 8")):
        path.write_text(f"{name} {c}\n{line}\n")
        images = novel_list(novel.index, Fold.of(data), data, str(path))
        assert (images.pairs, images.digest, images.source) == (novel.pairs, novel.digest, "")
        assert re.search(says, images.note) and "data.min_pixels = 100" in images.note
    hidden = next(c for c in novel.classes if not novel.index.areas[row, c])
    published = write_pairs(tmp_path / "val.txt", novel, [*novel.pairs, (row, hidden)])
    images = novel_list(novel.index, Fold.of(data), data, published)
    assert images.pairs == novel.pairs and f"left out 1 of {len(novel.pairs) + 1} pairs" in images.note


def test_a_training_list_joins_the_files_of_the_other_folds(tmp_path: Path, novel: ImageList, mini_data) -> None:
    """Its photos with novel classes stay, whatever data.exclude_novel says."""
    index = novel.index
    for n in range(4):
        fold = Fold.of(mini_data(fold=n))
        rows = [(r, c) for r in range(len(index)) for c in fold.novel if index.areas[r, c] >= 100]
        write_pairs(tmp_path / f"trn_fold{n}.txt", novel, rows)
    data = mini_data(fold=1, exclude_novel=True)
    images = train_list(index, Fold.of(data), data, str(tmp_path / "trn_fold{others}.txt"))
    assert {c for _, c in images.pairs} == set(Fold.of(data).base) and images.note == ""
    assert (index.areas[images.queries][:, Fold.of(data).novel] > 0).any()
