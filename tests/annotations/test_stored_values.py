"""Masks count by the numbers that a file stores, whatever programs show: TIFFs in which 0 is white, wide numbers."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from annotations import pictures
from annotations.mask_images import read_indices
from annotations.pictures import read_image
from annotations.region import read_region
from tests.annotations.drawn import CAT, region
from util.files.errors import UserError

IDS = region(CAT)
INVERTING = [level for value in range(255, -1, -1) for level in (value,) * 3]
PHOTOMETRIC_TAG = 262


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SAID", set())  # folders of an earlier test may have had this name


def assert_object(mask: Path) -> None:
    assert np.array_equal(read_region(mask)[0], IDS)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_0_is_white_counts_as_stored(tmp_path: Path, capsys, value: int, dtype: type) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, (value * IDS).astype(dtype), photometric="miniswhite")
    assert_object(path)
    assert np.array_equal(read_indices(path)[0], value * IDS)
    assert capsys.readouterr().err.count("0 is white in this TIFF") == 1


def test_a_bool_array_that_tifffile_writes_counts_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, IDS > 0)
    with Image.open(path) as image:
        assert image.tag_v2[PHOTOMETRIC_TAG] == 0
        assert not np.array_equal(np.asarray(image), IDS > 0)  # what Pillow shows
    assert_object(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_an_inverting_palette_counts_as_stored(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(255 * IDS)
    image.putpalette(INVERTING)
    image.save(tmp_path / f"mask{suffix}")
    assert_object(tmp_path / f"mask{suffix}")


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32])
def test_wide_numbers_are_class_indices(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, (7 * IDS).astype(dtype))
    assert_object(path)
    assert np.array_equal(read_indices(path)[0], 7 * IDS)


WIDE = {
    "fractions": ((0.5 * IDS).astype(np.float32), "holds numbers from 0 to 0.5"),
    "large": (300 * IDS.astype(np.int32), "holds numbers from 0 to 300"),
    "negative": (-1 * IDS.astype(np.int32), "holds numbers from -1 to 0"),
}


@pytest.mark.parametrize("kind", WIDE)
def test_wide_numbers_that_are_no_class_indices_are_named(tmp_path: Path, kind: str) -> None:
    values, line = WIDE[kind]
    tifffile.imwrite(tmp_path / "mask.tif", values)
    with pytest.raises(UserError) as caught:
        read_indices(tmp_path / "mask.tif")
    assert line in str(caught.value)


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_photo_of_numbers_without_a_known_white_is_not_called_damaged(tmp_path: Path, kind: type) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", IDS.astype(kind))
    with pytest.raises(UserError, match="has values of 32 bits or more, or signed ones"):
        read_image(tmp_path / "photo.tif")


def few_bits(bits: int) -> bytes:
    """Return a PNG of grey values of few bits, 0 and 1."""
    rows = [b"\0" + np.packbits(_bits_of(row, bits)).tobytes() for row in IDS]
    chunks = [(b"IHDR", _header(bits)), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    parts = [_chunk(name, content) for name, content in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _bits_of(row: np.ndarray, bits: int) -> np.ndarray:
    return np.unpackbits(row[:, None], axis=1)[:, -bits:]


def _header(bits: int) -> bytes:
    height, width = IDS.shape
    return width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


@pytest.mark.parametrize("bits", [2, 4])
def test_class_indices_of_few_bits_are_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(few_bits(bits))
    with pytest.raises(UserError, match=f"this mask has {bits} bits a pixel"):
        read_indices(path)
    assert_object(path)


def thermal(offset: int) -> np.ndarray:
    """Return hundredths of a kelvin, 15 K warmer in an object."""
    noise = np.random.default_rng(0).normal(0, 25, IDS.shape)
    return (offset + noise + 1500 * (IDS > 0)).astype(np.uint16)


RANGES: dict[str, Callable[[], np.ndarray]] = {
    "low": lambda: thermal(200),
    "thermal": lambda: thermal(29300),
    "high": lambda: thermal(60000),
}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", RANGES)
def test_a_narrow_range_of_16_bits_is_stretched_wherever_it_lies(
    tmp_path: Path, capsys, kind: str, suffix: str
) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(RANGES[kind]()).save(path)
    grey = read_image(path)[8:-8, :, 0].astype(float)
    inside = IDS[8:-8] > 0
    assert grey[inside].mean() - grey[~inside].mean() > 150
    assert capsys.readouterr().err.count("are stretched to 0..255") == 1


def test_a_photo_of_16_bits_in_which_0_is_white_is_turned_over(tmp_path: Path) -> None:
    wide = np.linspace(0, 65535, IDS.size).reshape(IDS.shape).astype(np.uint16)
    stored = io.BytesIO()
    tifffile.imwrite(stored, wide, photometric="miniswhite")
    path = tmp_path / "photo.tif"
    path.write_bytes(stored.getvalue())
    assert np.array_equal(read_image(path)[..., 0], 255 - wide // 256)
