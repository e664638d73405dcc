"""The page in a real browser: what a user does with mouse and finger, on a wide and on a narrow screen.

They run where a Chromium is installed.
"""

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photos import Segmenter
from photos.page.session import Session
from tests.helpers.browser import Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.process

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDE = {"viewport": {"width": 1280, "height": 800}}
NARROW = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PATIENCE = 60_000  # ms; a machine may be busy
REFUSED = "Failed to load resource"  # what a browser's console says of a refused request
COINS = Path("photos/page/example")
FINGER = 44  # pixels of the screen
COIN = (157, 50)  # x, y of the middle of one on coins_1.jpg
COIN_RADIUS = 22
Place = tuple[float, float]  # x, y in pixels of a photo


class Tab:
    """A tab of a browser with the page."""

    def __init__(self, page, is_narrow: bool):
        self.page = page
        self.is_narrow = is_narrow
        self.photo = ""  # that is open
        self.errors: list[str] = []  # of scripts
        self.refused: list[str] = []  # requests
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._take)
        page.on("dialog", lambda dialog: dialog.accept())
        page.set_default_timeout(PATIENCE)

    def _take(self, message) -> None:
        if message.type == "error":
            (self.refused if message.text.startswith(REFUSED) else self.errors).append(message.text)

    def wait(self) -> None:
        """Wait until the open photo is loaded, and the network looks for nothing on it."""
        self.expect("canvas:not([aria-busy=true])").to_be_attached(timeout=PATIENCE)

    def press(self, button: str) -> None:
        self.wait()
        self.page.get_by_role("button", name=button, exact=True).click()

    def choose(self, tool_or_class: str) -> None:
        self.page.locator("label", has_text=re.compile(f"^{tool_or_class}$")).click()

    def expect(self, selector: str):
        return sync_api.expect(self.page.locator(selector))

    def says(self, text: str) -> None:
        """Wait until the page's line says something."""
        self.expect("#note").to_contain_text(text, timeout=PATIENCE)

    def upload(self, *files: Path) -> None:
        self.page.locator("#photos").set_input_files([str(file) for file in files])

    def drop(self, *paths: Path) -> None:
        """Drop files and folders on the page, as a file manager does."""
        data = {"items": [], "files": [str(path.resolve()) for path in paths], "dragOperationsMask": 1}
        session = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})
            if kind == "dragOver":
                self.expect("body.drop").to_be_attached(timeout=PATIENCE)  # the page has seen that something is dragged

    def open(self, name: str) -> None:
        """Open a photo of coins and wait until it is shown."""
        self.photo = name
        self.page.locator("#grid button", has_text=name).click()
        self.expect("#grid button[aria-current]").to_contain_text(name, timeout=PATIENCE)
        self.expect("#about").to_contain_text(name, timeout=PATIENCE)
        self.wait()

    @contextmanager
    def held(self, address: str, number: int = 1) -> Iterator[None]:
        """Hold the first request, or one of another number, to an address until the end of the block."""
        requests: list = []

        def send(route) -> None:
            requests.append(route)
            if len(requests) != number:
                route.continue_()

        self.page.route(address, send)
        yield
        while len(requests) < number:
            self.page.wait_for_timeout(20)
        requests[number - 1].continue_()
        self.page.unroute(address)

    def status(self, name: str, status: str) -> None:
        """Wait until the grid shows a status of a photo."""
        tile = self.page.locator("#grid button", has_text=name).locator("b")
        sync_api.expect(tile).to_have_text(status, timeout=PATIENCE)

    def _on_screen(self, place: Place) -> Place:
        """Return where a place of the open photo is on the screen."""
        self.wait()
        canvas = self.page.locator("canvas")
        with Image.open(COINS / self.photo) as image:
            size = image.size
        canvas.evaluate("canvas => canvas.scrollIntoView({block: 'center'})")
        box = canvas.bounding_box()
        scale = min(box["width"] / size[0], box["height"] / size[1])
        x = box["x"] + box["width"] / 2 + (place[0] - size[0] / 2) * scale
        y = box["y"] + box["height"] / 2 + (place[1] - size[1] / 2) * scale
        return x, y

    def click(self, place: Place, key: str = "") -> None:
        """Click a place of the open photo while a key is held; without one by a finger on a narrow screen."""
        x, y = self._on_screen(place)
        if key:
            self.page.keyboard.down(key)
            self.page.mouse.click(x, y)
            self.page.keyboard.up(key)
        elif self.is_narrow:
            self.page.touchscreen.tap(x, y)
        else:
            self.page.mouse.click(x, y)

    def drag(self, start: Place, end: Place) -> None:
        self.page.mouse.move(*self._on_screen(start))
        self.page.mouse.down()
        self.page.mouse.move(*self._on_screen(end), steps=4)
        self.page.mouse.up()

    def draw_by_keys(self) -> None:
        """Draw a stroke of the brush from the middle of the open photo."""
        self.wait()
        self.page.locator("canvas").focus()
        for key in ("e", "b", "Space", "ArrowLeft", "ArrowUp", "Space"):
            self.page.keyboard.press(key)


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """Return a browser; skips where there is none."""
    programs = [path for path in map(shutil.which, CHROMIUM) if path]
    if not programs:
        pytest.skip(f"no Chromium is installed ({', '.join(CHROMIUM)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs[0], args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a server of the network of this repository."""
    page = Page(Segmenter(device="cpu"), tmp_path_factory.mktemp("page"))
    yield page
    page.close()


@pytest.fixture(params=["wide", "narrow"])
def tab(request: pytest.FixtureRequest, chromium, served: Page, tmp_path: Path) -> Iterator[Tab]:
    """Return a tab with the page of a new session; at the end no script may have failed."""
    served.session = served.server.session = Session(served.session.segmenter, tmp_path / "out")
    is_narrow = request.param == "narrow"
    context = chromium.new_context(**(NARROW if is_narrow else WIDE))
    tab = Tab(context.new_page(), is_narrow)
    tab.page.goto(served.address)
    tab.expect("#classes").to_contain_text("object", timeout=PATIENCE)
    tab.expect("#empty").to_contain_text("Press Segment")
    yield tab
    context.close()
    served.session.end()
    assert not tab.errors
    assert not tab.refused


@pytest.fixture
def coins(tab: Tab) -> Tab:
    """Return the tab with two photos of coins, the first of which is open."""
    tab.upload(COINS / "coins_1.jpg", COINS / "coins_2.jpg")
    tab.says("2 photos added")
    tab.open("coins_1.jpg")
    return tab


def tools_of(served: Page, name: str) -> list[str]:
    """Return the tools of the edits on a photo."""
    return [edit["tool"] for edit in served.edits(name)]


def check_layout(coins: Tab) -> None:
    """Check that nothing is too wide; on a narrow screen also the order of the parts, and that fingers meet them."""
    note = coins.page.locator("#note")
    note.evaluate("note => note.textContent = 'a long line '.repeat(40)")
    if coins.is_narrow:
        top = coins.page.locator("[data-do=pick_photos]").bounding_box()["y"]
        assert note.bounding_box()["y"] + note.bounding_box()["height"] <= top
    zoom_in = coins.page.get_by_label("Zoom in").bounding_box()
    zoom_out = coins.page.get_by_label("Zoom out").bounding_box()
    assert zoom_in["y"] == zoom_out["y"]
    assert coins.page.evaluate("document.documentElement.scrollWidth") == coins.page.viewport_size["width"]
    if not coins.is_narrow:
        return
    parts = ("[data-do=pick_photos]", "#grid", "#tools", "canvas", "[data-do=segment]", "[data-do=pack]")
    tops = [coins.page.locator(part).bounding_box()["y"] for part in parts]
    assert tops == sorted(tops)
    for target in coins.page.locator("button:visible, label:visible, select:visible").all():
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= FINGER, target.inner_text()


def test_an_object_is_annotated_found_corrected_and_downloaded(coins: Tab, served: Page) -> None:
    check_layout(coins)
    coins.drag(COIN, (COIN[0] + 4, COIN[1]))
    coins.says("coins_1.jpg is an example of")
    coins.press("Segment")
    coins.says("1 of 1 photo shows an object")
    coins.open("coins_2.jpg")
    coins.click((20, 20))  # a dot of the brush
    coins.choose("Eraser")
    coins.drag((60, 20), (80, 20))
    coins.press("Accept")
    coins.status("coins_2.jpg", "accepted")
    assert tools_of(served, "coins_2.jpg") == ["brush", "eraser"]
    coins.press("Prepare zip")
    coins.says("2 of 2 photos packed")
    with coins.page.expect_download(timeout=PATIENCE) as download:
        coins.press("Download zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        with archive.open("coins_2_mask.png") as file:
            mask = np.array(Image.open(file))
        coco = json.loads(archive.read("coco/instances.json"))
    assert mask[20, 20] == 1
    assert not mask[20, 60:80].any()
    assert [image["file_name"] for image in coco["images"]] == ["coins_1.jpg", "coins_2.jpg"]


def test_names_are_cut_before_what_tells_them_apart(tab: Tab, tmp_path: Path) -> None:
    photos = [tmp_path / f"a long walk on the beach of the northern island, evening {number}.jpg" for number in (1, 2)]
    for photo, coins in zip(photos, COINS.glob("coins_*.jpg")):
        shutil.copy(coins, photo)
    tab.upload(*photos)
    tab.says("2 photos added")
    for photo in photos:
        name = tab.page.locator("#grid button", has_text=photo.name).locator(".name")
        shown = "name => [name.scrollWidth - name.clientWidth, name.lastChild.textContent]"
        assert name.evaluate(shown) == [0, photo.name[-12:]]


def test_the_network_outlines_what_is_clicked_or_boxed(coins: Tab, served: Page) -> None:
    corner = (COIN[0] - COIN_RADIUS, COIN[1] - COIN_RADIUS)
    coins.choose("Click")
    coins.click(COIN)
    coins.says("coins_1.jpg is an example of")
    assert tools_of(served, "coins_1.jpg") == ["outline"]
    coins.click(COIN, key="Shift")
    coins.says("coins_1.jpg is no example any more")
    coins.choose("Box")
    coins.click(corner)
    coins.click(corner)
    coins.says("The box is empty")
    coins.drag(corner, (COIN[0] + COIN_RADIUS, COIN[1] + COIN_RADIUS))
    coins.says("coins_1.jpg is an example of")
    assert {*tools_of(served, "coins_1.jpg")} == {"outline"}
    coins.press("Clear")
    coins.says("coins_1.jpg is no example any more")
    coins.press("Undo")
    coins.status("coins_1.jpg", "example")


def test_classes_are_imported_renamed_added_and_removed(coins: Tab, served: Page, tmp_path: Path) -> None:
    shape = {"label": "medal", "points": [[100, 20], [140, 60]], "shape_type": "rectangle"}
    file = tmp_path / "coins_2.json"
    file.write_text(json.dumps({"shapes": [shape], "imagePath": "coins_2.jpg"}))
    coins.page.locator("#annotations").set_input_files(str(file))
    coins.says("examples on 1 photo")
    coins.status("coins_2.jpg", "example")
    long_name = 80 * "x"
    coins.page.locator("#chip summary").click()
    for name, field in (("coin", "New name"), (long_name, "Class name"), ("pièce", "New name")):
        if field == "New name" and not coins.page.get_by_label(field).is_visible():
            coins.page.locator("#chip summary").click()
        coins.page.get_by_label(field).fill(name)
        coins.wait()
        coins.page.get_by_label(field).press("Enter")
        coins.expect("#classes").to_contain_text(name, timeout=PATIENCE)
        assert coins.page.evaluate("document.documentElement.scrollWidth") == coins.page.viewport_size["width"]
    assert served.classes() == ["coin", "pièce"]
    coins.draw_by_keys()
    coins.says("coins_1.jpg is an example of")
    assert [(edit["tool"], edit["value"]) for edit in served.edits("coins_1.jpg")] == [("brush", 2)]
    coins.page.locator("#chip summary").click()
    coins.press("Remove class")
    coins.says("pièce is removed")
    coins.expect("#classes").to_have_text("coin", timeout=PATIENCE)
    assert not tools_of(served, "coins_1.jpg")


def test_an_answer_leaves_alone_what_a_person_does_meanwhile(coins: Tab, served: Page) -> None:
    menu = coins.page.locator("#chip summary")
    coins.page.get_by_label("Class name").fill("coin")
    with coins.held("**/add_class"):
        coins.press("Add class")
        menu.click()
    coins.expect("#classes label:has(:checked)").to_have_text("coin", timeout=PATIENCE)
    coins.expect("#chip[open]").to_be_attached()
    menu.click()
    with coins.held("**/draw"):
        coins.drag(COIN, (COIN[0] + 4, COIN[1]))
        coins.press("Undo")
        coins.press("Redo")
        coins.press("Segment")
    coins.says("1 of 1 photo shows a coin")
    assert tools_of(served, "coins_1.jpg") == ["brush"]
    for slider, keys in (("Minimum pixel probability", "Home"), ("Minimum presence score", "End")):
        coins.page.get_by_label(slider).focus()
        coins.page.keyboard.press(keys)
    coins.expect("#threshold[data-now='0.01']").to_be_attached(timeout=PATIENCE)
    coins.expect("#least[data-now='1']").to_be_attached(timeout=PATIENCE)
    assert served.state()["rule"] == [0.01, 1]


def test_an_upload_says_how_far_it_is_and_can_be_stopped(tab: Tab) -> None:
    photos = [*COINS.iterdir()]
    with tab.held("**/upload?*", 2):
        tab.upload(*photos)
        tab.expect("#job output").to_have_text(f"uploading 2 of {len(photos)}", timeout=PATIENCE)
        tab.press("Stop")
    tab.says(f"2 photos added; stopped, {len(photos) - 2} not sent")
    tab.expect("#job").to_be_hidden()
    tab.upload(*photos)
    tab.says("open already")
    tab.expect("#note").not_to_have_class("error")
    tab.expect("#count").to_have_text(f"{len(photos)} photos")


def test_photos_and_annotations_are_dropped_in_folders(tab: Tab, served: Page, tmp_path: Path) -> None:
    folder = tmp_path / "trip"
    shutil.copytree(COINS, folder / "day 1")
    (folder / "Thumbs.db").write_bytes(b"no photo")
    (folder / ".hidden.jpg").write_bytes(b"no photo")
    (folder / "day 1/cut.jpg").write_bytes((COINS / "coins_2.jpg").read_bytes()[:2000])
    x, y = COIN
    corners = [[x - 20, y - 20], [x + 20, y - 20], [x + 20, y + 20], [x - 20, y + 20]]
    outlined = {"imagePath": "coins_1.jpg", "shapes": [{"label": "coin", "points": corners}]}
    (folder / "day 1/coins_1.json").write_text(json.dumps(outlined))
    tab.drop(folder, COINS / "coins_3.jpg")
    tab.says("5 photos added; coins_3.jpg is open already; examples on 1 photo; trip/Thumbs.db left out")
    tab.says("cut.jpg: this photo is damaged")
    assert served.row("coins_1.jpg")["example"] == ["coin"]
    tab.refused.clear()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(COINS / "coins_4.jpg", other / "coins_1.jpg").write_bytes((COINS / "coins_4.jpg").read_bytes() + b" ")
    shutil.copy(folder / "day 1/coins_1.json", other)
    tab.drop(other)
    tab.says("coins_1.jpg is coins_1_2.jpg here: another photo has its name; annotations are left out")
    assert served.row("coins_1_2.jpg")["example"] == []


def test_a_second_window_does_not_undo_what_it_has_not_shown(coins: Tab, served: Page) -> None:
    second = Tab(coins.page.context.new_page(), coins.is_narrow)
    second.page.clock.install()
    second.page.goto(served.address)
    second.open("coins_1.jpg")
    second.page.clock.pause_at("2100-01-01")  # it looks at the state no more by itself
    coins.drag(COIN, (COIN[0] + 4, COIN[1]))
    coins.says("coins_1.jpg is an example of")
    second.press("Undo")
    second.says("was changed meanwhile, in another window")
    assert tools_of(served, "coins_1.jpg") == ["brush"]
    second.status("coins_1.jpg", "example")
    second.press("Undo")  # what it shows now
    second.says("coins_1.jpg is no example any more")
    assert len(second.refused) == 1


def test_each_refused_request_is_shown(coins: Tab, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no photo")
    coins.upload(text)
    coins.says("0 photos added; text.jpg: is no photo")
    coins.choose("Click")
    coins.click(COIN, key="Shift")
    coins.says("there is no mask to remove")
    coins.page.locator("summary", has_text="Server").click()
    refused = {"Open photos": "enter the path", "Add class": "a class name has", "Segment": "no photo is an example"}
    for button, line in refused.items():
        coins.press(button)
        coins.says(line)
    coins.expect("#note").to_have_class("error")
    assert len(coins.refused) == 5
    coins.page.context.set_offline(True)
    coins.says("The server does not answer")
    coins.page.context.set_offline(False)
    coins.says("The server answers again")
    coins.refused.clear()
