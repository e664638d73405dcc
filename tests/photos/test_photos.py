"""The photos of a folder: all kinds that can be read, none that a system put there; few bits are stretched."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from photos.read_photos import photos_in, read_photo
from photos.refine import refined
from tests.annotations.drawn import HEIC, photo
from util.files import sizes
from util.files.errors import TooLarge, UserError

NOISE = np.random.default_rng(0).integers(0, 1000, (40, 60), np.uint16) + np.uint16(1000)  # of twelve bits


def test_a_folder_gives_photos_of_every_kind_and_says_what_it_passes_over(tmp_path: Path, capsys) -> None:
    kinds = ["a.jpg", "b.jfif", "c.gif", "d.avif", "e.TIF", "f.webp", "g.JPEG", "sub/h.HEIC"]
    (tmp_path / "sub").mkdir()
    shutil.copy(HEIC, tmp_path / kinds[-1])
    for name in kinds[:-1]:
        Image.fromarray(NOISE.astype(np.uint8)).save(tmp_path / name, "JPEG" if "jf" in name else None)
    for name in ("h.cr2", "i.svg", "j.txt", "k.json", "l.MP4", "m.nii.gz", "n.gz", "o.dcm"):
        (tmp_path / name).write_bytes(b"II*\0")
    for name in ("._a.jpg", ".a.jpg", "Thumbs.db", ".ipynb_checkpoints/a.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg"):
        photo(tmp_path / name)
    photos = photos_in([tmp_path], recursive=True)
    assert [str(path.relative_to(tmp_path)) for path in photos] == kinds
    said = "5 files are not read, which are no photos in a known format or lead nowhere, such as h.cr2"
    assert said in capsys.readouterr().err
    assert {read_photo(path).shape for path in photos} == {(40, 60, 3)}


def test_masks_of_examples_are_no_photos(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "b_mask.png"):
        photo(tmp_path / name)
    examples = [f"{tmp_path}/a.jpg:{tmp_path}/a.png + {tmp_path}/x/../b_mask.png", f"{tmp_path}/b.jpg:box=0,0,9,9"]
    (tmp_path / "x").mkdir()
    assert photos_in([tmp_path, tmp_path / "a.png"], examples=examples) == [tmp_path / "a.jpg", tmp_path / "b.jpg"]


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "colours.png", "colours.tif"])
def test_the_bits_of_a_camera_are_stretched(tmp_path: Path, name: str) -> None:
    pixels = NOISE if "grey" in name else np.dstack([NOISE // 2, NOISE, NOISE])  # blue, green, red
    cv2.imwrite(str(tmp_path / name), pixels)
    image = read_photo(tmp_path / name).astype(int)
    low, high = np.percentile(image, (1, 99))
    assert high - low > 200
    red, _, blue = image.mean((0, 1))
    assert (red == blue) if "grey" in name else blue < red - 50
    cv2.imwrite(f"{tmp_path}/wide.png", NOISE * 30)
    assert np.array_equal(read_photo(tmp_path / "wide.png")[..., 0], NOISE * 30 // 256)  # as they are
    assert np.ptp(read_photo(Image.fromarray(NOISE))) == 255


def test_edges_move_to_those_of_the_photo() -> None:
    """As seen: of a blue photo changes of green are edges, larger ones of red are none."""
    objects = np.zeros((2, 130, 200), bool)
    objects[0, 30:100, 25:90] = True
    objects[1, 45:110, 115:175] = True
    image = np.random.default_rng(0).integers((20, 40, 200), (80, 41, 201), (130, 200, 3))
    image[..., 1] += 20 * objects.any(0)
    moved = np.roll(objects, 4, axis=2).astype(np.float32)
    margins = np.stack([8 * cv2.GaussianBlur(one, (0, 0), 6) - 4 for one in moved])
    found = refined(image.astype(np.uint8), margins)
    assert 40 * ((found > 0) != objects).sum() < ((margins > 0) != objects).sum()
    assert found.std((1, 2)) == pytest.approx(margins.std((1, 2)), rel=0.05)


def test_bytes_are_read_as_their_path_is(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", turned=True)
    assert np.array_equal(read_photo(path.read_bytes()), read_photo(path))


@pytest.mark.parametrize("form", [str, Path.read_bytes, Image.open])
def test_a_photo_of_too_many_pixels_is_refused_in_every_form(form: Callable, tmp_path: Path, monkeypatch) -> None:
    given = form(photo(tmp_path / "a.jpg"))
    monkeypatch.setattr(sizes, "MAX_PIXELS", 6911)
    with pytest.raises(TooLarge, match="96 x 72 pixels, the limit is 6911; make it smaller"):
        read_photo(given)


def test_what_is_said_of_a_photo_without_a_name_is_one_plain_line(tmp_path: Path) -> None:
    content = photo(tmp_path / "a.png").read_bytes()
    damaged = [b"", b"no photo", content[: len(content) // 2], b"\0\0\0\x18ftypheic"]
    lines = []
    for given in (*damaged, Image.open(io.BytesIO(damaged[2]))):
        with pytest.raises(UserError, match="the photo: ") as caught:
            read_photo(given)
        lines.append(str(caught.value))
    assert [line for line in lines if "0x" in line or "\n" in line] == []
