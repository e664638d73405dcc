"""Results of tests, read from their files alone: their rows, their scores, and the frame of these.

pandas is imported where the first frame is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from util.data.draws import OWN
from util.evaluate.schema import Result, find_results, read_result
from util.files.errors import check_known
from util.loop.mask_metrics import METRICS, ScoreFacts
from util.loop.metrics import BASE, MIOU, per_class
from util.report.row import Row

if TYPE_CHECKING:
    from pandas import DataFrame

FB_IOU, SECONDS = "fb_iou", "seconds"  # of a test's time for an episode
SCORES = {
    MIOU: ScoreFacts(title="mIoU", unit="%", scale=100.0, smaller_is_better=False),
    FB_IOU: ScoreFacts(title="FB-IoU", unit="%", scale=100.0, smaller_is_better=False),
    SECONDS: ScoreFacts(title="s / episode", unit="", scale=1.0, smaller_is_better=True),
}
DEVIATION = "standard deviation (of a sample, n - 1)"
# Columns of the frame of ``results``: of scores, and of results; lists and contents are digests
SCORE_COLUMNS = ("file", "seed", "output", "class", "score", "value", "title", "unit", "smaller_is_better")
AS_THEY_ARE = (
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "precision", "episodes", "device", "run"),
    *("list", "content", "whole_list", "whole_content"),
    *("folds", "fold_rule", "input", "input_side", "min_pixels", "quick_look", "other_seeds"),
)


def _entry(name: str, row: Row) -> Any:
    """Return an entry of a row's result."""
    return cast(Any, row.result)[name]


COLUMNS: dict[str, Callable[[Row], Any]] = {name: partial(_entry, name) for name in AS_THEY_ARE} | {
    "row": lambda row: row.name,
    "place": lambda row: row.place,
    "training_seed": lambda row: row.training_seed,
    "draw": lambda row: row.result["protocol_settings"].get("draw", OWN),
    "mark": lambda row: row.mark,
    "seeds": lambda row: " ".join(map(str, row.result["seeds"])),
    "weights": lambda row: row.result["weights"][:12],
    "date": lambda row: row.result["date"][:10],
    "commit": lambda row: str(row.result["environment"].get("commit", ""))[:8],
}


def results(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> DataFrame:
    """Return every score of the results below some paths, a row for each result, seed, output, class and score.

    ``value`` is in ``unit``; ``smaller_is_better`` is the direction.
    ``class`` is empty in rows of all classes together; with a class the score ``miou`` is its IoU. ``output`` is
    ``final`` for the prediction, ``seed`` that of the test, ``training_seed`` that of the training, ``row`` the
    result's name in tables, ``file`` the result's. ``list``, ``content`` and those of the whole test list are digests.
    Further columns are those of ``report.py table --rows results``.

    Args:
        paths: result files, or folders.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, or none of a protocol.
    """
    return frame_of(rows_of(paths, protocols))


def frame_of(rows: Sequence[Row]) -> DataFrame:
    """Return the frame of ``results``."""
    import pandas

    lines = list[tuple]()
    for row in rows:
        of_result = [value(row) for value in COLUMNS.values()]
        lines += [(str(row.file), *of_score, *of_result) for of_score in _scores_in(row.result)]
    frame = pandas.DataFrame(lines, columns=[*SCORE_COLUMNS, *COLUMNS])
    return frame.astype({"smaller_is_better": object, "training_seed": "Int64"})


def rows_of(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> list[Row]:
    """Return the rows of the results below some paths; arguments and UserError as ``results``."""
    rows = [Row(file, read_result(file)) for file in find_results([Path(path) for path in paths])]
    known = {row.result["protocol"] for row in rows}
    for name in protocols:
        check_known(name, known, f"{', '.join(map(str, paths))}: no result of protocol {name}")
    return [row for row in rows if not protocols or row.result["protocol"] in protocols]


def _scores_in(result: Result) -> Iterator[tuple]:
    """Yield what ``SCORE_COLUMNS`` have, but for the file, of each score of a result.

    The value is NaN where nothing was counted of a further metric.
    """
    further = result.get("metrics", {})
    for seed, outputs in zip(result["seeds"], result["per_seed"], strict=True):
        for output, (name, facts) in product(outputs, scores_of(result).items()):
            about = facts["title"], facts["unit"], facts["smaller_is_better"]
            if name in result["mean"][output] or (name in further and output != BASE):
                for class_name, value in _values_of(result, output, outputs[output], name):
                    yield seed, output, class_name, name, value, *about


def _values_of(result: Result, output: str, scores: dict[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Yield a score of all classes together ('') and of each, with the names of these."""
    yield "", scores.get(name, math.nan)
    of_classes = {} if output == BASE else scores.get(per_class(name), {})
    uncounted = dict.fromkeys(scores[per_class(MIOU)], math.nan) if of_classes else {}
    for class_id, value in {**uncounted, **of_classes}.items():
        yield result["novel"].get(class_id, class_id), value


def check_output(rows: Sequence[Row], output: str) -> None:
    """Refuse (UserError) results that lack an output."""
    for row in rows:
        check_known(output, row.result["mean"], f"{row.file}: has no output '{output}'")


def scores_of(*results: Result) -> dict[str, ScoreFacts]:
    """Return the facts on all scores by their names, in order; results bring the facts on their own further metrics."""
    known = SCORES | {name: metric.facts for name, metric in METRICS.items()}
    for result in results:
        known |= result.get("metrics", {})
    return known
