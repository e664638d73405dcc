"""Masks count by the numbers that a file stores, whatever programs show: TIFFs in which 0 is white, wide numbers."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from annotations.mask_formats import read_indices
from annotations.pictures import read_image
from annotations.region import read_region
from tests.annotations.drawn import CAT, HEIGHT, WIDTH, region
from util.files.errors import UserError

IDS = region(CAT)


def assert_object(mask: Path) -> None:
    assert np.array_equal(read_region(mask)[0], IDS)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
def test_a_tiff_in_which_0_is_white_counts_as_stored(tmp_path: Path, capsys, value: int, dtype: type) -> None:
    path = tmp_path / f"{dtype.__name__}_{value}" / "mask.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, (value * IDS).astype(dtype), photometric="miniswhite")
    assert_object(path)
    assert capsys.readouterr().err.count(f"{path.parent}: 0 is white in TIFFs here") == 1
    if dtype is not np.bool_:
        assert np.array_equal(read_indices(path)[0], value * IDS)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32])
def test_wide_numbers_are_class_indices(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, (7 * IDS).astype(dtype))
    assert_object(path)
    assert np.array_equal(read_indices(path)[0], 7 * IDS)


@pytest.mark.parametrize(
    ("value", "dtype", "line"), [(0.5, "f4", "0 to 0.5"), (300, "i4", "0 to 300"), (-1, "i4", "-1 to 0")]
)
def test_wide_numbers_that_are_no_class_indices_are_named(tmp_path: Path, value: float, dtype: str, line: str) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", (value * IDS.astype(dtype)).astype(dtype))
    with pytest.raises(UserError, match=f"holds numbers from {line}"):
        read_indices(tmp_path / "mask.tif")


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_a_photo_of_numbers_without_a_known_white_is_not_called_damaged(tmp_path: Path, kind: type) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", IDS.astype(kind))
    with pytest.raises(UserError, match="has values of 32 bits or more, or signed ones"):
        read_image(tmp_path / "photo.tif")


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


@pytest.mark.parametrize("bits", [2, 4])
def test_class_indices_of_few_bits_are_refused(tmp_path: Path, bits: int) -> None:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + WIDTH * bits // 8) * HEIGHT)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(UserError, match=f"this mask has {bits} bits a pixel"):
        read_indices(tmp_path / "mask.png")


def thermal(offset: int) -> np.ndarray:
    """Return hundredths of a kelvin, 15 K warmer in an object."""
    noise = np.random.default_rng(0).normal(0, 25, IDS.shape)
    return (offset + noise + 1500 * (IDS > 0)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("offset", [200, 29300, 60000])
def test_a_narrow_range_of_16_bits_is_stretched_wherever_it_lies(tmp_path: Path, offset: int, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(thermal(offset)).save(path)
    grey = read_image(path)[..., 0].astype(float)
    assert grey[IDS > 0].mean() - grey[IDS == 0].mean() > 150


def test_a_photo_of_16_bits_in_which_0_is_white_is_turned_over(tmp_path: Path) -> None:
    wide = np.linspace(0, 65535, IDS.size).reshape(IDS.shape).astype(np.uint16)
    tifffile.imwrite(tmp_path / "photo.tif", wide, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "photo.tif")[..., 0], 255 - wide // 256)
