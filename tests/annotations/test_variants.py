"""Annotations as converters and people write them are read as they are meant, or what is not understood is said."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from annotations.photo_files import PhotoFiles
from photos.example_files import read_examples
from tests.annotations import drawn
from tests.annotations.drawn import (
    AREAS,
    CAT,
    COMPOSED,
    DECOMPOSED,
    DOG,
    HEIGHT,
    WIDTH,
    areas,
    coco_json,
    corners,
    labelme_json,
    outline,
    photo,
    polygon,
    refusal,
)

KNOWN = {"segmentation": [outline(CAT)]}
CATS = {"cat": AREAS["cat"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the photo that annotations name."""
    photo(tmp_path / "p0.jpg")
    return tmp_path


def test_a_file_of_objects_without_outline_or_box_is_refused(folder: Path) -> None:
    assert "none of its entries shows an object" in refusal(coco_json(folder, {"segmentation": []}))


def test_shapes_of_unknown_kinds_are_counted(tmp_path: Path, capsys) -> None:
    shapes = polygon("cat"), polygon("dog", "cuboid"), polygon("dog", "line")
    assert areas(labelme_json(tmp_path, *shapes)) == CATS
    said = capsys.readouterr().err
    assert all(f"left out: shapes of the kind '{kind}' (1)" in said for kind in ("cuboid", "line"))


@pytest.mark.parametrize(("name", "unknown"), [("_background_", 0), ("__ignore__", 1440), ("void", 1440)])
def test_the_names_of_background_and_unknown_are_no_classes(folder: Path, name: str, unknown: int) -> None:
    path = coco_json(folder, KNOWN, {"segmentation": [outline(DOG)]}, names=("cat", name))
    (support,), categories = read_examples([str(path)])
    assert (categories, int((support.read().label == 255).sum())) == ({1: "cat"}, unknown)


def yolo(folder: Path, rows: str, names: str) -> Path:
    """Write a data set of YOLO whose text file is named as another system than that of the photo writes it."""
    photo(folder / f"images/{COMPOSED}")
    labels = (folder / f"labels/{DECOMPOSED}").with_suffix(".txt")
    labels.parent.mkdir()
    labels.write_text(rows)
    (folder / "data.yaml").write_text(f"names: {names}\n")
    return folder


def row(number: object, box: tuple[int, ...]) -> str:
    shares = (np.array(corners(box)) / (WIDTH, HEIGHT)).reshape(-1)
    coordinates = " ".join(f"{share:.18e}" for share in shares)
    return f"{number} {coordinates}\n"


@pytest.mark.parametrize(
    ("rows", "names", "expected", "said"),
    [
        (
            row("0.000000000000000000e+00", CAT) + row("1.0", DOG),
            "[cat, dog]",
            AREAS,
            "objects that have no other outline (2)",
        ),
        (row(1, CAT) + row(2, DOG), "[_background_, cat, dog]", AREAS, "objects that have no other outline (2)"),
        (row(0, CAT) + "1 0.1 0.1\n", "[cat, dog]", CATS, "left out: objects that cover no area (1)"),
    ],
)
def test_numbers_of_yolo_may_be_decimal_and_begin_with_the_background(
    *, tmp_path: Path, capsys, rows: str, names: str, expected: dict, said: str
) -> None:
    assert areas(yolo(tmp_path, rows, names)) == expected
    assert said in capsys.readouterr().err


def hide_copies(file: Path) -> None:
    """Write hidden copies of a file as notebooks and systems do."""
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        target = file.parent / hidden / f"p0-checkpoint{file.suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)
    file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7")


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
def test_hidden_files_are_no_part_of_a_set(tmp_path: Path, kind: str) -> None:
    root = drawn.WRITERS[kind](tmp_path)
    for file in [path for path in root.rglob("*.*") if path.is_file()]:
        hide_copies(file)
    (root / "Thumbs.db").write_bytes(b"\0")
    assert (areas(root), len(PhotoFiles(root).paths)) == (AREAS, 1)
