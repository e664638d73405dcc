"""Pictures of episodes: supports with their masks, query, prediction and ground truth side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from model.episode import LabelledImages, Output
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
def draw(boards: Sequence[Panels], title: str = "", aligned: bool = False) -> Figure:
    """Return a figure of boards of panels below each other, each with as many rows as it needs, below a title.

    With ``aligned`` a board is a row, and panels of the same place are below each other.

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
        figure.text((left + 1) / widest, 1 - (down + CAPTION - BASELINE) / top, text, fontsize=FONT_SIZE)
    for photo, left, down in photos:
        figure.figimage(photo, left, top - down - PANEL_HEIGHT, origin="upper")
    return figure


def labelled(image: np.ndarray, label: np.ndarray, colour: Colour, several: bool = False) -> np.ndarray:
    """Return an image with its label: one class in the colour given, the classes of several ways in their own."""
    return class_map(image, label) if several else overlay(image, label, colour)


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
            found, of_image = output.logits[item].argmax(0), isinstance(batch, LabelledImages)
            if of_image:
                shots, image, truth = [], batch.image[item], batch.label[item]
            else:
                episode = batch.episode
                shots, image, truth = episode.shots(item), episode.query[item], episode.query_label[item]
            parts = [(*shot, SUPPORT_COLOUR) for shot in [*shots, (image, truth * 0)]]
            parts += [(image, truth, TRUTH_COLOUR), (image, found, PREDICTION_COLOUR)]
            panels = []
            for pixels, label, colour in parts:
                photo, ids = (x.round().byte().cpu().numpy() for x in (pixels.permute(1, 2, 0), label))
                panels.append(at_panel_size(labelled(photo, ids, colour, several=of_image)))
            self.shown[number] = np.hstack(panels)
