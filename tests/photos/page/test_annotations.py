"""Annotations that are imported on the page: their photos become examples."""

import json
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
