"""Which results share a table: ``check_one_table`` refuses others; and why the mean of some is doubtful."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

from util.evaluate.schema import NOT_STATED
from util.evaluate.titles import departures, protocol_title, track_text
from util.files.errors import UserError
from util.files.parallel import grouped
from util.report.frame import COLUMNS, rows_of
from util.report.provenance import trained_precision
from util.report.published import MEAN
from util.report.row import Row
from util.report.shared_facts import by_value, differences, text_of, without

CELL = ("row", "protocol", "shot", "dataset", "fold", "training_seed")
COLUMN = ("dataset", "fold", "shot")  # rare classes that are skipped depend on shots
# A value that a part of a table shares: the part, the columns that say which one, the value's name, and it
Term = tuple[str, Sequence[str], str, Callable[[Row], Any]]
ONE: list[Term] = [
    ("a cell", CELL, "result", lambda row: row.file),
    ("a table", (), "protocol", lambda row: protocol_title(row.result)),
    (
        "a table",
        (),
        "protocol's settings",
        lambda row: text_of(without(row.result["protocol_settings"], "list_file", "side")),
    ),
    ("a table", ("dataset",), "whole test list", COLUMNS["whole_list"]),
    (
        "a table",
        ("dataset",),
        "content of the photos or masks of the whole test list",
        COLUMNS["whole_content"],
    ),
    ("a column", COLUMN, "test list", COLUMNS["list"]),
    ("a column", COLUMN, "content of the photos or masks", COLUMNS["content"]),
    ("a row", ("row", "shot"), "track", lambda row: track_text({row.result["shot"]: row.result["track"]})),
]
# But of data sets without folds, which may also differ in their image sides.
ONE_OF_FOLDS: list[Term] = [
    ("a table", (), "data set", COLUMNS["dataset"]),
    ("a table", (), "number of folds", COLUMNS["folds"]),
    ("a table", (), "data.fold_classes", lambda row: str(row.result["config"]["data"].get("fold_classes"))),
    ("a table", (), "data.min_pixels", COLUMNS["min_pixels"]),
    ("a table", (), "image side", COLUMNS["input_side"]),
]
# Reasons of doubt about a mean, by what its results have in common else
MADE: dict[str, Callable[[Row], Any]] = {
    "made with different settings": lambda row: row.settings,
    "made by different code of the method": lambda row: text_of(row.result["code"]),
    "made with different text vectors": lambda row: row.result.get("vectors"),
}
PRECISIONS: dict[str, Callable[[Row], Any]] = {
    "trained in different precisions": lambda row: trained_precision(row.result) or NOT_STATED,
    "tested in different precisions": COLUMNS["precision"],
}


def rows_by_table(paths: list[Path], protocols: Sequence[str]) -> Iterator[list[Row]]:
    """Yield the results below some paths that share a table, protocol by protocol.

    A table shows tests of its protocol's own episodes. Quick looks and tests of other seeds are only shown where there
    is nothing better.

    Args:
        paths: result files, or folders.
        protocols: in their order; none: all that there are.

    Raises:
        UserError: there is none, or none of a protocol; or as ``check_one_table``.
    """
    own = [row for row in rows_of(paths, protocols) if row.result["replayed"] is None]
    cell_of = partial(_values_of, CELL)
    least = {cell: min(map(_departs, every)) for cell, every in grouped(own, cell_of).items()}
    best = [row for row in own if _departs(row) == least[cell_of(row)]]
    for protocol in protocols or grouped(own, COLUMNS["protocol"]) or [""]:
        shown = [row for row in best if row.result["protocol"] == protocol]
        if not shown:
            raise UserError(
                f"{', '.join(map(str, paths))}: no result to show {protocol and f'of protocol {protocol} '}"
                "(replays are left out)"
            )
        check_one_table(shown)
        yield shown


def _values_of(columns: Sequence[str], row: Row) -> tuple:
    """Return the values of some columns of a row."""
    return tuple(COLUMNS[column](row) for column in columns)


def _departs(row: Row) -> int:
    """Return how far the episodes of a result are from those of its protocol."""
    return 2 * row.result["quick_look"] + row.result["other_seeds"]


def are_across(rows: Sequence[Row]) -> bool:
    """Return whether a table has columns of data sets without folds, as in the cross-domain benchmark."""
    return len({row.result["dataset"] for row in rows}) > 1 and {row.result["folds"] for row in rows} == {1}


def check_one_table(rows: Sequence[Row], further: Sequence[Term] = ()) -> None:
    """Refuse results that differ where a table, a column, a row or a cell shows one value; ``further``: such terms.

    UserError: names a result for each value, and what they differ in.
    """
    metrics = dict.fromkeys(chain.from_iterable(row.result.get("metrics", {}) for row in rows))
    terms: list[Term] = [
        *ONE,
        *further,
        *(("a table", (), f"metric {name}", partial(_metric, name)) for name in metrics),
    ]
    if not are_across(rows):
        terms += ONE_OF_FOLDS
    for part, keys, name, value_of in terms:
        for which, group in grouped(rows, partial(_values_of, keys)).items():
            values = by_value(group, value_of)
            if len(values) > 1:
                files = " and ".join(str(row.file) for row in values.values())
                place = " ".join([part, *map("{} {}".format, keys, which)])
                fix = "name fewer runs, or --protocol" if name == "protocol" else "name fewer runs"
                shown = "; ".join(map(str, values))
                raise UserError(f"{files}: differ in {name} ({shown}), and {place} shows one", fix=fix)


def _metric(name: str, row: Row) -> str:
    """Return a result's description of a further metric."""
    return text_of({**row.result.get("metrics", {}).get(name, {})})


def doubts_by_place(every: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Return why numbers of a row with one number of shots are not the protocol's, by their places and ``MEAN``.

    Doubts about a result are about its numbers and all means.
    """
    repeated = are_repeated(every)
    made = [*differences(every, MADE)][:1]
    folds = {len({row.place for row in own}) for own in grouped(every, attrgetter("training_seed")).values()}
    if repeated and len(folds) > 1:
        made = ["not every training has all folds"]
    doubts = {}
    for place, own in [(MEAN, every), *grouped(every, attrgetter("place")).items()]:
        reasons = [*chain.from_iterable(departures(row.result) for row in own)]
        if repeated or place == MEAN:
            reasons += made
        reasons += [f"{reason}: {values}" for reason, values in differences(own, PRECISIONS).items()]
        doubts[place] = tuple(dict.fromkeys(reasons))
    return doubts


def are_repeated(rows: Sequence[Row]) -> bool:
    """Return whether results of a row with one number of shots are of trainings with several seeds."""
    return len({row.place for row in rows}) < len(rows)
