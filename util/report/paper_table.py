"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

from util.evaluate.schema import (
    BASE,
    FINAL,
    MIOU,
    NETWORK,
    NOT_STATED,
    check_output,
    over_seeds,
    read_results,
    smaller_is_better,
)
from util.evaluate.titles import DRAWN_HERE, protocol_title, side_warning
from util.files.errors import UserError
from util.report.order import sorted_rows
from util.report.result_table import DEVIATION, class_names, class_score_titles, score_titles
from util.report.rows import (
    CellKey,
    Column,
    OfClass,
    Result,
    Row,
    cell_key,
    check_mixture,
    data_warnings,
    measured_rows,
    published_rows,
    row_name,
    trained_precision,
)
from util.report.table import Table

MEASURED, DOUBTFUL = "*", "?"  # marks of cells
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are


def table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    across: bool = False,
    published: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the table of all results below some paths; a column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocol: only results of it; None: all.
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.
        published: papers whose rows are shown, with commas, or ``none``; default all.
        sort: the class, score or column by which methods stand, best first; default quoted rows, then measured ones.

    Raises:
        UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share a
            column, or nothing is called as ``sort``.
    """
    shown = Shown.of(paths, output, protocol, across)
    place_key = "dataset" if across else "fold"
    places: list[Any] = list(range(shown.first["folds"]))
    quoted_from = shown.first["dataset"]
    if across:
        places = shown.distinct("dataset")
        quoted_from = "crossdomain" if {*places} == CROSS_DOMAIN else ""
    quoted, left_out = shown.quoted(quoted_from, published)
    rows = sorted_rows([*quoted, *measured_rows(shown.results, output, places, place_key)], sort)
    columns = list(product(shown.shots, _columns(shown, places, place_key)))
    filled = {column for row in rows for column in row.cells}
    out = _as_table(rows, [column for column in columns if column in filled])
    if sort is None:
        out.ruled = {len(quoted)} - {0}
    out.notes.insert(
        0, f"{MEASURED} measured here, {output} output; other numbers are quoted from the numbered source."
    )
    if not across:
        out.notes += shown.side_warning()
    out.notes += data_warnings(shown.results)
    out.notes += [f"warning: {warning}." for row in rows for warning in row.warnings]
    out.notes += [f"{MEASURED} {note}" for note in shown.notes()]
    out.notes += [*left_out, *shown.left_out]
    if not quoted_from:
        out.notes.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
    return out


@dataclass(frozen=True)
class Shown:
    """The results of a table, by their files, after checking that they can share it."""

    results: dict[Path, Result]
    output: str  # whose scores are shown
    left_out: list[str]  # notes on results of another fold

    @classmethod
    def of(cls, paths: list[Path], output: str, protocol: str | None, across: bool = False) -> Shown:
        """Return the results of a table; arguments and errors as of ``table``."""
        own: dict[Path, Result] = {}
        left_out = []
        for path, result in read_results(paths, [protocol] if protocol else []).items():
            if is_own_test(result):
                own[path] = result
            elif result["fold_mismatch"]:
                left_out.append(f"left out: {path}, scored with weights of another fold.")
        if not own:
            of_protocol = f" of protocol {protocol}" if protocol else ""
            others = "(replayed manifests and weights of another fold are left out)"
            raise UserError(f"{', '.join(map(str, paths))}: no result to show{of_protocol} {others}")
        shown = cls(_best_of_cells(own, output), output, left_out)
        protocols = shown.distinct("protocol")
        fix = "add " + " or ".join(f"--protocol {name}" for name in protocols)
        check_mixture(shown.results, across, fix if len(protocols) > 1 else "name fewer runs")
        for path, result in shown.results.items():
            check_output(path, output, result["mean"])
        return shown

    @property
    def first(self) -> Result:
        """The first result, with which all share their protocol."""
        return next(iter(self.results.values()))

    @property
    def shots(self) -> list[int]:
        """The numbers of shots, ascending."""
        return sorted(self.distinct("shot"))

    def distinct(self, key: str) -> list[Any]:
        """Return the values that results have under a key, each once, in the order of the results."""
        return list(dict.fromkeys(result[key] for result in self.results.values()))

    def quoted(self, dataset: str, papers: str | None) -> tuple[list[Row], list[str]]:
        """Return ``published_rows`` of a data set for these results."""
        return published_rows(dataset, self.shots, self.first["fold_rule"], papers)

    def notes(self) -> list[str]:
        """Return a line for each result that says how its numbers were made."""
        return [_note(path, result, self.output) for path, result in self.results.items()]

    def side_warning(self) -> list[str]:
        """Return a line that rows are of different image sides; none if they are of one."""
        return side_warning((row_name(result), result["input_side"]) for result in self.results.values())


def _columns(shown: Shown, places: list[Any], place_key: str) -> list[Any]:
    """Return what a number of shots may have columns of: places, scores of places, means over places, the time."""
    present = sorted(shown.distinct(place_key))
    scores = _further_scores(shown) if place_key == "fold" else []
    place_scores: list[tuple[Any, str]] = []
    if len(present) == 1 and len(places) > 1:
        place_scores = list(product(present, scores))
    return [*places, *place_scores, "mean", *scores, "seconds"]


def _further_scores(shown: Shown) -> list[str]:
    """Return the scores beside mIoU that columns are of."""
    means = [result["mean"][shown.output] for result in shown.results.values()]
    further = set().union(*means) - {"miou", "fb_iou"}
    return ["fb_iou", *sorted(further)]


def class_table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    published: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the IoU of each class: rows by fold, a column for each method and shots, also of published runs by class.

    Arguments and errors as of ``table``.
    """
    if output == BASE:
        raise UserError(f"--output {BASE} --rows classes: this output has no novel class; leave out one of them")
    shown = Shown.of(paths, output, protocol)
    first = shown.first
    quoted, _ = shown.quoted(first["dataset"], published)
    quoted = [row for row in quoted if row.class_scores]
    measured = measured_rows(shown.results, output, list(range(first["folds"])), place_key="fold")
    rows = sorted_rows([*quoted, *measured], sort)
    letters, explanations = _explained(rows)
    columns = _class_columns(rows, shown.shots)
    out = Table(["fold", "class"], [], ["", ""], facts={"mark": []})
    for column in columns:
        out.header.append(_class_heading(rows[column.row], column, letters))
        out.groups.append(f"{column.shot}-shot")
    for fold in sorted(shown.distinct("fold")):
        if out.rows:
            out.ruled.add(len(out.rows))
        for name in _classes_of_fold(shown.results, fold):
            _add_class_row(out, rows, columns, fold, name)
        _add_class_row(out, rows, columns, fold)
    out.notes = [f"IoU % by {protocol_title(first)}, {output} output, mean over seeds; mean: mIoU.", *explanations]
    out.notes += [f"{row.method}: {row.protocol}, quoted from {row.source}." for row in quoted]
    out.notes += [*shown.side_warning(), *data_warnings(shown.results), *shown.notes(), *shown.left_out]
    return out


class ClassColumn(NamedTuple):
    """A column of the table of classes."""

    shot: int
    row: int  # of the method, among all rows
    score: str  # of ``class_score_titles``

    def cell(self, fold: int, name: str | None) -> Column:
        """Return the cell of a class, or with None that of the fold's mean, in the row of the method."""
        if name is not None:
            return self.shot, OfClass(fold, name, self.score)
        return self.shot, fold if self.score == MIOU else (fold, self.score)


def _class_columns(rows: list[Row], shots: list[int]) -> list[ClassColumn]:
    """Return the columns of the table of classes, for each number of shots and method the scores that it has."""
    columns = []
    for shot, (i, row), score in product(shots, enumerate(rows), class_score_titles()):
        if (shot, score) in row.class_scores:
            columns.append(ClassColumn(shot, i, score))
    return columns


def _class_heading(row: Row, column: ClassColumn, letters: dict[str, str]) -> str:
    """Return a method with the mark of its track; then the score."""
    method = row.method + letters[row.track]
    return method if column.score == MIOU else f"{method}, {class_score_titles()[column.score]}"


def _classes_of_fold(results: dict[Path, Result], fold: int) -> list[str]:
    """Return the names of all classes of the results of a fold, each once."""
    of_fold = (result for result in results.values() if result["fold"] == fold)
    return list(dict.fromkeys(name for result in of_fold for name in class_names(result).values()))


def _add_class_row(out: Table, rows: list[Row], columns: list[ClassColumn], fold: int, name: str | None = None) -> None:
    """Add the row of a class, or with None that of the fold's means, to the table of classes."""
    number = len(out.rows)
    texts = [str(fold), name or "mean"]
    doubts = []
    for column, heading in zip(columns, out.headings()[len(texts) :]):
        place = number, len(texts)
        cell = column.cell(fold, name)
        row = rows[column.row]
        if column.row in _best(rows, cell):
            out.best.add(place)
        if cell in row.cells and row.cells[cell].doubts:
            out.marks[place] = DOUBTFUL
            doubts.append(f"{heading}: {', '.join(row.cells[cell].doubts)}")
        texts.append(row.text(cell))
    out.rows.append(texts)
    out.facts["mark"].append("; ".join(doubts))


def is_own_test(result: Result) -> bool:
    """Return whether a result is of its protocol's own episodes, and of weights of its fold: a table shows it."""
    return not (result["replayed"] or result["fold_mismatch"])


def protocols_shown(paths: list[Path]) -> list[str | None]:
    """Return the protocols of the results below some paths that a table shows; [None] if it shows none."""
    shown = [result["protocol"] for result in read_results(paths).values() if is_own_test(result)]
    return list(dict.fromkeys(shown)) or [None]


def _best_of_cells(results: dict[Path, Result], output: str) -> dict[Path, Result]:
    """Return the results, sorted, without those of a cell that has better ones: no quick looks, no other seeds."""
    cells = defaultdict[CellKey, list[Path]](list)
    ranks = {path: _rank(result, output) for path, result in results.items()}
    for path, result in results.items():
        if output != FINAL:
            _leave_out_edges(result)
        cells[cell_key(result)].append(path)
    best: list[Path] = []
    for paths in cells.values():
        first = min(ranks[path] for path in paths)
        best += [path for path in paths if ranks[path] == first]
    return {path: results[path] for path in sorted(best)}


def _rank(result: Result, output: str) -> tuple[bool, ...]:
    """Return how far a result is from the whole number of its cell: the smallest of a cell is shown."""
    has_needless_edges = output != FINAL and result["edges"]
    return result["quick_look"], result["other_seeds"], has_needless_edges


def _leave_out_edges(result: Result) -> None:
    """Make a result that of outputs without the photo's edges, which the prediction alone has."""
    result["edges"] = False
    for scores in (result["mean"], result["deviation"], *result["per_seed"]):
        scores.setdefault(NETWORK, scores[FINAL])  # without edges the prediction is the network's


def _as_table(rows: list[Row], columns: list[Column]) -> Table:
    """Return the rows as text, with marks, the notes that explain them, and the same in columns of CSV."""
    letters, notes = _explained(rows)
    sources = dict.fromkeys(row.source for row in rows if row.source)
    numbers = {source: f"[{number}]" for number, source in enumerate(sources, start=1)}
    out = Table(["method", "protocol", "parameters M (learnt)"], [], ["", "", ""])
    leading = len(out.header)
    for shot, place in columns:
        out.header.append(_heading(place))
        out.groups.append(f"{shot}-shot")
    for i, row in enumerate(rows):
        out.rows.append([row.method, row.protocol, row.parameters, *map(row.text, columns)])
        number = f" {numbers[row.source]}" if row.source else ""
        out.marks[i, 0] = number + letters[row.track]
    for j, column in enumerate(columns, start=leading):
        out.best |= {(i, j) for i in _best(rows, column)}
        out.marks |= {(i, j): _cell_mark(row, column) for i, row in enumerate(rows)}
    names = out.headings()[leading:]
    out.facts = _facts(rows, dict(zip(names, columns)))
    seeds = dict.fromkeys(filter(None, out.facts.get("over", ())))
    out.notes = [*notes, *(f"+-: {DEVIATION} over {words}." for words in seeds)]
    out.notes += [f"{number} {source}." for source, number in numbers.items()]
    return out


def _cell_mark(row: Row, column: Column) -> str:
    """Return what follows the number of a measured cell: its spread, and that it is measured or doubtful."""
    if row.source or column not in row.cells:
        return ""
    cell = row.cells[column]
    spread = "" if cell.spread is None else f" +- {cell.spread:.1f}"
    return spread + MEASURED + (DOUBTFUL if cell.doubts else "")


def _facts(rows: list[Row], columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the columns that CSV has in place of marks and notes; ``columns`` are those of numbers by their names."""
    facts = defaultdict[str, list[str]](list)
    for row in rows:
        origin = "quoted" if row.source else "measured"
        doubts = f" ({', '.join(row.doubts)})" if row.doubts else ""
        facts["track"].append(row.track)
        facts["origin"].append(origin + doubts)
        facts["source"].append(row.source or "")
        facts["standard deviation"].append(_spreads_text(row, columns))
        facts["over"].append("; ".join(f"{shot}-shot: {seeds}" for shot, seeds in row.seeds.items()))
    if not any(facts["over"]):
        del facts["standard deviation"], facts["over"]
    return dict(facts)


def _spreads_text(row: Row, columns: dict[str, Column]) -> str:
    """Return the standard deviations of a row's cells with the names of their columns."""
    spreads = []
    for name, column in columns.items():
        cell = row.cells.get(column)
        if cell is not None and cell.spread is not None:
            spreads.append(f"{name} {cell.spread:.2f}")
    return "; ".join(spreads)


def _heading(place: Any) -> str:
    if isinstance(place, tuple):
        fold, score = place
        return f"fold {fold} {_heading(score)}"
    if isinstance(place, int):
        return f"fold {place}"
    names = score_titles() | {"seconds": "s / episode"}
    return names.get(place, place).removesuffix(" %")


def _explained(rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    """Return the mark of each track, '' if there is one, and the notes that explain doubtful cells and tracks."""
    notes = []
    if doubts := dict.fromkeys(reason for row in rows for reason in row.doubts):
        notes.append(f"{DOUBTFUL} ({', '.join(doubts)}) not to be quoted as the protocol's number of this method.")
    tracks = list(dict.fromkeys(row.track for row in rows))
    if len(tracks) == 1:
        return {tracks[0]: ""}, [*notes, f"all: {tracks[0]}."]
    letters = (first + last for first in ("", *ascii_lowercase) for last in ascii_lowercase)
    marks = {track: f" ({letter})" for track, letter in zip(tracks, letters)}
    return marks, [*notes, *(f"{mark.strip()}: {track}." for track, mark in marks.items())]


def _best(rows: list[Row], column: Column) -> list[int]:
    """Return the rows of a column's best cells, the largest or, of some scores, the smallest.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable.
    """
    _, place = column
    score = place[-1] if isinstance(place, tuple) else place
    best_of = min if smaller_is_better(score) else max
    groups = defaultdict[tuple, dict[int, float]](dict)
    for i, row in enumerate(rows):
        protocol = row.protocol.partition(" (")[0]
        if column not in row.cells or protocol == NOT_STATED:
            continue
        drawn_here = DRAWN_HERE in row.protocol
        group = groups[protocol, drawn_here, row.encoder, row.track, row.cells[column].doubts]
        group[i] = float(row.text(column))
    best = []
    for values in groups.values():
        if len(values) > 1:
            best_value = best_of(values.values())
            best += [i for i, value in values.items() if value == best_value]
    return best


def _note(path: Path, result: Result, output: str) -> str:
    """Return the line that says how a measured number was made."""
    r = result
    seeds = ", ".join(map(str, r["seeds"]))
    if len(r["seeds"]) > 1:
        spread = over_seeds(r["per_seed"])["deviation"][output]["miou"]  # results before November 2026 hold another
        seeds += f", {DEVIATION} over them {spread:.2f}"
    what = f"{row_name(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: {r['episodes']} episodes, seeds {seeds}"
    computed = f"tested in {r['precision']}"
    if trained := trained_precision(r):
        computed = f"trained in {trained}, {computed}"
    made = f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, {r['device']}"
    return f"{what}; {r['input']}; {computed}; {made}: {path}"
