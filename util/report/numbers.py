"""The numbers of the paper's tables, measured here and published, as rows of one frame.

A number is of a method, a number of shots, a place (a fold, a data set, or ``MEAN`` of all of them), and a score.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from util.config.read import published_side
from util.evaluate.schema import Result
from util.evaluate.titles import track_text
from util.report.one_table import are_across, are_repeated, doubts_by_place
from util.report.published import MEAN, published
from util.report.results import SECONDS, overall_scores

if TYPE_CHECKING:
    from pandas import DataFrame

GRID = 16  # pixels of a grid's step, by which a network's side may differ from a protocol's
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def places_of(facts: DataFrame) -> list[str]:
    """Return the places of a table's columns: all folds, or the data sets."""
    folds = facts["folds"].iloc[0]
    return facts["place"].unique().tolist() if folds == 1 else [f"fold {fold}" for fold in range(folds)]


def published_set(facts: DataFrame) -> str:
    """Return the data set whose published rows stand beside results; '' for none."""
    if are_across(facts):
        return "crossdomain" if {*facts["dataset"]} == CROSS_DOMAIN else ""
    return facts["dataset"].iloc[0]


def numbers_of(by_file: dict[Path, Result], facts: DataFrame, output: str, papers: str | None) -> DataFrame:
    """Return the numbers of a table, measured then published ones, by the facts of its results.

    Columns: line (of the row), method, protocol, encoder, source ('' where it is measured), track, parameters, over
    (the seeds of spreads); shot, place, score, value, text, spread, doubts (why it is not the protocol's number).

    UserError: a result lacks the output, or a paper is not known.
    """
    import pandas

    measured = _measured(overall_scores(by_file, output), facts)
    shots = sorted(facts["shot"].unique().tolist())
    protocol = _protocol_of_papers(facts) if papers is None else None
    quoted = published(published_set(facts), shots, facts["fold_rule"].iloc[0], papers, protocol)
    frame = pandas.DataFrame(quoted).assign(parameters="-", over="", spread=math.nan, doubts=[()] * len(quoted))
    numbers = pandas.concat([measured.astype(object), frame.astype(object)], ignore_index=True)
    numbers["line"] = numbers.groupby(["method", "protocol", "source"], sort=False).ngroup()
    numbers["text"] = [*map(format, numbers["value"], numbers["score"].map({SECONDS: ".3g"}).fillna(".1f"))]
    return numbers


def _protocol_of_papers(facts: DataFrame) -> str:
    """Return the protocol whose published numbers stand beside results: their own, none ('') at another image side."""
    protocol = facts["protocol"].iloc[0]
    off = facts["input_side"].astype(float) - (published_side(facts["dataset"].iloc[0], protocol) or math.nan)
    return "" if (off.abs() > GRID).any() else protocol


def _measured(scores: DataFrame, facts: DataFrame) -> DataFrame:
    """Return the numbers of results; with means over places only if all of these are there."""
    import pandas

    places = len(places_of(facts))
    groups = (every for _, every in facts.groupby(["row", "shot"], sort=False))
    parts = [_of_row_and_shot(scores[scores["file"].isin(every.index)], every, places) for every in groups]
    numbers = pandas.concat(parts)
    tracks = {row: track_text(dict(zip(of["shot"], of["track"]))) for row, of in facts.groupby("row")}
    overs = {row: "; ".join(filter(None, of["over"].unique())) for row, of in numbers.groupby("method")}
    return numbers.assign(track=numbers["method"].map(tracks), over=numbers["method"].map(overs))


def _of_row_and_shot(scores: DataFrame, every: DataFrame, places: int) -> DataFrame:
    """Return the numbers of a row with one number of shots.

    A number is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test, if all results have the same.
    """
    first = every.iloc[0]
    kind, samples = "test", scores["seed"]
    if are_repeated(every):
        kind, samples = "training", scores["training_seed"].fillna(0)
    elif every["seeds"].nunique() > 1:
        samples = 0 * samples
    numbers = _means(scores.assign(sample=samples), places)
    numbers["doubts"] = numbers["place"].map(doubts_by_place(every))
    seconds = {"place": MEAN, "score": SECONDS, "value": every["seconds"].mean(), "doubts": ()}
    numbers.loc[len(numbers)] = seconds
    seeds = samples.unique()
    over = f"{first['shot']}-shot: {kind} seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    shared = first[["shot", "encoder", "parameters"]]
    return numbers.assign(method=first["row"], protocol=first["title"], source="", over=over, **shared)


def _means(scores: DataFrame, places: int) -> DataFrame:
    """Return value and spread of each score of a place, and of the means of scores of so many places."""
    import pandas

    by_sample = scores.groupby(["place", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({MEAN: means}, names=["place"])])
    return pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)}).reset_index()
