"""Pictures of episodes: supports with their masks, query, prediction and ground truth side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from torch import Tensor

from model.episode import IGNORE, Episode, Output
from util.errors import one_line
from util.report.figure import styled
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, Colour, class_map, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, CAPTION = 4, 18  # pixels between panels; height of a caption
PANEL_HEIGHT, BOARD_WIDTH = 220, 1500
DPI = 72  # a pixel is a point
FONT_SIZE, BASELINE = 11, 5  # of a caption: points; pixels above its lower end
Panels = list[tuple[str, np.ndarray]]  # caption, (H, W, 3) uint8


def at_panel_size(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), or the nearest pixels of a label (H, W), uint8, at the height of a panel."""
    height, width = image.shape[:2]
    size = max(round(width * PANEL_HEIGHT / height), 1), PANEL_HEIGHT
    method = cv2.INTER_AREA if height > PANEL_HEIGHT else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_NEAREST if image.ndim == 2 else method)


@styled()
def draw(boards: Sequence[Panels], title: str = "") -> Figure:
    """Return a figure of boards of panels below each other, each with as many rows as it needs, below a title.

    A pixel is a point of 1/72 inch; panels of the right height keep their pixels.
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
    for panels in boards:
        left = 0
        for text, panel in panels:
            caption, sized = one_line(text), at_panel_size(panel)
            wanted = max(width_of(caption) + GAP, sized.shape[1])
            if left and left + wanted > BOARD_WIDTH:
                left, top = 0, top + CAPTION + PANEL_HEIGHT + GAP
            texts.append((caption, left, top))
            photos.append((sized, left, top + CAPTION))
            left += wanted + GAP
            widest = max(widest, left)
        top += CAPTION + PANEL_HEIGHT + GAP
    figure.set_size_inches(widest / DPI, top / DPI)
    for text, left, down in filter(lambda entry: entry[0], texts):
        figure.text((left + 1) / widest, 1 - (down + CAPTION - BASELINE) / top, text, fontsize=FONT_SIZE)
    for photo, left, down in photos:
        figure.figimage(photo, left, top - down - PANEL_HEIGHT, origin="upper")
    return figure


def labelled(image: np.ndarray, label: np.ndarray, colour: Colour, several: bool = False) -> np.ndarray:
    """Return an image with its label: one class in the colour given, the classes of several ways in their own."""
    return class_map(image, label) if several else overlay(image, label, colour)


def episode_panels(ways: Sequence[Episode], output: Output, item: int, class_names: list[str]) -> Panels:
    """Return the panels of one episode of a batch: supports, query, prediction (with its IoU), ground truth.

    The padding of the network's input is cut off.
    """
    query, prediction, several = ways[0].query[item], _array(output.logits[item].argmax(0)), len(ways) > 1
    truth = _array(ways[0].query_label[item])
    for value, way in enumerate(ways[1:], 2):
        truth[_array(way.query_label[item]) == 1] = value
    valid, values = truth != IGNORE, range(1, len(ways) + 1)
    both = ((prediction == truth) & valid & (truth > 0)).sum()
    union = sum((((prediction == value) | (truth == value)) & valid).sum() for value in values)
    panels = []
    for value, way in zip(values, ways):
        name = class_names[int(way.class_id[item]) - 1]
        for image, label in way.shots(item):
            own = _array(label)
            shown = np.where(own == 1, value, own).astype(np.uint8)
            panels.append((f"support: {name}", _panel(image, shown, own, SUPPORT_COLOUR, several)))
    shown = np.where(valid, prediction, IGNORE).astype(np.uint8)
    found = f"prediction, IoU {100 * both / max(union, 1):.0f} %"
    return [
        *panels,
        ("query", _panel(query, np.zeros_like(truth), truth, TRUTH_COLOUR, several)),
        (found, _panel(query, shown, truth, PREDICTION_COLOUR, several)),
        ("truth", _panel(query, truth, truth, TRUTH_COLOUR, several)),
    ]


def _panel(image_3hw: Tensor, label: np.ndarray, own: np.ndarray, colour: Colour, several: bool) -> np.ndarray:
    """Return an image at the height of a panel with a label drawn over it, without the padding that its own label has.

    Padding is ignored pixels in all of the last rows or columns.
    """
    seen = own != IGNORE
    height, width = (int(np.flatnonzero(seen.any(axis))[-1]) + 1 if seen.any() else None for axis in (1, 0))
    image = _array(image_3hw.permute(1, 2, 0).round())[:height, :width]
    return labelled(at_panel_size(image), at_panel_size(label[:height, :width]), colour, several)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().byte().numpy().copy()


class FirstEpisodes:
    """The observer that draws the first seed's episodes with a number below ``count``; ``boards`` are by number."""

    def __init__(self, class_names: list[str], count: int):
        self.names, self.count = class_names, count
        self.boards: dict[int, Panels] = {}

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """Draw each such episode of a batch."""
        for item, number in enumerate(numbers):
            if number < self.count and number not in self.boards:
                self.boards[number] = episode_panels(batch.ways, output, item, self.names)

    def running(self) -> str:
        """Return nothing: pictures have no words."""
        return ""

    def drawn(self) -> Figure | None:
        """Return the figure of the episodes, None without any."""
        return draw([panels for _, panels in sorted(self.boards.items())]) if self.boards else None
