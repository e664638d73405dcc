"""Charts: pixels, SVG and PDF whose bytes repeat and whose texts stay texts."""

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from util.report.charts import CAPTION, PANEL_HEIGHT, draw, write_figure

SVG = "{http://www.w3.org/2000/svg}"
NAMES = "mIoU <é> & Ω самолёт $x_1$"
PANEL = np.random.default_rng(0).integers(0, 255, (PANEL_HEIGHT, 150, 3), np.uint8)


def test_a_figure_is_written_as_png_and_vectors_with_the_same_bytes_every_time(tmp_path: Path) -> None:
    files, again = (written(tmp_path / folder) for folder in ("first", "second"))
    assert files == again
    drawn = np.array(Image.open(io.BytesIO(files["a.b.png"])))
    assert np.array_equal(drawn[CAPTION : CAPTION + PANEL_HEIGHT, :150], PANEL)
    assert [text.text for text in ElementTree.fromstring(files["a.b.svg"]).iter(f"{SVG}text")] == [NAMES, "a??b"]
    words = b"/CIDFontType2", b"/ToUnicode", b"Date"
    assert [word in files["a.b.pdf"] for word in words] == [True, True, False]


def written(folder: Path) -> dict[str, bytes]:
    """Draw a figure into a folder and return its files."""
    write_figure(folder / "a.b", draw([[(NAMES, PANEL)]]))
    write_figure(folder / "a.b.svg", draw([[(NAMES, PANEL), ("a\x01\u202eb", PANEL)]]))
    return {file.name: file.read_bytes() for file in folder.iterdir()}
