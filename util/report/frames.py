"""Results as frames of pandas: every score of every test, a row for each result, and a row for each episode.

pandas is imported where the first frame is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.data.lists.manifest import counts_of, read_manifest, ways_of
from util.evaluate.schema import MANIFEST, check_output, read_results
from util.files.errors import UserError, nearest
from util.loop.mask_metrics import METRICS
from util.loop.metrics import BASE, FINAL, MIOU, per_class, smaller_is_better
from util.report.rows import cell_key, row_name
from util.report.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame

Result = dict[str, Any]
SCORE_COLUMNS = ["file", "seed", "output", "class", "score", "value"]
RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]
OF_TEST = ["run", "shot", "protocol", "mark"]  # columns that say which test an episode is of
EPISODE_COLUMNS = [*OF_TEST, "seed", "number", "query", "class", "supports", "intersection", "union", "iou"]


def results(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> DataFrame:
    """Return every score of the results below some paths, a line for each seed, output, class and score.

    ``value`` is in percent, or in the unit of a further metric. ``class`` is empty in lines of all classes together;
    with a class the score ``miou`` is its IoU. ``output`` is ``final`` for the prediction, ``seed`` that of the test,
    ``training_seed`` that of the training, ``row`` the name of the result's row in tables, ``file`` the result's.
    Further columns are those of ``report.py table --rows results``.

    Args:
        paths: result files, or folders.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, or none of a protocol.
    """
    return scores_of(read_results([Path(path) for path in paths], protocols))


def scores_of(by_file: dict[Path, Result]) -> DataFrame:
    """Return the frame of ``results``."""
    import pandas

    lines = list[tuple]()
    for path, result in by_file.items():
        for seed, outputs in zip(result["seeds"], result["per_seed"]):
            for output in outputs:
                lines += [(str(path), seed, output, *score) for score in _scores(result, outputs, output)]
    facts = [{"file": str(path), **_facts(result)} for path, result in by_file.items()]
    of_files = pandas.DataFrame(facts).astype({"training_seed": "Int64"})
    return pandas.DataFrame(lines, columns=SCORE_COLUMNS).merge(of_files, on="file")


def _scores(result: Result, outputs: dict[str, Any], output: str) -> Iterator[tuple[str, str, float]]:
    """Yield class, score and value of an output of one seed; only scores that it has with every seed."""
    scores = outputs[output]
    names = result["novel"]
    for score in result["mean"][output]:
        yield "", score, scores[score]
    for score in (MIOU, *METRICS):
        if output != BASE:
            for class_id, value in scores.get(per_class(score), {}).items():
                yield names.get(class_id, class_id), score, value


def _facts(result: Result) -> dict[str, Any]:
    """Return what lines of a result share."""
    as_they_are = ("method", "encoder", "dataset", "fold", "shot", "protocol", "precision", "episodes", "device", "run")
    facts = {"row": row_name(result), "training_seed": cell_key(result).seed}
    facts |= {name: result[name] for name in as_they_are}
    facts["draw"] = result["protocol_settings"].get("draw", "own")
    facts["mark"] = _mark(result)
    facts["seeds"] = " ".join(map(str, result["seeds"]))
    facts["weights"] = result["weights"][:12]
    facts["date"] = result["date"][:10]
    facts["commit"] = str(result["environment"].get("commit", ""))[:8]
    return facts


def _mark(result: Result) -> str:
    """Return what distinguishes a result from the own test of its run's best weights; '' for that."""
    of_weights = result["weights_mark"]
    if of_weights == "foreign":  # of which there may be many
        of_weights += f" {result['checkpoint']}"
    marks = ["edges" if result.get("edges", False) else "", of_weights]
    if result["replayed"]:
        marks.append("replay")
    if result["quick_look"]:
        marks.append("quick")
    return "; ".join(filter(None, marks))


def result_rows(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return a table with a row for each result below some paths, with the scores of one output in percent.

    Arguments and errors as of ``results``; UserError too if a result lacks the output.
    """
    import pandas

    rows = []
    for path, result in read_results(paths, protocols).items():
        check_output(path, output, result["mean"])
        scores = {name: f"{value:.2f}" for name, value in result["mean"][output].items()}
        rows.append({**_facts(result), **scores, "output": output})
    frame = pandas.DataFrame(rows, columns=RESULT_COLUMNS).fillna("").astype(str)
    return Table(RESULT_COLUMNS, frame.sort_values(RESULT_COLUMNS).values.tolist())


def episode_rows(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return a table with a row for each class of each episode of the results below some paths.

    Pixels of prediction and label count together over all labelled pixels of the query: ``intersection`` those that
    both call the class, ``union`` those that at least one does; ``iou`` is their ratio in percent. A column for each
    further metric of the tests follows (``test.metrics``), in percent or pixels.

    Arguments and errors as of ``result_rows``.
    """
    import pandas

    rows = list[dict[str, str]]()
    named = set[str]()
    for path, result in read_results(paths, protocols).items():
        check_output(path, output, result["mean"])
        named.update(result["config"]["test"].get("metrics", []))
        facts = _facts(result)
        of_test = {name: str(facts[name]) for name in OF_TEST}
        for episode in read_manifest(path.parent / MANIFEST).episodes:
            rows += [of_test | row for row in _rows_of_episode(episode, output, result["novel"])]
    columns = [*EPISODE_COLUMNS, *(name for name in METRICS if name in named)]
    return Table(columns, pandas.DataFrame(rows, columns=columns).fillna("").values.tolist())


def _rows_of_episode(episode: dict[str, Any], output: str, names: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield what is known of each class of an episode, by columns of ``episode_rows``."""
    supports = dict(ways_of(episode))
    for place, (class_id, intersection, union) in enumerate(counts_of(episode, output)):
        row = {
            "seed": str(episode["seed"]),
            "number": str(episode.get("number", "")),
            "query": episode["query"],
            "class": names.get(str(class_id), str(class_id)),
            "supports": " ".join(supports.get(class_id, [])),
            "intersection": str(intersection),
            "union": str(union),
            "iou": f"{100 * intersection / max(union, 1):.2f}",
        }
        for name, metric in METRICS.items():
            if output in episode.get(name, {}):
                total, number = episode[name][output][2 * place : 2 * place + 2]
                row[name] = f"{metric.scale * total / max(number, 1):.2f}"
        yield row


def sort_by_column(table: Table, name: str) -> None:
    """Order rows of text by a column: numbers best first, words by the alphabet, empty cells last.

    UserError: there is no such column.
    """
    if name not in table.header:
        raise UserError(f"--sort {name}: no column of this table{nearest(name, table.header)}")
    place = table.header.index(name)
    table.rows.sort(key=lambda row: _rank(str(row[place]), smaller_is_better(name)))


def _rank(text: str, ascending: bool) -> tuple[bool, bool, float, str]:
    """Return what a cell is sorted by: whether it is empty, whether a word, its number, its letters."""
    try:
        number = float(text)
    except ValueError:
        return not text, True, 0.0, text
    return False, False, number if ascending else -number, ""
