"""Charts of a result beside it: the curve of its mIoU over the episodes, and bars of its classes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.data.lists.manifest import read_manifest
from util.errors import one_line
from util.report.figure import styled, write_figure
from util.report.result_table import class_ious, class_names, title
from util.report.schema import BASE, MANIFEST, RESULT, counts_of, mean_iou, read_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID_COLOUR = "0.88"
CHARTS = CURVE, BARS = "curve", "per_class"  # names of the files
HIDDEN = "all_foreground"  # a reference prediction, not shown


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
    highest = max(curve.max() for curve in shown.values())
    axes.set_ylim(0, min(100.0, 10 * np.ceil((highest + 1) / 10)))
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
