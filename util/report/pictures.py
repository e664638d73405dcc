"""Pictures of episodes: query, supports with their masks, prediction and ground truth side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def episode_board(
    ways: Sequence[Episode], output: Output, item: int = 0, class_names: list[str] | None = None
) -> Board:
    """Return the picture of one episode of a batch: supports, query, prediction (with its IoU), ground truth.

    Several classes have colours of their own. The padding of the network's input is cut off.
    """
    query, prediction = _pixels(ways[0].query[item]), _label(output.logits[item].argmax(0))
    labels = [_label(way.query_label[item]) for way in ways]
    truth = labels[0].copy()
    for value, of_way in enumerate(labels[1:], 2):
        truth[of_way == 1] = value
    shown = np.where(truth == IGNORE, IGNORE, prediction)
    valid = truth != IGNORE
    union = sum((((prediction == v) | (truth == v)) & valid).sum() for v in range(1, len(ways) + 1))
    iou = 100 * ((prediction == truth) & valid & (truth > 0)).sum() / max(union, 1)
    panels, several = [], len(ways) > 1
    for value, way in enumerate(ways, 1):
        class_id = int(way.class_id[item])
        name = class_names[class_id - 1] if class_names else str(class_id)
        for image, label in way.shots(item):
            pixels, own = _pixels(image), _label(label)
            seen = np.where(own == 1, value, own)
            panels.append((f"support: {name}", _panel(pixels, seen, own, None if several else SUPPORT_COLOUR)))
    panels += [
        ("query", _panel(query, np.zeros_like(truth), truth, TRUTH_COLOUR)),
        (f"prediction, IoU {iou:.0f} %", _panel(query, shown, truth, None if several else PREDICTION_COLOUR)),
        ("truth", _panel(query, truth, truth, None if several else TRUTH_COLOUR)),
    ]
    return Board("", panels)


def _panel(image: np.ndarray, label: np.ndarray, own: np.ndarray, colour: Colour | None) -> np.ndarray:
    """Return an image at the height of a panel with a label drawn over it, without the padding that its own label has.

    Padding is ignored pixels in all of the last rows or columns. Without a colour each value has its own.
    """
    seen = own != IGNORE
    height, width = (int(np.flatnonzero(seen.any(axis))[-1]) + 1 if seen.any() else None for axis in (1, 0))
    image, label = image[:height, :width], label[:height, :width]
    small = cv2.resize(label, panel_size(image), interpolation=cv2.INTER_NEAREST)
    if colour is None:
        return class_map(_at_panel_size(image), np.where(small == IGNORE, 0, small))
    return overlay(_at_panel_size(image), small, colour)


def _at_panel_size(panel: np.ndarray) -> np.ndarray:
    width, height = panel_size(panel)
    if panel.shape[:2] == (height, width):
        return panel
    method = cv2.INTER_AREA if height < panel.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(panel), (width, height), interpolation=method)


class FirstEpisodes:
    """The observer that keeps pictures of the first seed's episodes with a number below ``count``."""

    def __init__(self, class_names: list[str], count: int):
        self.names, self.count = class_names, count
        self._boards: dict[int, Board] = {}

    @property
    def rows(self) -> list[Board]:
        """The pictures, by number."""
        return [board for _, board in sorted(self._boards.items())]

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """Keep a picture of each such episode of a batch."""
        for item, number in enumerate(numbers):
            if number < self.count and number not in self._boards:
                self._boards[number] = episode_board(batch.ways, output, item, self.names)

    def running(self) -> str:
        """Return nothing: pictures have no words."""
        return ""


def _pixels(image_3hw: Tensor) -> np.ndarray:
    return image_3hw.permute(1, 2, 0).round().byte().cpu().numpy()


def _label(label_hw: Tensor) -> np.ndarray:
    return label_hw.byte().cpu().numpy()
