"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product, starmap
from math import isnan
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from util.evaluate.schema import NOT_STATED, check_output, read_results
from util.evaluate.titles import DRAWN_HERE, protocol_title, side_warning
from util.files.errors import UserError, nearest
from util.loop.metrics import BASE, FINAL, MIOU, NETWORK, smaller_is_better
from util.report.measured import measured
from util.report.one_result import DEVIATION, class_score_titles, score_titles
from util.report.published_rows import published
from util.report.rows import (
    DOUBTFUL,
    MEAN,
    MEASURED,
    SECONDS,
    Cell,
    CellKey,
    Column,
    Result,
    Row,
    cell_key,
    check_mixture,
    data_warnings,
    how_made,
    number_text,
    row_name,
)
from util.report.table import Marked, Table

COLUMNS_NOTE = (
    "Parameters: of the method and of the encoder up to the deepest stage that it reads. "
    "Seconds: as the machine was, other programs included."
)
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    across: bool = False,
    papers: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the table of all results below some paths; a column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocol: only results of it; None: all.
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.
        papers: whose published rows are shown, with commas, or ``none``; default all.
        sort: the class, score or column by which methods stand, best first; default quoted rows, then measured ones.

    Raises:
        UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share a
            column, or nothing is called as ``sort``.
    """
    shown = Shown.of(paths, output, protocol, across)
    rows, left_out = _rows(shown, papers, sort)
    filled = set().union(*(row.cells for row in rows))
    columns = [column for column in _columns(shown) if column in filled]
    letters = _letters(rows)
    numbers = _source_numbers(rows)
    header = ["method", "protocol", "parameters M (learnt)", *map(_heading, columns)]
    out = Table(header, [], groups=["", "", "", *(f"{column.shot}-shot" for column in columns)])
    for row in rows:
        method = Marked(row.method, numbers[row.source] + letters[row.track])
        out.rows.append([method, row.protocol, row.parameters, *map(row.shown_with_spread, columns)])
    if sort is None:
        out.ruled = {sum(bool(row.source) for row in rows)} - {0}
    out.facts = _facts(rows, dict(zip(out.headings()[3:], columns)))
    out.notes = _notes(shown, rows, letters, numbers) + left_out + shown.left_out
    return out


def _notes(shown: Shown, rows: list[Row], letters: dict[str, str], numbers: dict[str | None, str]) -> list[str]:
    """Return the notes below a table: what its marks and columns mean, warnings, and how numbers were measured."""
    quoted = "; other numbers are quoted from the numbered source" if any(numbers.values()) else ""
    notes = [f"{MEASURED} measured here, {shown.output} output{quoted}. {COLUMNS_NOTE}"]
    notes += [*_explanations(rows, letters), *_footnotes(rows, numbers)]
    notes += [*shown.warnings(), *(f"warning: {warning}." for row in rows for warning in row.warnings)]
    return notes + [f"{MEASURED} {note}" for note in shown.notes()]


def _footnotes(rows: list[Row], numbers: dict[str | None, str]) -> list[str]:
    """Return the notes that say what spreads are over, and which sources have these numbers."""
    over = dict.fromkeys(row.over for row in rows if row.over)
    notes = [f"+-: {DEVIATION} over {words}." for words in over]
    return notes + [f"{number.strip()} {source}." for source, number in numbers.items() if source]


def _source_numbers(rows: list[Row]) -> dict[str | None, str]:
    """Return the mark of each source, its number; '' for rows that are measured here."""
    sources = dict.fromkeys(row.source for row in rows if row.source)
    numbers: dict[str | None, str] = {source: f" [{number}]" for number, source in enumerate(sources, start=1)}
    return numbers | {None: ""}


@dataclass(frozen=True)
class Shown:
    """The results of a table, by their files, after checking that they can share it."""

    results: dict[Path, Result]
    output: str  # whose scores are shown
    across: bool  # whether columns are data sets, and not folds
    left_out: list[str]  # notes on results of another fold

    @classmethod
    def of(cls, paths: list[Path], output: str, protocol: str | None, across: bool = False) -> Shown:
        """Return the results of a table; arguments and errors as of ``table``."""
        own, left_out = _own_tests(paths, protocol)
        shown = cls(_best_of_cells(own, output), output, across, left_out)
        protocols = shown.distinct("protocol")
        fix = "add " + " or ".join(f"--protocol {name}" for name in protocols)
        check_mixture(shown.results, across, fix if len(protocols) > 1 else "name fewer runs")
        for path, result in shown.results.items():
            check_output(path, output, result["mean"])
        if not shown.quoted_from:
            left_out.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
        return shown

    @property
    def first(self) -> Result:
        """The first result, with which all share their protocol."""
        return next(iter(self.results.values()))

    @property
    def shots(self) -> list[int]:
        """The numbers of shots, ascending."""
        return sorted(self.distinct("shot"))

    @property
    def places(self) -> list[Any]:
        """All folds, or the data sets."""
        return self.distinct("dataset") if self.across else list(range(self.first["folds"]))

    @property
    def quoted_from(self) -> str:
        """The data set whose published rows stand beside the results; '' for none."""
        if self.across:
            return "crossdomain" if {*self.places} == CROSS_DOMAIN else ""
        return self.first["dataset"]

    def distinct(self, key: str) -> list[Any]:
        """Return the values that results have under a key, each once, in the order of the results."""
        return list(dict.fromkeys(result[key] for result in self.results.values()))

    def classes_of(self, fold: int) -> list[str]:
        """Return the names of a fold's classes, each once."""
        of_fold = [result["novel"] for result in self.results.values() if result["fold"] == fold]
        return list(dict.fromkeys(name for novel in of_fold for name in novel.values()))

    def notes(self) -> list[str]:
        """Return a line for each result that says how its numbers were made."""
        return [how_made(path, result, self.output) for path, result in self.results.items()]

    def warnings(self) -> list[str]:
        """Return lines on different image sides, and on photos that are other ones or were trained on."""
        named_sides = [(row_name(result), result["input_side"]) for result in self.results.values()]
        return [*side_warning([] if self.across else named_sides), *data_warnings(self.results)]


def _rows(shown: Shown, papers: str | None, sort: str | None, by_class: bool = False) -> tuple[list[Row], list[str]]:
    """Return the rows of a table in their order, and notes on published rows that are left out.

    Of some papers, ``by_class`` only rows with classes. Errors as of ``table``.
    """
    quoted, left_out = published(shown.quoted_from, shown.shots, shown.first["fold_rule"], papers)
    if by_class:
        quoted = [row for row in quoted if row.has_classes]
    rows = quoted + measured(shown.results, shown.output, shown.places, "dataset" if shown.across else "fold")
    _mark_best(rows)
    if sort is not None:
        rows = _sorted(rows, sort)
    return rows, left_out


def _mark_best(rows: list[Row]) -> None:
    """Mark the cells that are the best, the largest or, of some scores, the smallest, as they are printed.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable.
    """
    groups = defaultdict[tuple, list[Cell]](list)
    for row in rows:
        protocol = row.protocol.partition(" (")[0]
        comparable = protocol, DRAWN_HERE in row.protocol, row.encoder, row.track
        for column, cell in row.cells.items():
            if protocol != NOT_STATED:
                groups[column, comparable, cell.doubts].append(cell)
    for (column, *_), cells in groups.items():
        printed = [float(number_text(column, cell)) for cell in cells]
        best = min(printed) if smaller_is_better(column.score) else max(printed)
        for cell, number in zip(cells, printed):
            cell.best = len(cells) > 1 and number == best


def _sorted(rows: list[Row], name: str) -> list[Row]:
    """Return rows by their values in what is called ``name``, best first, those without one last; errors as ``table``.

    ``name`` is a class, whose IoU decides, ``miou`` or another score, or a column such as ``fold 1``; of the fewest
    shots, unless it says others (``5-shot fold 1``).
    """
    columns = _columns_called(name, rows)
    sign = 1 if smaller_is_better(columns[0].score) else -1

    def rank(row: Row) -> tuple[bool, float]:
        column = next(filter(row.cells.__contains__, columns), None)
        return column is None, sign * row.cells[column].value if column else 0.0

    return sorted(rows, key=rank)


def _columns_called(name: str, rows: list[Row]) -> list[Column]:
    """Return the columns of rows that have a name as of ``_sorted``, of the fewest shots; UserError: none has."""
    *shot, wanted = name.lower().split("-shot ", maxsplit=1)
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    names = {column: _name(column).lower() for column in columns if not shot or str(column.shot) == shot[0]}
    if wanted == MIOU:
        wanted = _measured_miou(rows, names)
    called = [column for column, name in names.items() if name == wanted]
    if not called:
        known = {*names.values()} - {""}
        raise UserError(f"--sort {name}: no class, score or column of this table{nearest(wanted, known)}")
    fewest = min(column.shot for column in called)
    return [column for column in called if column.shot == fewest]


def _measured_miou(rows: list[Row], names: dict[Column, str]) -> str:
    """Return the name of the mIoU that measured rows have: their mean's or, without one, that of their first fold."""
    measured_names = {names.get(column, "") for row in rows if row.source is None for column in row.cells}
    folds = [name for name in measured_names if re.fullmatch(r"fold \d+", name)]
    return MIOU if MIOU in measured_names else min(folds, default=MIOU)


def _name(column: Column) -> str:
    """Return what a column is called: its class, its score, or its fold and, unless that is mIoU, its score."""
    if column.name:
        return column.name if column.score == MIOU else ""
    if column.place == MEAN:
        return column.score
    place = _heading(column._replace(score=MIOU))
    return place if column.score == MIOU else f"{place} {column.score}"


def _columns(shown: Shown) -> list[Column]:
    """Return what the table may have columns of: places, scores of places, means over places, the time."""
    means = [result["mean"][shown.output] for result in shown.results.values()]
    further = ["fb_iou", *sorted(set().union(*means) - {MIOU, "fb_iou"})]
    if shown.across:
        further = []
    columns: list[tuple[Any, str]] = [(place, MIOU) for place in shown.places]
    present = shown.distinct("fold")
    if len(present) == 1 and len(shown.places) > 1:
        columns += product(present, further)
    columns += [(MEAN, score) for score in (MIOU, *further, SECONDS)]
    return [Column(shot, *column) for shot, column in product(shown.shots, columns)]


def _heading(column: Column) -> str:
    """Return the heading of a column below its number of shots."""
    place = f"fold {column.place}" if isinstance(column.place, int) else str(column.place)
    if column.score == MIOU:
        return place
    score = (score_titles() | {SECONDS: "s / episode"}).get(column.score, column.score).removesuffix(" %")
    return score if column.place == MEAN else f"{place} {score}"


def _letters(rows: list[Row]) -> dict[str, str]:
    """Return the mark of each track of some rows, '' if there is one."""
    tracks = list(dict.fromkeys(row.track for row in rows))
    if len(tracks) == 1:
        return {tracks[0]: ""}
    letters = map("".join, product(("", *ascii_lowercase), ascii_lowercase))
    return {track: f" ({letter})" for track, letter in zip(tracks, letters)}


def _explanations(rows: list[Row], letters: dict[str, str]) -> list[str]:
    """Return the notes that explain doubtful cells and tracks."""
    notes = []
    if doubts := dict.fromkeys(reason for row in rows for reason in row.doubts):
        notes.append(f"{DOUBTFUL} ({', '.join(doubts)}) not to be quoted as the protocol's number of this method.")
    return notes + [f"{letter.strip() or 'all'}: {track}." for track, letter in letters.items()]


def _facts(rows: list[Row], columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the columns that CSV has in place of marks and notes; ``columns`` are those of numbers by their names."""
    facts = defaultdict[str, list[str]](list)
    for row in rows:
        doubts = f" ({', '.join(row.doubts)})" if row.doubts else ""
        facts["track"].append(row.track)
        facts["origin"].append(("quoted" if row.source else "measured") + doubts)
        facts["source"].append(row.source or "")
        facts["standard deviation"].append("; ".join(_spreads(row, columns)))
        facts["over"].append(row.over)
    if not any(facts["over"]):
        del facts["standard deviation"], facts["over"]
    return dict(facts)


def _spreads(row: Row, columns: dict[str, Column]) -> list[str]:
    """Return the spreads of a row's cells, each with the name of its column."""
    cells = {name: row.cells[column] for name, column in columns.items() if column in row.cells}
    return [f"{name} {cell.spread:.2f}" for name, cell in cells.items() if not isnan(cell.spread)]


def class_table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    papers: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the IoU of each class: rows by fold, a column for each method and shots, also of published runs by class.

    Arguments and errors as of ``table``.
    """
    if output == BASE:
        raise UserError(f"--output {BASE} --rows classes: this output has no novel class; leave out one of them")
    shown = Shown.of(paths, output, protocol)
    rows, _ = _rows(shown, papers, sort, by_class=True)
    letters = _letters(rows)
    columns = _class_columns(rows, shown.shots)
    titles = class_score_titles()
    headings = []
    for row, _, score in columns:
        method = row.method + letters[row.track]
        headings.append(method if score == MIOU else f"{method}, {titles[score]}")
    groups = ["", "", *(f"{shot}-shot" for _, shot, _ in columns)]
    out = Table(["fold", "class", *headings], [], groups, facts={"mark": []})
    for fold in sorted(shown.distinct("fold")):
        out.ruled.add(len(out.rows))
        for name in (*shown.classes_of(fold), ""):
            cells = [(row, Column(shot, fold, score, name)) for row, shot, score in columns]
            out.rows.append([str(fold), name or "mean", *starmap(Row.shown, cells)])
            out.facts["mark"].append("; ".join(_doubtful(cells, out.headings()[2:])))
    out.ruled -= {0}
    out.notes = [f"IoU % by {protocol_title(shown.first)}, {output} output, mean over seeds; mean: mIoU."]
    out.notes += _explanations(rows, letters)
    out.notes += [f"{row.method}: {row.protocol}, quoted from {row.source}." for row in rows if row.source]
    out.notes += [*shown.warnings(), *shown.notes(), *shown.left_out]
    return out


def _class_columns(rows: list[Row], shots: list[int]) -> list[tuple[Row, int, str]]:
    """Return the columns of the table of classes: rows, with each number of shots and score that their classes have."""
    columns = []
    for shot, row in product(shots, rows):
        scores = {column.score for column in row.cells if column.name and column.shot == shot}
        columns += [(row, shot, score) for score in class_score_titles() if score in scores]
    return columns


def _doubtful(cells: Sequence[tuple[Row, Column]], headings: list[str]) -> list[str]:
    """Return the reasons why numbers of a line are doubtful, each with its heading."""
    reasons = []
    for (row, column), heading in zip(cells, headings):
        if column in row.cells and row.cells[column].doubts:
            reasons.append(f"{heading}: {', '.join(row.cells[column].doubts)}")
    return reasons


def _own_tests(paths: list[Path], protocol: str | None) -> tuple[dict[Path, Result], list[str]]:
    """Return the results below some paths that a table may show, and notes on those of weights of another fold.

    UserError: there is none.
    """
    tests = read_results(paths, [protocol] if protocol else [])
    own = {path: result for path, result in tests.items() if is_own_test(result)}
    if not own:
        of_protocol = f" of protocol {protocol}" if protocol else ""
        others = "(replayed manifests and weights of another fold are left out)"
        raise UserError(f"{', '.join(map(str, paths))}: no result to show{of_protocol} {others}")
    elsewhere = [path for path, result in tests.items() if result["fold_mismatch"]]
    left_out = [f"left out: {path}, scored with weights of another fold." for path in elsewhere]
    return own, left_out


def is_own_test(result: Result) -> bool:
    """Return whether a result is of its protocol's own episodes, and of weights of its fold: a table shows it."""
    return not (result["replayed"] or result["fold_mismatch"])


def protocols_shown(paths: list[Path]) -> list[str | None]:
    """Return the protocols of the results below some paths that a table shows; [None] if it shows none."""
    shown = [result["protocol"] for result in read_results(paths).values() if is_own_test(result)]
    return list(dict.fromkeys(shown)) or [None]


def _best_of_cells(results: dict[Path, Result], output: str) -> dict[Path, Result]:
    """Return the results without those of a cell that has better ones: no quick looks, no other seeds."""
    ranks = {path: _rank(result, output) for path, result in results.items()}
    best: dict[CellKey, tuple] = {}
    for path, result in results.items():
        if output != FINAL:
            _leave_out_edges(result)
        key = cell_key(result)
        best[key] = min(ranks[path], best.get(key, ranks[path]))
    return {path: result for path, result in results.items() if ranks[path] == best[cell_key(result)]}


def _rank(result: Result, output: str) -> tuple[bool, ...]:
    """Return how far a result is from the whole number of its cell: the smallest of a cell is shown."""
    has_needless_edges = output != FINAL and result.get("edges", False)
    return result["quick_look"], result["other_seeds"], has_needless_edges


def _leave_out_edges(result: Result) -> None:
    """Make a result that of outputs without the photo's edges, which the prediction alone has."""
    result.pop("edges", None)
    for scores in (result["mean"], result["deviation"], *result["per_seed"]):
        scores.setdefault(NETWORK, scores[FINAL])  # without edges the prediction is the network's
