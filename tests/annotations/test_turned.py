"""Annotations of photos with an EXIF orientation: outlines tell of which form of the photo they are."""

import json
from pathlib import Path

import pytest

from annotations import recognise
from photos.example_files import read_examples
from tests.annotations.drawn import HEIGHT, WIDTH, coco_json, outline, photo
from tests.helpers.read import json_of

UPRIGHT = (20, 50, 55, 90)  # x0, y0, x1, y1 within 72 x 96
STORED = (50, 20, 90, 55)  # within 96 x 72
SQUARE = (5, 5, 30, 30)  # within both
EXCHANGED = {"width": HEIGHT, "height": WIDTH}


def turned(folder: Path, first: tuple[int, ...], second: tuple[int, ...], **size: int) -> Path:
    """Write annotations of two boxes on a photo with an EXIF orientation, which may state another ``size``."""
    photo(folder / "p0.jpg", turned=True)
    path = coco_json(folder, {"segmentation": [outline(first)]}, {"segmentation": [outline(second)]})
    content = json_of(path)
    content["images"][0] |= size
    path.write_text(json.dumps(content))
    return path


def two_turned(folder: Path, first: tuple[int, ...], second: tuple[int, ...], **size: int) -> Path:
    """Write the same with the second box on a second photo, which may state another ``size``."""
    photo(folder / "p1.jpg", turned=True)
    path = turned(folder, first, second)
    content = json_of(path)
    content["images"].append(content["images"][0] | {"id": 8, "file_name": "p1.jpg"} | size)
    content["annotations"][1]["image_id"] = 8
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("box", "size"), [(UPRIGHT, {}), (STORED, EXCHANGED)], ids=["stored", "upright"])
def test_outlines_beyond_the_stated_size_tell_its_form(tmp_path: Path, capsys, box: tuple, size: dict) -> None:
    (cat, dog), _ = read_examples([str(turned(tmp_path, box, SQUARE, **size))])
    assert cat.read().label.shape == (WIDTH, HEIGHT)
    assert int(cat.read().label.sum()) == 1400
    assert int(dog.read().label.sum()) == 625
    assert "EXIF orientation" in capsys.readouterr().err


def test_one_unambiguous_outline_decides_whether_all_are_of_turned_photos(tmp_path: Path) -> None:
    path = turned(tmp_path, UPRIGHT, SQUARE)
    (cat, dog), _ = read_examples([str(path)])
    assert dog.read().label[5:30, 5:30].all()
    assert cat.read().label[50:90, 20:55].all()


def test_photos_whose_outlines_contradict_each_other_are_said_to_be_cut(tmp_path: Path, capsys) -> None:
    recognise.read(str(two_turned(tmp_path, UPRIGHT, STORED)))
    assert "cut at the photo's edges: photos with outlines beyond their stated size (1)" in capsys.readouterr().err


def test_photos_that_state_their_size_in_another_way_keep_it(tmp_path: Path) -> None:
    path = two_turned(tmp_path, UPRIGHT, SQUARE, **EXCHANGED)
    sizes = {photo.name: (photo.height, photo.width) for photo in recognise.read(str(path)).photos}
    assert sizes == {"p0.jpg": (WIDTH, HEIGHT), "p1.jpg": (WIDTH, HEIGHT)}
