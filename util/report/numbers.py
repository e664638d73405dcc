"""The numbers of the paper's tables, measured here and published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING

from util.config.read import published_side
from util.evaluate.titles import protocol_title, track_text
from util.files.parallel import grouped
from util.report.frame import COLUMNS, SECONDS, check_output, frame_of
from util.report.one_table import are_across, are_repeated, doubts_by_place
from util.report.published import MEAN, Number, published
from util.report.row import Row

if TYPE_CHECKING:
    from pandas import DataFrame

GRID = 16  # pixels of a grid's step, by which a network's side may differ from a protocol's
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def places_of(rows: Sequence[Row]) -> list[str]:
    """Return the places of a table's columns: all folds, or the data sets."""
    folds = rows[0].result["folds"]
    return [*dict.fromkeys(row.place for row in rows)] if folds == 1 else [f"fold {fold}" for fold in range(folds)]


def published_set(rows: Sequence[Row]) -> str:
    """Return the data set whose published rows stand beside results; '' for none."""
    if are_across(rows):
        return "crossdomain" if {row.result["dataset"] for row in rows} == CROSS_DOMAIN else ""
    return rows[0].result["dataset"]


def numbers_of(rows: Sequence[Row], output: str, papers: str | None) -> list[Number]:
    """Return the numbers of a table, measured then published ones, by its results.

    UserError: a result lacks the output, or a paper is not known.
    """
    places = len(places_of(rows))
    numbers = list[Number]()
    for own in grouped(rows, attrgetter("name")).values():
        track = track_text({row.result["shot"]: row.result["track"] for row in own})
        for every in grouped(own, COLUMNS["shot"]).values():
            numbers += _measured(every, output, places, track)
    shots = sorted({row.result["shot"] for row in rows})
    protocol = _protocol_of_papers(rows) if papers is None else None
    return numbers + published(published_set(rows), shots, rows[0].result["fold_rule"], papers, protocol)


def _protocol_of_papers(rows: Sequence[Row]) -> str:
    """Return the protocol whose published numbers stand beside results: their own, none ('') at another image side."""
    protocol = rows[0].result["protocol"]
    side = published_side(rows[0].result["dataset"], protocol)
    sides = {row.result["input_side"] for row in rows}
    return "" if any(side and mine and abs(mine - side) > GRID for mine in sides) else protocol


def _measured(every: Sequence[Row], output: str, places: int, track: str) -> Iterator[Number]:
    """Yield the numbers of a row with one number of shots; with means over places only if all of these are there.

    A number is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test, if all results have the same.
    """
    scores = _scores_by_sample(every, output)
    first = every[0]
    samples = scores["sample"].unique()
    kind = "training" if are_repeated(every) else "test"
    over = f"{first.result['shot']}-shot: {kind} seeds {', '.join(map(str, samples))}" if len(samples) > 1 else ""
    doubts = doubts_by_place(every)
    seconds = fmean(row.seconds for row in every)
    for place, score, value, spread in (*_means(scores, places), (MEAN, SECONDS, seconds, float("nan"))):
        yield Number(
            method=first.name,
            protocol=protocol_title(first.result),
            source="",
            track=track,
            shot=first.result["shot"],
            place=place,
            score=score,
            value=value,
            parameters=first.parameters,
            spread=spread,
            over=over,
            doubts=() if score == SECONDS else doubts[place],
        )


def _scores_by_sample(every: Sequence[Row], output: str) -> DataFrame:
    """Return the frame of scores of all classes together with their samples: a training, a test seed, or 0 for all.

    UserError: a result lacks the output.
    """
    check_output(every, output)
    frame = frame_of(every)
    scores = frame[(frame["output"] == output) & (frame["class"] == "")].dropna(subset="value")
    if are_repeated(every):
        return scores.assign(sample=scores["training_seed"].fillna(0))
    has_seeds = len({tuple(row.result["seeds"]) for row in every}) == 1
    return scores.assign(sample=scores["seed"] if has_seeds else 0)


def _means(scores: DataFrame, places: int) -> Iterator[tuple]:
    """Return place, score, value and spread of each score of a place, and of the means of scores of so many places."""
    import pandas

    by_sample = scores.groupby(["place", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({MEAN: means}, names=["place"])])
    numbers = pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)})
    return numbers.reset_index().itertuples(index=False)
