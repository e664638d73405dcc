"""Tests of the index of class areas: right counts, refusals with a remedy, and a cache of which the content decides."""

import os
import shutil
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
from util.data.lists.index import Index, load_index, measure, read_names
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


def test_a_damaged_cache_file_is_rebuilt(tiny: DataSettings) -> None:
    first = _load(tiny)
    (path,) = Path(tiny.cache).glob("*")
    whole = path.read_bytes()
    part, rest = len(whole) // 3, len(whole) // 3 + 40
    path.write_bytes(whole[:part] + bytes(255 - b for b in whole[part:rest]) + whole[rest:])
    assert (_load(tiny).areas == first.areas).all() and [*Path(tiny.cache).glob("*")] == [path]


def _replace(path: Path, content: bytes, in_place: bool) -> None:
    """Give a file other content of the same size and time."""
    before, other = path.stat(), path if in_place else path.with_name("other")
    assert len(content) == before.st_size
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("kind", ["photo", "mask"])
def test_a_file_replaced_by_one_of_equal_size_and_time_is_read_again_and_no_other(
    tiny: DataSettings, monkeypatch: pytest.MonkeyPatch, kind: str, in_place: bool
) -> None:
    for path in (Path(tiny.root) / tiny.masks).iterdir():
        Image.fromarray(np.asarray(Image.open(path))).save(path, compress_level=0)  # of one size, whatever it shows
    first, read = _load(tiny), []
    monkeypatch.setattr(index, "measure", lambda pair, classes: read.append(pair) or measure(pair, classes))
    assert _load(tiny).fingerprint == first.fingerprint and not read
    if kind == "photo":
        photo = first.images[2].read_bytes()
        _replace(first.images[2], photo[:-9] + bytes([photo[-9] ^ 1]) + photo[-8:], in_place)
    else:
        Image.fromarray(np.full((12, 10), 3, np.uint8)).save(written := Path(tiny.root) / "3.png", compress_level=0)
        _replace(first.masks[2], written.read_bytes(), in_place)
    second = _load(tiny)
    assert read == [(first.images[2], first.masks[2])] and second.fingerprint != first.fingerprint
    assert (second.areas[2].tolist() == [0, 0, 0, 120]) == (kind == "mask")
    assert [row for row in range(6) if second.content(row) != first.content(row)] == [2]


def test_a_copy_of_the_files_with_other_times_is_the_same_data_set(tiny: DataSettings, tmp_path: Path) -> None:
    first, fold = _load(tiny), Fold(CLASSES, 3, 0, "contiguous")
    shutil.copytree(tiny.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = _load(replace(tiny, root=str(tmp_path / "copy")))
    assert copy.fingerprint == first.fingerprint
    data = replace(tiny, min_pixels=1, folds=3, exclude_novel=False)
    assert train_list(copy, fold, data).files_digest == train_list(first, fold, data).files_digest


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
