"""Tests of the index of class areas: right counts, refusals with a remedy, and a cache that is never stale."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.prepare.class_trees import save_photo
from util.config.folds import Fold
from util.config.settings import DataSettings
from util.data.episodes import EpisodeDataset
from util.data.images.decoded import with_decoded_images
from util.data.images.read import write_mask
from util.data.lists import index
from util.data.lists.image_list import train_list
from util.data.lists.index import Index, load_index, read_names
from util.data.sampling import EpisodeSampler
from util.errors import UserError

CLASSES, IGNORE = 3, 255


def _load(data: DataSettings) -> Index:
    return load_index(data, "train", progress=False)


def _mask_path(data: DataSettings, number: int) -> Path:
    return Path(data.root) / data.masks / f"photo{number}.png"


@pytest.fixture
def tiny(tmp_path: Path) -> DataSettings:
    """Return the settings of six small images with known masks, all in the training list."""
    root, drawn = tmp_path / "tiny", np.random.default_rng(0).integers(0, 5, (6, 12, 10))
    for n, mask in enumerate(np.array([0, 1, 2, 3, IGNORE], np.uint8)[drawn]):
        save_photo(root / f"JPEGImages/photo{n}.jpg", n, mask.shape)
        write_mask(root / f"SegmentationClassAug/photo{n}.png", mask)
    (root / "train.txt").write_text("".join(f"photo{n}\n" for n in range(6)))
    classes = [f"class{c}" for c in range(1, CLASSES + 1)]
    return DataSettings("tiny", str(root), "train.txt", "train.txt", classes, cache=str(root / "cache"))


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "val")])
def test_areas_equal_a_brute_force_count(mini_data, part: str, file: str) -> None:
    data = mini_data()
    index = load_index(data, part, progress=False)
    names = (Path(data.root) / f"ImageSets/Segmentation/{file}.txt").read_text().split()
    assert list(index.names) == names and len(index) == len(names)
    for name, areas, image, mask in zip(names, index.areas, index.images, index.masks, strict=True):
        assert (image.name, mask.name) == (f"{name}.jpg", f"{name}.png")
        values = np.asarray(Image.open(mask)).ravel().tolist()
        assert areas.tolist() == [values.count(c) for c in range(9)]
    assert index.areas.dtype == np.int64


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: write_mask(path, np.full((12, 10), CLASSES + 1, np.uint8)), f"class id {CLASSES + 1} "),
        (lambda path: write_mask(path, np.zeros((10, 12), np.uint8)), "(12, 10) and (10, 12)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "damaged"),
        (Path.unlink, "exist"),
    ],
)
def test_a_wrong_mask_is_named(tiny: DataSettings, spoil: Callable[[Path], object], says: str) -> None:
    spoil(path := _mask_path(tiny, 2))
    with pytest.raises(UserError) as caught:
        _load(tiny)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_list_names_each_image_once(tiny: DataSettings, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\n\nb -1\n", encoding="utf-8-sig")  # a byte-order mark is no part of the first name
    assert read_names(path) == ("a", "b")
    path.write_text("a\nb\nb\n")
    with pytest.raises(UserError, match=r"list\.txt:3: 'b'"):
        read_names(path)
    root = Path(tiny.root)
    (root / "JPEGImages/again.jpg").symlink_to("photo0.jpg")
    (root / "SegmentationClassAug/again.png").symlink_to("photo0.png")
    (root / "train.txt").write_text((root / "train.txt").read_text() + "again\n")
    with pytest.raises(UserError, match=r"photo0\.jpg and .*again\.jpg are one file"):
        load_index(tiny, "train")


def test_a_damaged_cache_file_and_that_of_a_changed_mask_are_rebuilt(tiny: DataSettings) -> None:
    first = _load(tiny)
    (path,) = Path(tiny.cache).glob("*")
    whole = path.read_bytes()
    part, rest = len(whole) // 3, len(whole) // 3 + 40
    path.write_bytes(whole[:part] + bytes(255 - b for b in whole[part:rest]) + whole[rest:])
    assert (_load(tiny).areas == first.areas).all()
    for mask in (_mask_path(tiny, number) for number in range(6)):  # rubbish of the same length and time
        stat = mask.stat()
        mask.write_bytes(b"x" * stat.st_size)
        os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again, written = _load(tiny), path.stat().st_mtime_ns
    assert (again.areas == first.areas).all() and again.fingerprint == first.fingerprint  # no mask was read
    assert [*Path(tiny.cache).glob("*")] == [path] and path.stat().st_mtime_ns == written
    for number in range(6):
        write_mask(_mask_path(tiny, number), np.full((12, 10), 3, np.uint8))
    second = _load(tiny)
    assert second.areas[2].tolist() == [0, 0, 0, 120] and second.fingerprint != first.fingerprint


def test_a_data_set_of_arrays_is_an_entry_of_the_index(tiny: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the areas, lists and episodes of the same data set of files."""
    files = _load(tiny)
    arrays = [files.stacked(row).copy() for row in range(len(files))]
    monkeypatch.setitem(index.ARRAYS, "of arrays", lambda data, part: (files.names, arrays))
    data = replace(tiny, name="of arrays", root="no folder", min_pixels=1, folds=3)
    own, fold = with_decoded_images(_load(data), data), Fold(CLASSES, 3, 0, "contiguous")
    assert (own.areas == files.areas).all() and (own.sizes == files.sizes).all() and own.names == files.names
    lists = [train_list(each, fold, replace(data, exclude_novel=False)) for each in (files, own)]
    assert lists[0].digest == lists[1].digest and lists[1].files_digest != lists[0].files_digest
    episodes = [EpisodeDataset(EpisodeSampler(each, "shuffle", 2, 0), fold, 33)[5] for each in lists]
    assert torch.equal(*(episode.query for episode in episodes))
    arrays[0][..., 0] += 1
    assert train_list(_load(data), fold, replace(data, exclude_novel=False)).files_digest != lists[1].files_digest
