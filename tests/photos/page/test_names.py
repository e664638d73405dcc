"""Names of photos that are no UTF-8 go through the page and ``predict.py``."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from photos.results import FORMATS
from tests.helpers.browser import BOX, Page, unpacked

SHOWN = "caf\\udce9.jpg"


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Return a folder with a photo whose name is no UTF-8, and with a.jpg."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos[0], folder / os.fsdecode(b"caf\xe9.jpg"))
    shutil.copy(photos[1], folder / "a.jpg")
    return folder


def test_the_page_takes_a_photo_whose_name_is_no_utf8(start: Callable[[], Page], folder: Path, tmp_path: Path) -> None:
    page = start()
    assert page.do("open", path=str(folder)) == "2 photos added"
    page.draw("a.jpg", BOX)
    assert "of 1 photo" in page.do("segment")
    assert page.row(SHOWN)["found"]
    assert page.get(f"thumb?photo={quote(SHOWN)}&changed=1")[:2] == b"\xff\xd8"
    page.judge(SHOWN, "accepted")
    assert page.do("pack", formats=FORMATS) == "2 of 2 photos packed"
    assert (unpacked(page, tmp_path / "got") / "caf\\udce9_mask.png").exists()
    assert "caf%E9" in (tmp_path / "out/review.html").read_text()
    page.session.end()
    assert start().row(SHOWN)["verdicts"] == {"object": "accepted"}


def test_predict_writes_a_photo_whose_name_is_no_utf8(folder: Path, predict, support, tmp_path: Path) -> None:
    words = (*support, "--query", folder, "--out", tmp_path / "found")
    formats = ("--format", "png,coco,yolo,labelme,labelstudio")
    first = predict(*words, *formats)
    again = predict(*words, "--resume", *formats)
    for outcome in (first, again):
        assert outcome.code == 0
        assert SHOWN in outcome.errors
    assert SHOWN in (tmp_path / "found/summary.csv").read_text()
    assert "0 of 0 photos" in again.output
