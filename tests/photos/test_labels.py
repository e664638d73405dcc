"""All kinds of marks give the same label, and texts of supports are taken apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotations.shapes import UNKNOWN
from model.episode import IGNORE
from photos.examples import BOXED, by_class, parse_example
from tests.photos.conftest import BOX, HEIGHT, WIDTH
from util.files.errors import UserError

RADIUS = 0.02 * WIDTH  # of points


def _label(text: str, **marking) -> np.ndarray:
    return parse_example(text, **marking).read().label


@pytest.mark.parametrize(("kind", "value"), [("index", 1), ("box", BOXED)])
def test_masks_and_boxes_mark_their_pixels(example_texts: dict[str, str], kind: str, value: int) -> None:
    left, top, right, bottom = BOX
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[top:bottom, left:right] = value
    assert np.array_equal(_label(example_texts[kind]), expected)


def test_one_value_of_a_mask_counts_and_255_is_unknown(example_texts: dict[str, str], tmp_path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:10] = 3
    values[10:20] = 8
    values[20:30] = IGNORE
    Image.fromarray(values).save(tmp_path / "many.png")
    text = f"{example_texts['box'].partition(':')[0]}:{tmp_path}/many.png"
    assert np.array_equal(_label(text, mask_value=8), np.where(values == IGNORE, IGNORE, values == 8))
    with pytest.raises(UserError, match=r"many\.png: holds the values 3, 8, and nothing names them"):
        _label(text)
    Image.fromarray(np.dstack([values] * 3)).save(tmp_path / "colours.png")
    with pytest.raises(UserError, match=r"colours\.png: this mask is stored as RGB, not as class indices"):
        _label(text.replace("many", "colours"), mask_value=8)


@pytest.mark.parametrize("kind", ["points", "scribble"])
def test_drawn_marks_are_discs_and_lines_with_an_unknown_border(example_texts: dict[str, str], kind: str) -> None:
    label = _label(f"{example_texts['box'].partition(':')[0]}:{kind}=15,20;40,20")
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    nearest_x = np.clip(x, 15, 40) if kind == "scribble" else np.where(x < 28, 15, 40)
    distance = np.hypot(x - nearest_x, y - 20)
    assert np.array_equal(label == 1, distance <= RADIUS)
    assert np.array_equal(label == 0, distance > RADIUS * UNKNOWN)


def test_marks_of_one_photo_join(example_texts: dict[str, str]) -> None:
    photo = example_texts["box"].partition(":")[0]
    points = _label(f"{photo}:points=15,20;40,20")
    denied = _label(f"{photo}:points=30,10;16,20")
    boxes = np.zeros((HEIGHT, WIDTH), bool)
    boxes[3:20, 2:20] = boxes[3:20, 30:50] = boxes[1:9, 1:9] = True
    marks = ("box=2,3,20,20;30,3,50,20 not=30,10", "points=15,20; 40,20 not=16,20", "box=1,1,9,9")
    (joined,) = by_class([parse_example(f"{photo}:{text}") for text in marks], "cat")["cat"]
    support = joined.read()
    assert np.array_equal(support.label == BOXED, boxes & (points != 1) & (denied != 1))
    assert np.array_equal(support.label == 1, (points == 1) & (denied != 1))
    assert np.array_equal(support.label == IGNORE, (points == IGNORE) & ~boxes & (denied != 1))
    assert support.source.endswith("not=16,20 + box=1,1,9,9")


def test_a_text_is_split_into_class_photo_and_annotation(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.jpg"
    odd.touch()
    for text, name, photo, annotation in (
        (f"{odd}:m.png", None, odd, "m.png"),
        ("big cat=a.jpg:box=1,2,3,4", "big cat", Path("a.jpg"), "box=1,2,3,4"),
        ("cat = a.jpg : box=1,2,3,4", "cat", Path("a.jpg"), "box=1,2,3,4"),
        ("C:/a.jpg:points=1,2;3,4 not=5,6", None, Path("C:/a.jpg"), "points=1,2;3,4 not=5,6"),
    ):
        example = parse_example(text)
        assert (example.name, example.photo, example.annotation) == (name, photo, annotation)


def test_annotations_of_a_class_on_one_photo_are_one_support() -> None:
    texts = ("a.jpg:m.png", "dog=b.jpg:m.png", "c.jpg:m.png", "cat=./c.jpg:n.png", "dog=a.jpg:m.png")
    classes = by_class(map(parse_example, texts), "cat")
    assert {name: len(photos) for name, photos in classes.items()} == {"cat": 2, "dog": 2}
