"""Figures: the same shapes as pixels, SVG and PDF; outlines on any ground; panels without padding."""

from __future__ import annotations

import re
import runpy
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from model.contract import IGNORE, Episode, Output
from tests.report.conftest import counts
from util.report.figure import Figure
from util.report.figure_files import pdf, svg, write_figure
from util.report.overlay import SUPPORT_COLOUR, overlay
from util.report.pictures import CAPTION, GAP, PANEL_HEIGHT, board, episode_board, grid

SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> Figure:
    """Return a figure with one shape of each kind."""
    out = Figure(200, 100)
    out.line([(0, 0), (50, 25.5)], (255, 0, 0), 2)
    out.bar(10, 20, 30, 40, (0, 128, 0))
    out.text("mIoU <é> & (a)", 60, 50)
    out.photo(120, 10, np.full((30, 20, 3), 200, np.uint8))
    return out


def test_svg_has_vectors_texts_and_the_photo() -> None:
    root = ElementTree.fromstring(svg(drawn()))
    assert (root.get("width"), root.get("height")) == ("200", "100")
    assert root.find(f"{SVG}text").text == "mIoU <é> & (a)"
    assert root.find(f"{SVG}polyline").get("points") == "0.00,0.00 50.00,25.50"
    assert root.findall(f"{SVG}rect")[1].get("fill") == "#008000"
    assert root.find(f"{SVG}image").get("href").startswith("data:image/jpeg;base64,")


def test_pdf_is_well_formed_and_has_vectors_texts_and_the_photo() -> None:
    content = pdf(drawn())
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", content)[1])
    assert content[start:].startswith(b"xref\n0 7\n")
    places = [int(p) for p in re.findall(rb"(\d{10}) 00000 n ", content[start:])]
    assert [content[p:].split(b" ", 1)[0] for p in places] == [b"%d" % n for n in range(1, 7)]
    page = content[places[3] : places[4]]
    length = int(re.search(rb"/Length (\d+)", page)[1])
    shapes = zlib.decompress(page[page.index(b"stream\n") + 7 :][:length]).decode()
    assert "<" + "mIoU <é> & (a)".encode("cp1252").hex() + "> Tj" in shapes
    assert "10.00 40.00 30.00 40.00 re f" in shapes and "0.00 100.00 m 50.00 74.50 l S" in shapes
    assert "q 20 0 0 30 120 60 cm /P0 Do Q" in shapes
    assert content[places[5] : start].count(b"\xff\xd8\xff") == 1 and b"[0 0 150.00 75.00]" in content


def test_a_figure_is_written_as_png_and_in_the_format_asked_for(tmp_path: Path) -> None:
    pixels = write_figure(tmp_path / "a.b", drawn(), "svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b.png", "a.b.svg"]
    assert np.array_equal(np.array(Image.open(tmp_path / "a.b.png")), pixels) and pixels[40, 20].tolist() == [0, 128, 0]


@pytest.mark.parametrize("ground", [0, 255, SUPPORT_COLOUR])
def test_an_outline_is_dark_and_light_on_any_ground(ground) -> None:
    image = np.zeros((60, 60, 3), np.uint8) + np.array(ground, np.uint8)
    label = np.zeros((60, 60), np.uint8)
    label[20:40, 20:40] = 1
    out = overlay(image, label, SUPPORT_COLOUR)
    assert (out[20, 20:40] == 255).all() and (out[19, 22:38] == 0).all() and (out[21, 22:38] == 0).all()
    assert (out[5, 5] == image[5, 5]).all()


def episode(side: int, seen: tuple[int, int]) -> tuple[list[Episode], Output]:
    """Return an episode of letterboxed images that cover the top left, ``seen`` pixels, and a prediction for it."""
    image, label = torch.full((1, 3, side, side), 120.0), torch.full((1, side, side), IGNORE, dtype=torch.uint8)
    image[:, :, : seen[0], : seen[1]] = 10.0
    label[:, : seen[0], : seen[1]] = 0
    label[:, 4:9, 4:9] = 1
    one = torch.ones(1, dtype=torch.long)
    item = Episode(
        query=image,
        query_label=label,
        support=image[:, None],
        support_label=label[:, None],
        class_id=one,
        base_id=one,
        number=one,
        query_base_label=None,
        text=None,
    )
    return [item], Output(torch.stack([1 - label.float(), label.float()], 1))


def test_panels_of_an_episode_have_one_height_and_no_padding() -> None:
    wide, tall = (episode_board(*episode(40, seen)) for seen in ((20, 40), (40, 20)))
    for figure, width in ((wide, 2 * PANEL_HEIGHT), (tall, PANEL_HEIGHT // 2)):
        photos = [s for s in figure.shapes if hasattr(s, "pixels")]
        assert [p.pixels.shape for p in photos] == [(PANEL_HEIGHT, width, 3)] * 4
        query = photos[1].pixels
        assert query.max() < 20  # no pixel of the padding
    assert grid([wide, tall]).height == wide.height + tall.height
    assert grid([wide, tall]).pixels().shape == (wide.height + tall.height, max(wide.width, tall.width), 3)


def test_a_board_breaks_into_rows() -> None:
    panels = [(f"panel {n}", np.zeros((100, 300, 3), np.uint8)) for n in range(5)]
    assert board("title", panels).height == CAPTION + GAP + 3 * (CAPTION + PANEL_HEIGHT + GAP)


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_the_command_draws_a_result_again(leave, monkeypatch, capfd, suffix: str) -> None:
    folder = leave("a", counts(1, 30, 0.5))
    monkeypatch.setattr(sys, "argv", ["report", "figures", str(folder), "--figures", suffix])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("util.report", run_name="__main__")
    assert not caught.value.code
    assert capfd.readouterr().out.split() == [str(folder / f"{name}.{suffix}") for name in ("curve", "per_class")]
    assert "aeroplane" in (folder / "per_class.svg").read_text() if suffix == "svg" else True
    assert all(
        (folder / f"{name}.{s}").stat().st_size > 500 for name in ("curve", "per_class") for s in ("png", suffix)
    )
