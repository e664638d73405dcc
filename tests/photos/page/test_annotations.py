"""Annotations that are imported on the page: their photos become examples."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import BOX, Page
from util.files.mask_images import read_mask


@pytest.fixture
def annotated(page: Page, example_texts: dict[str, str], photos: list[Path], tmp_path: Path) -> Path:
    """Return annotations of the open photo annotated.png, with a stray point; the other example has segmented it.

    The slider has been moved.
    """
    photo = Path(example_texts["coco"].partition(":")[0])
    shutil.copy(photo, tmp_path / "annotated.png")
    for path in (tmp_path / "annotated.png", *photos[:2]):
        page.do("open", path=str(path))
    page.do("add_class", name="cat")
    page.draw(photos[0].name, BOX)
    assert "of 2 photos" in page.do("segment")
    page.do("slide", threshold=0.4, min_presence=None)
    content = json.loads(photo.with_name("polygon.json").read_text())
    content["shapes"].append({"label": "stray", "shape_type": "point", "points": [[1, 1]]})
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_annotations_become_examples(
    page: Page, annotated: Path, example_texts: dict[str, str], photos: list[Path], tmp_path: Path
) -> None:
    assert "enter the path" in page.do("annotations", path=" ")
    note = f"examples on 1 photo; {annotated}: left out: shapes of the kind 'point' (1)"
    assert page.do("annotations", path=str(annotated)) == note
    assert page.row("annotated.png")["example"]
    truth = Path(example_texts["coco"].partition(":")[0]).with_name("index.png")
    mask = read_mask(tmp_path / "out/examples/masks/annotated.png")
    np.testing.assert_array_equal(mask == 1, read_mask(truth) == 1)  # whatever the slider says


def test_reviewed_photos_are_left_out_by_name(page: Page, annotated: Path, tmp_path: Path) -> None:
    page.do("judge", photo="annotated.png", verdict="accepted", value=1)
    note = page.do("annotations", path=str(annotated))
    assert note.startswith("examples on 0 photos; left out, since it is reviewed: annotated.png (undo accept or reject")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in (annotated, tmp_path / "annotated.png"):
        shutil.copy(file, elsewhere)
    assert "examples on 0 photos" in page.do("annotations", path=str(elsewhere / annotated.name))
    assert not page.row("annotated.png")["example"]
    page.do("judge", photo="annotated.png", verdict="", value=1)
    assert page.do("annotations", path=str(annotated)).startswith("examples on 1 photo;")


def test_edits_are_drawn_over_annotations_and_all_can_be_undone(
    page: Page, annotated: Path, photos: list[Path], tmp_path: Path
) -> None:
    page.do("annotations", path=str(annotated))
    page.draw("annotated.png", {**BOX, "points": [[0, 0], [5, 5]]})
    assert read_mask(tmp_path / "out/examples/masks/annotated.png")[2, 2] == 1
    page.do("use_as_example", photo="annotated.png", value=1)
    page.do("clear", photo=photos[0].name)
    assert not page.row("annotated.png")["example"]
    assert not page.row(photos[0].name)["example"]


def test_annotations_of_a_photo_that_is_not_there_name_it(
    page: Page, example_texts: dict[str, str], tmp_path: Path
) -> None:
    Image.new("RGB", (60, 44)).save(tmp_path / "new.png")
    page.do("open", path=str(tmp_path / "new.png"))
    path = tmp_path / "coco.json"
    path.write_text(Path(example_texts["coco"].partition(":")[2]).read_text())
    assert "annotated.png" in page.do("annotations", path=str(path))


def test_photos_among_the_files_that_are_imported_stay_and_a_stopped_import_is_forgotten(
    page: Page, example_texts: dict[str, str]
) -> None:
    photo = Path(example_texts["coco"].partition(":")[0])
    outlines = photo.with_name("polygon.json").read_bytes()
    page.get("upload_annotations?drop=1&name=damaged.json", b"{")
    page.get("upload_annotations?drop=2&name=annotated.png", photo.read_bytes())
    page.get("upload_annotations?drop=2&name=polygon.json", outlines)
    assert page.do("annotations", path="") == "examples on 1 photo"
    assert page.get("thumb?photo=annotated.png&changed=1")[:2] == b"\xff\xd8"


def mask_of(photo: Path, values: tuple[int, ...]) -> bytes:
    """Return a mask of a photo, as a PNG, with a square of each value."""
    with Image.open(photo) as image:
        label = np.zeros((image.height, image.width), np.uint8)
    for number, value in enumerate(values):
        label[5:10, 10 * number : 10 * number + 5] = value
    content = io.BytesIO()
    Image.fromarray(label).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"a": (1,)}, r"examples on 1 photo$"),
        ({"a": (1,), "gone": (1,)}, r"examples on 1 photo; left out: masks without a photo \(1, such as gone\.png\)$"),
        ({"a": (1,), "b": ()}, r"examples on 1 photo; left out: masks without an object \(1, such as b\.png\)$"),
        ({"a": (1, 2), "names.txt": "cat\ndog"}, r"examples on 1 photo$"),
        ({"a": (1, 2)}, r"a\.png: .* class indices \[1, 2\]; name the classes in names\.txt beside the masks"),
        ({"gone": (1,)}, r"no mask has the name of a photo that is open; name masks like photos"),
        ({"a.txt": "0 0.5 0.5 0.1 0.1"}, r"a\.txt: text alone is no annotation; .*add data\.yaml or classes\.txt"),
        ({"a.txt": "hello", "b.txt": "hello"}, r"text alone is no annotation; "),
        (
            {"a.txt": "0 0.1 0.1 0.3 0.1 0.3 0.3", "classes.txt": "cat"},
            r"examples on 1 photo; classes\.txt: left out: ",
        ),
    ],
)
def test_an_import_says_what_it_leaves_out_or_lacks(page: Page, copies: list[Path], files: dict, line: str) -> None:
    """Also where photos of a second folder are open."""
    second = copies[0].parents[1] / "second"
    second.mkdir()
    shutil.copy(copies[0], second / "d.jpg")
    for folder in (copies[0].parent, second):
        page.do("open", path=str(folder))
    for name, content in files.items():
        is_text = isinstance(content, str)
        photo = copies[0].with_name("b.jpg" if name == "b" else "a.jpg")
        sent = content.encode() if is_text else mask_of(photo, content)
        page.get(f"upload_annotations?drop=1&name={name}{'' if is_text else '.png'}", sent)
    assert re.match(line, page.do("annotations", path=""))
