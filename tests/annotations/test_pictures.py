"""Photos and masks are opened upright whatever their format: orientations, pages, transparency, damage of JPEGs."""

import io
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.ExifTags import Base as Tag

from annotations.mask_formats import read_indices, read_mask_of
from annotations.pictures import header_of, read_image
from annotations.region import read_region_of
from photos.read_photos import read_photo
from util.files import images, mask_images, sizes
from util.files.errors import UserError
from util.files.images import turned
from util.files.mask_images import read_stacked, write_mask

HEIGHT, WIDTH = 40, 64
Reader = Callable[[Path], np.ndarray]


def _stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the stored pixels of an upright image, by EXIF's definition."""
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    return upright.swapaxes(0, 1) if orientation > 4 else upright


@pytest.fixture
def png(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


@pytest.fixture
def jpg(tmp_path: Path) -> Path:
    return tmp_path / "a.jpg"


def _save(path: Path, array: np.ndarray, orientation: int | None = None) -> Path:
    if array.dtype == np.uint16 and array.ndim == 3:
        tifffile.imwrite(path, array, photometric="rgb", extratags=[(Tag.Orientation, "H", 1, orientation or 1, True)])
        return path
    exif = Image.Exif()
    if orientation is not None:
        exif[Tag.Orientation] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(np.ascontiguousarray(array)).save(path, exif=exif, **lossless)
    return path


@pytest.fixture
def upright() -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and its mask."""
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[:16, :24] = 250
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:16, :24] = 1
    return photo, mask


def _assert_alike(photo: np.ndarray, expected: np.ndarray) -> None:
    """Refuse a photo that differs by more than a lossy format does."""
    assert np.abs(photo.astype(int) - expected).max() < 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", "deep.tif", "grey.tif"])
def test_all_readers_turn_a_photo_alike(upright, tmp_path: Path, orientation: int, suffix: str) -> None:
    photo, mask = upright
    stored = _stored(photo, orientation)
    forms = {"deep.tif": stored.astype(np.uint16) * 257, "grey.tif": stored[..., 0]}
    path = _save(tmp_path / f"a{suffix}", forms.get(suffix, stored), orientation)
    assert (header_of(path).size, header_of(path).orientation) == (stored.shape[:2], orientation)
    with Image.open(path) as lazy:
        _assert_alike(read_photo(lazy), photo)
    _assert_alike(read_photo(path), photo)
    _assert_alike(read_image(path), photo)
    mask_path = tmp_path / "a_mask.png"
    write_mask(mask_path, mask, stated=True)
    if suffix in (".jpg", ".png"):
        stacked = read_stacked(path, mask_path)
        assert stacked.shape == (*mask.shape, 4)
        assert np.array_equal(stacked[..., 3], mask)
    else:
        with pytest.raises(UserError, match="custom converts other files"):
            read_stacked(path, mask_path)
    assert np.array_equal(read_mask_of(path, mask_path), mask)
    assert np.array_equal(turned(_stored(mask, orientation), orientation), mask)


@pytest.mark.parametrize(("orientation", "side"), [(2, WIDTH), (3, WIDTH), (4, WIDTH), (6, HEIGHT), (8, HEIGHT)])
def test_a_mask_whose_size_tells_nothing_is_refused(
    *, upright, tmp_path: Path, jpg: Path, png: Path, orientation: int, side: int
) -> None:
    photo, mask = (pixels[:, :side] for pixels in upright)
    path = _save(jpg, _stored(photo, orientation), orientation)
    drawn = _save(png, mask)
    for read in (read_stacked, read_mask_of):
        with pytest.raises(UserError, match=rf"a.png: its photo has EXIF orientation {orientation}.*auto-orient"):
            read(path, drawn)
    assert not read_mask_of(path, _save(tmp_path / "empty.png", np.zeros_like(mask))).any()
    for suffix in (".png", ".tif"):  # the mask states its own orientation
        tagged = _save(tmp_path / f"tagged{suffix}", _stored(mask, orientation), orientation)
        assert np.array_equal(read_mask_of(path, tagged), mask)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photos_and_masks_are_turned_alike(upright, tmp_path: Path, orientation: int, suffix: str) -> None:
    photo, mask = upright
    path = _save(tmp_path / "a.tif", _stored(photo, orientation), orientation)
    mask_path = _save(tmp_path / f"m{suffix}", _stored(mask, orientation), orientation)
    assert np.array_equal(read_indices(mask_path)[0], mask)
    assert np.array_equal(read_region_of(path, mask_path), mask)
    if orientation > 4:  # the size of a mask without orientation tells which it is of
        for drawn in (mask, _stored(mask, orientation)):
            assert np.array_equal(read_mask_of(path, _save(tmp_path / f"n{suffix}", drawn)), mask)
        with pytest.raises(UserError, match=r"different sizes \(height, width\): \(40, 64\) and \(39, 64\)"):
            read_mask_of(path, _save(tmp_path / f"other{suffix}", mask[1:]))


@pytest.mark.parametrize(("sizes", "best"), [((8, 40), 1), ((8, 40, 16), 1), ((40, 40), 0), ((40, 20, 10), 0)], ids=str)
def test_the_largest_page_of_a_tiff_is_the_photo(tmp_path: Path, sizes: tuple[int, ...], best: int) -> None:
    first, *others = [Image.new("RGB", (size, size), (10 * number,) * 3) for number, size in enumerate(sizes)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.full((40, 40, 3), 10 * best))


def _red(opacity: int) -> np.ndarray:
    """Return a red image (8, 8, 4) of an opacity."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[..., 3] = opacity
    return pixels


def test_colours_under_transparency_are_white(tmp_path: Path, png: Path) -> None:
    pixels = _red(opacity=255)
    pixels[4:, :, 3] = 0
    pixels[0, 0, 3] = 51  # a fifth
    image = Image.fromarray(pixels)
    image.save(png)
    image.save(tmp_path / "b.webp", lossless=True, exact=True)
    image.save(tmp_path / "c.tif")
    expected = np.full((8, 8, 3), 255)
    expected[:4] = (200, 0, 0)
    expected[0, 0] = (244, 204, 204)
    for name in ("a.png", "b.webp", "c.tif"):
        assert np.array_equal(read_image(tmp_path / name), expected), name
    assert np.array_equal(read_photo(image), expected)
    Image.fromarray(_red(opacity=0)).save(tmp_path / "none.png")
    assert (read_image(tmp_path / "none.png") == 255).all()


@pytest.mark.parametrize(
    ("pixels", "kind", "says"),
    [
        (_red(opacity=99), "PNG", "is transparent in places"),
        (np.zeros((8, 8), np.uint16), "PNG", "has 16 bits"),
        (np.zeros((8, 8), np.uint8), "TIFF", "no JPEG or PNG"),
    ],
)
def test_trainings_and_tests_name_the_command_that_converts(png: Path, pixels, kind: str, says: str) -> None:
    Image.fromarray(pixels).save(png, kind)
    for read in (images.read_image, images.check_photo):
        with pytest.raises(UserError, match=f"{says}.*prepare.py custom converts"):
            read(png)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a pointer of Git LFS"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    ],
    ids=["lfs", "web page"],
)
@pytest.mark.parametrize("read", [read_image, read_indices, images.read_image, mask_images.read_mask])
def test_a_file_that_is_no_image_is_named_by_its_kind(png: Path, read: Reader, content: bytes, says: str) -> None:
    png.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read(png)


@pytest.mark.parametrize("read", [read_image, read_indices, images.read_image])
def test_an_image_of_too_many_pixels_is_refused(png: Path, monkeypatch, read: Reader) -> None:
    Image.new("L", (40, 40)).save(png)
    monkeypatch.setattr(sizes, "MAX_PIXELS", 1500)
    with pytest.raises(UserError, match=r"a\.png: 40 x 40 pixels, the limit is 1500; make it smaller"):
        read(png)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # of which Pillow itself refuses twice as many
    with pytest.raises(UserError, match=r"a\.png: has more than \d+ pixels; make it smaller"):
        read(png)


def _noise(kind: str) -> bytes:
    """Return a picture of noise as a file."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(out, kind, quality=95)
    return out.getvalue()


JPEG, PNG = _noise("JPEG"), _noise("PNG")
HALF = len(JPEG) // 2


@pytest.mark.parametrize("read", [read_image, read_photo, images.read_image])
@pytest.mark.parametrize(
    ("kind", "content"),
    {
        "empty": b"",
        "no picture": b"no picture" * 50,
        "head": JPEG[:160],
        "half": JPEG[:HALF],
        "without its end": JPEG[:-100],
        "overwritten": JPEG[:HALF] + bytes(300) + JPEG[HALF + 300 :],
        "PNG cut off": PNG[:6000],
    }.items(),
)
def test_a_damaged_photo_is_refused(jpg: Path, read: Reader, kind: str, content: bytes) -> None:
    jpg.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: (.*damaged|is no )"):
        read(jpg)


def _jpeg_with_markers_in_exif(progressive: bool) -> tuple[bytes, bytes]:
    """Return a JPEG, in whose EXIF data are bytes like markers, and its end marker."""
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd9 \xff\xda"
    pixels = np.random.default_rng(0).integers(90, 130, (72, 96, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92, progressive=progressive, exif=exif)
    content = out.getvalue()
    return content[:-2], content[-2:]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("kind", "stray"),
    {
        "few": b"ab\0c\x12",
        "zeros": bytes(3000),
        "of one value": b"\xaa" * 500,
        "filler of markers": b"\xff" * 9,
        "a second end": b"\xff\xd9",
    }.items(),
)
def test_stray_bytes_before_the_end_of_a_jpeg_are_no_damage(
    jpg: Path, kind: str, stray: bytes, progressive: bool
) -> None:
    content, end = _jpeg_with_markers_in_exif(progressive)
    path = jpg
    path.write_bytes(content + end)
    whole = read_image(path)
    for behind in (b"film", content + end):  # such as the second picture of a phone
        path.write_bytes(content + stray + end + behind)
        assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize("behind", [b"", bytes(3000) + b"\xff\xd9"])
@pytest.mark.parametrize("progressive", [False, True])
def test_many_stray_bytes_are_taken_for_damaged_pixels(jpg: Path, progressive: bool, behind: bytes) -> None:
    content, end = _jpeg_with_markers_in_exif(progressive)
    noise = np.random.default_rng(1).integers(1, 255, 300, np.uint8).tobytes()
    jpg.write_bytes(content + noise + end + behind)
    with pytest.raises(UserError, match="extraneous bytes"):
        read_image(jpg)


def test_sound_jpegs_of_every_kind_are_sound(jpg: Path) -> None:
    for mode, progressive in product(("RGB", "L", "CMYK"), (False, True)):
        Image.new(mode, (33, 17), 99).save(jpg, progressive=progressive)
        assert read_image(jpg).shape == (17, 33, 3)
