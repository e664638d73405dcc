"""Figures: pixels, SVG and PDF whose bytes repeat and whose texts stay texts; outlines on any ground; panels."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from tests.helpers.outcome import run_script
from tests.report.conftest import counts
from util.report.figure import CAPTION, GAP, PANEL_HEIGHT, draw, write_figure
from util.report.overlay import SUPPORT_COLOUR, overlay

SVG = "{http://www.w3.org/2000/svg}"
NAMES = "mIoU <é> & Ω самолёт $x_1$"
PANEL = np.random.default_rng(0).integers(0, 255, (PANEL_HEIGHT, 150, 3), np.uint8)


def test_a_figure_is_written_as_png_and_vectors_with_the_same_bytes_every_time(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_figure(tmp_path / folder / "a.b", draw([[("panel", PANEL)]], NAMES), "pdf")
        write_figure(tmp_path / folder / "a.b", draw([[("a\x01\u202eb", PANEL)]], NAMES), "svg")
    files = sorted((tmp_path / "first").iterdir())
    assert [p.name for p in files] == ["a.b.pdf", "a.b.png", "a.b.svg"]
    assert [p.read_bytes() == (tmp_path / "second" / p.name).read_bytes() for p in files] == [True] * 3
    drawn = np.array(Image.open(files[1]))
    top = CAPTION + GAP + CAPTION
    assert np.array_equal(drawn[top : top + PANEL_HEIGHT, :150], PANEL)
    texts = [t.text for t in ElementTree.parse(files[2]).iter(f"{SVG}text")]
    assert texts == [NAMES, "a??b"]
    content = files[0].read_bytes()
    assert b"/CIDFontType2" in content and b"/ToUnicode" in content and b"Date" not in content


def test_an_outline_shows_on_any_ground_and_a_board_breaks_into_rows(tmp_path: Path) -> None:
    label = np.zeros((60, 60), np.uint8)
    label[20:40, 20:40] = 1
    for ground in (0, 255, SUPPORT_COLOUR):
        image = np.zeros((60, 60, 3), np.uint8) + np.array(ground, np.uint8)
        out = overlay(image, label, SUPPORT_COLOUR)
        assert (out[20, 20:40] == 255).all() and (out[19, 22:38] == 0).all() and (out[21, 22:38] == 0).all()
        assert (out[5, 5] == image[5, 5]).all()
    panels = [(f"panel {n}", np.zeros((100, 300, 3), np.uint8)) for n in range(5)]
    write_figure(tmp_path / "board", draw([panels, panels[:1]], "title"))
    assert Image.open(tmp_path / "board.png").height == CAPTION + GAP + 4 * (CAPTION + PANEL_HEIGHT + GAP)


def test_the_command_draws_a_result_again(leave, monkeypatch, capfd) -> None:
    folder = leave("a", counts(1, 30, 0.5))
    done = run_script("report.py", ("figures", folder, "--figures", "svg"), capfd, monkeypatch)
    assert done.code == 0 and done.output.split() == [str(folder / f"{n}.svg") for n in ("curve", "per_class")]
    assert "aeroplane" in (folder / "per_class.svg").read_text()
    assert all((folder / f"{name}.png").stat().st_size > 500 for name in ("curve", "per_class"))
