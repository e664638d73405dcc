"""The page in a real browser: two classes on several photos, with notes, counts and the zip.

They run where a Chromium is installed.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from zipfile import ZipFile

import pytest
from PIL import Image

from photos import Segmenter
from photos.page.background import WorkState
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

    def press(self, action: str, **shown: str) -> None:
        """Press a button, and wait until lines of the page have a text."""
        self.page.click(f"[data-do={action}]")
        for place, text in shown.items():
            self.shows(place, text)

    def shows(self, place: str, text: str) -> None:
        """Wait until a line of the page has a text."""
        sync_api.expect(self.page.locator(f"#{place}")).to_contain_text(text, timeout=PATIENCE)

    def open(self, number: int) -> None:
        self.page.click(f"#grid button >> nth={number}")
        self.idle()

    def idle(self) -> None:
        """Wait until all that was pressed is done."""
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
    tab.press("undo", count="3 photos; coin: 3 not searched")
    tab.press("redo")
    tab.open(2)
    tab.press("empty", note="coin on portrait.jpg is not there, by you")
    tab.page.fill("#name", "edge")
    tab.press("add_class", count="; edge: 3 not searched")
    tab.press("accept", note="edge: was not searched on portrait.jpg")
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
        tab.press("segment", note="Searching all photos")
    tab.shows("note", "2 of 2 waiting photos searched; coin: ")
    tab.shows("outlook", "these weights were not trained on edge")
    after = served.mask("coins_1.jpg")[0]
    assert 0 < (after == 1).sum() < (before == 1).sum() < (after == 2).sum()
    assert {name: by for name, (by, _) in served.known("portrait.jpg").items()} == {"coin": "person", "edge": "network"}
    with tab.page.expect_download() as download:
        tab.press("pack", note="3 photos packed")
    ZipFile(download.value.path()).extractall(tmp_path / "made")
    by = {row["name"]: row["by"] for row in json_of(tmp_path / "made/portrait.json")["classes"]}
    assert by == {"coin": "person", "edge": "network"}


def test_undo_and_redo_bring_nothing_back_over_what_another_tab_says(served: Page, tab: Tab) -> None:
    tab.open(0)
    tab.paint(157, 50)
    tab.shows("count", "coin: 1 by you")
    tab.press("back", note="coin on coins_1.jpg is the network's again")
    tab.shows("count", "coin: 5 not searched")
    tab.press("undo")  # a step can be undone now, and another one redone
    tab.shows("count", "coin: 1 by you")
    other = Tab(tab.page.context.new_page())
    other.page.goto(served.address)
    other.open(0)
    other.press("empty")
    tab.shows("about", "coins_1.jpg: coin: by you, nothing")
    for action in ("undo", "redo"):
        tab.press(action, note="coins_1.jpg was changed since, elsewhere")
    assert served.known("coins_1.jpg") == {"coin": ("person", False)} and other.errors == []


def test_what_is_pressed_waits_with_its_class_and_photo(served: Page, tab: Tab) -> None:
    for name in ("edge", "dish"):
        served.do("add_class", name=name)
    tab.open(0)
    tab.shows("about", "dish: not searched")
    tab.page.click("label:has-text('Click')")
    tab.page.context.set_offline(True)
    for key, place in (("1", (157, 50)), ("2", (30, 140)), ("3", (157, 50))):  # the last one has no free pixel
        tab.page.keyboard.press(key)
        tab.paint(*place)
    tab.shows("note", "The server does not answer")
    for key in ("n", "2", "0", "n", "1"):
        tab.page.keyboard.press(key)
    tab.page.context.set_offline(False)
    tab.idle()
    tab.shows("about", "coins_3.jpg: coin: not searched")
    label, _ = served.mask("coins_1.jpg")
    assert (label[50, 157], label[140, 30], label.max()) == (1, 2, 2)
    assert served.known("coins_2.jpg") == {"edge": ("person", False)}


def test_nothing_is_marked_that_nobody_sees(served: Page, tab: Tab) -> None:
    paint = partial(tab.paint, 157, 50)
    tab.open(0)
    tab.page.fill("#name", "dish")
    with served.folder.lock:  # which the new class waits for
        tab.press("add_class")
        paint()
        tab.shows("note", "the class dish is added; press again when it is chosen")
    tab.shows("about", "dish: not searched")
    tab.page.route("**/picture*", lambda _: None)  # it is not answered
    keys = tab.page.keyboard
    for act, note in (
        (partial(served.do, "remove_class", value=2), "the class dish was removed, in another window"),
        (paint, "choose a class first"),
        (partial(served.do, "remove", photo="coins_1.jpg"), "coins_1.jpg was removed, in another window"),
        (paint, "no photo is open"),
        (lambda: [keys.press("1"), tab.open(0), paint()], "coins_2.jpg is not shown yet"),
        (lambda: [tab.page.check("#onward"), *map(keys.down, "00000")], "coin on coins_2.jpg is not there, by you"),
        (
            lambda: [setattr(served.folder, "out", served.folder.out / "b"), keys.up("0"), keys.press("0")],
            "another folder",
        ),
    ):
        act()
        tab.shows("note", note)
    assert [*map(served.known, ("coins_2.jpg", "coins_3.jpg"))] == [{"coin": ("person", False)}, {}]


def test_a_list_is_one_step_that_is_undone_and_done_again(served: Page, tab: Tab) -> None:
    tab.page.select_option("#show", "not searched")
    tab.page.select_option("#order", "high presence first")
    tab.press("empty", count="coin: 1 by you")
    tab.press("next")
    tab.press("onwards", filter='No photo is shown: the list is of photos "not searched"')
    served.folder.work.state = WorkState("marked")
    tab.press("undo", note="wait until the work is done")
    served.folder.work.state = None
    for action, count in (("undo", "1 by you, 4 not searched"), ("redo", "5 by you")):
        tab.press(action, count=f"coin: {count}")


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
