"""Tests of list files: read without executing anything, matched against an index; when published ones are taken."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.paths import REPOSITORY
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.lists.files import read_fold_list
from util.data.lists.image_list import ImageList, train_list
from util.data.lists.image_list import test_list as novel_list
from util.errors import UserError

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


def test_dictionary_counts_classes_from_zero(tmp_path: Path, novel: ImageList, mini_data) -> None:
    names = novel.index.names
    table = {c - 1: [f"val2014/{names[row]}.jpg" for row, its in novel.pairs if its == c] for c in novel.classes}
    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps(table))
    assert sorted(listed(path, novel, mini_data()).listed_pairs) == sorted(novel.pairs)


def test_a_pickle_that_would_execute_is_refused(tmp_path: Path, novel: ImageList, mini_data) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps({0: [Trap()]}))
    with pytest.raises(UserError, match=r"fold0.pkl: "):
        listed(path, novel, mini_data())
    assert not (tmp_path / "executed").exists()


def test_a_two_column_list_keeps_the_pixel_rule_for_candidates(tmp_path: Path, novel: ImageList, mini_data) -> None:
    rows = novel.queries[::2]
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{novel.index.names[r]}.jpg {novel.index.names[r]}.png\n" for r in rows))
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


@pytest.mark.parametrize(("line", "says"), [("lost 1", "1 of its 2 images .*lost"), ("{name} 8", "class 8")])
def test_one_that_does_not_fit_is_named_and_the_masks_decide(
    tmp_path: Path, novel: ImageList, mini_data, line: str, says: str
) -> None:
    data, (row, c) = mini_data(), novel.pairs[0]
    path, name = tmp_path / "val.txt", novel.index.names[row]
    path.write_text(f"{name} {c}\n{line.format(name=name)}\n")
    images = novel_list(novel.index, Fold.of(data), data, str(path))
    assert (images.pairs, images.digest, images.source) == (novel.pairs, novel.digest, "")
    assert re.search(says, images.note) and "data.min_pixels = 100" in images.note


def test_pairs_that_a_mask_does_not_show_are_left_out_and_counted(tmp_path: Path, novel: ImageList, mini_data) -> None:
    data, (row, _) = mini_data(), novel.pairs[0]
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
