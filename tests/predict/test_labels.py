"""All kinds of marks give the same label, and photos are read upright."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.episode import IGNORE
from tests.predict.conftest import BOX, HEIGHT, WIDTH
from util.data.marks import UNKNOWN
from util.errors import UserError
from util.predict.labels import BOXED
from util.predict.supports import Support, by_class, parse_support

ORIENTATION = 0x0112  # EXIF
TURNED_LEFT, TURNED_HALF = 6, 3  # phones held upright store photos turned left
KINDS = ("index", "polygon", "rectangle", "coco", "box")


def _read(text: str, name: str | None = None, **marking) -> Support:
    return parse_support(text, **marking).read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_marks_the_same_pixels(marked: dict[str, str], kind: str) -> None:
    want = np.zeros((HEIGHT, WIDTH), np.uint8)
    want[BOX[1] : BOX[3], BOX[0] : BOX[2]] = BOXED if kind in ("rectangle", "box") else 1
    assert np.array_equal(_read(marked[kind]).label, want)


def test_one_value_of_a_mask_counts_and_255_is_unknown(marked: dict[str, str], tmp_path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:10], values[10:20], values[20:30] = 3, 8, IGNORE
    Image.fromarray(values).save(tmp_path / "many.png")
    text = f"{marked['box'].partition(':')[0]}:{tmp_path / 'many.png'}"
    label = _read(text, mask_value=8).label
    assert (label[10:20] == 1).all() and (label[20:30] == IGNORE).all() and label.sum() == 10 * WIDTH * (1 + IGNORE)
    assert (_read(text).label[:20] == 1).all() and (_read(text).label[20:30] == IGNORE).all()
    Image.fromarray(np.dstack([values] * 3)).save(tmp_path / "colours.png")
    with pytest.raises(UserError, match=r"colours\.png: .* no value 8"):
        _read(text.replace("many", "colours"), mask_value=8)


def test_points_mark_discs_and_a_scribble_the_line_between(marked: dict[str, str]) -> None:
    photo = marked["box"].partition(":")[0]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for kind in ("points", "scribble"):
        label = _read(f"{photo}:{kind}=15,20;40,20", radius=3).label
        along = np.clip(x, 15, 40) if kind == "scribble" else np.where(x < 28, 15, 40)
        distance = np.hypot(x - along, y - 20)
        assert np.array_equal(label == 1, distance <= 3)
        assert np.array_equal(label == 0, distance > 3 * UNKNOWN)


def test_marks_of_one_photo_join(marked: dict[str, str]) -> None:
    photo = marked["box"].partition(":")[0]
    texts = [
        f"{photo}:box=2,3,20,20;30,3,50,20 not=40,10",
        f"{photo}:points=5,35; 9,35 not=6,6",
        f"{photo}:box=1,1,9,9",
    ]
    points, denied = (_read(f"{photo}:points={of}", radius=3).label for of in ("5,35;9,35", "40,10;6,6"))
    boxes = np.zeros((HEIGHT, WIDTH), bool)
    boxes[3:20, 2:20] = boxes[3:20, 30:50] = boxes[1:9, 1:9] = True
    (joined,) = by_class([parse_support(text, radius=3) for text in texts], "cat")["cat"]
    support = joined.read()
    assert np.array_equal(support.label == BOXED, boxes & (points != 1) & (denied != 1))
    assert np.array_equal(support.label == 1, (points == 1) & (denied != 1))
    assert np.array_equal(support.label == IGNORE, (points == IGNORE) & ~boxes & (denied != 1))
    assert support.source.endswith("not=6,6 + box=1,1,9,9")


def test_a_file_of_several_labels_gives_the_class_asked_for(marked: dict[str, str], tmp_path: Path) -> None:
    shapes = [
        f'{{"label": "{label}", "points": [[{x}, 2], [{x + 8}, 2], [{x + 8}, 9], [{x}, 9]]}}'
        for label, x in (("Cat", 1), ("dog", 20), ("Cat", 40))
    ]
    (tmp_path / "pets.json").write_text(f'{{"shapes": [{", ".join(shapes)}]}}')
    text = f"{marked['box'].partition(':')[0]}:{tmp_path / 'pets.json'}"
    assert _read(text, "cat").label.sum() == 2 * 8 * 7 and _read(text, "dog").label.sum() == 8 * 7
    for name in (None, "horse"):
        with pytest.raises(UserError, match=r"pets\.json: outlines several things"):
            _read(text, name)


def test_a_mask_belongs_to_the_upright_or_to_the_stored_photo(tmp_path: Path) -> None:
    for orientation in (TURNED_LEFT, TURNED_HALF):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.new("RGB", (64, 40)).save(tmp_path / f"{orientation}.jpg", exif=exif)
    upright = np.zeros((64, 40), np.uint8)
    upright[:9, :9] = 1
    masks = {"upright": upright, "stored": np.rot90(upright), "other": upright[1:]}
    for name, mask in masks.items():
        Image.fromarray(np.ascontiguousarray(mask)).save(tmp_path / f"{name}.png")
    for name in ("upright", "stored"):  # the size tells
        label = _read(f"{tmp_path / '6.jpg'}:{tmp_path / f'{name}.png'}").label
        assert np.array_equal(label, upright)
    for photo, name in (("6.jpg", "other"), ("3.jpg", "stored")):  # of another size, or the size tells nothing
        with pytest.raises(UserError, match=rf"{name}\.png: "):
            _read(f"{tmp_path / photo}:{tmp_path / f'{name}.png'}")


def test_supports_are_taken_apart(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.jpg"
    odd.touch()
    texts = (f"{odd}:m.png", "big cat=a.jpg:box=1,2,3,4", "C:/a.jpg:points=1,2;3,4")
    parts = [(one.name, one.photo, one.marks) for one in map(parse_support, texts)]
    blanks = parse_support("cat = a.jpg : box=1,2,3,4")
    assert (blanks.name, blanks.photo, blanks.marks) == ("cat", Path("a.jpg"), "box=1,2,3,4")
    assert parts[:2] == [(None, odd, "m.png"), ("big cat", Path("a.jpg"), "box=1,2,3,4")]
    assert parts[2] == (None, Path("C:/a.jpg"), "points=1,2;3,4")
    texts = ("a.jpg:m.png", "dog=b.jpg:m.png", "c.jpg:m.png", "cat=./c.jpg:n.png", "dog=a.jpg:m.png")
    classes = by_class(map(parse_support, texts), "cat")
    assert {name: len(supports) for name, supports in classes.items()} == {"cat": 2, "dog": 2}
