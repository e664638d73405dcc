"""Tests of lists: the pixel rule by brute force, published lists and files of other projects, impossible lists."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.drawn import IGNORE
from tests.helpers.paths import REPOSITORY
from util.config.folds import Fold, problems
from util.config.read import read_config
from util.config.settings import FOLD_RULES, DataSettings
from util.data.lists import list_files
from util.data.lists.image_list import ImageList, base_validation_list, check_shots, train_list
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import Index, load_index
from util.data.lists.list_files import read_fold_list
from util.data.mini import CLASS_NAMES
from util.files.errors import UserError

FOLDS = 4
PIXELS = 500  # of mini's 64 x 64: some objects are smaller
PASCAL, COCO = 20, 80  # classes


@pytest.mark.parametrize("number", range(FOLDS))
def test_folds_are_blocks_of_five_or_every_fourth_class(number: int, mini_data) -> None:
    """Their base table numbers the base classes in ascending order."""
    data = replace(mini_data(fold=number, folds=FOLDS), classes=[*map(str, range(PASCAL))], fold_rule="contiguous")
    first = 5 * number + 1
    assert Fold.of(data).novel == (*range(first, first + 5),)
    fold = Fold.of(replace(data, classes=[*map(str, range(COCO))], fold_rule="interleaved"))
    assert fold.novel == (*range(number + 1, COCO + 1, 4),)
    base_ids = dict.fromkeys(range(255), 0) | {IGNORE: IGNORE}
    base = sorted({*range(1, COCO + 1)}.difference(fold.novel))
    base_ids |= zip(base, range(1, COCO))
    assert fold.base_table.tolist() == [*base_ids.values()]


def test_folds_are_made_of_the_classes_with_more_photos_than_shots(mini_data) -> None:
    """Classes 1 and 4 have as many, class 7 fewer; class 8 is left over."""
    data = mini_data(class_photos=[2, 3, 4, 2, 3, 3, 1, 3], fold_rule="interleaved", folds=2, shot=2)
    assert [Fold.of(replace(data, fold=fold)).novel for fold in (0, 1)] == [(2, 5), (3, 6)]


def test_a_registered_rule_lists_the_classes_of_each_fold(mini_data, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = [*CLASS_NAMES[::2]], [*CLASS_NAMES[1::2]]
    monkeypatch.setitem(FOLD_RULES, "halves", lambda data: halves)
    data = mini_data(fold_rule="halves", folds=2, fold=1)
    assert Fold.of(data).novel == (2, 4, 6, 8)
    assert not [*problems(data)]
    monkeypatch.setitem(FOLD_RULES, "halves", lambda data: [halves[0]] * 2)
    _, said = next(problems(data))
    assert said.startswith("must list as many folds as data.folds = 2")


def _expected(truth: np.ndarray, classes: tuple[int, ...], exclude: tuple[int, ...]) -> list[int]:
    """Return the images in which one of the classes has enough pixels and an excluded one has none."""
    rows = []
    for row, areas in enumerate(truth):
        is_present = any(areas[c] >= PIXELS for c in classes)
        is_excluded = any(areas[c] for c in exclude)
        if is_present and not is_excluded:
            rows.append(row)
    return rows


def _check(images: ImageList, truth: np.ndarray, classes: tuple[int, ...], exclude: tuple[int, ...] = ()) -> None:
    assert images.classes == classes
    assert images.queries.tolist() == _expected(truth, classes, exclude)
    candidates = {c: rows.tolist() for c, rows in images.candidates.items()}
    assert candidates == {c: _expected(truth, (c,), exclude) for c in classes}
    for row in images.queries:
        assert images.classes_in(row) == [c for c in classes if truth[row][c] > 0]


@pytest.mark.parametrize("fold_rule", ["contiguous", "interleaved"])
@pytest.mark.parametrize("fold", range(FOLDS))
def test_lists_agree_with_brute_force(mini_data, fold: int, fold_rule: str) -> None:
    data = mini_data(fold=fold, fold_rule=fold_rule, min_pixels=PIXELS)
    split = Fold.of(data)
    train = load_index(data, "train", progress=False)
    test = load_index(data, "test", progress=False)
    assert ((train.areas > 0) & (train.areas < PIXELS)).any()  # else the rule is not exercised
    _check(train_list(train, split, data), train.areas, split.base)
    _check(novel_list(test, split, data), test.areas, split.novel)
    _check(base_validation_list(test, split.base, data), test.areas, split.base)
    _check(train_list(train, split, replace(data, exclude_novel=True)), train.areas, split.base, exclude=split.novel)


def test_rare_classes_are_refused_or_left_out_as_settings_say() -> None:
    """Of the base classes cow is in three images, car in two, in one of which it has just enough pixels."""
    areas = np.array([[0, 0, 0, 50, 0], [0, 0, 0, 50, 10], [0, 0, 0, 60, 0], [0, 0, 0, 0, 40]])
    index = Index(("a", "b", "c", "d"), areas, (Path(),) * 4, (Path(),) * 4, "")
    classes = ["cat", "dog", "cow", "car"]
    data = DataSettings("tiny", "data/tiny", "train.txt", "test.txt", classes, folds=2, min_pixels=10, shot=2)
    fold = Fold.of(data)
    with pytest.raises(UserError, match=r"fold 0 .* car \(2\); 2-shot needs 3"):
        check_shots(train_list(index, fold, data), data)
    images = train_list(index, fold, replace(data, rare_classes="skip"))
    assert (images.classes, images.rare, list(images.queries)) == ((3,), (4,), [0, 1, 2])
    check_shots(images, data)
    assert base_validation_list(index, fold.base, data, data.shot).classes == (3,)
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
    return novel_list(novel.index, Fold.of(data), data, str(path))


@pytest.mark.parametrize("form", ["{} {}", "JPEGImages/{}.jpg {}"])
def test_queries_pairs_and_candidates_are_the_files(tmp_path: Path, novel: ImageList, mini_data, form: str) -> None:
    half = novel.pairs[::-2]
    path = write_pairs(tmp_path / "fold0.txt", novel, half, form)
    images = listed(tmp_path / "fold{fold}.txt", novel, mini_data())
    assert (images.pairs, images.source) == (half, path)
    assert images.digest != novel.digest
    assert list(images.queries) == list(dict.fromkeys(r for r, _ in half))
    for c in images.classes:
        assert list(images.candidates[c]) == [row for row, class_id in half if class_id == c]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ": this list is empty"),
        ("a.jpg a.png\n", ":1: .* is no line"),
        ("a 1\nimport os\n", ":2: .* is no line"),
        ("a 1\nb -1\n", ":2: .* is no line"),
        ("a 1\nb 0\n", ":2: .* is no line"),
        ("a 1\nb\n", ":2: .* is no line"),
        ("{name} {shown}\n{name} 8\n", ": .*not of this fold"),
        ("{name} {shown}\n{name} {hidden}\n", ": .*no pixel"),
        ("{name} {shown}\nlost 1\n", ": .*lost"),
        ("{name} {shown}\n{name}.jpg {shown}\n", ": .* is named 2 times"),
    ],
)
def test_an_unknown_list_is_named(tmp_path: Path, novel: ImageList, mini_data, content: str, place: str):
    row, shown = novel.pairs[0]
    hidden = next(c for c in novel.classes if not novel.index.areas[row, c])
    path = tmp_path / "list.txt"
    path.write_text(content.format(name=novel.index.names[row], shown=shown, hidden=hidden))
    with pytest.raises(UserError, match=f"list.txt{place}"):
        listed(path, novel, mini_data())


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_the_configs_name_the_published_lists_of_their_fold(dataset: str, fold: int) -> None:
    config = read_config(REPOSITORY / f"config/{dataset}/hsnet.yaml", [f"data.fold={fold}"])
    split = Fold.of(config.data)
    files = {name: config.protocols[name].list_file for name in ("hsnet", "dcama", "symnet")}
    assert (files["dcama"], files["symnet"]) == (files["hsnet"], None)
    _, test = read_fold_list(files["hsnet"], config.data)
    _, train = read_fold_list(config.meta_stage.list_file, config.data)
    counted = train if dataset == "pascal" else {stem for stem, _ in train}
    assert (len(test), len(counted)) == (TEST_PAIRS[dataset][fold], EPOCHS[dataset][fold])
    for rows, classes in ((test, split.novel), (train, split.base)):
        assert {class_id for _, class_id in rows} == {*classes}


@pytest.fixture
def published_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """List files in ``tmp_path`` are published ones."""
    monkeypatch.setattr(list_files, "PUBLISHED", str(tmp_path))


@pytest.mark.usefixtures("published_here")
def test_a_published_list_is_taken_but_for_pairs_that_a_mask_does_not_show(
    tmp_path: Path, novel: ImageList, mini_data
) -> None:
    chosen = novel.pairs[::-2]
    row, _ = chosen[0]
    hidden = next(c for c in novel.classes if not novel.index.areas[row, c])
    for more, note in (([], ""), ([(row, hidden)], f"left out 1 of {len(chosen) + 1} pairs")):
        published = write_pairs(tmp_path / "val_fold0.txt", novel, [*chosen, *more])
        images = listed(tmp_path / "val_fold{fold}.txt", novel, mini_data())
        assert (images.pairs, images.source) == (chosen, published)
        assert note in images.note and bool(images.note) == bool(note)


@pytest.mark.usefixtures("published_here")
@pytest.mark.parametrize(("line", "reason"), [("lost 1", "1 of its 2 images .*lost"), ("{name} 8", "class 8")])
def test_a_published_list_that_does_not_fit_is_named_and_the_masks_decide(
    tmp_path: Path, novel: ImageList, mini_data, line: str, reason: str
) -> None:
    data = mini_data()
    row, c = novel.pairs[0]
    name = novel.index.names[row]
    path = tmp_path / "val.txt"
    path.write_text(f"{name} {c}\n{line.format(name=name)}\n")
    images = novel_list(novel.index, Fold.of(data), data, str(path))
    assert (images.pairs, images.digest, images.source) == (novel.pairs, novel.digest, "")
    assert re.search(reason, images.note) and "data.min_pixels = 100" in images.note


def test_the_training_list_joins_the_other_folds_files(tmp_path: Path, novel: ImageList, mini_data) -> None:
    """Its photos with novel classes stay, whatever data.exclude_novel says."""
    index = novel.index
    shown = [*zip(*(index.areas >= 100).nonzero())]
    for number in range(4):
        fold = Fold.of(mini_data(fold=number))
        pairs = [(row, class_id) for row, class_id in shown if class_id in fold.novel]
        write_pairs(tmp_path / f"trn_fold{number}.txt", novel, pairs)
    data = mini_data(fold=1, exclude_novel=True)
    fold = Fold.of(data)
    images = train_list(index, fold, data, f"{tmp_path}/trn_fold{{others}}.txt")
    assert ({c for _, c in images.pairs}, images.note) == (set(fold.base), "")
    assert (index.areas[images.queries][:, fold.novel] > 0).any()
