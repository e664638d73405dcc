"""The page in a browser: paint a support, upload queries, see the result; skipped without gradio or a browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.paths import REPOSITORY
from util.errors import UserError
from util.predict.page import painted

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS, STEP_MS = 240, 60_000


def test_painted_pixels_are_the_object() -> None:
    photo = np.full((20, 30, 4), 90, np.uint8)
    layer = np.zeros_like(photo)
    layer[5:9, 3:7, 3] = 255
    support = painted({"background": photo, "layers": [layer]})
    assert support.image.shape == (20, 30, 3) and support.label.sum() == 16 and support.label[5, 3] == 1
    for value, reason in (
        (None, "no photo"),
        ({"background": photo, "layers": []}, "nothing is painted"),
        ({"background": photo, "layers": [layer[:9]]}, "different sizes"),
    ):
        with pytest.raises(UserError, match=reason):
            painted(value)


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
def test_painting_and_segmenting_in_a_browser(address: str, photos: list[Path], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no browser: none of " + ", ".join(BROWSERS))
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = window.new_page(viewport={"width": 1300, "height": 1250})
        page.set_default_timeout(STEP_MS)
        page.goto(address)
        with page.expect_file_chooser() as chooser:
            page.locator("#support").get_by_text("Upload an image").click()
        chooser.value.set_files(photos[0])
        canvas = page.locator("#support canvas").first
        canvas.wait_for()
        page.wait_for_timeout(3000)  # the editor fits the photo into its canvas
        page.locator("#support button[aria-label*=rush]").first.click()
        page.wait_for_timeout(1000)
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 15, y)
        page.mouse.down()
        page.mouse.move(x + 15, y + 10, steps=8)
        page.mouse.up()
        page.locator("#queries input[type=file]").first.set_input_files(photos[1:3])
        page.wait_for_timeout(2000)
        page.locator("#find").click()
        page.locator("#found img").first.wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=os.environ.get("PAGE_PICTURE", tmp_path / "page.png"))
        assert page.locator("#found img").count() >= 2
        assert photos[1].name in page.locator("#numbers").inner_text()
        window.close()
