"""Annotations of photos with an EXIF orientation: outlines tell of which form of the photo they are."""

from pathlib import Path

import numpy as np
import pytest

from annotations import recognise
from photos.example_files import read_examples
from tests.annotations.drawn import HEIGHT, TURNED, WIDTH, coco_json, outline, photo
from tests.helpers.read import json_of, write_json

UPRIGHT = (20, 50, 55, 90)  # x0, y0, x1, y1 within 72 x 96
STORED = (50, 20, 90, 55)  # within 96 x 72
SQUARE = (5, 5, 30, 30)  # within both
EXCHANGED = {"width": HEIGHT, "height": WIDTH}


def turned(
    folder: Path, first: tuple[int, ...], second: tuple[int, ...], orientation: int = TURNED, **size: int
) -> Path:
    """Write annotations of two boxes on a photo with an EXIF orientation, which may state another ``size``."""
    photo(folder / "p0.jpg", orientation=orientation)
    path = coco_json(folder, {"segmentation": [outline(first)]}, {"segmentation": [outline(second)]})
    content = json_of(path)
    content["images"][0] |= size
    write_json(path, content)
    return path


def two_turned(folder: Path, first: tuple[int, ...], second: tuple[int, ...], **size: int) -> Path:
    """Write the same with the second box on a second photo, which may state another ``size``."""
    photo(folder / "p1.jpg", turned=True)
    path = turned(folder, first, second)
    content = json_of(path)
    content["images"].append(content["images"][0] | {"id": 8, "file_name": "p1.jpg"} | size)
    content["annotations"][1]["image_id"] = 8
    write_json(path, content)
    return path


@pytest.mark.parametrize(
    ("box", "form", "upright"),
    [(UPRIGHT, {"orientation": 5}, [UPRIGHT, SQUARE]), (STORED, EXCHANGED, [(17, 50, 52, 90), (42, 5, 67, 30)])],
    ids=["stored", "upright"],
)
def test_outlines_beyond_the_stated_size_tell_its_form(
    tmp_path: Path, capsys, box: tuple, form: dict, upright: list[tuple]
) -> None:
    """One unambiguous outline decides for all."""
    supports, _ = read_examples([f"{turned(tmp_path, box, SQUARE, **form)}"])
    for support, (x0, y0, x1, y1) in zip(supports, upright, strict=True):
        expected = np.zeros((WIDTH, HEIGHT), np.uint8)
        expected[y0:y1, x0:x1] = 1
        np.testing.assert_array_equal(support.read().label, expected)
    assert "EXIF orientation" in capsys.readouterr().err


def test_photos_whose_outlines_contradict_each_other_are_said_to_be_cut(tmp_path: Path, capsys) -> None:
    recognise.read(str(two_turned(tmp_path, UPRIGHT, STORED)))
    assert (
        "cut at the photo's edges: photos with outlines or boxes that reach outside, beyond their stated size (1)"
        in capsys.readouterr().err
    )


def test_photos_that_state_their_size_in_another_way_keep_it(tmp_path: Path) -> None:
    path = two_turned(tmp_path, UPRIGHT, SQUARE, **EXCHANGED)
    sizes = {photo.name: (photo.height, photo.width) for photo in recognise.read(str(path)).photos}
    assert sizes == {"p0.jpg": (WIDTH, HEIGHT), "p1.jpg": (WIDTH, HEIGHT)}
