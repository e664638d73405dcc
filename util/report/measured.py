"""The rows of our own results in the paper's tables, by pandas: means and spreads over seeds, folds and data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.evaluate.titles import protocol_title
from util.report.frames import scores_of
from util.report.rows import MEAN, SECONDS, Cell, Column, Result, Row, differences_of, doubts
from util.run.origin import Origin, one_of_each

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def measured(results: dict[Path, Result], output: str, places: Sequence[Any], place_key: str) -> list[Row]:
    """Return the rows of our results; with means over places only if all of these are there.

    A cell is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test. Doubts about a result are about its cells and all means.

    Args:
        results: by their files.
        output: name of the output whose scores are shown.
        places: all folds, or all data sets.
        place_key: the key of a result that names its place: ``fold`` or ``dataset``.
    """
    scores = scores_of(results)
    scores = scores[scores["output"] == output].rename(columns={place_key: "place", "class": "name"})
    rows = dict[str, Row]()
    for (method, _), group in scores.groupby(["row", "shot"], sort=False):
        of_group = [results[Path(file)] for file in group["file"].unique()]
        first = of_group[0]
        row = rows.setdefault(method, Row(method, protocol_title(first), first["encoder"], source=None))
        _add_cells(row, group, of_group, places, place_key)
    return list(rows.values())


def _add_cells(row: Row, scores: DataFrame, results: list[Result], places: Sequence[Any], place_key: str) -> None:
    """Add the cells of a row's results with one number of shots, and state in the row what these are of."""
    first = results[0]
    shot = first["shot"]
    row.tracks[shot] = first["track"]
    row.parameters = f"{_millions(first['parameters'])} ({_millions(first['learnt_parameters'])})"
    kind, samples = _samples(scores)
    if samples.nunique() > 1:
        row.seeds[shot] = f"{kind} seeds {', '.join(map(str, samples.unique()))}"
    needed = len(places)
    whole_lists = one_of_each(map(Origin.of, results), "whole_list")
    if place_key == "fold" and len(whole_lists) > 1:
        needed = 0
        why = f"its folds are parts of different test lists ({', '.join(whole_lists)})"
        row.warnings.append(f"no mean of {row.method}, {shot}-shot: {why}")
    counts = scores.groupby("training_seed", dropna=False)["place"].nunique()
    repeated = kind == "training"
    differences = differences_of(results, place_key, is_uneven=repeated and counts.nunique() > 1)
    reasons = {}
    for place in (*scores["place"].unique(), MEAN):
        of_place = [result for result in results if place in (result[place_key], MEAN)]
        reasons[place] = doubts(of_place, differences if repeated or place == MEAN else ())
    for number in _numbers(scores.assign(sample=samples), needed).itertuples():
        column = Column(shot, number.place, number.score, number.name)
        row.cells[column] = Cell(number.value, number.spread, reasons[number.place])
    row.cells[Column(shot, MEAN, SECONDS)] = Cell(_seconds(results))


def _samples(scores: DataFrame) -> tuple[str, Series]:
    """Return which seeds cells spread over, and the seed of each score.

    They are those of the trainings where a place has several, or those of the test, if all results have the same.
    """
    if scores.groupby("place")["file"].nunique().max() > 1:
        return "training", scores["training_seed"].fillna(0).astype(int)
    seeds = scores.groupby("file")["seed"].unique()
    if seeds.map(tuple).nunique() == 1:
        return "test", scores["seed"]
    return "", scores["seed"] * 0


def _numbers(scores: DataFrame, places: int) -> DataFrame:
    """Return value and spread of each score of a place or class, and of the means of scores of so many places."""
    import pandas

    by_sample = scores.groupby(["place", "name", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.xs("", level="name").groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({(MEAN, ""): means}, names=["place", "name"])])
    numbers = pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)})
    return numbers.reset_index().astype({"place": object})


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"


def _seconds(results: list[Result]) -> float:
    """Return the mean seconds of tests for an episode, summed over their processes."""
    seconds = [60 * r["minutes"] * r["processes"] / (r["episodes"] * len(r["seeds"])) for r in results]
    return sum(seconds) / len(seconds)
