"""All kinds of marks give the same label, and photos are read upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.episode import IGNORE
from tests.predict.marked import BOX, HEIGHT, WIDTH
from util.data.marks import UNKNOWN
from util.errors import UserError
from util.predict.photos import read_photo
from util.predict.regions import Marking
from util.predict.supports import Support, group_by_class, parse_support, read_support

ORIENTATION = 0x0112  # EXIF
TURNED_LEFT = 6  # phones held upright store photos so: to be rotated by 90 degrees clockwise
KINDS = ("index", "grey", "bit", "colours", "transparent", "polygon", "rectangle", "coco", "box")


def _read(text: str, name: str | None = None, **marking) -> Support:
    return read_support(parse_support(text), name, Marking(**marking))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_marks_the_same_pixels(marked: dict[str, str], kind: str) -> None:
    want = np.zeros((HEIGHT, WIDTH), np.uint8)
    want[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    assert np.array_equal(_read(marked[kind]).label, want)


def test_one_value_of_a_mask_counts_and_255_is_unknown(marked: dict[str, str], tmp_path: Path) -> None:
    photo = marked["box"].partition(":")[0]
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:10], values[10:20], values[20:30] = 3, 8, IGNORE
    Image.fromarray(values).save(tmp_path / "many.png")
    label = _read(f"{photo}:{tmp_path / 'many.png'}", mask_value=8).label
    assert (label[10:20] == 1).all() and (label[20:30] == IGNORE).all() and label.sum() == 10 * WIDTH * (1 + IGNORE)
    assert (_read(f"{photo}:{tmp_path / 'many.png'}").label[:30] == 1).all()


def test_points_mark_discs_and_a_scribble_the_line_between(marked: dict[str, str]) -> None:
    photo = marked["box"].partition(":")[0]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for kind in ("points", "scribble"):
        label = _read(f"{photo}:{kind}=15,20;40,20", radius=3).label
        along = np.clip(x, 15, 40) if kind == "scribble" else np.where(x < 28, 15, 40)
        distance = np.hypot(x - along, y - 20)
        assert np.array_equal(label == 1, distance <= 3)
        assert np.array_equal(label == 0, distance > 3 * UNKNOWN)


def test_a_file_of_several_labels_gives_the_class_asked_for(marked: dict[str, str], tmp_path: Path) -> None:
    photo = marked["box"].partition(":")[0]
    shapes = [
        f'{{"label": "{label}", "points": [[{x}, 2], [{x + 8}, 2], [{x + 8}, 9], [{x}, 9]]}}'
        for label, x in (("Cat", 1), ("dog", 20), ("Cat", 40))
    ]
    (tmp_path / "pets.json").write_text(f'{{"shapes": [{", ".join(shapes)}]}}')
    text = f"{photo}:{tmp_path / 'pets.json'}"
    assert _read(text, "cat").label.sum() == 2 * 8 * 7 and _read(text, "dog").label.sum() == 8 * 7
    for name in (None, "horse"):
        with pytest.raises(UserError, match="outlines several things"):
            _read(text, name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(tmp_path: Path, orientation: int) -> None:
    """The stored pixels are computed from the upright ones by the definition of EXIF's eight orientations."""
    upright = np.zeros((40, 64, 3), np.uint8)
    upright[:16, :24] = 250
    back = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(back[orientation])).save(tmp_path / "a.jpg", exif=exif, quality=98)
    assert np.abs(read_photo(tmp_path / "a.jpg").astype(int) - upright).max() < 40


def test_a_mask_belongs_to_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_LEFT
    Image.new("RGB", (64, 40)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (40, 64), 1).save(tmp_path / "upright.png")
    Image.new("L", (64, 40), 1).save(tmp_path / "stored.png")
    Image.new("L", (40, 63), 1).save(tmp_path / "other.png")
    for name in ("upright", "stored"):  # the size tells
        assert _read(f"{tmp_path / 'a.jpg'}:{tmp_path / f'{name}.png'}").label.shape == (64, 40)
    with pytest.raises(UserError, match="40 x 63 pixels, its photo has 40 x 64"):
        _read(f"{tmp_path / 'a.jpg'}:{tmp_path / 'other.png'}")


def test_a_mask_that_may_belong_to_the_stored_or_the_upright_photo_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.new("RGB", (64, 40)).save(tmp_path / "a.jpg", exif=exif)
    mask = np.zeros((40, 64), np.uint8)
    mask[:9, :9] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"mask.png: its photo has EXIF orientation 3.*auto-orient"):
        _read(f"{tmp_path / 'a.jpg'}:{tmp_path / 'mask.png'}")


def test_supports_are_taken_apart(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.jpg"
    odd.touch()
    assert parse_support(f"{odd}:m.png").photo == odd and parse_support(f"{odd}:m.png").name is None
    assert parse_support("big cat=a.jpg:box=1,2,3,4") == parse_support(
        "big cat = a.jpg:box=1,2,3,4".replace(" = ", "=")
    )
    assert parse_support("C:/a.jpg:points=1,2;3,4").photo == Path("C:/a.jpg")
    classes = group_by_class(["a.jpg:m.png", "dog=b.jpg:m.png", "c.jpg:m.png"], "cat")
    assert {name: len(supports) for name, supports in classes.items()} == {"cat": 2, "dog": 1}


# --- files whose values do not mean what a reader would take them for -------------------------------------------------
