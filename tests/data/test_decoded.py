"""Tests of the cache of decoded images: identical views, never outdated, never larger than allowed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.drawn import overwrite
from util.config.folds import Fold
from util.config.settings import AugmentSettings, DataSettings
from util.data.decoded import SUFFIX, with_decoded_images
from util.data.episodes import EpisodeDataset, LabelledDataset
from util.data.lists.image_list import train_list
from util.data.lists.index import Index, load_index
from util.data.sampling import EpisodeSampler
from util.data.views import STRETCH, View
from util.files.mask_images import read_stacked, write_mask

SIZE = 65


@pytest.fixture
def data(mini_data, mini_root: Path, tmp_path: Path) -> DataSettings:
    """Return the settings of a data set that a test may change."""
    root = tmp_path / "mini"
    shutil.copytree(mini_root, root)
    return replace(mini_data(), root=str(root), cache=str(tmp_path / "cache"))


def _index(data: DataSettings) -> Index:
    return with_decoded_images(load_index(data, "train", progress=False), data, progress=False)


def _files(data: DataSettings) -> list[Path]:
    return list(Path(data.cache).glob(f"*{SUFFIX}*")) + list(Path(data.cache).glob(".*"))


def _assert_same_images(index: Index) -> None:
    for row in range(len(index)):
        assert np.array_equal(index.stacked(row), read_stacked(index.images[row], index.masks[row]))


def _data_sets(index: Index, data: DataSettings, view: View | None) -> tuple[EpisodeDataset, LabelledDataset]:
    """Return the episodes and the labelled images of an index: in a view, else in random crops."""
    fold = Fold.of(data)
    images = train_list(index, fold, data)
    augment = None if view else AugmentSettings(scale=[0.8, 1.3], keep_target=0.85)
    sampler = EpisodeSampler(images, "shuffle", 2, 0)
    episodes = EpisodeDataset(sampler, fold, SIZE, augment, base_labels=True, view=view)
    return episodes, LabelledDataset(images, fold, SIZE, 0, augment)


@pytest.mark.parametrize("view", [None, View(STRETCH, SIZE, SIZE, smooth=True)], ids=["crop", "stretch"])
def test_a_decoded_photo_gives_the_same_views_to_the_last_bit(data: DataSettings, view: View | None) -> None:
    file_index = load_index(data, "train", progress=False)
    cached_index = _index(data)
    assert file_index.decoded is None and cached_index.decoded is not None
    data_sets = zip(_data_sets(file_index, data, view), _data_sets(cached_index, data, view), strict=True)
    for expected, cached in data_sets:
        for number in range(20):
            expected_item = vars(expected[number])
            cached_item = vars(cached[number])
            assert expected_item.keys() == cached_item.keys()
            for name, value in expected_item.items():
                if value is None:
                    assert cached_item[name] is None
                else:
                    assert torch.equal(value, cached_item[name])


def test_a_whole_cache_of_the_same_files_is_taken(data: DataSettings) -> None:
    index = _index(data)
    (path,) = _files(data)
    assert path.stat().st_size == 4 * index.sizes.prod(1).sum()
    _assert_same_images(index)
    written = path.stat().st_mtime_ns
    assert _index(data).decoded.path == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"cut")
    _assert_same_images(_index(data))


def _new_photo(index: Index) -> None:
    cv2.imwrite(str(index.images[3]), np.full((*index.sizes[3], 3), 9, np.uint8))


def _new_mask(index: Index) -> None:
    write_mask(index.masks[3], np.full(index.sizes[3], 2, np.uint8))


def _photo_of_equal_size_and_time(index: Index) -> None:
    _, bright = cv2.imencode(".jpg", np.full((*index.sizes[3], 3), 200, np.uint8))
    overwrite(index.images[3], bright.tobytes().ljust(index.images[3].stat().st_size, b"\0"))


@pytest.mark.parametrize("change", [_new_photo, _new_mask, _photo_of_equal_size_and_time])
def test_a_changed_file_makes_it_anew_and_removes_the_old(data: DataSettings, change: Callable[[Index], None]) -> None:
    index = _index(data)
    (first,) = _files(data)
    change(index)
    index = _index(data)
    (second,) = _files(data)
    assert second != first
    _assert_same_images(index)


def test_caches_of_other_lists_are_kept(data: DataSettings) -> None:
    names = (Path(data.root) / data.train_list).read_text().split()
    for list_file, count in (("train-more.txt", 20), ("train.txt", 20), ("train.txt", 10)):
        (Path(data.root) / list_file).write_text("\n".join(names[:count]))
        _index(replace(data, train_list=list_file))
    assert len([f for f in _files(data) if f.suffix == SUFFIX]) == 2
