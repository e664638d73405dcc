"""Damaged files of each format: one line that names the file and the reason."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.annotations import drawn

Change = Callable[[str], str]
SIZE = {"size": [drawn.HEIGHT, drawn.WIDTH]}  # of run lengths


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _in(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def _json(key: str, **changes: object) -> Change:
    """Return a change of the last entry of a list in a JSON file, or of the file itself."""

    def change(text: str) -> str:
        content = json.loads(text)
        entry = content[key][-1] if key else content
        entry.update(changes)
        return json.dumps(content)

    return change


ALONE = {"coco": "coco.json", "labelme": "a.json"}  # the file that is damaged, where the line may name another


@pytest.mark.parametrize(
    ("kind", "named", "change", "reason"),  # the file that the line names, often the damaged one
    [
        ("coco", "coco.json", _cut, "line 1 column"),
        (
            "coco",
            "coco.json",
            lambda _: "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of Git LFS",
        ),
        ("coco", "coco.json", lambda _: "\n<!DOCTYPE html><html></html>", "a web page"),
        ("coco", "coco.json", _in("images", "pictures"), "'images' is missing"),
        ("coco", "coco.json", _json("annotations", category_id=5), "category_id 5 is not among the categories"),
        (
            "coco",
            "coco.json",
            _json("annotations", segmentation=7),
            'annotation 18 of a.jpg: its "segmentation" must be outlines',
        ),
        (
            "coco",
            "coco.json",
            _json("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
            "an outline has an odd number",
        ),
        ("coco", "coco.json", _json("annotations", segmentation={"counts": "x"}), "of a.jpg: 'size' is missing"),
        *(
            (
                "coco",
                "coco.json",
                _json("annotations", image_id=number),
                f"instances in COCO's format (annotation 18: {why}",
            )
            for number, why in (("p0", "invalid literal"), (None, "a value is of another kind"))
        ),
        ("coco", "coco.json", _json("annotations", bbox=["left"]), "annotation 18 of a.jpg: could not convert string"),
        ("coco", "coco.json", _in("segmentation", "outline"), "annotation 17 of a.jpg: 'segmentation' is missing"),
        ("coco", "coco.json", _in("height", "tall"), "image 7: 'height' is missing; correct what wrote it"),
        ("coco", "coco.json", _json("categories", name="cat"), "the same"),
        (
            "coco",
            "coco.json",
            _in('"images": [', '"images": [{"id": 8, "file_name": "a.jpg"}, '),
            "the same id or file_name",
        ),
        (
            "coco",
            "coco.json",
            _json("annotations", segmentation=SIZE | {"counts": "0>"}),
            "do not cover its 6912 pixels, or one is 0",
        ),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": [9, 5, 0, 6898]}), "or one is 0"),
        (
            "coco",
            "coco.json",
            _json("annotations", segmentation=SIZE | {"counts": "0o"}),
            "its run lengths are damaged",
        ),
        (
            "coco",
            "coco.json",
            _json("annotations", segmentation=SIZE | {"counts": "0é"}),
            "its run lengths are damaged",
        ),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": "0O"}), "or one is 0"),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": ""}), "its run lengths are damaged"),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": [0, 10**9]}), "or one is 0"),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": 6912}), "annotation 18 of"),
        ("coco", "coco.json", _json("annotations", segmentation=SIZE | {"counts": [[3456, 3456]]}), "annotation 18 of"),
        ("coco", "coco.json", _json("annotations", segmentation=[[0, 0, 1e8, 0, 9, 9]]), "its outlines reach far"),
        ("coco", "coco.json", _json("images", width=50), "its size is [72, 96], the image's [72, 50]"),
        *(
            ("coco", "coco.json", _json("annotations", **changes), "annotation 18 of a.jpg: its outline, bbox or area")
            for changes in (
                {"bbox": [8, 20, 36, 40]},  # mirrored
                {"bbox": [*drawn.DOG]},  # two corners
                {"bbox": [*drawn.DOG], "area": 1440, "segmentation": []},
                {"bbox": [52, 20, 36, 40], "segmentation": drawn.by_rows(drawn.region(drawn.DOG))},
            )
        ),
        ("labelme", "a.json", _cut, "line 1 column"),
        ("labelme", "a.json", _json("", shapes=3), "not in labelme's form (a value is of another kind than expected)"),
        ("labelme", "a.json", _in("imagePath", "path"), "not in labelme's form ('imagePath' is missing)"),
        ("labelme", "a.json", _json("shapes", points=[["x", 1]]), "shape 3: could not convert"),
        ("labelme", "a.json", _json("shapes", mask="aGVsbG8="), "a mask is damaged"),
        ("labelme", "a.json", _json("", imagePath="b.jpg"), "its photo 'b.jpg' is not in the folder of photos"),
        ("labelme", "a.jpg", _json("", imageHeight=73), "different sizes"),
        ("labelstudio", "export.json", _cut, "cut short"),
        ("labelstudio", "export.json", _in('"image_rotation": 0', '"image_rotation": 90'), "is rotated there"),
        (
            "labelstudio",
            "export.json",
            _in('"rle": [', '"rle": [1], "old": ['),
            "task 1: invalid literal for int() with base 2",
        ),
        ("labelstudio", "export.json", _in("0123abcd-", "other-"), "did you mean 'a.jpg'"),
        ("results", "a.json", _json("", height="x"), "is no result of this project"),
        ("results", "a.json", _json("", query="gone.jpg"), "'gone.jpg' is not in the folder of photos"),
        ("results", "a.json", _json("", query="a" * 300), "a.json: "),
        ("yolo", "labels/train/a.txt", lambda text: text[:30], "line 1"),
        ("yolo", "labels/train/a.txt", _in("0 ", "7 "), "class 7 is not among the classes 0..1"),
        ("yolo", "labels/train/a.txt", _in("0 ", "0.5 "), "line 1 is not in YOLO's form"),
        ("yolo", "labels/train/a.txt", _in("\n1 ", " 0.91\n1 "), "odd number of coordinates; take out the last number"),
        ("yolo", "labels/train/a.txt", _in("0.083333", "nan"), "must be shares"),
        ("yolo", "labels/train/a.txt", _in("0.083333", "40"), "must be shares"),
        ("yolo", "data.yaml", _in("names:", "nam: &x ["), "line 2"),
        ("yolo", "data.yaml", _in("names:", "kpt_shape: [17, 3]\nnames:"), "is of key points"),
        ("yolo", "data.yaml", _in("{0: cat, 1: dog}", "[cat, cat]"), "the class names 'cat' and 'cat' are alike"),
        ("yolo", "data.yaml", _in("{0: cat, 1: dog}", "cat"), "must list the classes"),
        ("yolo", "data.yaml", _in("{0: cat, 1: dog}", "!!python/object/apply:os.system [ls]"), "python/object"),
    ],
)
def test_a_damaged_file_is_one_line(kind: str, named: str, change: Change, reason: str, tmp_path: Path) -> None:
    drawn.WRITERS[kind](tmp_path)
    file = tmp_path / ALONE.get(kind, named)
    file.write_text(change(file.read_text()))
    line = drawn.refusal(f"{kind}:{file if kind == 'coco' else tmp_path}")
    assert Path(named).name in line
    assert reason in line


@pytest.mark.parametrize("place", [".", "below"])
def test_a_cut_off_json_names_the_line(tmp_path: Path, place: str) -> None:
    file = tmp_path / place / "cut.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"images": [{"id": 1,\n "file')
    for named in (file, tmp_path):
        assert re.search(r"cut\.json: .* line 2 column .*export or download", drawn.refusal(named))


def test_text_files_of_yolo_without_names_are_said_to_lack_them(tmp_path: Path) -> None:
    drawn.yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    assert "YOLO's labels a data.yaml or classes.txt" in drawn.refusal(tmp_path)


@pytest.mark.parametrize("element", ["annotation", "annotations"])
def test_the_xml_of_other_programs_is_named(tmp_path: Path, element: str) -> None:
    drawn.photo(tmp_path / "images" / drawn.PHOTO)
    (tmp_path / "a.xml").write_text(f"<?xml version='1.0'?>\n<{element}>")
    program = {"annotation": "PASCAL VOC's XML, of boxes", "annotations": "CVAT's XML"}[element]
    for named in (tmp_path, tmp_path / "a.xml"):
        assert f"a.xml: is {program}; export" in drawn.refusal(named)


def test_a_file_of_no_format_is_one_line(tmp_path: Path) -> None:
    for content in (b"", b"{}", b"\0" * 99, b"\xff\xd8\xff"):
        (tmp_path / "some").write_bytes(content)
        assert "some: its format is unknown" in drawn.refusal(tmp_path / "some")
    assert "gone: this file or folder does not exist" in drawn.refusal(tmp_path / "gone")
