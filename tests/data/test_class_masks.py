"""Tests of masks of one class each: areas, lists, folds by lists, episodes with ids above 255, and the query rule."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.config.folds import Fold
from util.config.settings import DataSettings
from util.data.episodes import EpisodeDataset
from util.data.images.decoded import with_decoded_images
from util.data.images.views import STRETCH, View
from util.data.lists.image_list import check_shots, train_list
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import OneClassAreas, load_index
from util.data.sampling import EpisodeSampler
from util.errors import UserError

CLASSES = 600
IDS = {"train": (3, 300), "test": (512, 513)}
PER_CLASS, SIDE = 4, 40


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> DataSettings:
    """Return a data set of four shown classes of 600; masks of two classes share each photo and overlap."""
    root, random = tmp_path / "data", np.random.default_rng(0)
    for part, ids in getattr(request, "param", IDS).items():
        lines = []
        for number in range(PER_CLASS):
            photo = root / "images" / f"{part}{number}.jpg"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(photo)
            for class_id in ids:
                mask = np.zeros((SIDE, SIDE), np.uint8)
                mask[: 10 + class_id % 7] = 1
                path = root / "masks" / str(class_id) / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)
                lines.append(f"{class_id}/{number} {class_id} {photo.name}\n")
        (root / "lists").mkdir(exist_ok=True)
        (root / f"lists/{part}.txt").write_text("".join(lines))
    folders = {"images": "images", "masks": "masks", "image_suffix": "", "cache": str(tmp_path / "cache")}
    rules = {"mask_form": "binary", "folds": 1, "fold_rule": "lists", "min_pixels": 1, "text": "none"}
    classes = [f"class {n}" for n in range(1, CLASSES + 1)]
    return DataSettings("many", str(root), "lists/train.txt", "lists/test.txt", classes, **folders, **rules)


def test_areas_are_read_like_the_table_they_stand_for() -> None:
    random = np.random.default_rng(0)
    pixels, ids = random.integers(0, 99, (5, 2)), np.array([2, 1, 7, 2, 3])
    table = np.zeros((5, 9), np.int64)
    table[:, 0], table[np.arange(5), ids] = pixels[:, 0], pixels[:, 1]
    areas, rows = OneClassAreas(pixels, ids, 8), np.array([3, 0, 2])
    assert areas.shape == table.shape
    several = (slice(None), (2, 7)), (slice(None), 2), (3, (1, 2)), (rows, 2), (2, slice(1, None))
    for place in (*several, (3, 2), rows, 4):
        assert np.array_equal(areas[place], table[place]), place


def test_the_lists_part_the_classes_of_episodes(data: DataSettings) -> None:
    fold, test_index = Fold.of(data), load_index(data, "test")
    training, novel = train_list(load_index(data, "train"), fold, data), novel_list(test_index, fold, data)
    assert (training.classes, novel.classes) == (IDS["train"], IDS["test"])
    assert len(novel.pairs) == 2 * PER_CLASS and set(novel.candidates[512]) == {0, 2, 4, 6}
    assert novel.classes_in(1) == [513]
    check_shots(novel, data)
    again = load_index(data, "test")  # from the cache
    assert np.array_equal(again.areas[:, IDS["test"]], test_index.areas[:, IDS["test"]])
    sampler = EpisodeSampler(novel, "class_in_turn", 2, 0, with_replacement=True)
    episodes = EpisodeDataset(sampler, fold, SIDE, view=View(STRETCH, SIDE, SIDE))
    for number in range(2):  # of classes beyond 255
        episode = episodes[number]
        assert int(episode.class_id) == 512 + number
        assert int(episode.query_label.sum()) == SIDE * (10 + int(episode.class_id) % 7)
        assert set(episode.support_label.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("data", [{"train": (1, 2), "test": (3, 4)}], indirect=True)
def test_the_masks_of_a_photo_are_joined_where_folds_part_the_classes(data: DataSettings) -> None:
    names = [f"class {n}" for n in range(1, 5)]
    folds = {"fold_rule": "given", "folds": 2, "fold_classes": [names[2:], names[1:2]], "exclude_novel": True}
    data = replace(data, classes=names, **folds)
    index, fold = load_index(data, "train"), Fold.of(data)
    small, large = (with_decoded_images(index, data).pair(row)[1] for row in (0, 1))  # the second hides the first
    assert (small[:11] == 1).all() and (small[11] == 2).all() and not small[12:].any()
    assert (large[:12] == 2).all() and not large[12:].any() and np.array_equal(index.pair(0)[1], small)
    sampler = EpisodeSampler(train_list(index, fold, data), "pairs", 1, 0)
    episodes = EpisodeDataset(sampler, fold, SIDE, base_labels=True, view=View(STRETCH, SIDE, SIDE))
    for number, own, second in ((0, 11, 1), (1, 12, 12)):  # rows of class 1, of class 2; those that show class 2
        episode = episodes[number]
        assert int(episode.query_label.sum()) == own * SIDE == int(episode.support_label.sum())
        assert int((episode.query_base_label == 2).sum()) == second * SIDE
    with pytest.raises(UserError, match="a list is empty"):  # every photo shows class 2, if not in every mask
        train_list(index, Fold.of(replace(data, fold=1)), data)
    shows_novel = replace(data, fold=1, exclude_novel=False)
    assert len(train_list(index, Fold.of(shows_novel), shows_novel).queries) == PER_CLASS
