"""Tests of the index of class areas: right counts, refusals with a remedy, and a cache that is never stale."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.config.settings import DataSettings
from util.data.lists.index import Index, load_index, read_names
from util.errors import UserError

CLASSES, IGNORE = 3, 255


def _palette() -> list[int]:
    """Return colours whose luma differs from their index, so that a palette read as grey gives other ids."""
    return [(37 * i + 90 * c) % 256 for i in range(256) for c in range(3)]


def _save_mask(path: Path, mask: np.ndarray) -> None:
    image = Image.fromarray(mask)
    image.putpalette(_palette())
    image.save(path)


def _masks(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3, IGNORE], np.uint8)
    return [values[random.integers(0, len(values), (12, 10))] for _ in range(count)]


def _write(root: Path, masks: list[np.ndarray]) -> DataSettings:
    """Write a data set of given masks, all in the training list, and return its settings."""
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (root / folder).mkdir(parents=True)
    names = [f"photo{n}" for n in range(len(masks))]
    for name, mask in zip(names, masks, strict=True):
        Image.fromarray(np.full((*mask.shape, 3), 90, np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        _save_mask(root / "SegmentationClassAug" / f"{name}.png", mask)
    (root / "train.txt").write_text("".join(f"{n}\n" for n in names))
    classes = [f"class{c}" for c in range(1, CLASSES + 1)]
    return DataSettings("tiny", str(root), "train.txt", "train.txt", classes, cache=str(root / "cache"))


def _load(data: DataSettings) -> Index:
    return load_index(data, "train", progress=False)


def _mask_path(data: DataSettings, number: int) -> Path:
    return Path(data.root) / data.masks / f"photo{number}.png"


def _cache_files(data: DataSettings) -> list[Path]:
    return sorted(Path(data.cache).glob("*"))


@pytest.fixture
def tiny(tmp_path: Path) -> DataSettings:
    """Return the settings of six small images with known masks."""
    return _write(tmp_path / "tiny", _masks(6))


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


def _wrong_id(path: Path) -> str:
    mask = _masks(6)[2]
    mask[5, 5] = CLASSES + 1
    _save_mask(path, mask)
    return f"class id {CLASSES + 1} "


def _other_size(path: Path) -> str:
    _save_mask(path, np.zeros((10, 12), np.uint8))
    return "(12, 10) and (10, 12)"


def _half(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-60])
    return "damaged"


@pytest.mark.parametrize("spoil", [_wrong_id, _other_size, _half, lambda path: path.unlink() or "exist"])
def test_a_wrong_mask_is_named(tiny: DataSettings, spoil: Callable[[Path], str]) -> None:
    says, path = spoil(_mask_path(tiny, 2)), _mask_path(tiny, 2)
    with pytest.raises(UserError) as caught:
        _load(tiny)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_list_names_each_image_once(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\n\nb -1\n", encoding="utf-8-sig")  # a byte-order mark is no part of the first name
    assert read_names(path) == ("a", "b")
    path.write_text("a\nb\nb\n")
    with pytest.raises(UserError, match=r"list\.txt:3: 'b'"):
        read_names(path)


def _spoil_unnoticed(path: Path) -> None:
    """Replace a file's bytes by rubbish of the same length and give it its old time back."""
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_second_load_reads_no_mask(tiny: DataSettings) -> None:
    first = _load(tiny)
    before = [(p, p.stat().st_mtime_ns) for p in _cache_files(tiny)]
    assert len(before) == 1
    for number in range(6):
        _spoil_unnoticed(_mask_path(tiny, number))
    second = _load(tiny)
    assert (second.areas == first.areas).all() and second.fingerprint == first.fingerprint
    assert [(p, p.stat().st_mtime_ns) for p in _cache_files(tiny)] == before


def test_two_names_of_one_photo_are_refused(tiny: DataSettings) -> None:
    root = Path(tiny.root)
    (root / "JPEGImages/again.jpg").symlink_to("photo0.jpg")
    (root / "SegmentationClassAug/again.png").symlink_to("photo0.png")
    (root / "train.txt").write_text((root / "train.txt").read_text() + "again\n")
    with pytest.raises(UserError, match=r"photo0\.jpg and .*again\.jpg are one file"):
        load_index(tiny, "train")


def test_changed_mask_is_counted_anew(tiny: DataSettings) -> None:
    first, path = _load(tiny), _mask_path(tiny, 2)
    _save_mask(path, np.full((12, 10), 3, np.uint8))
    second = _load(tiny)
    assert second.areas[2].tolist() == [0, 0, 0, 120]
    assert second.fingerprint != first.fingerprint


def test_damaged_cache_file_is_rebuilt(tiny: DataSettings) -> None:
    first = _load(tiny)
    (path,) = _cache_files(tiny)
    whole = path.read_bytes()
    part, rest = len(whole) // 3, len(whole) // 3 + 40
    path.write_bytes(whole[:part] + bytes(255 - b for b in whole[part:rest]) + whole[rest:])
    assert (_load(tiny).areas == first.areas).all()
    for number in range(6):
        _spoil_unnoticed(_mask_path(tiny, number))
    assert (_load(tiny).areas == first.areas).all()  # the rebuilt index was also written
