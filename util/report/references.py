"""How much a score depends on which photo is the reference: the IoUs of one query with one support set after another.

By a protocol with ``references`` (``util/data/sampling.py``). The statistics are of a query's IoUs over its references,
then the mean over queries.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from util.data.lists.manifest import counts_of, read_manifest
from util.evaluate.schema import MANIFEST, check_output, read_results
from util.evaluate.titles import side_warning
from util.files.errors import UserError, one_line
from util.loop.metrics import FINAL
from util.report.figure import GRID_COLOUR, chart, styled
from util.report.published_rows import published_entries
from util.report.rows import how_made, row_name
from util.report.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["method", "shots", "class", "queries", "references"]
STATISTICS = ["mean IoU %", "deviation", "variation %", "worst tenth", "best tenth"]
ALL = "all"  # the class of a row of all classes
NOTE = (
    "Over the references of a query, then mean over queries: deviation (of a sample, n - 1) and its ratio to the mean "
    "IoU (variation; queries that no reference segments have none), and the mean IoU with the worst and the best tenth "
    "of the references. Published variations are of the authors' queries and references."
)


@dataclass
class References:
    """The IoUs in percent of a result's queries with each reference."""

    method: str
    dataset: str
    shot: int
    how_made: str  # how the test was made, in words
    side: int | None  # of the network's input in pixels; None: of original sizes
    ious: dict[str, np.ndarray]  # by class: (queries, references)

    @property
    def every(self) -> np.ndarray:
        """Those of all classes, (queries, references)."""
        return np.concatenate(list(self.ious.values()))


def references_of(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> list[References]:
    """Return what the results below some paths say of references, by method and number of shots.

    Arguments as of ``result_rows``. Queries that a quick look did not score with all references are left out.

    Raises:
        UserError: there is no result of a protocol with references, or it lacks the output.
    """
    found = []
    for path, result in read_results(paths, protocols).items():
        references = result["protocol_settings"].get("references", 1)
        if references > 1:
            check_output(path, output, result["mean"])
            ious = _ious(path.parent / MANIFEST, output, references, result["novel"])
            made = how_made(path, result, output)
            found.append(
                References(row_name(result), result["dataset"], result["shot"], made, result["input_side"], ious)
            )
    if not any(each.ious for each in found):
        fix = "score a run by one first: python test.py CONFIG --protocol references"
        raise UserError(f"{', '.join(map(str, paths))}: no result of a protocol with references; {fix}")
    return sorted(found, key=lambda each: (each.method, each.shot))


def _ious(manifest: Path, output: str, references: int, names: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the IoUs (queries, references) in percent of each class, by the classes' order."""
    of_query: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for episode in read_manifest(manifest).episodes:
        [(class_id, intersection, union)] = counts_of(episode, output)
        question = episode["number"] // references
        of_query[class_id, episode["seed"], question].append(100 * intersection / max(union, 1))
    rows = defaultdict[str, list[list[float]]](list)
    for (class_id, *_), ious in sorted(of_query.items()):
        if len(ious) == references:
            rows[names[str(class_id)]].append(ious)
    return {name: np.array(ious) for name, ious in rows.items()}


def statistics(ious_qr: np.ndarray) -> list[float]:
    """Return the ``STATISTICS`` of IoUs in percent (queries, references)."""
    ordered = np.sort(ious_qr, axis=1)
    tenth = max(1, round(0.1 * ordered.shape[1]))
    mean = ordered.mean(1)
    deviation = ordered.std(1, ddof=1)
    segmented = mean > 0
    variation = 100 * np.mean(deviation[segmented] / mean[segmented]) if segmented.any() else 0.0
    return [mean.mean(), deviation.mean(), variation, ordered[:, :tenth].mean(), ordered[:, -tenth:].mean()]


def reference_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return the table of ``STATISTICS``: rows of each result in all and of each class, then published variations.

    Arguments and errors as of ``references_of``.
    """
    table = Table([*COLUMNS, *STATISTICS], [], notes=[NOTE])
    every = references_of(paths, output, protocols)
    for each in every:
        for name, ious in {ALL: each.every, **each.ious}.items():
            queries, references = ious.shape
            numbers = [f"{value:.1f}" for value in statistics(ious)]
            table.rows.append([each.method, str(each.shot), name, str(queries), str(references), *numbers])
    for dataset in sorted({each.dataset for each in every}):
        for paper, variation in published_entries()["references"].get(dataset, {}).items():
            table.rows.append([f"{paper} (published)", "1", ALL, "-", "50", "-", "-", str(variation), "-", "-"])
    table.notes += side_warning((each.method, each.side) for each in every)
    table.notes += [each.how_made for each in every]
    return table


@styled()
def reference_figure(paths: list[Path], protocol: str | None = None) -> Figure:
    """Return a chart with a violin for each result: the IoUs minus the mean IoU of their query.

    Errors as of ``references_of``.
    """
    every = references_of(paths, protocols=[protocol] if protocol else [])
    figure, axes = chart(4.6, "how much the reference matters")
    differences = [(each.every - each.every.mean(1, keepdims=True)).ravel() for each in every]
    axes.violinplot(differences, showmedians=True, widths=0.9)
    names = [textwrap.fill(one_line(f"{each.method}, {each.shot}-shot"), 14) for each in every]
    axes.set_xticks(range(1, len(every) + 1), names)
    axes.set(ylabel="IoU minus the mean IoU of its query, in points")
    axes.grid(axis="y", color=GRID_COLOUR)
    return figure
