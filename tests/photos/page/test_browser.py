"""The page in a real browser: two classes on several photos, with notes, counts and the zip.

They run where a Chromium is installed.
"""

import shutil
from collections.abc import Iterator
from zipfile import ZipFile

import pytest
from PIL import Image

from photos import Segmenter
from tests.annotations.drawn import HEIC
from tests.helpers.browser import Page
from tests.helpers.read import json_of

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.process

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60_000  # ms; a machine may be busy
SIZE = (184, 152)  # of coins_1.jpg


class Tab:
    """A tab of a browser with the page."""

    def __init__(self, page):
        self.page = page
        self.errors: list[str] = []  # of scripts
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.set_default_timeout(PATIENCE)

    def press(self, action: str) -> None:
        self.page.click(f"[data-do={action}]")

    def shows(self, place: str, text: str) -> None:
        """Wait until a line of the page has a text."""
        sync_api.expect(self.page.locator(f"#{place}")).to_contain_text(text, timeout=PATIENCE)

    def open(self, number: int) -> None:
        self.page.click(f"#grid button >> nth={number}")
        sync_api.expect(self.page.locator("canvas[aria-busy=false]")).to_be_attached(timeout=PATIENCE)

    def paint(self, x: int, y: int, button: str = "left") -> None:
        """Press the tool at a place of coins_1.jpg."""
        box = self.page.locator("canvas").bounding_box()
        scale = min(box["width"] / SIZE[0], box["height"] / SIZE[1])
        left = box["x"] + box["width"] / 2 + (x - SIZE[0] / 2) * scale
        top = box["y"] + box["height"] / 2 + (y - SIZE[1] / 2) * scale
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move(left + 5, top + 5)
        self.page.mouse.up()


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Return the shipped weights, which the pages share."""
    return Segmenter(side=129, device="cpu")


@pytest.fixture
def served(segmenter: Segmenter, tmp_path) -> Iterator[Page]:
    """Return the page with the sample photos."""
    page = Page(segmenter, tmp_path / "out")
    page.do("samples")
    yield page
    page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    """Return a browser, whose start takes seconds."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: sync_api.Browser, served: Page) -> Iterator[Tab]:
    """Return a tab in which the page is open."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = Tab(context.new_page())
    tab.page.goto(served.address)
    yield tab
    assert tab.errors == []
    context.close()


def test_classes_are_drawn_accepted_denied_and_downloaded(served: Page, tab: Tab, tmp_path) -> None:
    for name in ("coins_3.jpg", "coins_4.jpg"):
        served.do("remove", photo=name)
    tab.open(0)
    tab.page.evaluate("document.getElementById('size').value = 100")
    tab.paint(157, 50)
    tab.shows("note", "coin on coins_1.jpg is yours: ")
    tab.shows("count", "3 photos; coin: 1 by you, 2 not searched")
    tab.press("undo")
    tab.shows("count", "3 photos; coin: 3 not searched")
    tab.press("redo")
    tab.open(2)
    tab.press("empty")
    tab.shows("note", "portrait.jpg: nothing of coin is there, by you")
    tab.page.fill("#name", "edge")
    tab.press("add_class")
    tab.shows("count", "; edge: 3 not searched")
    tab.press("accept")
    tab.shows("note", "edge: was not searched on portrait.jpg")
    tab.open(0)
    before = served.mask("coins_1.jpg")[0]
    for x in range(20, 120, 10):  # faster than the server answers
        tab.paint(x, 20)
    tab.shows("note", "edge on coins_1.jpg is yours: ")
    tab.page.evaluate("document.getElementById('size').value = 30")
    tab.page.click("label:has-text('Click')")
    tab.page.keyboard.down("Shift")
    tab.paint(157, 50)  # takes pixels of coins away
    tab.page.keyboard.up("Shift")
    with served.folder.lock:  # which the search waits for
        tab.press("segment")
        tab.shows("note", "Searching all photos")
    tab.shows("note", "edge: on ")
    tab.shows("outlook", "28 % IoU on average")
    after = served.mask("coins_1.jpg")[0]
    assert 0 < (after == 1).sum() < (before == 1).sum() < (after == 2).sum()
    assert {name: by for name, (by, _) in served.known("portrait.jpg").items()} == {"coin": "person", "edge": "network"}
    with tab.page.expect_download() as download:
        tab.press("pack")
    tab.shows("note", "3 photos packed")
    ZipFile(download.value.path()).extractall(tmp_path / "made")
    rows = json_of(tmp_path / "made/portrait.json")["classes"]
    assert {row["name"]: row["by"] for row in rows} == {"coin": "person", "edge": "network"}


def test_undo_and_redo_bring_nothing_back_over_what_another_tab_says(served: Page, tab: Tab) -> None:
    tab.open(0)
    tab.paint(157, 50)
    tab.shows("count", "coin: 1 by you")
    tab.press("back")
    tab.shows("note", "coin on coins_1.jpg is the network's again")
    tab.shows("count", "coin: 5 not searched")
    tab.press("undo")  # a step can be undone now, and another one redone
    tab.shows("count", "coin: 1 by you")
    other = Tab(tab.page.context.new_page())
    other.page.goto(served.address)
    other.open(0)
    other.press("empty")
    tab.shows("about", "coins_1.jpg: coin: by you, nothing")
    for action in ("undo", "redo"):
        tab.press(action)
        tab.shows("note", f"nothing is left to {action} on this photo")
    assert served.known("coins_1.jpg") == {"coin": ("person", False)} and other.errors == []


def test_what_is_clicked_is_kept_and_keys_wait_in_order(served: Page, tab: Tab) -> None:
    tab.open(0)
    tab.page.click("label:has-text('Click')")
    with served.folder.lock:  # which the network's answer waits for
        tab.paint(157, 50)
        for key in ("n", "0", "n"):
            tab.page.keyboard.press(key)
        tab.shows("note", "opening the next photo")
    tab.shows("about", "coins_3.jpg: coin: not searched")
    assert served.known("coins_1.jpg") == {"coin": ("person", True)}
    assert served.known("coins_2.jpg") == {"coin": ("person", False)}
    tab.page.select_option("#show", "not searched")
    tab.press("empty")
    tab.shows("note", "coins_3.jpg: nothing of coin is there")
    tab.press("next")
    tab.shows("about", "coins_4.jpg: ")
    tab.press("absent")
    tab.shows("count", "5 photos; coin: 5 by you")
    tab.press("undo")
    tab.shows("count", "coin: 3 by you, 2 not searched")


def test_photos_of_every_kind_are_shown(served: Page, tab: Tab, tmp_path) -> None:
    for kind in ("bmp", "gif", "heic", "tiff", "webp"):
        file = tmp_path / f"a_{kind}.{kind}"
        if kind == "heic":
            shutil.copy(HEIC, file)
        else:
            Image.new("RGB", SIZE, "red").save(file)
        tab.page.set_input_files("#files", file)
        tab.page.click(f"#grid button:has-text('{file.name}')")
        tab.shows("about", f"{file.name}: coin: not searched")
        middle = (
            "document.querySelector('canvas').getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1)"
        )
        tab.page.wait_for_function(f"(canvas => {middle}.data[0] > 200)(document.querySelector('canvas'))")
