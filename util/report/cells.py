"""The cells of the paper's tables as frames of pandas, a line each: their numbers, and which are the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from util.evaluate.schema import NOT_STATED, smaller_is_better
from util.evaluate.titles import DRAWN_HERE, protocol_title
from util.report.frames import scores_of
from util.report.rows import Result, Row, differences_of, doubts
from util.run.origin import Origin, one_of_each

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MEAN = "mean"  # the place of a mean over folds or data sets
SECONDS = "seconds"  # the score of a test's time for an episode


class Column(NamedTuple):
    """The terms that numbers share when methods can be compared by them."""

    shot: int
    place: Any  # a fold, a data set, or ``MEAN``
    score: str
    name: str = ""  # of a class; '' for all together


def measured(
    results: dict[Path, Result], output: str, places: Sequence[Any], place_key: str
) -> tuple[list[Row], DataFrame]:
    """Return the rows of our results, and their cells; means over places only if all of these are there.

    A cell is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test. ``row`` is the row's number, ``doubts`` the reasons why
    a number is not the protocol's; those about a result are about its cells and all means.

    Args:
        results: by their files.
        output: name of the output whose scores are shown.
        places: all folds, or all data sets.
        place_key: the key of a result that names its place: ``fold`` or ``dataset``.
    """
    import pandas

    scores = scores_of(results)
    scores = scores[scores["output"] == output]
    rows = dict[str, Row]()
    cells = []
    for (method, shot), group in scores.groupby(["row", "shot"], sort=False):
        of_group = [results[Path(file)] for file in group["file"].unique()]
        first = of_group[0]
        row = rows.setdefault(method, Row(method, protocol_title(first), first["encoder"], source=None))
        group = group.rename(columns={place_key: "place", "class": "name"})
        numbers = _cells_of(row, group, of_group, places, place_key)
        cells.append(numbers.assign(row=list(rows).index(method), shot=shot))
    return list(rows.values()), pandas.concat(cells)


def _cells_of(row: Row, scores: DataFrame, results: list[Result], places: Sequence[Any], place_key: str) -> DataFrame:
    """Return the cells of a row's results with one number of shots, and state in the row what these are of."""
    import pandas

    first = results[0]
    shot = first["shot"]
    kind, samples = _samples(scores)
    whole_lists = one_of_each(map(Origin.of, results), "whole_list")
    has_means = place_key != "fold" or len(whole_lists) < 2
    if not has_means:
        lists = ", ".join(whole_lists)
        row.warnings.append(
            f"no mean of {row.method}, {shot}-shot: its folds are parts of different test lists ({lists})"
        )
    numbers = _numbers(scores.assign(sample=samples), len(places) if has_means else 0)
    if len({*samples}) > 1:
        row.seeds[shot] = f"{kind} seeds {', '.join(map(str, dict.fromkeys(samples)))}"
    row.tracks[shot] = first["track"]
    row.parameters = f"{_millions(first['parameters'])} ({_millions(first['learnt_parameters'])})"
    counts = scores.groupby("training_seed", dropna=False)["place"].nunique()
    differences = differences_of(results, place_key, is_uneven=kind == "training" and counts.nunique() > 1)
    repeated = kind == "training"
    reasons = {place: _doubts_at(place, results, place_key, differences, repeated) for place in {*numbers["place"]}}
    seconds = {"place": MEAN, "name": "", "score": SECONDS, "value": _seconds(results), "doubts": ()}
    numbers["doubts"] = [reasons[place] for place in numbers["place"]]
    return pandas.concat([numbers, pandas.DataFrame([seconds])])


def _doubts_at(
    place: Any, results: list[Result], place_key: str, differences: list[str], repeated: bool
) -> tuple[str, ...]:
    """Return the doubts about the cells of a place; those about means are about all cells of repeated trainings."""
    of_place = [result for result in results if result[place_key] == place]
    return doubts(of_place or results, differences if repeated or place == MEAN else ())


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


def texts_of(cells: DataFrame) -> list[str]:
    """Return the numbers of cells as text, without marks."""
    forms = cells["score"].map({SECONDS: ".3g"}).fillna(".1f")
    return [format(value, form) for value, form in zip(cells["value"], forms)]


def best_of(cells: DataFrame, rows: list[Row]) -> Series:
    """Return which cells are the best, the largest or, of some scores, the smallest, as they are printed.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable.
    """
    import pandas

    comparable = cells["row"].map(dict(enumerate(map(_comparable, rows))))
    sign = cells["score"].map(lambda score: -1 if smaller_is_better(score) else 1)
    shown = pandas.Series(map(float, texts_of(cells)), cells.index) * sign
    keys = [*(cells[name] for name in Column._fields), comparable, cells["doubts"]]
    groups = shown.groupby(keys, sort=False)
    return (groups.transform("size") > 1) & (shown == groups.transform("max"))


def _comparable(row: Row) -> tuple | None:
    """Return what rows that are compared have in common; None for one that is compared with none."""
    protocol = row.protocol.partition(" (")[0]
    if protocol == NOT_STATED:
        return None
    return protocol, DRAWN_HERE in row.protocol, row.encoder, row.track
