"""Tests of the index of class areas: right counts, refusals with a remedy, and a cache that is never stale."""

from __future__ import annotations

import os
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


def _save_mask(path: Path, mask: np.ndarray, mode: str = "P") -> None:
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette(_palette())
    elif mode != "L":
        image = image.convert(mode)
    image.save(path)


def _masks(count: int, seed: int = 0, sides: tuple[int, int] = (12, 10)) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    values = np.array([0, 1, 2, 3, IGNORE], np.uint8)
    return [values[random.integers(0, len(values), sides)] for _ in range(count)]


def _write(root: Path, masks: list[np.ndarray], mode: str = "P") -> DataSettings:
    """Write a data set of given masks, all in the training list, and return its settings."""
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (root / folder).mkdir(parents=True)
    names = [f"photo{n}" for n in range(len(masks))]
    for name, mask in zip(names, masks, strict=True):
        Image.fromarray(np.full((*mask.shape, 3), 90, np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        _save_mask(root / "SegmentationClassAug" / f"{name}.png", mask, mode)
    (root / "train.txt").write_text("".join(f"{n}\n" for n in names))
    classes = [f"class{c}" for c in range(1, CLASSES + 1)]
    return DataSettings("tiny", str(root), "train.txt", "train.txt", classes, cache=str(root / "cache"))


def _load(data: DataSettings) -> Index:
    return load_index(data, "train", progress=False)


def _refusal(data: DataSettings) -> str:
    with pytest.raises(UserError) as caught:
        _load(data)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _mask_path(data: DataSettings, number: int) -> Path:
    return Path(data.root) / data.masks / f"photo{number}.png"


def _cache_files(data: DataSettings) -> list[Path]:
    return sorted(Path(data.cache).glob("*"))


@pytest.fixture
def tiny(tmp_path: Path) -> DataSettings:
    """Return the settings of six small images with known masks."""
    return _write(tmp_path / "tiny", _masks(6))


# --- counts ----------------------------------------------------------------------------------------------------------


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


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [CLASSES + 1, 254])
def test_class_ids_out_of_range_are_refused(tiny: DataSettings, wrong: int) -> None:
    mask = _masks(6)[2]
    mask[5, 5] = wrong
    _save_mask(_mask_path(tiny, 2), mask)
    message = _refusal(tiny)
    assert "photo2.png" in message and f"class id {wrong} " in message and f"0..{CLASSES} and 255" in message


def test_mask_of_another_size_than_its_image_is_refused(tiny: DataSettings) -> None:
    _save_mask(_mask_path(tiny, 4), np.zeros((10, 12), np.uint8))
    message = _refusal(tiny)
    assert "photo4.png" in message and "(12, 10) and (10, 12)" in message


@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_damaged_mask_is_named(tiny: DataSettings, content: bytes | str) -> None:
    path = _mask_path(tiny, 0)
    path.write_bytes(path.read_bytes()[:-60] if content == "half" else content)
    message = _refusal(tiny)
    assert str(path) in message and "damaged" in message


# --- list files ------------------------------------------------------------------------------------------------------


def test_list_that_names_an_image_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\nb\nc\nb\n")
    with pytest.raises(UserError, match=r"list\.txt: this list names 'b' twice"):
        read_names(path)


# --- cache -----------------------------------------------------------------------------------------------------------


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


def test_changed_mask_is_counted_anew(tiny: DataSettings) -> None:
    first, path = _load(tiny), _mask_path(tiny, 2)
    _save_mask(path, np.full((12, 10), 3, np.uint8))
    second = _load(tiny)
    assert second.areas[2].tolist() == [0, 0, 0, 120]
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("damage", ["empty", "rubbish", "first half", "other archive", "flipped bytes"])
def test_damaged_cache_file_is_rebuilt(tiny: DataSettings, damage: str) -> None:
    first = _load(tiny)
    (path,) = _cache_files(tiny)
    whole = path.read_bytes()
    if damage == "other archive":
        np.savez(path, something=np.zeros(3))
    elif damage == "flipped bytes":
        middle = len(whole) // 3
        path.write_bytes(whole[:middle] + bytes(255 - b for b in whole[middle : middle + 40]) + whole[middle + 40 :])
    else:
        path.write_bytes({"empty": b"", "rubbish": b"rubbish" * 20, "first half": whole[: len(whole) // 2]}[damage])
    assert (_load(tiny).areas == first.areas).all()
    for number in range(6):
        _spoil_unnoticed(_mask_path(tiny, number))
    assert (_load(tiny).areas == first.areas).all()  # the rebuilt index was also written
