"""The page in a browser: mark, segment, correct, download; skipped without gradio or a browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.paths import REPOSITORY

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS, STEP_MS = 240, 60_000


def test_without_gradio_the_error_is_one_line(predict, baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install -r requirements-serve.txt" in predict("--config", baseline, "--serve").error


@pytest.mark.parametrize(("words", "reason"), [(("--out", "x"), "takes no --out"), (("--port", "99999"), "1..65535")])
def test_options_that_the_page_does_not_take(predict, baseline: Path, words: tuple[str, ...], reason: str) -> None:
    assert reason in predict("--config", baseline, "--serve", *words).error


@pytest.fixture
def address(baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a running page; afterwards it must have ended with code 0 and left no temporary files."""
    pytest.importorskip("gradio", reason="gradio is not installed (requirements-serve.txt)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    page = subprocess.Popen(
        [sys.executable, "predict.py", "--config", str(baseline), "--serve", "--port", str(port)],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        started = time.monotonic()
        line = page.stdout.readline()
        assert f"http://127.0.0.1:{port}" in line and time.monotonic() - started < START_SECONDS
        yield f"http://127.0.0.1:{port}"
    finally:
        page.send_signal(signal.SIGTERM)
        assert page.wait(60) == 0
    assert tempfile.gettempdir() and not [p for p in temporary.iterdir() if p.name.startswith("predict-")]


@pytest.mark.process
def test_marking_segmenting_correcting_and_downloading_in_a_browser(
    address: str, photos: list[Path], tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no browser: none of " + ", ".join(BROWSERS))
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = window.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(STEP_MS)
        failed: list[str] = []
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(address)
        page.locator("#find").click()
        wait_for_note(page, "no marked photo")
        page.locator("#name input, #name textarea").first.fill("<b>disc<i>")
        page.locator("#rename").click()
        page.locator("#classes").get_by_text("<b>disc<i>").wait_for()
        upload(page, "#upload", photos[0])
        drag(page, "support", "box", (0.2, 0.2), (0.7, 0.8))
        page.locator("#keep").click()
        wait_for_note(page, "1 support(s) kept")
        page.locator("#example_photo").click()
        page.locator("#support canvas").wait_for()
        page.locator("#support canvas").focus()
        for key in (" ", *["ArrowRight"] * 15, *["ArrowDown"] * 15, " "):  # a box; the network takes it without 'keep'
            page.keyboard.press(key)
        upload(page, "#queries", photos[1:3])
        wait_for_note(page, "2 photo(s) to segment")
        page.locator("#find").click()
        wait_for_note(page, "2 photo(s) segmented")
        assert page.locator("#supports img").count() == 2 and page.locator("#photos img").count() == 2
        before = page.locator("#numbers").inner_text()
        page.locator("#level input[type=number]").fill("2")
        page.keyboard.press("Tab")
        page.wait_for_function("before => document.querySelector('#numbers').innerText != before", arg=before)
        before = page.locator("#numbers").inner_text()
        drag(page, "found", "brush", (0.1, 0.1), (0.9, 0.9))
        page.wait_for_function("before => document.querySelector('#numbers').innerText != before", arg=before)
        page.locator("#pack").click()
        page.locator("#archive").wait_for()
        page.screenshot(path=os.environ.get("PAGE_PICTURE", tmp_path / "page.png"), full_page=True)
        with page.expect_download() as download:
            page.locator("#archive").click()
        names = zipfile.ZipFile(download.value.path()).namelist()
        assert {"results/coco/instances.json", f"results/{photos[1].stem}_mask.png", f"photos/{photos[2].name}"} <= {
            *names
        }
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390 and not failed
        window.close()


def wait_for_note(page: Any, text: str) -> None:
    """Wait until the page's note contains a text."""
    until = time.monotonic() + STEP_MS / 1000
    while text not in (note := page.locator("#note").inner_text()):
        assert time.monotonic() < until, note
        page.wait_for_timeout(100)


def upload(page: Any, button: str, files: Path | list[Path]) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(files)


def drag(page: Any, place: str, tool: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag a tool from one place of a canvas to another, in shares of its sides."""
    canvas = page.locator(f"#{place} canvas")
    canvas.wait_for()
    page.wait_for_function(f"document.querySelector('#{place} canvas').width > 4")  # the photo has been decoded
    page.locator(f"#{place} [data-tool={tool}]").click()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=6)
    page.mouse.up()
