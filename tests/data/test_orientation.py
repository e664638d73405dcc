"""Tests of the one rule about EXIF orientation, and of damage inside JPEG files."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.data.images.read import TAG, read_image, read_mask_of, read_stacked, turned, write_mask
from util.errors import UserError
from util.predict.photos import read_photo

HEIGHT, WIDTH = 40, 64
BACK = {  # the stored pixels of an upright photo, by EXIF's definition
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def _save(path: Path, array: np.ndarray, orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[TAG] = orientation
    Image.fromarray(np.ascontiguousarray(array)).save(path, exif=exif)
    return path


@pytest.fixture
def upright() -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and its mask."""
    photo, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    photo[:16, :24], mask[:16, :24] = 250, 1
    return photo, mask


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_all_readers_turn_a_photo_alike(upright, tmp_path: Path, orientation: int, suffix: str) -> None:
    photo, mask = upright
    path = _save(tmp_path / f"a{suffix}", BACK[orientation](photo), orientation)
    marks = tmp_path / "a_mask.png"
    write_mask(marks, mask, stated=True)
    assert np.abs(read_image(path).astype(int) - photo).max() < 40
    assert np.abs(read_photo(path).astype(int) - photo).max() < 40
    stacked = read_stacked(path, marks)
    assert stacked.shape == (*mask.shape, 4) and np.array_equal(stacked[..., 3], mask)
    assert np.array_equal(read_mask_of(path, marks), mask)
    assert np.array_equal(turned(BACK[orientation](mask), orientation), mask)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_stored_photo_is_recognised_by_its_size(upright, tmp_path: Path, orientation: int) -> None:
    photo, mask = upright
    path = _save(tmp_path / "a.jpg", BACK[orientation](photo), orientation)
    for name, drawn in (("upright.png", mask), ("stored.png", BACK[orientation](mask))):
        assert np.array_equal(read_mask_of(path, _save(tmp_path / name, drawn)), mask)
    with pytest.raises(UserError, match=r"different sizes \(height, width\): \(40, 64\) and \(39, 64\)"):
        read_mask_of(path, _save(tmp_path / "other.png", mask[1:]))


@pytest.mark.parametrize(("orientation", "side"), [(2, WIDTH), (3, WIDTH), (4, WIDTH), (6, HEIGHT), (8, HEIGHT)])
def test_a_mask_whose_size_tells_nothing_is_refused(upright, tmp_path: Path, orientation: int, side: int) -> None:
    photo, mask = (a[:, :side] for a in upright)
    path = _save(tmp_path / "a.jpg", BACK[orientation](photo), orientation)
    drawn = _save(tmp_path / "a.png", mask)
    for read in (read_stacked, read_mask_of):
        with pytest.raises(UserError, match=rf"a.png: its photo has EXIF orientation {orientation}.*auto-orient"):
            read(path, drawn)
    assert not read_mask_of(path, _save(tmp_path / "empty.png", np.zeros_like(mask))).any()
    same = _save(tmp_path / "tagged.png", BACK[orientation](mask), orientation)
    assert np.array_equal(read_mask_of(path, same), mask)  # the mask states its own orientation


@pytest.fixture
def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(out, "JPEG", quality=95)
    return out.getvalue()


def test_damage_of_a_jpeg_is_seen(jpeg: bytes, tmp_path: Path) -> None:
    middle, path = len(jpeg) // 2, tmp_path / "a.jpg"
    path.write_bytes(jpeg[:middle] + bytes(300) + jpeg[middle + 300 :])
    for read in (read_image, read_photo):
        with pytest.raises(UserError, match=r"a.jpg: .*damaged"):
            read(path)
    for content in (b"", b"no picture" * 50, jpeg[:160], jpeg[:middle], jpeg[:-100]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.jpg"):
            read_image(path)
    path.write_bytes(jpeg)
    (tmp_path / "film.jpg").write_bytes(jpeg + b"film" * 5000)  # bytes behind the end are no damage
    for read in (read_image, read_photo):
        assert np.array_equal(read(tmp_path / "film.jpg"), read(path))


def test_sound_jpegs_of_every_kind_are_sound(tmp_path: Path) -> None:
    for mode, progressive in product(("RGB", "L", "CMYK"), (False, True)):
        Image.new(mode, (33, 17), 99).save(tmp_path / "a.jpg", progressive=progressive)
        assert read_image(tmp_path / "a.jpg").shape == (17, 33, 3)
