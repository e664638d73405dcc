"""Tests of masks of one class each: areas, lists, folds by lists, episodes with ids above 255, and the query rule."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.class_trees import save, save_photo
from util.config.folds import Fold
from util.config.settings import DataSettings
from util.data.episodes import EpisodeDataset
from util.data.lists.image_list import check_shots, train_list
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import OneClassAreas, load_index
from util.data.sampling import EpisodeSampler
from util.data.views import STRETCH, View
from util.files.errors import UserError

CLASSES = 600
IDS = {"train": (3, 300), "test": (512, 513)}
PER_CLASS, SIDE = 4, 40


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> DataSettings:
    """Return a data set of four shown classes of 600; masks of two classes share each photo and overlap."""
    root = tmp_path / "data"
    (root / "lists").mkdir(parents=True)
    for part, ids in getattr(request, "param", IDS).items():
        lines = []
        for number in range(PER_CLASS):
            photo = root / f"images/{part}{number}.jpg"
            save_photo(photo, number, (SIDE, SIDE))
            for class_id in ids:
                rows = np.arange(SIDE)[:, None] < np.full(SIDE, _rows_of_object(class_id))
                save(root / "masks" / str(class_id) / f"{number}.png", rows.astype(np.uint8))
                lines.append(f"{class_id}/{number} {class_id} {photo.name}\n")
        (root / f"lists/{part}.txt").write_text("".join(lines))
    folders = {"images": "images", "masks": "masks", "image_suffix": "", "cache": f"{tmp_path}/cache"}
    rules = {"mask_form": "binary", "folds": 1, "fold_rule": "lists", "min_pixels": 1, "text": "none"}
    classes = [f"class {n}" for n in range(1, CLASSES + 1)]
    return DataSettings("many", str(root), "lists/train.txt", "lists/test.txt", classes, **folders, **rules)


def _rows_of_object(class_id: int) -> int:
    """Return how many rows of a mask, from the first on, show an object of a class."""
    return 10 + class_id % 7


ROWS = np.array([3, 0, 2])


@pytest.mark.parametrize(
    "place",
    [
        (slice(None), (2, 7)),
        (slice(None), 2),
        (3, (1, 2)),
        (ROWS, 2),
        (2, slice(1, None)),
        (3, 2),
        ROWS,
        4,
    ],
    ids=str,
)
def test_areas_of_one_class_masks_are_indexed_like_a_table(place) -> None:
    pixels = np.random.default_rng(0).integers(0, 99, (5, 2))
    class_ids = np.array([2, 1, 7, 2, 3])
    table = np.zeros((5, 9), np.int64)
    table[:, 0] = pixels[:, 0]
    table[np.arange(5), class_ids] = pixels[:, 1]
    areas = OneClassAreas(pixels, class_ids, 8)
    assert areas.shape == table.shape
    assert np.array_equal(areas[place], table[place])


def test_the_lists_part_the_classes_of_episodes(data: DataSettings) -> None:
    fold = Fold.of(data)
    index = load_index(data, "test")
    novel = novel_list(index, fold, data)
    assert train_list(load_index(data, "train"), fold, data).classes == IDS["train"]
    assert (novel.classes, novel.classes_in(1)) == (IDS["test"], [513])
    assert (len(novel.pairs), set(novel.candidates[512])) == (2 * PER_CLASS, {0, 2, 4, 6})
    check_shots(novel, data)
    assert np.array_equal(load_index(data, "test").areas[:, IDS["test"]], index.areas[:, IDS["test"]])


def test_episodes_have_classes_beyond_255(data: DataSettings) -> None:
    fold = Fold.of(data)
    novel = novel_list(load_index(data, "test"), fold, data)
    sampler = EpisodeSampler(novel, "class_in_turn", 2, 0, with_replacement=True)
    episodes = EpisodeDataset(sampler, fold, View(STRETCH, SIDE, SIDE))
    for number, class_id in enumerate(IDS["test"]):
        episode = episodes[number]
        assert int(episode.class_id) == class_id
        assert int(episode.query_label.sum()) == SIDE * _rows_of_object(class_id)
        assert set(episode.support_label.unique().tolist()) == {0, 1}


@pytest.fixture
def given_folds(data: DataSettings) -> DataSettings:
    """Return the data set with four classes in folds that the settings give; 1 and 2 are base classes of fold 0."""
    names = [f"class {n}" for n in range(1, 5)]
    fold_classes = [names[2:], names[1:2]]
    return replace(data, classes=names, fold_rule="given", folds=2, fold_classes=fold_classes, exclude_novel=True)


four_classes = pytest.mark.parametrize("data", [{"train": (1, 2), "test": (3, 4)}], indirect=True)


@pytest.mark.parametrize("data", [{"train": (1, 2, 3), "test": (3, 4)}], indirect=True)
def test_the_masks_of_a_photo_are_joined_where_folds_part_the_classes(given_folds: DataSettings) -> None:
    """An image's class hides the others, of which smaller ones hide larger: those of 1 to 3 have 11 to 13 rows."""
    index = load_index(given_folds, "train")
    for row, rows_of_mask in enumerate(([1] * 11 + [2, 3], [2] * 12 + [3])):
        expected = np.zeros((SIDE, SIDE), np.uint8)
        expected[: len(rows_of_mask)] = np.array(rows_of_mask, np.uint8)[:, None]
        _, mask = index.pair(row)
        assert np.array_equal(mask, expected)


@four_classes
def test_episodes_of_joined_masks_show_their_class_and_the_base_classes(given_folds: DataSettings) -> None:
    index = load_index(given_folds, "train")
    fold = Fold.of(given_folds)
    sampler = EpisodeSampler(train_list(index, fold, given_folds), "pairs", 1, 0)
    episodes = EpisodeDataset(sampler, fold, View(STRETCH, SIDE, SIDE), base_labels=True)
    for number, rows, rows_of_class_2 in ((0, 11, 1), (1, 12, 12)):
        episode = episodes[number]
        assert int(episode.query_label.sum()) == rows * SIDE == int(episode.support_label.sum())
        assert int((episode.query_base_label == 2).sum()) == rows_of_class_2 * SIDE


@four_classes
def test_a_photo_with_a_novel_mask_is_excluded_with_all_its_masks(given_folds: DataSettings) -> None:
    index = load_index(given_folds, "train")
    class_2_is_novel = replace(given_folds, fold=1)
    fold = Fold.of(class_2_is_novel)
    with pytest.raises(
        UserError, match="the list of the fold is empty"
    ):  # every photo shows class 2, if not in every mask
        train_list(index, fold, class_2_is_novel)
    assert len(train_list(index, fold, replace(class_2_is_novel, exclude_novel=False)).queries) == PER_CLASS
