"""Progress bars: drawn in place on a terminal, whole lines now and then in a file."""

import io
import logging
import sys

import pytest

from util.files import progress
from util.files.progress import ProgressBar
from util.run.folder import _AboveBars


def loop(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, interval: float, leave: bool) -> list[str]:
    """Return the lines of a bar over 30 items, with a log line after the tenth."""
    monkeypatch.setattr(progress, "INTERVAL", interval)
    monkeypatch.setattr(sys, "stderr", stream)
    for number in ProgressBar(range(30), desc="images", leave=leave, miniters=1, mininterval=0):
        if number == 9:
            _AboveBars().emit(logging.LogRecord("x", logging.INFO, "", 0, "a line of the log", None, None))
    return stream.getvalue().splitlines()


def test_a_log_file_gets_a_bars_last_state_unless_the_bar_is_cleared(monkeypatch) -> None:
    (line,) = loop(monkeypatch, io.StringIO(), 3600, leave=True)
    assert line.startswith("images: 100%") and "30/30" in line and "\r" not in line
    assert loop(monkeypatch, io.StringIO(), 3600, leave=False) == []


def test_a_file_gets_a_line_whenever_the_interval_is_over(monkeypatch) -> None:
    lines = loop(monkeypatch, io.StringIO(), 0, leave=False)
    assert len(lines) >= 30 and all(line.startswith("images: ") and "/30" in line for line in lines)


def test_a_terminal_has_the_bar_in_place(monkeypatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    loop(monkeypatch, stream, 3600, leave=True)
    assert stream.getvalue().count("\r") > 1 and "30/30" in stream.getvalue()
