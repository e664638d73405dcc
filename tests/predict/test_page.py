"""``--serve`` refuses wrong options before a server starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_without_gradio_the_error_is_one_line(predict, baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install -r requirements-serve.txt" in predict("--config", baseline, "--serve").error


@pytest.mark.parametrize(("words", "reason"), [(("--out", "x"), "takes no --out"), (("--port", "99999"), "1..65535")])
def test_options_that_the_page_does_not_take(predict, baseline: Path, words: tuple[str, ...], reason: str) -> None:
    assert reason in predict("--config", baseline, "--serve", *words).error
