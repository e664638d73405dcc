"""The numbers of the paper's tables, measured here and published, as rows of one frame.

A number is of a method, a number of shots, a place (a fold, a data set, or ``MEAN`` of all of them), a score and a
class, '' for all classes together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from util.evaluate.schema import NOT_STATED, Result
from util.evaluate.titles import DRAWN_HERE, protocol_title, track_text
from util.loop.metrics import MIOU
from util.report.one_table import are_across, differences_of, doubts_of
from util.report.published import MEAN, fold_place, published
from util.report.results import SECONDS, frame_of, row_name, scores_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ROW = ["method", "protocol", "source"]  # what numbers of a row share
SIGNS = {False: 1.0, True: -1.0, None: math.nan}  # by whether small values are good
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def place_of(result: Result, across: bool) -> str:
    """Return the place of a result in a table, which may be across data sets."""
    return result["dataset"] if across else fold_place(result["fold"])


def places_of(results: dict[Path, Result]) -> list[str]:
    """Return the places of a table's columns: all folds, or the data sets."""
    if are_across(results):
        return list(dict.fromkeys(result["dataset"] for result in results.values()))
    first = next(iter(results.values()))
    return [fold_place(fold) for fold in range(first["folds"])]


def published_set(results: dict[Path, Result]) -> str:
    """Return the data set whose published rows stand beside results; '' for none."""
    if are_across(results):
        return "crossdomain" if {*places_of(results)} == CROSS_DOMAIN else ""
    return next(iter(results.values()))["dataset"]


def numbers_of(results: dict[Path, Result], output: str, papers: str | None) -> tuple[DataFrame, list[str]]:
    """Return the numbers of a table, published then measured ones, and notes on published rows that are left out.

    Columns: row (a number), method, protocol, encoder, source ('' where it is measured), track, parameters, over (the
    seeds of spreads); shot, place, score, class, name (by which ``--sort`` calls it), value, text, spread, doubts (why
    it is not the protocol's number), best (of the numbers that it is compared with).
    """
    import pandas

    first = next(iter(results.values()))
    shots = sorted({result["shot"] for result in results.values()})
    quoted, left_out = published(published_set(results), shots, first["fold_rule"], papers)
    frame = pandas.DataFrame(quoted).assign(parameters="-", over="", spread=math.nan, doubts=[()] * len(quoted))
    numbers = pandas.concat([frame.astype(object), _measured(results, output).astype(object)], ignore_index=True)
    numbers["row"] = numbers.groupby(ROW, sort=False).ngroup()
    numbers["name"] = [_name(*number) for number in numbers[["class", "place", "score"]].itertuples(index=False)]
    numbers["text"] = [_printed(*number) for number in numbers[["score", "value"]].itertuples(index=False)]
    signs = {score: SIGNS[facts["smaller_is_better"]] for score, facts in scores_of(*results.values()).items()}
    numbers["best"] = _are_best(numbers, signs)
    return numbers, left_out


def _name(class_name: str, place: str, score: str) -> str:
    """Return what a number is called: its class, its score, or its place and, unless that is mIoU, its score."""
    if class_name:
        return class_name.lower() if score == MIOU else ""
    if place == MEAN:
        return score.lower()
    return place.lower() if score == MIOU else f"{place} {score}".lower()


def _printed(score: str, value: float) -> str:
    """Return a number as a table prints it."""
    return format(value, ".3g" if score == SECONDS else ".1f")


def _are_best(numbers: DataFrame, signs: dict[str, float]) -> Series:
    """Return which numbers are the best, the largest or, by their sign, the smallest, as they are printed.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable, and nothing is the best of a score without a sign.
    """
    ranks = numbers["text"].astype(float) * numbers["score"].map(signs)
    protocol = numbers["protocol"].str.partition(" (")[0]
    drawn = numbers["protocol"].str.contains(DRAWN_HERE)
    columns = [numbers[key] for key in ("shot", "place", "score", "class", "encoder", "track", "doubts")]
    groups = ranks.groupby([protocol, drawn, *columns], sort=False)
    is_best = (groups.transform("max") == ranks) & (groups.transform("size") > 1)
    return is_best & (protocol != NOT_STATED)


def _measured(results: dict[Path, Result], output: str) -> DataFrame:
    """Return the numbers of results; with means over places only if all of these are there.

    A number is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test. Doubts about a result are about its numbers and all
    means.
    """
    import pandas

    frame = frame_of(results)
    frame = frame[frame["output"] == output]
    frame["place"] = frame["dataset"] if are_across(results) else frame["fold"].map(fold_place)
    parts = []
    tracks, overs = defaultdict[str, dict](dict), defaultdict[str, list[str]](list)
    for (row, shot), scores in frame.groupby(["row", "shot"], sort=False):
        kind, samples = _samples(scores)
        parts.append(_of_row_and_shot(scores.assign(sample=samples), results, repeated=kind == "training"))
        tracks[row][shot] = results[Path(scores["file"].iloc[0])]["track"]
        if samples.nunique() > 1:
            overs[row].append(f"{shot}-shot: {kind} seeds {', '.join(map(str, samples.unique()))}")
    numbers = pandas.concat(parts)
    numbers["track"] = numbers["method"].map({row: track_text(by_shot) for row, by_shot in tracks.items()})
    numbers["over"] = numbers["method"].map({row: "; ".join(overs[row]) for row in tracks})
    return numbers


def _samples(scores: DataFrame) -> tuple[str, Series]:
    """Return which seeds numbers spread over, and the seed of each score.

    They are those of the trainings where a place has several, or those of the test, if all results have the same.
    """
    if scores.groupby("place")["file"].nunique().max() > 1:
        return "training", scores["training_seed"].fillna(0).astype(int)
    seeds = scores.groupby("file")["seed"].unique()
    return "test", scores["seed"] if seeds.map(tuple).nunique() == 1 else scores["seed"] * 0


def _of_row_and_shot(scores: DataFrame, results: dict[Path, Result], repeated: bool) -> DataFrame:
    """Return the numbers of a row with one number of shots; ``repeated``: of trainings with several seeds."""
    files = {MEAN: scores["file"].unique(), **scores.groupby("place")["file"].unique()}
    by_place = {place: [results[Path(file)] for file in names] for place, names in files.items()}
    every = by_place[MEAN]
    differences = differences_of(every, are_across(results))
    places_of_training = scores.groupby("training_seed", dropna=False)["place"].nunique()
    if repeated and places_of_training.nunique() > 1:
        differences = ["not every training has all folds"]
    doubts = {}
    for place, of_place in by_place.items():
        doubts[place] = doubts_of(of_place, differences if repeated or place == MEAN else [])
    numbers = _means(scores, len(places_of(results)))
    numbers["doubts"] = numbers["place"].map(doubts)
    numbers.loc[len(numbers)] = {"place": MEAN, "class": "", "score": SECONDS, "value": _seconds(every), "doubts": ()}
    first = every[0]
    return numbers.assign(
        method=row_name(first),
        protocol=protocol_title(first),
        source="",
        encoder=first["encoder"],
        shot=first["shot"],
        parameters=f"{_millions(first['parameters'])} ({_millions(first['learnt_parameters'])})",
    )


def _means(scores: DataFrame, places: int) -> DataFrame:
    """Return value and spread of each score of a place or class, and of the means of scores of so many places."""
    import pandas

    by_sample = scores.groupby(["place", "class", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.xs("", level="class").groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({(MEAN, ""): means}, names=["place", "class"])])
    return pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)}).reset_index()


def _seconds(results: Sequence[Result]) -> float:
    """Return the mean seconds of tests for an episode, summed over their processes."""
    seconds = [60 * r["minutes"] * r["processes"] / (r["episodes"] * len(r["seeds"])) for r in results]
    return sum(seconds) / len(seconds)


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"
