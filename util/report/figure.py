"""Figures by matplotlib without its global state, as pixels and as files whose bytes follow from the figure alone.

matplotlib is imported where the first figure is drawn.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.files import write_atomically
from util.report.overlay import write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

if importlib.util.find_spec("matplotlib") is None:  # known before a run begins, not when its first figure is drawn
    raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # metadata by format
SUFFIXES = ("png", *UNDATED)  # of a figure's files; the names of --figures
STYLE = {
    "text.parse_math": False,  # a class may be called $x$
    "pdf.fonttype": 42,  # TrueType: texts can be selected and searched
    "svg.fonttype": "none",  # texts stay texts
    "svg.hashsalt": "symnet",  # ids of an SVG's parts are the same every time
    "image.composite_image": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with matplotlib's own defaults and ``STYLE``, whatever the user's settings of matplotlib are."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is an empty box
        yield


@styled()
def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an RGB image (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


@styled()
def write_figure(path: Path, figure: Figure, suffix: str = "png") -> None:
    """Write ``path.png``, and ``path.pdf`` or ``path.svg`` if ``suffix`` names one; errors as ``write_atomically``."""
    write_picture(path.with_name(f"{path.name}.png"), pixels(figure))
    if suffix != "png":
        save = partial(figure.savefig, format=suffix, dpi=figure.dpi, metadata=UNDATED[suffix])
        write_atomically(path.with_name(f"{path.name}.{suffix}"), save)
