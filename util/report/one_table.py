"""Which results share a table: ``check_one_table`` refuses others; and why the mean of some is doubtful."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from util.evaluate.schema import Result, read_results
from util.files.errors import UserError
from util.report.published import MEAN
from util.report.results import differences, facts_of

if TYPE_CHECKING:
    from pandas import DataFrame

CELL = ["row", "protocol", "shot", "dataset", "fold", "training_seed"]
COLUMN = ["dataset", "fold", "shot"]  # rare classes that are skipped depend on shots
# Each term: the part of a table, the columns that say which part it is, the value that it shares, and its name.
ONE: list[tuple[str, list[str], str, str]] = [
    ("a cell", CELL, "file", "result"),
    ("a table", [], "title", "protocol"),
    ("a table", [], "protocol_settings", "protocol's settings"),
    ("a table", ["dataset"], "whole_list", "whole test list"),
    ("a table", ["dataset"], "whole_content", "content of the photos or masks of the whole test list"),
    ("a column", COLUMN, "list", "test list"),
    ("a column", COLUMN, "content", "content of the photos or masks"),
    ("a row", ["row", "shot"], "track_text", "track"),
]
# But of data sets without folds, which may also differ in their image sides.
ONE_OF_FOLDS: list[tuple[str, list[str], str, str]] = [
    ("a table", [], "dataset", "data set"),
    ("a table", [], "folds", "number of folds"),
    ("a table", [], "fold_classes", "data.fold_classes"),
    ("a table", [], "min_pixels", "data.min_pixels"),
    ("a table", [], "input_side", "image side"),
]
# Reasons of doubt about a mean, by what its results have in common else
MADE = {
    "settings": "made with different settings",
    "code": "made by different code of the method",
    "vectors": "made with different text vectors",
}
PRECISIONS = {verb: f"{verb} in different precisions" for verb in ("trained", "tested")}


def results_by_table(paths: list[Path], protocols: Sequence[str]) -> Iterator[tuple[dict[Path, Result], DataFrame]]:
    """Yield the results below some paths that share a table, and their facts, protocol by protocol.

    A table shows tests of its protocol's own episodes. Quick looks and tests of other seeds are only shown where there
    is nothing better.

    Args:
        paths: result files, or folders.
        protocols: in their order; none: all that there are.

    Raises:
        UserError: there is none, or none of a protocol; or as ``check_one_table``.
    """
    by_file = read_results(paths, protocols)
    facts = facts_of(by_file)
    own = facts[~facts["is_replay"]]
    departs = 2 * own["quick_look"] + own["other_seeds"]
    best = own[departs == departs.groupby([own[key] for key in CELL], dropna=False).transform("min")]
    for protocol in protocols or own["protocol"].unique().tolist() or [""]:
        shown = best[best["protocol"] == protocol]
        if shown.empty:
            raise UserError(
                f"{', '.join(map(str, paths))}: no result to show {protocol and f'of protocol {protocol} '}"
                "(replays are left out)"
            )
        check_one_table(shown)
        yield {path: result for path, result in by_file.items() if str(path) in shown.index}, shown


def are_across(facts: DataFrame) -> bool:
    """Return whether a table has columns of data sets without folds, as in the cross-domain benchmark."""
    return facts["dataset"].nunique() > 1 and (facts["folds"] == 1).all()


def check_one_table(facts: DataFrame, further: Sequence[tuple[str, list[str], str, str]] = ()) -> None:
    """Refuse results that differ where a table, a column, a row or a cell shows one value; ``further``: such terms.

    UserError: names a result for each value, and what they differ in.
    """
    rows = facts.reset_index()
    terms = [*ONE, *further] + [("a table", [], column, column) for column in facts if column.startswith("metric ")]
    if not are_across(facts):
        terms += ONE_OF_FOLDS
    for part, keys, column, name in terms:
        groups = rows.groupby(keys, dropna=False) if keys else [((), rows)]
        for which, group in groups:
            if values := differences(group, {column: name}).get(name):
                files = " and ".join(group.drop_duplicates(column)["file"])
                place = " ".join([part, *map("{} {}".format, keys, which)])
                fix = "name fewer runs, or --protocol" if name == "protocol" else "name fewer runs"
                raise UserError(f"{files}: differ in {name} ({values}), and {place} shows one", fix=fix)


def doubts_by_place(every: DataFrame) -> dict[str, tuple[str, ...]]:
    """Return why numbers of a row with one number of shots are not the protocol's, by their places and ``MEAN``.

    Doubts about a result are about its numbers and all means.
    """
    repeated = are_repeated(every)
    made = [*differences(every, MADE)][:1]
    places_of_training = every.groupby("training_seed", dropna=False)["place"].nunique()
    if repeated and places_of_training.nunique() > 1:
        made = ["not every training has all folds"]
    doubts = {}
    for place, own in [(MEAN, every), *every.groupby("place")]:
        reasons = [*chain.from_iterable(own["departures"])]
        if repeated or place == MEAN:
            reasons += made
        reasons += [f"{reason}: {names}" for reason, names in differences(own, PRECISIONS).items()]
        doubts[place] = tuple(dict.fromkeys(reasons))
    return doubts


def are_repeated(facts: DataFrame) -> bool:
    """Return whether results of a row with one number of shots are of trainings with several seeds."""
    return bool(facts["place"].duplicated().any())
