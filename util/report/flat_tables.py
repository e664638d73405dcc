"""Results as plain rows, for a spreadsheet or a file in a repository: one row a result, or one row an episode."""

from pathlib import Path
from typing import Any

from util.data.lists.manifest import read_manifest, ways_of
from util.errors import UserError, nearest
from util.report.result_table import class_names
from util.report.schema import FINAL, counts_of, find_results, read_result
from util.report.table import Table

RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "precision"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "date", "commit", "run"),
]
EPISODE_COLUMNS = ["run", "seed", "number", "query", "class", "supports", "intersection", "union", "iou"]


def result_table(paths: list[Path], output: str = FINAL) -> Table:
    """Return the table of all results below some paths, a row each, with the scores of one output in percent.

    UserError: there is no result, or it lacks that output.
    """
    rows = [_result_row(path, output) for path in find_results(paths)]
    return Table(RESULT_COLUMNS, sorted(rows))


def _result_row(path: Path, output: str) -> list[str]:
    result = read_result(path)
    _check_output(path, output, result["mean"])
    scores = result["mean"][output]
    fb_iou = f"{scores['fb_iou']:.2f}" if "fb_iou" in scores else ""
    return [
        result["method"],
        result["encoder"],
        result["dataset"],
        str(result["fold"]),
        str(result["shot"]),
        result["protocol"],
        str(result["protocol_settings"].get("draw", "own")),
        result["precision"],
        f"{scores['miou']:.2f}",
        fb_iou,
        str(result["episodes"]),
        " ".join(map(str, result["seeds"])),
        result["weights"][:12],
        result["date"][:10],
        str(result["environment"].get("commit", ""))[:8],
        result["run"],
    ]


def episode_table(paths: list[Path], output: str = FINAL) -> Table:
    """Return the table of all episodes of the results below some paths: a row for each class of each episode.

    Pixels of prediction and label count together over all labelled pixels of the query: ``intersection`` those that
    both call the class, ``union`` those that at least one does; ``iou`` is their ratio in percent. UserError: there is
    no result, or its episodes lack that output.
    """
    rows = []
    for path in find_results(paths):
        result = read_result(path)
        _check_output(path, output, result["mean"])
        names = class_names(result)
        for episode in read_manifest(path.parent / result["manifest"]).episodes:
            rows += _episode_rows(episode, output, names, result["run"])
    return Table(EPISODE_COLUMNS, rows)


def _episode_rows(episode: dict[str, Any], output: str, names: dict[str, str], run: str) -> list[list[str]]:
    supports = dict(ways_of(episode))
    head = [run, str(episode.get("seed", 0)), str(episode.get("number", "")), episode["query"]]
    rows = []
    for _, class_id, intersection, union in counts_of(episode, output):
        name = names.get(str(class_id), str(class_id))
        iou = 100 * intersection / max(union, 1)
        shown = " ".join(supports.get(class_id, []))
        rows.append([*head, name, shown, str(intersection), str(union), f"{iou:.2f}"])
    return rows


def _check_output(path: Path, output: str, known: dict[str, Any]) -> None:
    if output not in known:
        raise UserError(f"{path}: has no output '{output}'{nearest(output, known)}")
