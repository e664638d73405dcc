"""Figures by matplotlib without its global state, as pixels and as files: a result's bars, rows of panels.

The bytes of a file follow from the figure alone. matplotlib is imported where the first figure is drawn.
"""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.evaluate.schema import BARS, Result, read_result
from util.evaluate.titles import title
from util.files import write_atomically
from util.files.errors import one_line
from util.files.overlay import PANEL_HEIGHT, at_panel_size, write_picture
from util.loop.metrics import ALL_FOREGROUND, MIOU
from util.report.results import frame_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # metadata by format
SUFFIXES = ("png", *UNDATED)  # of a figure's files; the names of --figures
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
def write_figure(path: Path, figure: Figure, suffix: str = "png") -> list[Path]:
    """Write ``path.png``, and ``path.pdf`` or ``path.svg`` if ``suffix`` names one; return the files.

    Raises as ``write_atomically`` does.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    files = [path.with_name(f"{path.name}.{ending}") for ending in dict.fromkeys(("png", suffix))]
    write_picture(files[0], np.array(canvas.buffer_rgba())[..., :3].copy())
    for file in files[1:]:
        save = partial(figure.savefig, format=suffix, dpi=figure.dpi, metadata=UNDATED[suffix])
        write_atomically(file, save)
    return files


def draw_bars(path: Path, suffix: str) -> list[Path]:
    """Draw the bars of a result, as PNG and ``suffix`` beside it; return the files."""
    return write_figure(path.with_name(BARS), class_bars(path, read_result(path)), suffix)


@styled()
def class_bars(path: Path, result: Result) -> Figure:
    """Return a bar chart of a result: IoU of each scored class and output, mean over seeds."""
    from matplotlib.figure import Figure

    scores = frame_of({path: result})
    shown = scores[(scores["score"] == MIOU) & (scores["class"] != "") & (scores["output"] != ALL_FOREGROUND)]
    ious = shown.pivot_table(index="class", columns="output", values="value", sort=False)
    ious = ious.reindex([name for name in result["novel"].values() if name in ious.index]).fillna(0.0)
    thickness = 0.8 / ious.shape[1]  # of a class's place
    bar_places = (ious.shape[1] + 1) * len(ious)
    figure = Figure(figsize=(9, 1.3 + 0.17 * bar_places), dpi=100, layout="constrained")
    axes = figure.add_subplot(axisbelow=True)
    axes.set_title(textwrap.fill(one_line(title(result)), 110), loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    middle = (ious.shape[1] - 1) / 2
    for j, (name, values) in enumerate(ious.items()):
        places = np.arange(len(ious)) + (j - middle) * thickness
        bars = axes.barh(places, values, thickness, label=one_line(str(name)))
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize="small")
    axes.set_yticks(np.arange(len(ious)), map(one_line, ious.index))
    axes.set(ylim=(len(ious) - 0.5, -0.5), xlim=(0, 100), xlabel="IoU in % of each class")  # the first class on top
    axes.grid(axis="x", color="0.88")
    figure.legend(loc="outside lower right", ncols=ious.shape[1])
    return figure


@styled()
def draw(rows: Sequence[Panels]) -> Figure:
    """Return a figure of rows of panels; panels of the same place in a row are below each other.

    Panels of the right height keep their pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(figsize=(1, 1), dpi=DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    font = FontProperties(size=FONT_SIZE)

    def width_of(text: str) -> int:
        return math.ceil(renderer.get_text_width_height_descent(text, font, ismath=False)[0]) + GAP

    shown = [[(one_line(caption), at_panel_size(image)) for caption, image in row] for row in rows]
    widths = [max(max(width_of(text), photo.shape[1]) for text, photo in column) for column in zip(*shown, strict=True)]
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
