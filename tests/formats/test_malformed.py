"""Ten damaged or hostile files of each format: one line that names the file and the reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.formats import drawn
from util.errors import UserError
from util.predict.regions import Marking
from util.predict.support_files import supports_in
from util.predict.supports import read_support

Change = Callable[[str], str]
LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(10))
DOCTYPE = f"<!DOCTYPE annotations [{LAUGHS}]><annotations>"


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _in(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def _json(edit: Callable[[dict], object]) -> Change:
    def change(text: str) -> str:
        content = json.loads(text)
        edit(content)
        return json.dumps(content)

    return change


def _shape(**changes: object) -> Change:
    return _json(lambda c: c["shapes"][-1].update(changes))


def _annotation(**changes: object) -> Change:
    return _json(lambda c: c["annotations"][-1].update(changes))


SIZE = {"size": [drawn.HEIGHT, drawn.WIDTH]}
DAMAGES: dict[str, list[tuple[str, Change, str]]] = {
    "coco": [
        ("coco.json", _cut, "cut short"),
        ("coco.json", _json(lambda c: c.pop("images")), "holds no 'images'"),
        ("coco.json", _annotation(category_id=5), "category_id 5 is not among the categories"),
        ("coco.json", _annotation(segmentation=7), "not in COCO's format"),
        ("coco.json", _annotation(segmentation=SIZE | {"counts": "0~"}), "its counts hold '~'"),
        ("coco.json", _annotation(segmentation=SIZE | {"counts": [10**9]}), "its runs cover 1000000000 pixels"),
        ("coco.json", _json(lambda c: c["images"][0].update(file_name="../a.jpg")), "is not the name of a file"),
        ("coco.json", _json(lambda c: c["images"][0].update(width=10**9)), "of a photo of 1000000000 x 30"),
        ("coco.json", _json(lambda c: c["categories"][0].update(name="dog")), "two categories have the same name"),
        ("coco.json", _json(lambda c: c["categories"][0].update(name="../cat")), "none of them / or"),
    ],
    "labelme": [
        ("a.json", _cut, "not in labelme's form"),
        ("a.json", _json(lambda c: c.update(shapes=3)), "'shapes' must be a list"),
        ("a.json", _shape(points=[["x", 1]]), "not in labelme's form"),
        ("a.json", _shape(points=[]), "pairs of numbers"),
        ("a.json", _shape(mask="####"), "a mask is damaged"),
        ("a.json", _shape(mask="aGVsbG8="), "a mask is damaged"),
        ("a.json", _shape(points=[[30, 25], [44, 35]]), "a mask reaches beyond its photo"),
        ("a.json", _shape(shape_type="cube"), "a shape of type 'cube' is unknown"),
        ("a.json", _json(lambda c: c.update(imagePath="b.jpg")), "its photo 'b.jpg' is not there"),
        ("a.json", _json(lambda c: c.update(imagePath=None)), "'imagePath' must be"),
        ("a.json", _json(lambda c: c.update(imageHeight=10**9)), "is of a photo of 40 x 1000000000 pixels"),
    ],
    "yolo": [
        ("labels/train/a.txt", _cut, "line 1 is not in YOLO's form"),
        ("labels/train/a.txt", _in("0 ", "7 "), "class '7' is not among the classes 0..1"),
        ("labels/train/a.txt", _in("0 ", "-1 "), "class '-1' is not among"),
        ("labels/train/a.txt", _in("0.100000", "nan"), "must be shares"),
        ("labels/train/a.txt", _in("0.100000", "40"), "must be shares"),
        ("labels/train/a.txt", _in("0.100000", "x"), "could not convert"),
        ("labels/train/a.txt", lambda _: "\0\0\0", "line 1 is not in YOLO's form"),
        ("data.yaml", _in("names:", "nam: &x ["), "not YAML at line"),
        ("data.yaml", _in("{0: cat, 1: dog}", "{0: cat, 2: dog}"), "must list the classes"),
        ("data.yaml", _in("{0: cat, 1: dog}", "[cat, cat]"), "'cat' occurs twice"),
        ("data.yaml", _in("{0: cat, 1: dog}", "[[cat], dog]"), "a list is not a name"),
        ("data.yaml", _in("{0: cat, 1: dog}", "!!python/object/apply:os.system [ls]"), "not YAML"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "name", "change", "reason"), [(k, *rest) for k, damages in DAMAGES.items() for rest in damages]
)
def test_a_damaged_file_is_one_line(kind: str, name: str, change: Change, reason: str, tmp_path: Path) -> None:
    drawn.WRITERS[kind](tmp_path)
    path = tmp_path / name
    path.write_text(change(path.read_text()))
    assert reason in _refusal(f"{kind}:{tmp_path}", "a.jpg" if "runs cover" in reason or "hold '~'" in reason else name)


def _refusal(text: str, name: str) -> str:
    """Return the error of reading all supports; fails if it is not one short line that names a file."""
    with pytest.raises(UserError) as caught:
        for support in supports_in([text])[0]:
            read_support(support, support.name, Marking())
    line = str(caught.value)
    assert Path(name).name in line and "\n" not in line and len(line) < 500
    return line


def _saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 99, b"[1, 2]", b"a: 1", b"\xff\xd8\xff"])
def test_a_file_of_no_format_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(content)
    assert "in no format that is known here" in _refusal(str(tmp_path / "some"), "some")
    assert "does not exist" in _refusal(str(tmp_path / "gone"), "gone")
