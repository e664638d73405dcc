"""Results as plain rows, for a spreadsheet or a file in a repository: one row a result, or one row an episode."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from util.data.lists.manifest import read_manifest, ways_of
from util.evaluate.mask_metrics import METRICS
from util.evaluate.schema import FINAL, MANIFEST, check_output, counts_of, read_results
from util.files import read_text, write_atomically
from util.files.errors import UserError
from util.report.result_table import class_names
from util.report.table import Table

RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]
MEASURED = {"miou", "fb_iou", "weights", "device", "date", "commit"}  # columns in which a repeated test may differ
OF_TEST = ["run", "shot", "protocol", "mark"]  # columns that say which test an episode is of
EPISODE_COLUMNS = [*OF_TEST, "seed", "number", "query", "class", "supports", "intersection", "union", "iou"]


def result_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return the table of all results below some paths, a row each, with the scores of one output in percent.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, or it lacks that output.
    """
    rows = [_result_row(path, result, output) for path, result in read_results(paths, protocols).items()]
    return Table(RESULT_COLUMNS, sorted(rows))


def add_to_file(table: Table, path: Path) -> str:
    """Add the rows of ``result_table`` to a CSV file, sorted, in place of those of the same tests; return a line.

    UserError: the file is there and has other columns, or a line with too few.
    """
    rows: list[list[str]] = []
    if path.exists():
        header, *rows = csv.reader(io.StringIO(read_text(path, "these results", "name another file")))
        if header != RESULT_COLUMNS:
            raise UserError(f"{path}: has other columns than {', '.join(RESULT_COLUMNS)}; name another file")
        for number, row in enumerate(rows, 2):
            if len(row) != len(RESULT_COLUMNS):
                raise UserError(f"{path}: line {number} has {len(row)} cells, not {len(RESULT_COLUMNS)}; remove it")
    by_test = {_test_of(row): row for row in [*rows, *table.rows]}
    write_atomically(path, f"{Table(RESULT_COLUMNS, sorted(by_test.values())):csv}\n")
    return f"{path}: rows: {len(by_test)}, new: {len(by_test) - len(rows)}"


def _test_of(row: list[str]) -> tuple[str, ...]:
    """Return what a row says of its test, which is the same when the test is repeated."""
    return tuple(text for name, text in zip(RESULT_COLUMNS, row) if name not in MEASURED)


def _mark(result: dict[str, Any]) -> str:
    """Return what distinguishes a result from the own test of its run's best weights; '' for that."""
    of_weights = result["weights_mark"]
    if of_weights == "foreign":  # of which there may be many
        of_weights += f" {result['checkpoint']}"
    marks = ["edges" if result["edges"] else "", of_weights]
    if result["replayed"]:
        marks.append("replay")
    if result["quick_look"]:
        marks.append("quick")
    return "; ".join(filter(None, marks))


def _result_row(path: Path, result: dict[str, Any], output: str) -> list[str]:
    """Return a result's cells, as in ``RESULT_COLUMNS``."""
    check_output(path, output, result["mean"])
    scores = result["mean"][output]
    fb_iou = f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else ""
    commit = str(result["environment"].get("commit", ""))
    texts = {
        "draw": str(result["protocol_settings"].get("draw", "own")),
        "mark": _mark(result),
        "output": output,
        "miou": f"{scores['miou']:.2f}",
        "fb_iou": fb_iou,
        "seeds": " ".join(map(str, result["seeds"])),
        "weights": result["weights"][:12],
        "date": result["date"][:10],
        "commit": commit[:8],
    }
    return [texts[name] if name in texts else str(result[name]) for name in RESULT_COLUMNS]


def episode_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return the table of all episodes of the results below some paths: a row for each class of each episode.

    Pixels of prediction and label count together over all labelled pixels of the query: ``intersection`` those that
    both call the class, ``union`` those that at least one does; ``iou`` is their ratio in percent. A column for each
    further metric of the tests follows (``test.metrics``), in percent or pixels. Arguments as of ``result_table``.

    Raises:
        UserError: there is no result, or its episodes lack that output.
    """
    results = read_results(paths, protocols)
    tests = [result["config"]["test"] for result in results.values()]
    named = {name for test in tests for name in test.get("metrics", [])}
    metrics = [name for name in METRICS if name in named]
    rows = []
    for path, result in results.items():
        check_output(path, output, result["mean"])
        names = class_names(result)
        leading = [result["run"], str(result["shot"]), result["protocol"], _mark(result)]
        for episode in read_manifest(path.parent / MANIFEST).episodes:
            rows += _episode_rows(episode, output, names, leading, metrics)
    return Table([*EPISODE_COLUMNS, *metrics], rows)


def _episode_rows(
    episode: dict[str, Any], output: str, names: dict[str, str], of_test: list[str], metrics: list[str]
) -> list[list[str]]:
    """Return the rows of an episode, as in ``EPISODE_COLUMNS`` and for further metrics, after the cells of its test."""
    supports = dict(ways_of(episode))
    number = str(episode.get("number", ""))
    leading = [*of_test, str(episode["seed"]), number, episode["query"]]
    rows = []
    for place, (class_id, intersection, union) in enumerate(counts_of(episode, output)):
        name = names.get(str(class_id), str(class_id))
        iou = 100 * intersection / max(union, 1)
        support_images = " ".join(supports.get(class_id, []))
        counts = [str(intersection), str(union), f"{iou:.2f}"]
        further = [_metric(episode, metric, output, place) for metric in metrics]
        rows.append([*leading, name, support_images, *counts, *further])
    return rows


def _metric(episode: dict[str, Any], metric: str, output: str, place: int) -> str:
    """Return a further metric of the class at a place of an episode's list; '' if the episode lacks it."""
    counts = episode.get(metric, {}).get(output)
    if counts is None:
        return ""
    total, number = counts[2 * place : 2 * place + 2]
    scale = METRICS[metric].scale
    return f"{scale * total / max(number, 1):.2f}"
