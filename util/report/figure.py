"""Figures by matplotlib without its global state, as pixels and as files: a result's charts, boards of panels.

The bytes of a file follow from the figure alone. matplotlib is imported where the first figure is drawn.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from model.episode import LabelledImages, Output
from util.data.lists.manifest import read_manifest
from util.errors import one_line
from util.files import write_atomically
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, labelled, write_picture
from util.report.result_table import class_ious, class_names, title
from util.report.schema import BASE, MANIFEST, RESULT, counts_of, mean_iou, read_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
PANEL_HEIGHT, BOARD_WIDTH = 220, 1500
DPI, FONT_SIZE = 72, 11  # a pixel is a point
Panels = list[tuple[str, np.ndarray]]  # caption, (H, W, 3) uint8
GRID_COLOUR = "0.88"
CHARTS = CURVE, BARS = "curve", "per_class"  # names of the files
HIDDEN = "all_foreground"  # a reference prediction, not shown


@contextmanager
def styled() -> Iterator[None]:
    """Draw with matplotlib's own defaults and ``STYLE``, whatever the user's settings of matplotlib are."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is an empty box
        yield


@styled()
def write_figure(path: Path, figure: Figure, suffix: str = "png") -> None:
    """Write ``path.png``, and ``path.pdf`` or ``path.svg`` if ``suffix`` names one; errors as ``write_atomically``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_picture(path.with_name(f"{path.name}.png"), np.array(canvas.buffer_rgba())[..., :3].copy())
    if suffix != "png":
        save = partial(figure.savefig, format=suffix, dpi=figure.dpi, metadata=UNDATED[suffix])
        write_atomically(path.with_name(f"{path.name}.{suffix}"), save)


def write_charts(folder: Path, suffix: str = "png", result: dict[str, Any] | None = None) -> list[Path]:
    """Draw the curve and the bars of a folder's result, or of one to be there, as PNG and ``suffix``; return the files.

    UserError: the folder has no result, or no counts of its episodes.
    """
    result, episodes = result or read_result(folder / RESULT), read_manifest(folder / MANIFEST).episodes
    seed = result["seeds"][0]
    scored = [episode for episode in episodes if episode.get("seed", 0) == seed]
    curves = {name: running_miou([counts_of(e, name) for e in scored]) for name in scored[0]["outputs"]}
    charts = {CURVE: score_curve(curves, seed, title(result)), BARS: class_bars(result)}
    for name, figure in charts.items():
        write_figure(folder / name, figure, suffix)
    return [folder / f"{name}.{suffix}" for name in charts]


def running_miou(counts: list[list[tuple[int, int, int, int]]]) -> np.ndarray:
    """Return the mIoU in percent after each episode, (episodes,), from ``counts_of`` each."""
    rows = np.array([way for ways in counts for way in ways], np.int64)  # (ways of all episodes, 4)
    of_groups = []
    for group in np.unique(rows[:, 0]):
        member = (rows[:, :1] == group) & (rows[:, 1:2] == np.unique(rows[:, 1]))
        intersection, union = (np.cumsum(member * rows[:, [column]], axis=0) for column in (2, 3))
        of_groups.append(mean_iou(intersection, union, np.cumsum(member, axis=0)))
    return np.mean(of_groups, 0)[np.cumsum([len(ways) for ways in counts]) - 1]


@styled()
def score_curve(curves: dict[str, np.ndarray], seed: int, title: str) -> Figure:
    """Return a chart of the mIoU of each output over the number of scored episodes."""
    figure, axes = _chart(4.6, title)
    shown = {name: curve for name, curve in curves.items() if name != HIDDEN}
    for name, curve in shown.items():
        axes.plot(np.arange(1, len(curve) + 1), curve, label=one_line(name))
    axes.set_ylim(0, min(100.0, 10 * np.ceil((max(curve.max() for curve in shown.values()) + 1) / 10)))
    axes.set_xlim(left=0)
    axes.set(xlabel=f"episodes of seed {seed} so far", ylabel="mIoU in %")
    axes.grid(axis="y", color=GRID_COLOUR)
    axes.legend()
    return figure


@styled()
def class_bars(result: dict[str, Any]) -> Figure:
    """Return a bar chart of a result: IoU of each scored class and output, mean over seeds."""
    found = {name: class_ious(result, name) for name in result["mean"] if name not in (BASE, HIDDEN)}
    classes = [name for name in class_names(result).values() if any(name in ious for ious in found.values())]
    thickness = 0.8 / len(found)  # of a class's place
    figure, axes = _chart(1.3 + 0.17 * (len(found) + 1) * len(classes), title(result))
    for j, (name, ious) in enumerate(found.items()):
        places = np.arange(len(classes)) + (j - (len(found) - 1) / 2) * thickness
        bars = axes.barh(places, [ious.get(c, 0.0) for c in classes], thickness, label=one_line(name))
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize="small")
    axes.set_yticks(np.arange(len(classes)), [one_line(c) for c in classes])
    axes.set(ylim=(len(classes) - 0.5, -0.5), xlim=(0, 100), xlabel="IoU in % of each class")  # the first class on top
    axes.grid(axis="x", color=GRID_COLOUR)
    figure.legend(loc="outside lower right", ncols=len(found))
    return figure


def _chart(height: float, title: str) -> tuple[Figure, Axes]:
    """Return an empty chart, its height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), dpi=100, layout="constrained")
    axes = figure.add_subplot(axisbelow=True)
    axes.set_title(textwrap.fill(one_line(title), 110), loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def at_panel_size(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), or the nearest pixels of a label (H, W), uint8, at the height of a panel."""
    height, width = image.shape[:2]
    size = max(round(width * PANEL_HEIGHT / height), 1), PANEL_HEIGHT
    method = cv2.INTER_AREA if height > PANEL_HEIGHT else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_NEAREST if image.ndim == 2 else method)


@styled()
def draw(boards: Sequence[Panels], title: str = "", aligned: bool = False) -> Figure:
    """Return a figure of boards of panels below each other, each with as many rows as it needs, below a title.

    With ``aligned`` a board is a row, and panels of the same place are below each other. Panels of the right height
    keep their pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure = Figure(figsize=(1, 1), dpi=DPI)
    renderer, font = FigureCanvasAgg(figure).get_renderer(), FontProperties(size=FONT_SIZE)

    def width_of(text: str) -> int:
        return math.ceil(renderer.get_text_width_height_descent(text, font, ismath=False)[0])

    title = one_line(title)
    texts, photos = [(title, 0, 0)], []
    top, widest = (CAPTION + GAP, width_of(title) + 2 * GAP) if title else (0, 1)
    rows = [[(one_line(text), at_panel_size(panel)) for text, panel in panels] for panels in boards]
    widths = [[max(width_of(text) + GAP, sized.shape[1]) for text, sized in row] for row in rows]
    if aligned:
        widths = [[max(column) for column in zip(*widths, strict=True)]] * len(rows)
    for row, of_row in zip(rows, widths):
        left = 0
        for (caption, sized), wanted in zip(row, of_row, strict=True):
            if left and left + wanted > BOARD_WIDTH and not aligned:
                left, top = 0, top + CAPTION + PANEL_HEIGHT + GAP
            texts.append((caption, left, top))
            photos.append((sized, left, top + CAPTION))
            left += wanted + GAP
            widest = max(widest, left)
        top += CAPTION + PANEL_HEIGHT + GAP
    figure.set_size_inches(widest / DPI, top / DPI)
    for text, left, down in filter(lambda entry: entry[0], texts):
        figure.text((left + 1) / widest, 1 - (down + CAPTION - 5) / top, text, fontsize=FONT_SIZE)
    for photo, left, down in photos:
        figure.figimage(photo, left, top - down - PANEL_HEIGHT, origin="upper")
    return figure


class Examples:
    """The observer that draws the first episodes or images of a validation, by number, each as one strip.

    The strip (H, W, 3) uint8 has the supports, the query, the truth and the prediction; images have no supports.
    """

    def __init__(self, count: int):
        self.count = count
        self.shown: dict[int, np.ndarray] = {}

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """Draw those of a batch, a ``Trial`` or ``LabelledImages``."""
        for item, number in enumerate(numbers):
            if number >= self.count:
                continue
            if of_image := isinstance(batch, LabelledImages):
                shots, image, truth = [], batch.image[item], batch.label[item]
            else:
                seen = batch.episode
                shots, image, truth = seen.shots(item), seen.query[item], seen.query_label[item]
            parts = [(*shot, SUPPORT_COLOUR) for shot in [*shots, (image, truth * 0)]]
            parts += [(image, truth, TRUTH_COLOUR), (image, output.logits[item].argmax(0), PREDICTION_COLOUR)]
            panels = []
            for pixels, label, colour in parts:
                photo, ids = (x.round().byte().cpu().numpy() for x in (pixels.permute(1, 2, 0), label))
                panels.append(at_panel_size(labelled(photo, ids, colour, several=of_image)))
            self.shown[number] = np.hstack(panels)
