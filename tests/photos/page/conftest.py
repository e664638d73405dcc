"""Fixtures of the tests of the page: a session that can be started again, and photos that may be changed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from photos import Segmenter
from tests.helpers.browser import BOX, Page


@pytest.fixture
def start(tmp_path: Path, baseline: Path, made) -> Iterator[Callable[[], Page]]:
    """Return a function that starts the page of the folder ``out``, for the first time or again."""
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    pages: list[Page] = []

    def begin() -> Page:
        page = Page(made.segmenters["page"], tmp_path / "out")
        pages.append(page)
        return page

    yield begin
    for page in pages:
        page.close()


@pytest.fixture
def page(start: Callable[[], Page]) -> Page:
    """Return a page without photos."""
    return start()


@pytest.fixture
def copies(photos: list[Path], tmp_path: Path) -> list[Path]:
    """Return copies of some photos, b.jpg, a.jpg and c.jpg, in a folder of their own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return [Path(shutil.copy(photo, folder / f"{name}.jpg")) for photo, name in zip(photos, "bac")]


@pytest.fixture
def support(baseline: Path, example_texts: dict[str, str]) -> tuple[object, ...]:
    """Return the words of ``predict.py`` for the network of the page and a support."""
    return ("--config", baseline, "--support", f"cat={example_texts['box']}")


@pytest.fixture
def segmented(page: Page, copies: list[Path]) -> Page:
    """Return a page on which b.jpg is an example, and a.jpg and c.jpg are segmented."""
    page.do("open", path=str(copies[0].parent))
    page.draw("b.jpg", BOX)
    assert page.do("segment") == "2 of 2 photos show an object"
    return page


@pytest.fixture
def reviewed(segmented: Page, mini_root: Path, tmp_path: Path) -> Page:
    """Return this page after a review: a.jpg is corrected and accepted, c.jpg rejected, a corrected d.jpg is open."""
    segmented.draw("a.jpg", BOX)
    segmented.judge("a.jpg", "accepted")
    segmented.judge("c.jpg", "rejected")
    photo = sorted((mini_root / "JPEGImages").iterdir())[3]
    segmented.do("open", path=str(shutil.copy(photo, tmp_path / "photos/d.jpg")))
    assert segmented.do("segment") == "2 of 3 photos show an object"
    segmented.draw("d.jpg", BOX)
    segmented.do("slide", threshold=0.9, min_presence=None)
    return segmented
