"""Pictures of episodes: query, supports with their masks, prediction and ground truth side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from model.contract import IGNORE, Episode, Output
from util.files import write_atomically
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, overlay

GAP, CAPTION = 4, 18  # pixels between panels; height of a caption
WHITE, INK = 255, (30, 30, 30)
PANEL_HEIGHT, BOARD_WIDTH = 220, 1500
MIN_SIDE = 160  # smaller images are enlarged for display
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def row(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Return panels side by side, each below its caption, (H, W, 3) uint8."""
    height = max(p.shape[0] for _, p in panels)
    columns = []
    for caption, panel in panels:
        column = np.full((height + CAPTION, panel.shape[1] + GAP, 3), WHITE, np.uint8)
        column[CAPTION : CAPTION + panel.shape[0], : panel.shape[1]] = panel
        cv2.putText(column, caption, (1, CAPTION - 5), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
        columns.append(column)
    return np.concatenate(columns, axis=1)


def grid(rows: list[np.ndarray]) -> np.ndarray:
    """Return rows below each other, padded on the right to the same width."""
    width = max(r.shape[1] for r in rows)
    padded = [np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=WHITE) for r in rows]
    return np.concatenate(padded, axis=0)


def board(caption: str, panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Return captioned panels of equal height in as many rows as needed, below a line of text, (H, W, 3) uint8."""
    rows: list[list[tuple[str, np.ndarray]]] = [[]]
    for text, panel in panels:
        scale = PANEL_HEIGHT / panel.shape[0]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        sized = cv2.resize(panel, (round(panel.shape[1] * scale), PANEL_HEIGHT), interpolation=method)
        wanted = max(text_width(text) + GAP, sized.shape[1])
        sized = np.pad(sized, ((0, 0), (0, wanted - sized.shape[1]), (0, 0)), constant_values=WHITE)
        if rows[-1] and sum(p.shape[1] + GAP for _, p in rows[-1]) + sized.shape[1] > BOARD_WIDTH:
            rows.append([])
        rows[-1].append((text, sized))
    body = grid([row(r) for r in rows])
    width = max(body.shape[1], text_width(caption) + 2 * GAP)
    head = np.full((CAPTION + GAP, width, 3), WHITE, np.uint8)
    cv2.putText(head, caption, (1, CAPTION - 3), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return np.concatenate([head, np.pad(body, ((0, 0), (0, width - body.shape[1]), (0, 0)), constant_values=WHITE)])


def text_width(text: str) -> int:
    """Return the width of a caption in pixels."""
    return cv2.getTextSize(text, FONT, FONT_SCALE, 1)[0][0]


def episode_row(episode: Episode, output: Output, item: int = 0, class_names: list[str] | None = None) -> np.ndarray:
    """Return the picture of one episode of a batch: supports, query, prediction (with its IoU), ground truth."""
    query, truth = _pixels(episode.query[item]), _label(episode.query_label[item])
    prediction = _label(output.logits[item].argmax(0))
    shown = np.where(truth == IGNORE, IGNORE, prediction)
    name = class_names[int(episode.class_id[item]) - 1] if class_names else str(int(episode.class_id[item]))
    valid = truth != IGNORE
    union = ((prediction == 1) | (truth == 1)) & valid
    iou = 100 * ((prediction == 1) & (truth == 1)).sum() / max(union.sum(), 1)
    panels = [
        (f"support: {name}", overlay(_pixels(image), _label(label), SUPPORT_COLOUR))
        for image, label in episode.shots(item)
    ]
    panels += [
        ("query", query),
        (f"prediction, IoU {iou:.0f} %", overlay(query, shown, PREDICTION_COLOUR)),
        ("truth", overlay(query, truth, TRUTH_COLOUR)),
    ]
    return row([(caption, _enlarge(panel)) for caption, panel in panels])


class FirstEpisodes:
    """Callback of an evaluation that keeps pictures of its first ``count`` episodes."""

    def __init__(self, class_names: list[str], count: int):
        self.names, self.count = class_names, count
        self.rows: list[np.ndarray] = []

    def __call__(self, batch: Episode, output: Output) -> None:
        """Keep a picture of each episode of the batch until there are ``count``."""
        for item in range(min(len(batch.query), self.count - len(self.rows))):
            self.rows.append(episode_row(batch, output, item, self.names))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture (H, W, 3) uint8, atomically.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    _, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_atomically(path, content.tobytes())


def _pixels(image_3hw: Tensor) -> np.ndarray:
    return image_3hw.permute(1, 2, 0).round().byte().cpu().numpy()


def _label(label_hw: Tensor) -> np.ndarray:
    return label_hw.byte().cpu().numpy()


def _enlarge(panel: np.ndarray) -> np.ndarray:
    factor = -(-MIN_SIDE // panel.shape[0])
    return panel if factor <= 1 else cv2.resize(panel, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
