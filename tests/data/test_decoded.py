"""Tests of the cache of decoded images: identical images, never outdated, none where it would be too large."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from util.config.settings import DataSettings
from util.data.decoded import SUFFIX, with_decoded_images
from util.data.lists.index import Index, load_index
from util.files.mask_images import read_stacked, write_mask


@pytest.fixture
def data(mini_data, mini_root: Path, tmp_path: Path) -> DataSettings:
    """Return the settings of a data set that a test may change."""
    root = tmp_path / "mini"
    shutil.copytree(mini_root, root)
    return replace(mini_data(), root=str(root), cache=f"{tmp_path}/cache")


def _index(data: DataSettings) -> Index:
    return with_decoded_images(load_index(data, "train", progress=False), data, progress=False)


def _files(data: DataSettings) -> list[Path]:
    return list(Path(data.cache).glob(f"*{SUFFIX}*")) + list(Path(data.cache).glob(".*"))


def _assert_same_images(index: Index) -> None:
    for row in range(len(index)):
        assert np.array_equal(index.stacked(row), read_stacked(index.images[row], index.masks[row]))


def test_a_whole_cache_of_the_same_files_is_taken(data: DataSettings) -> None:
    assert _index(replace(data, decoded_gib=0.0)).decoded is None
    index = _index(data)
    (path,) = _files(data)
    assert path.stat().st_size == 4 * index.sizes.prod(1).sum()
    _assert_same_images(index)
    written = path.stat().st_mtime_ns
    assert (_index(data).decoded.path, path.stat().st_mtime_ns) == (path, written)
    path.write_bytes(b"cut")
    _assert_same_images(_index(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda index: cv2.imwrite(str(index.images[3]), np.full((*index.sizes[3], 3), 9, np.uint8)),
        lambda index: write_mask(index.masks[3], np.full(index.sizes[3], 2, np.uint8)),
    ],
    ids=["photo", "mask"],
)
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


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_kept(data: DataSettings) -> None:
    (path,) = [_index(data).decoded.path]
    killed = subprocess.Popen(["true"])
    killed.wait()
    left, written = (path.with_name(f".{pid}.tmp.{path.name}") for pid in (killed.pid, os.getppid()))
    for file in (left, written, path):
        file.write_bytes(b"cut")
    _index(data)
    assert {*_files(data)} == {path, written}
