"""Tests of the cache of decoded images: identical views, never outdated, never larger than allowed."""

import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from util.config.folds import Fold
from util.config.settings import AugmentSettings, DataSettings
from util.data.episodes import EpisodeDataset, LabelledDataset
from util.data.images.decoded import SUFFIX, with_decoded_images
from util.data.images.read import read_stacked, write_mask
from util.data.images.views import STRETCH, View
from util.data.lists.image_list import train_list
from util.data.lists.index import Index, load_index
from util.data.sampling import EpisodeSampler
from util.errors import UserError

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


def _same_images(index: Index) -> bool:
    rows = range(len(index))
    return all(np.array_equal(index.stacked(r), read_stacked(index.images[r], index.masks[r])) for r in rows)


@pytest.mark.parametrize("view", [None, View(STRETCH, SIZE, SIZE, smooth=True)], ids=["crop", "stretch"])
def test_a_decoded_photo_gives_the_same_views_to_the_last_bit(data: DataSettings, view: View | None) -> None:
    episodes, images = [], []
    for index in (load_index(data, "train", progress=False), _index(data)):
        assert (index.decoded is None) == (not episodes)
        fold = Fold.of(data)
        chosen = train_list(index, fold, data)
        augment = None if view else AugmentSettings(scale=[0.8, 1.3], keep_target=0.85)
        sampler = EpisodeSampler(chosen, "shuffle", 2, 0)
        episodes.append(EpisodeDataset(sampler, fold, SIZE, augment, base_labels=True, view=view))
        images.append(LabelledDataset(chosen, fold, SIZE, 0, augment))
    for number in range(20):
        for one, other in (episodes, images):
            first, second = one[number], other[number]
            pairs = [(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)]
            assert all(torch.equal(a, b) if a is not None else b is None for a, b in pairs)


def test_a_changed_photo_or_mask_makes_it_anew_and_removes_the_old(data: DataSettings) -> None:
    index = _index(data)
    (first,) = _files(data)
    assert first.stat().st_size == 4 * (index.sizes.prod(1).sum() + len(index)) and _same_images(index)
    made = first.stat().st_mtime_ns
    assert _index(data).decoded.path == first and first.stat().st_mtime_ns == made
    cv2.imwrite(str(index.images[3]), np.full((*index.sizes[3], 3), 9, np.uint8))
    index = _index(data)
    (second,) = _files(data)
    assert second != first and _same_images(index) and index.stacked(3)[..., :3].max() < 20
    write_mask(index.masks[3], np.full(index.sizes[3], 2, np.uint8))
    index = _index(data)
    (third,) = _files(data)
    assert third != second and (index.stacked(3)[..., 3] == 2).all() and _same_images(index)
    times, size = index.images[3].stat(), index.images[3].stat().st_size
    negative = cv2.imencode(".jpg", np.full((*index.sizes[3], 3), 200, np.uint8))[1].tobytes()
    index.images[3].write_bytes(negative.ljust(size, b"\0")[:size])
    os.utime(index.images[3], ns=(times.st_atime_ns, times.st_mtime_ns))
    index = _index(data)
    (third,) = _files(data)
    assert _same_images(index) and index.stacked(3)[..., :3].min() > 150
    third.write_bytes(b"cut")
    assert _same_images(_index(data))


def test_a_damaged_cache_is_seen_and_those_of_other_lists_are_kept(data: DataSettings) -> None:
    _index(data)
    (path,) = (f for f in _files(data) if f.suffix == SUFFIX)
    content = np.fromfile(path, np.uint8)
    content[9] ^= 1
    content.tofile(path)
    with pytest.raises(UserError, match=rf"{path.name}: this cache of decoded images is damaged"):
        _index(data).stacked(0)
    _index(data).stacked(1)
    path.unlink()
    names = (Path(data.root) / data.train_list).read_text().split()
    for list_file, count in (("train-more.txt", 20), ("train.txt", 20), ("train.txt", 10)):
        (Path(data.root) / list_file).write_text("\n".join(names[:count]))
        _index(replace(data, train_list=list_file))
    assert len([f for f in _files(data) if f.suffix == SUFFIX]) == 2
