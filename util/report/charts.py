"""Charts of results: curves and bars, drawn with OpenCV as RGB images (H, W, 3) uint8."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from util.report.pictures import FONT, INK, WHITE
from util.report.scores import mean_iou

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 50  # margins of the plot
GRID_COLOUR = (225, 225, 225)
COLOURS = ((40, 120, 240), (235, 60, 60), (50, 160, 80), (230, 150, 30), (140, 80, 190), (90, 90, 90))
SCALE = 0.5  # of the font
TICKS = 5
BAR = 34  # height of a line of bars
NAME_WIDTH = 170
HIDDEN = "all_foreground"  # a reference prediction, not shown in charts


def curve_chart(
    curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str, x_name: str, y_range: tuple[float, float]
) -> np.ndarray:
    """Return a chart of curves (name -> x, y) over common axes, with a legend."""
    out = np.full((HEIGHT, WIDTH, 3), WHITE, np.uint8)
    low, high = y_range
    last = max(float(x[-1]) for x, _ in curves.values())

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the pixels (points, 2) int32 of values x, y."""
        across = LEFT + x / max(last, 1) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return np.stack([across, down], -1).round().astype(np.int32)

    for share in np.linspace(0, 1, TICKS + 1).tolist():
        value, number = low + (high - low) * share, last * share
        (left, y), (right, _), (middle, _) = place(np.array([0, last, number]), np.full(3, value)).tolist()
        cv2.line(out, (left, y), (right, y), GRID_COLOUR, 1)
        _text(out, f"{value:.3g}", (8, y + 5))
        _text(out, f"{number:.4g}", (middle - 12, HEIGHT - BOTTOM + 20))
    _text(out, title, (LEFT, 22))
    _text(out, x_name, (WIDTH // 2 - 120, HEIGHT - 10))
    across = LEFT
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        cv2.polylines(out, [place(*points)], False, colour, 2, cv2.LINE_AA)
        cv2.line(out, (across, 41), (across + 22, 41), colour, 3)
        _text(out, name, (across + 28, 46))
        across += 50 + cv2.getTextSize(name, FONT, SCALE, 1)[0][0]
    return out


def score_curve(records: dict[int, dict[str, np.ndarray]], title: str) -> np.ndarray:
    """Return a chart of the first seed's mIoU of each output over the number of scored episodes."""
    seed, outputs = next(iter(records.items()))
    curves = {}
    for name, rows in outputs.items():
        if name != HIDDEN:
            curves[name] = np.arange(1, len(rows) + 1), running_miou(rows)
    highest = max(float(y.max()) for _, y in curves.values())
    top = min(100.0, 10.0 * np.ceil((highest + 1) / 10))
    return curve_chart(curves, title, f"episodes of seed {seed} so far; mIoU in %", (0, top))


def running_miou(rows: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent after each episode, from records (episodes, 6): number, class, I, U, ..."""
    classes = np.unique(rows[:, 1])
    member = rows[:, 1][:, None] == classes
    intersection, union = (np.cumsum(np.where(member, rows[:, c][:, None], 0), axis=0) for c in (2, 3))
    return mean_iou(intersection, union, np.cumsum(member, axis=0))


def class_bars(result: dict[str, Any], title: str) -> np.ndarray:
    """Return a bar chart of a result: IoU of each novel class and output, mean over seeds."""
    outputs = [n for n, s in result["mean"].items() if "fb_iou" in s and n != HIDDEN]
    classes = list(result["per_seed"][0][outputs[0]]["per_class"])
    line = max(BAR, 16 * len(outputs) + 8)
    out = np.full((TOP + line * len(classes) + 20, WIDTH, 3), WHITE, np.uint8)
    _text(out, f"{title}: IoU in % of each class", (10, 22))
    for i, name in enumerate(outputs):
        cv2.rectangle(out, (NAME_WIDTH + 130 * i, 35), (NAME_WIDTH + 14 + 130 * i, 47), COLOURS[i % len(COLOURS)], -1)
        _text(out, name, (NAME_WIDTH + 20 + 130 * i, 46))
    full = WIDTH - NAME_WIDTH - 70
    for i, c in enumerate(classes):
        top = TOP + line * i
        _text(out, result["novel"].get(c, c), (10, top + line // 2 + 4))
        height = (line - 8) // len(outputs)
        for j, name in enumerate(outputs):
            value = float(np.mean([s[name]["per_class"].get(c, 0.0) for s in result["per_seed"]]))
            y0, right = top + j * height, NAME_WIDTH + round(full * value / 100)
            cv2.rectangle(out, (NAME_WIDTH, y0), (right, y0 + height - 2), COLOURS[j % len(COLOURS)], -1)
            _text(out, f"{value:.1f}", (right + 6, y0 + height // 2 + 4), 0.42)
    return out


def _text(out: np.ndarray, text: str, at: tuple[int, int], scale: float = SCALE) -> None:
    cv2.putText(out, text, at, FONT, scale, INK, 1, cv2.LINE_AA)
