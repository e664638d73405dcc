"""The numbers of the paper's tables, measured here and published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from util.config.read import published_side
from util.evaluate.titles import track_text
from util.report.one_table import are_across, are_repeated, doubts_by_place
from util.report.published import MEAN, Number, published
from util.report.results import SECONDS, Row, grouped, overall_scores

GRID = 16  # pixels of a grid's step, by which a network's side may differ from a protocol's
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def places_of(rows: Sequence[Row]) -> list[str]:
    """Return the places of a table's columns: all folds, or the data sets."""
    folds = rows[0].folds
    return [*dict.fromkeys(row.place for row in rows)] if folds == 1 else [f"fold {fold}" for fold in range(folds)]


def published_set(rows: Sequence[Row]) -> str:
    """Return the data set whose published rows stand beside results; '' for none."""
    if are_across(rows):
        return "crossdomain" if {row.dataset for row in rows} == CROSS_DOMAIN else ""
    return rows[0].dataset


def numbers_of(rows: Sequence[Row], output: str, papers: str | None) -> list[Number]:
    """Return the numbers of a table, measured then published ones, by its results.

    UserError: a result lacks the output, or a paper is not known.
    """
    places = len(places_of(rows))
    numbers = list[Number]()
    for own in grouped(rows, "row").values():
        track = track_text({row.shot: row.result["track"] for row in own})
        for every in grouped(own, "shot").values():
            numbers += _measured(every, output, places, track)
    shots = sorted({row.shot for row in rows})
    protocol = _protocol_of_papers(rows) if papers is None else None
    return numbers + published(published_set(rows), shots, rows[0].fold_rule, papers, protocol)


def _protocol_of_papers(rows: Sequence[Row]) -> str:
    """Return the protocol whose published numbers stand beside results: their own, none ('') at another image side."""
    protocol = rows[0].protocol
    side = published_side(rows[0].dataset, protocol)
    sides = {row.input_side for row in rows}
    return "" if any(side and mine and abs(mine - side) > GRID for mine in sides) else protocol


def _measured(every: Sequence[Row], output: str, places: int, track: str) -> Iterator[Number]:
    """Yield the numbers of a row with one number of shots; with means over places only if all of these are there.

    A number is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test, if all results have the same.
    """
    scores = [(row, *score) for row in every for score in overall_scores(row, output)]
    kind, samples = "test", [seed for _, seed, *_ in scores]
    if are_repeated(every):
        kind, samples = "training", [row.training_seed or 0 for row, *_ in scores]
    elif len({row.seeds for row in every}) > 1:
        samples = [0] * len(scores)
    values = [(row.place, name, sample, value) for (row, _, name, value), sample in zip(scores, samples)]
    seeds = ", ".join(map(str, dict.fromkeys(samples)))
    first = every[0]
    over = f"{first.shot}-shot: {kind} seeds {seeds}" if len({*samples}) > 1 else ""
    doubts = doubts_by_place(every)
    seconds = fmean(row.seconds for row in every)
    for place, score, value, spread in (*_means(values, places), (MEAN, SECONDS, seconds, float("nan"))):
        of_number = () if score == SECONDS else doubts[place]
        about = first.row, first.title, "", track, first.shot
        yield Number(*about, place, score, value, first.parameters, spread, over, of_number)


def _means(values: list[tuple[str, str, int, float]], places: int) -> Iterator[tuple]:
    """Return place, score, value and spread of each score of a place, and of the means of scores of so many places.

    ``values`` are place, score, sample and value.
    """
    import pandas

    frame = pandas.DataFrame(values, columns=["place", "score", "sample", "value"])
    by_sample = frame.groupby(["place", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({MEAN: means}, names=["place"])])
    numbers = pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)})
    return numbers.reset_index().itertuples(index=False)
