"""Figures by matplotlib without its global state, as pixels and as files: rows of panels.

The bytes of a file follow from the figure alone. matplotlib is imported where the first figure is drawn.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.files.errors import one_line
from util.files.overlay import PANEL_HEIGHT, at_panel_size, write_picture
from util.files.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # metadata by a file's ending
STYLE = {
    "text.parse_math": False,  # a class may be called $x$
    "pdf.fonttype": 42,  # TrueType: texts can be selected and searched
    "svg.fonttype": "none",  # texts stay texts
    "svg.hashsalt": "symnet",  # ids of an SVG's parts are the same every time
    "image.composite_image": False,
}
GAP, CAPTION = 4, 18  # pixels between panels; height of a caption
ROW_HEIGHT = CAPTION + PANEL_HEIGHT + GAP
DPI, FONT_SIZE = 72, 11  # a pixel is a point
Panels = list[tuple[str, np.ndarray]]  # caption, (H, W, 3) uint8


@contextmanager
def styled() -> Iterator[None]:
    """Draw with matplotlib's own defaults and ``STYLE``, whatever the user's settings of matplotlib are."""
    os.environ.pop("MPLBACKEND", None)  # a notebook's, which matplotlib may not have; a figure here has no window
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is an empty box
        yield


@styled()
def write_figure(path: Path, figure: Figure) -> list[Path]:
    """Write a figure in the format that its file's ending names, default PDF, and a PNG beside it; return the files.

    Raises as ``write_atomically`` does.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    if path.suffix not in (".png", *UNDATED):
        path = path.with_name(f"{path.name}.pdf")
    png, *vectors = dict.fromkeys((path.with_suffix(".png"), path))
    write_picture(png, np.array(canvas.buffer_rgba())[..., :3].copy())
    for file in vectors:
        save = partial(figure.savefig, format=file.suffix[1:], dpi=figure.dpi, metadata=UNDATED[file.suffix])
        write_atomically(file, save)
    return [png, *vectors]


@styled()
def draw(rows: Sequence[Panels]) -> Figure:
    """Return a figure of rows of panels; panels of the same place in a row are below each other.

    Panels of the right height keep their pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(figsize=(1, 1), dpi=DPI)
    measure = FigureCanvasAgg(figure).get_renderer().get_text_width_height_descent
    font = FontProperties(size=FONT_SIZE)
    shown = [[(one_line(caption), at_panel_size(image)) for caption, image in row] for row in rows]
    widths = [
        max(max(math.ceil(measure(text, font, ismath=False)[0]) + GAP, photo.shape[1]) for text, photo in column)
        for column in zip(*shown, strict=True)
    ]
    width = sum(widths) + len(widths) * GAP
    height = len(shown) * ROW_HEIGHT
    figure.set_size_inches(width / DPI, height / DPI)
    for number, row in enumerate(shown):
        below_caption = number * ROW_HEIGHT + CAPTION
        for place, (text, photo) in enumerate(row):
            left = sum(widths[:place]) + place * GAP
            figure.text((left + 1) / width, 1 - (below_caption - 5) / height, text, fontsize=FONT_SIZE)
            figure.figimage(photo, left, height - below_caption - PANEL_HEIGHT, origin="upper")
    return figure
