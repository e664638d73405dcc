"""Photos and masks are opened upright whatever their format: orientations, pages, transparency, damage of JPEGs."""

import io
import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.data.images.read import TAG, header_of, read_image, read_mask, read_mask_of, read_stacked, turned, write_mask
from util.data.images.region import read_region_of
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
    if array.dtype == np.uint16 and array.ndim == 3:
        path.write_bytes(_deep_tiff(array, orientation or 1))
        return path
    exif = Image.Exif()
    if orientation is not None:
        exif[TAG] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(np.ascontiguousarray(array)).save(path, exif=exif, **lossless)
    return path


def _deep_tiff(array: np.ndarray, orientation: int) -> bytes:
    """Return a TIFF of colours of 16 bits (H, W, 3), which Pillow does not write."""
    height, width = array.shape[:2]
    first = 8 + 2 + 12 * 10 + 4  # the place behind header and table
    numbers = {256: width, 257: height, 258: first, 259: 1, 262: 2, 273: first + 8, 274: orientation, 277: 3}
    numbers |= {278: height, 279: array.nbytes}
    head = b"II*\0" + struct.pack("<IH", 8, len(numbers))
    for tag, value in numbers.items():
        head += struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
    return head + struct.pack("<I4H", 0, 16, 16, 16, 0) + np.ascontiguousarray(array).tobytes()


@pytest.fixture
def upright() -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and its mask."""
    photo, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    photo[:16, :24], mask[:16, :24] = 250, 1
    return photo, mask


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", "deep.tif", "grey.tif"])
def test_all_readers_turn_a_photo_alike(upright, tmp_path: Path, orientation: int, suffix: str) -> None:
    photo, mask = upright
    stored = BACK[orientation](photo)
    forms = {"deep.tif": stored.astype(np.uint16) * 257, "grey.tif": stored[..., 0]}
    path = _save(tmp_path / f"a{suffix}", forms.get(suffix, stored), orientation)
    assert header_of(path) == (stored.shape[:2], orientation)
    with Image.open(path) as lazy:
        assert np.abs(read_photo(lazy).astype(int) - photo).max() < 40
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
    for suffix in (".png", ".tif"):  # the mask states its own orientation
        same = _save(tmp_path / f"tagged{suffix}", BACK[orientation](mask), orientation)
        assert np.array_equal(read_mask_of(path, same), mask)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_masks_and_what_they_show_are_turned_alike(upright, tmp_path: Path, orientation: int, suffix: str) -> None:
    photo, mask = upright
    path = _save(tmp_path / "a.tif", BACK[orientation](photo), orientation)
    marks = _save(tmp_path / f"m{suffix}", BACK[orientation](mask), orientation)
    assert np.array_equal(read_mask(marks), mask)
    assert np.array_equal(read_stacked(path, marks)[..., 3], mask)
    assert np.array_equal(read_region_of(path, marks), mask)
    if orientation > 4:  # the size of a mask without orientation tells which it is of
        for drawn in (mask, BACK[orientation](mask)):
            assert np.array_equal(read_mask_of(path, _save(tmp_path / f"n{suffix}", drawn)), mask)


def _pages(path: Path, *sizes: int, preview: int = -1) -> Path:
    """Write a TIFF of square pages, each as grey as ten times its number; one states that it is a preview."""
    pages = [Image.new("RGB", (size, size), (10 * number,) * 3) for number, size in enumerate(sizes)]
    for number, page in enumerate(pages):
        page.encoderinfo = {"tiffinfo": {254: int(number == preview)}}
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def test_the_largest_page_of_a_tiff_is_the_photo(tmp_path: Path, capsys) -> None:
    for number, (sizes, preview, best) in enumerate((((8, 40), 0, 1), ((8, 40, 16), -1, 1), ((40, 40), -1, 0))):
        (tmp_path / f"{number}").mkdir()
        path = _pages(tmp_path / f"{number}/a.tif", *sizes, preview=preview)
        assert read_image(path).shape == (40, 40, 3) and read_image(path).max() == 10 * best
        assert f"a.tif: page {best + 1} of {len(sizes)} is read" in capsys.readouterr().err
    assert read_image(_pages(tmp_path / "pyramid.tif", 40, 20, 10)).max() == 0 and not capsys.readouterr().err
    with pytest.raises(UserError, match="contains only a preview"):
        read_image(_pages(tmp_path / "preview.tif", 8, preview=0))


def test_colours_under_transparency_are_white(tmp_path: Path, capsys) -> None:
    hidden = np.zeros((8, 8, 4), np.uint8)
    hidden[..., 0], hidden[:4, :, 3] = 200, 255
    hidden[0, 0, 3] = 51  # a fifth
    palette = Image.fromarray(hidden[..., :3]).quantize(2)
    palette.info["transparency"] = palette.getpixel((0, 0))
    for name, image in (
        ("a.png", Image.fromarray(hidden)),
        ("b.webp", Image.fromarray(hidden)),
        ("c.tif", Image.fromarray(hidden)),
    ):
        image.save(tmp_path / name, **({"lossless": True, "exact": True} if name == "b.webp" else {}))
        for photo in (read_image(tmp_path / name), read_photo(image)):
            assert (photo[4:] == 255).all() and (photo[1:4] == (200, 0, 0)).all()
            assert photo[0, 0].tolist() == [244, 204, 204]
    assert capsys.readouterr().err.count("is transparent in places, which are read as white") == 2  # a file, an image
    palette.save(tmp_path / "d.png")
    hidden[..., 3] = 0
    Image.fromarray(hidden).save(tmp_path / "e.png")
    for path in (tmp_path / "d.png", tmp_path / "e.png"):
        with pytest.raises(UserError, match=r"\.png: is transparent everywhere"):
            read_image(path)
    hidden[..., 3] = 255
    Image.fromarray(hidden).save(tmp_path / "f.png")
    assert (read_image(tmp_path / "f.png") == (200, 0, 0)).all()


def test_a_file_that_is_no_image_says_what_it_is(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    for content, said in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a pointer of Git LFS"),
        (b"../.git/annex/objects/aa/bb/SHA256E-s9--0.png", "is a pointer of git-annex"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    ):
        path.write_bytes(content)
        for read in (read_image, read_mask):
            with pytest.raises(UserError, match=said):
                read(path)
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # twice as many are refused
    for read in (read_image, read_mask):
        with pytest.raises(UserError, match=r"a\.png: this \w+ has more than 1400 pixels, which is too many"):
            read(path)


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


STRAY = {
    "few": b"ab\0c\x12",
    "zeros": bytes(3000),
    "of one value": b"\xaa" * 500,
    "filler of markers": b"\xff" * 9,
    "a second end": b"\xff\xd9",
}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kind", STRAY)
def test_stray_bytes_before_the_end_of_a_jpeg_are_no_damage(tmp_path: Path, kind: str, progressive: bool) -> None:
    exif, buffer, path = Image.Exif(), io.BytesIO(), tmp_path / "a.jpg"
    exif[0x010E] = "\xff\xd9 \xff\xda"  # markers inside a segment
    pixels = np.random.default_rng(0).integers(90, 130, (72, 96, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, progressive=progressive, exif=exif)
    path.write_bytes(buffer.getvalue())
    whole = read_image(path)
    path.write_bytes(buffer.getvalue()[:-2] + STRAY[kind] + buffer.getvalue()[-2:] + b"film")
    assert np.array_equal(read_image(path), whole)
    noise = np.random.default_rng(1).integers(1, 255, 300, np.uint8).tobytes()
    path.write_bytes(buffer.getvalue()[:-2] + noise + buffer.getvalue()[-2:])  # may be the rest of damaged pixels
    with pytest.raises(UserError, match="extraneous bytes"):
        read_image(path)


def test_sound_jpegs_of_every_kind_are_sound(tmp_path: Path) -> None:
    for mode, progressive in product(("RGB", "L", "CMYK"), (False, True)):
        Image.new(mode, (33, 17), 99).save(tmp_path / "a.jpg", progressive=progressive)
        assert read_image(tmp_path / "a.jpg").shape == (17, 33, 3)
