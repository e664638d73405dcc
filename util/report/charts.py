"""Charts of results as figures: curves and bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from util.data.manifest import read_manifest, ways_of
from util.errors import UserError
from util.report.agreement import counts_of
from util.report.figure import Figure, text_width
from util.report.figure_files import write_figure
from util.report.schema import find_results, read_result
from util.report.scores import mean_iou
from util.report.table import title as title_of

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 50  # margins of the plot
GRID_COLOUR = (225, 225, 225)
COLOURS = ((40, 120, 240), (235, 60, 60), (50, 160, 80), (230, 150, 30), (140, 80, 190), (90, 90, 90))
CURVE, BARS = "curve", "per_class"  # names of the files beside every result
VALUE_SCALE = 0.42  # of the font of a bar's value
TICKS = 5
BAR = 34  # height of a line of bars
NAME_WIDTH = 170
HIDDEN = "all_foreground"  # a reference prediction, not shown in charts


def write_charts(
    folder: Path,
    result: dict[str, Any],
    records: dict[int, dict[str, np.ndarray]],
    title: str,
    vectors: str | None = None,
) -> list[Path]:
    """Write a result's curve and bars into a folder, as PNG and in the format that ``vectors`` names; return the paths.

    Args:
        records: seed -> output -> (episodes * N, at least 4): number, class, I, U of each class of an episode.
    """
    for name, figure in ((CURVE, score_curve(records, title)), (BARS, class_bars(result, title))):
        write_figure(folder / name, figure, vectors)
    return [folder / f"{name}.{vectors or 'png'}" for name in (CURVE, BARS)]


def draw(paths: list[Path], suffix: str) -> list[Path]:
    """Draw the curve and the bars of all results below some paths beside them, as PNG, PDF or SVG; return the files.

    Raises:
        UserError: there are no results, or one has no counts of its episodes beside it.
    """
    out = []
    for path in find_results(paths):
        result = read_result(path)
        records = _records(path.parent / Path(result["manifest"]).name, result)
        out += write_charts(path.parent, result, records, title_of(result), None if suffix == "png" else suffix)
    return out


def _records(path: Path, result: dict[str, Any]) -> dict[int, dict[str, np.ndarray]]:
    """Return the counts of a result's episodes: seed -> output -> (episodes * N, 4)."""
    rows: dict[int, dict[str, list[list[int]]]] = {seed: {} for seed in result["seeds"]}
    manifest = read_manifest(path)
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        outputs = episode.get("outputs")
        if not isinstance(outputs, dict) or episode.get("seed", 0) not in rows:
            raise UserError(f"{path}:{line}: not a scored episode of this result; score the run again")
        of_seed = rows[episode.get("seed", 0)]
        ways = ways_of(episode)
        for name in outputs:
            counts = counts_of(outputs, name, f"{path}:{line}", len(ways))
            number = len(of_seed.setdefault(name, [])) // len(ways)
            of_seed[name] += [[number, c, *counts[2 * i : 2 * i + 2]] for i, (c, _) in enumerate(ways)]
    return {seed: {name: np.array(r) for name, r in outputs.items()} for seed, outputs in rows.items() if outputs}


def curve_chart(
    curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str, x_name: str, y_range: tuple[float, float]
) -> Figure:
    """Return a chart of curves (name -> x, y) over common axes, with a legend."""
    out = Figure(WIDTH, HEIGHT)
    low, high = y_range
    last = max(float(x[-1]) for x, _ in curves.values())

    def place(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
        """Return the places of values x, y in the chart."""
        across = LEFT + x / max(last, 1) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    for share in np.linspace(0, 1, TICKS + 1).tolist():
        value, number = low + (high - low) * share, last * share
        left, right, (middle, y) = place(np.array([0, last, number]), np.full(3, value))
        out.line([left, right], GRID_COLOUR)
        out.text(f"{value:.3g}", 8, y + 5)
        out.text(f"{number:.4g}", middle - 12, HEIGHT - BOTTOM + 20)
    out.text(title, LEFT, 22)
    out.text(x_name, WIDTH // 2 - 120, HEIGHT - 10)
    across = LEFT
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        out.line(place(*points), colour, 2)
        out.line([(across, 41), (across + 22, 41)], colour, 3)
        out.text(name, across + 28, 46)
        across += 50 + text_width(name)
    return out


def score_curve(records: dict[int, dict[str, np.ndarray]], title: str) -> Figure:
    """Return a chart of the first seed's mIoU of each output over the number of scored episodes."""
    seed, outputs = next(iter(records.items()))
    curves = {}
    for name, rows in outputs.items():
        if name != HIDDEN:
            last = np.flatnonzero(np.diff(rows[:, 0], append=-1))  # the last class of each episode
            curves[name] = np.arange(1, len(last) + 1), running_miou(rows)[last]
    highest = max(float(y.max()) for _, y in curves.values())
    top = min(100.0, 10.0 * np.ceil((highest + 1) / 10))
    return curve_chart(curves, title, f"episodes of seed {seed} so far; mIoU in %", (0, top))


def running_miou(rows: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent after each record, from records (n, at least 4): number, class, I, U, ..."""
    classes = np.unique(rows[:, 1])
    member = rows[:, 1][:, None] == classes
    intersection, union = (np.cumsum(np.where(member, rows[:, c][:, None], 0), axis=0) for c in (2, 3))
    return mean_iou(intersection, union, np.cumsum(member, axis=0))


def class_bars(result: dict[str, Any], title: str) -> Figure:
    """Return a bar chart of a result: IoU of each novel class and output, mean over seeds."""
    outputs = [n for n, s in result["mean"].items() if "fb_iou" in s and n != HIDDEN]
    classes = list(result["per_seed"][0][outputs[0]]["per_class"])
    line = max(BAR, 16 * len(outputs) + 8)
    out = Figure(WIDTH, TOP + line * len(classes) + 20)
    out.text(f"{title}: IoU in % of each class", 10, 22)
    for i, name in enumerate(outputs):
        out.bar(NAME_WIDTH + 130 * i, 35, 14, 12, COLOURS[i % len(COLOURS)])
        out.text(name, NAME_WIDTH + 20 + 130 * i, 46)
    full = WIDTH - NAME_WIDTH - 70
    for i, c in enumerate(classes):
        top = TOP + line * i
        out.text(result["novel"].get(c, c), 10, top + line // 2 + 4)
        height = (line - 8) // len(outputs)
        for j, name in enumerate(outputs):
            value = float(np.mean([s[name]["per_class"].get(c, 0.0) for s in result["per_seed"]]))
            y0, long = top + j * height, full * value / 100
            out.bar(NAME_WIDTH, y0, long, height - 2, COLOURS[j % len(COLOURS)])
            out.text(f"{value:.1f}", NAME_WIDTH + long + 6, y0 + height // 2 + 4, VALUE_SCALE)
    return out
