"""Charts of results as figures: curves and bars."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.data.lists.manifest import read_manifest
from util.errors import one_line
from util.report.figure import styled, write_figure
from util.report.schema import find_results, read_result
from util.report.scores import counts_of, mean_iou
from util.report.table import title as title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 9, 4.6, 100  # of a curve, inches; pixels of an inch
HEAD, CLASS_HEIGHT = 1.3, 0.17  # inches of a bar chart without bars, of a bar
GROUP = 0.8  # share of a class's place that its bars take
STEP = 10  # the axis of mIoU ends at a multiple
TITLE_LENGTH = 110  # characters of a line
GRID_COLOUR = "0.88"
CURVE, BARS = "curve", "per_class"  # names of the files beside every result
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
    for episode in read_manifest(path).episodes:
        of_seed = rows[episode.get("seed", 0)]
        for name in episode["outputs"]:
            entries = counts_of(episode, name)
            number = len(of_seed.setdefault(name, [])) // len(entries)
            of_seed[name] += [[number, *entry] for entry in entries]
    return {seed: {name: np.array(r) for name, r in outputs.items()} for seed, outputs in rows.items() if outputs}


@styled()
def score_curve(records: dict[int, dict[str, np.ndarray]], title: str) -> Figure:
    """Return a chart of the first seed's mIoU of each output over the number of scored episodes."""
    seed, outputs = next(iter(records.items()))
    figure, axes = _chart(HEIGHT, title)
    highest = 0.0
    for name, rows in outputs.items():
        if name != HIDDEN:
            last = np.flatnonzero(np.diff(rows[:, 0], append=-1))  # the last class of each episode
            curve = running_miou(rows)[last]
            axes.plot(np.arange(1, len(curve) + 1), curve, label=one_line(name))
            highest = max(highest, float(curve.max()))
    axes.set_ylim(0, min(100.0, STEP * np.ceil((highest + 1) / STEP)))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"episodes of seed {seed} so far")
    axes.set_ylabel("mIoU in %")
    axes.grid(axis="y", color=GRID_COLOUR)
    axes.legend()
    return figure


def running_miou(rows: np.ndarray) -> np.ndarray:
    """Return the mIoU in percent after each record, from records (n, at least 4): number, class, I, U, ..."""
    classes = np.unique(rows[:, 1])
    member = rows[:, 1][:, None] == classes
    intersection, union = (np.cumsum(np.where(member, rows[:, c][:, None], 0), axis=0) for c in (2, 3))
    return mean_iou(intersection, union, np.cumsum(member, axis=0))


@styled()
def class_bars(result: dict[str, Any], title: str) -> Figure:
    """Return a bar chart of a result: IoU of each novel class and output, mean over seeds."""
    outputs = [n for n, s in result["mean"].items() if "fb_iou" in s and n != HIDDEN]
    classes = list(result["per_seed"][0][outputs[0]]["per_class"])
    thickness = GROUP / len(outputs)
    figure, axes = _chart(HEAD + CLASS_HEIGHT * (len(outputs) + 1) * len(classes), title)
    for j, name in enumerate(outputs):
        values = [np.mean([s[name]["per_class"].get(c, 0.0) for s in result["per_seed"]]) for c in classes]
        places = np.arange(len(classes)) + (j - (len(outputs) - 1) / 2) * thickness
        axes.bar_label(
            axes.barh(places, values, thickness, label=one_line(name)), fmt="%.1f", padding=3, fontsize="small"
        )
    axes.set_yticks(np.arange(len(classes)), [one_line(result["novel"].get(c, c)) for c in classes])
    axes.set_ylim(len(classes) - 0.5, -0.5)  # the first class on top
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU in % of each class")
    axes.grid(axis="x", color=GRID_COLOUR)
    figure.legend(loc="outside lower right", ncols=len(outputs))
    return figure


def _chart(height: float, title: str) -> tuple[Figure, Axes]:
    """Return an empty chart, its height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot(axisbelow=True)
    axes.set_title(textwrap.fill(one_line(title), TITLE_LENGTH), loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
