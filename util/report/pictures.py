"""Pictures of episodes: query, supports with their masks, prediction and ground truth side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch import Tensor

from model.contract import IGNORE, Episode, Output
from util.errors import one_line
from util.report.figure import styled
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, Colour, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, CAPTION = 4, 18  # pixels between panels; height of a caption
PANEL_HEIGHT, BOARD_WIDTH = 220, 1500
DPI = 72  # a pixel is a point
FONT_SIZE, BASELINE = 11, 5  # of a caption: points; pixels above its lower end
Panels = list[tuple[str, np.ndarray]]  # caption, (H, W, 3) uint8


def panel_size(image: np.ndarray) -> tuple[int, int]:
    """Return width and height of an image (H, W, ...) at the height of a panel."""
    return max(round(image.shape[1] * PANEL_HEIGHT / image.shape[0]), 1), PANEL_HEIGHT


@dataclass(frozen=True)
class Board:
    """Captioned panels of equal height, below a line of text if there is one."""

    caption: str
    panels: Panels


@styled()
def draw(boards: list[Board]) -> Figure:
    """Return a figure of boards below each other, each with as many rows as it needs; a pixel is a point of 1/72 inch.

    Panels keep their pixels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=DPI)
    width_of, texts, photos = _width_of(figure), [], []
    top, widest = 0, 1
    for part in boards:
        left = 0
        if part.caption:
            head = one_line(part.caption)
            texts.append((head, left, top))
            widest = max(widest, width_of(head) + 2 * GAP)
            top += CAPTION + GAP
        for text, panel in part.panels:
            caption, sized = one_line(text), _at_panel_size(panel)
            wanted = max(width_of(caption) + GAP, sized.shape[1])
            if left and left + wanted > BOARD_WIDTH:
                left, top = 0, top + CAPTION + PANEL_HEIGHT + GAP
            texts.append((caption, left, top))
            photos.append((sized, left, top + CAPTION))
            left += wanted + GAP
            widest = max(widest, left)
        top += CAPTION + PANEL_HEIGHT + GAP
    figure.set_size_inches(widest / DPI, top / DPI)
    for text, left, down in texts:
        figure.text((left + 1) / widest, 1 - (down + CAPTION - BASELINE) / top, text, fontsize=FONT_SIZE)
    for photo, left, down in photos:
        figure.figimage(photo, left, top - down - PANEL_HEIGHT, origin="upper")
    return figure


def _width_of(figure: Figure) -> Callable[[str], int]:
    """Return a function from a caption to its width in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    renderer, font = FigureCanvasAgg(figure).get_renderer(), FontProperties(size=FONT_SIZE)
    return lambda text: math.ceil(renderer.get_text_width_height_descent(text, font, ismath=False)[0])


def episode_board(episode: Episode, output: Output, item: int = 0, class_names: list[str] | None = None) -> Board:
    """Return the picture of one episode of a batch: supports, query, prediction (with its IoU), ground truth.

    The padding of the network's input is cut off.
    """
    query, truth = _pixels(episode.query[item]), _label(episode.query_label[item])
    prediction = _label(output.logits[item].argmax(0))
    shown = np.where(truth == IGNORE, IGNORE, prediction)
    name = class_names[int(episode.class_id[item]) - 1] if class_names else str(int(episode.class_id[item]))
    valid = truth != IGNORE
    union = ((prediction == 1) | (truth == 1)) & valid
    iou = 100 * ((prediction == 1) & (truth == 1)).sum() / max(union.sum(), 1)
    panels = []
    for image, label in episode.shots(item):
        pixels, classes = _pixels(image), _label(label)
        panels.append((f"support: {name}", _panel(pixels, classes, classes, SUPPORT_COLOUR)))
    panels += [
        ("query", _panel(query, np.zeros_like(truth), truth, TRUTH_COLOUR)),
        (f"prediction, IoU {iou:.0f} %", _panel(query, shown, truth, PREDICTION_COLOUR)),
        ("truth", _panel(query, truth, truth, TRUTH_COLOUR)),
    ]
    return Board("", panels)


def _panel(image: np.ndarray, label: np.ndarray, own: np.ndarray, colour: Colour) -> np.ndarray:
    """Return an image at the height of a panel with a label drawn over it, without the padding that its own label has.

    Padding is ignored pixels in all of the last rows or columns.
    """
    seen = own != IGNORE
    height, width = (int(np.flatnonzero(seen.any(axis))[-1]) + 1 if seen.any() else None for axis in (1, 0))
    image, label = image[:height, :width], label[:height, :width]
    return overlay(_at_panel_size(image), cv2.resize(label, panel_size(image), interpolation=cv2.INTER_NEAREST), colour)


def _at_panel_size(panel: np.ndarray) -> np.ndarray:
    width, height = panel_size(panel)
    if panel.shape[:2] == (height, width):
        return panel
    method = cv2.INTER_AREA if height < panel.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(panel), (width, height), interpolation=method)


class FirstEpisodes:
    """Callback of an evaluation that keeps pictures of its first ``count`` episodes."""

    def __init__(self, class_names: list[str], count: int):
        self.names, self.count = class_names, count
        self.rows: list[Board] = []

    def __call__(self, batch: Episode, output: Output) -> None:
        """Keep a picture of each episode of the batch until there are ``count``."""
        for item in range(min(len(batch.query), self.count - len(self.rows))):
            self.rows.append(episode_board(batch, output, item, self.names))


def _pixels(image_3hw: Tensor) -> np.ndarray:
    return image_3hw.permute(1, 2, 0).round().byte().cpu().numpy()


def _label(label_hw: Tensor) -> np.ndarray:
    return label_hw.byte().cpu().numpy()
