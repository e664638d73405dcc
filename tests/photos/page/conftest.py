"""Fixtures of the tests of the page: a folder that can be opened again, and photos that may be changed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from photos import Segmenter
from tests.helpers.browser import Page


@pytest.fixture
def start(tmp_path: Path, baseline: Path, made) -> Iterator[Callable[[], Page]]:
    """Return a function that starts the page of the folder ``out``, in place of an earlier one."""
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    pages = []

    def begin() -> Page:
        while pages:
            pages.pop().close()
        pages.append(Page(made.segmenters["page"], tmp_path / "out"))
        return pages[-1]

    yield begin
    for page in pages:
        page.close()


@pytest.fixture
def page(start: Callable[[], Page], copies: list[Path]) -> Page:
    """Return a page with three photos, b.jpg, a.jpg and c.jpg."""
    page = start()
    page.folder.open(copies)
    return page


@pytest.fixture
def copies(photos: list[Path], tmp_path: Path) -> list[Path]:
    """Return copies of some photos, b.jpg, a.jpg and c.jpg, in a folder of their own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return [Path(shutil.copy(photo, folder / f"{name}.jpg")) for photo, name in zip(photos, "bac")]
