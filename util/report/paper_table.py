"""The paper's tables from result files: folds, mean and FB-IoU beside published rows, and the IoU of each class."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import isnan
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from util.evaluate.schema import (
    BASE,
    FINAL,
    MIOU,
    NETWORK,
    check_output,
    over_seeds,
    read_results,
    smaller_is_better,
)
from util.evaluate.titles import protocol_title, side_warning
from util.files.errors import UserError, nearest
from util.report.cells import MEAN, SECONDS, Column, best_of, measured, texts_of
from util.report.one_result import DEVIATION, class_score_titles, score_titles
from util.report.published import published
from util.report.rows import CellKey, Result, Row, cell_key, check_mixture, data_warnings, row_name, trained_precision
from util.report.table import Marked, Table

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURED, DOUBTFUL = "*", "?"  # marks of cells
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
    methods = Methods.of(shown, papers, sort)
    filled = {column for _, column in methods.found}
    notes = [f"{MEASURED} measured here, {output} output; other numbers are quoted from the numbered source."]
    out = _as_table(methods, [column for column in _columns(shown) if column in filled])
    out.notes = notes + out.notes
    if not across:
        out.notes += shown.side_warning()
    out.notes += data_warnings(shown.results)
    out.notes += [f"warning: {warning}." for row in methods.rows for warning in row.warnings]
    out.notes += [f"{MEASURED} {note}" for note in shown.notes()]
    out.notes += [*methods.left_out, *shown.left_out]
    if not shown.quoted_from:
        out.notes.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
    return out


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
        shown = cls(_best_of_cells(own, output), output, across, left_out)
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

    def notes(self) -> list[str]:
        """Return a line for each result that says how its numbers were made."""
        return [_note(path, result, self.output) for path, result in self.results.items()]

    def side_warning(self) -> list[str]:
        """Return a line that rows are of different image sides; none if they are of one."""
        return side_warning((row_name(result), result["input_side"]) for result in self.results.values())


@dataclass(frozen=True)
class Methods:
    """The rows of a table, in their order, and all of their cells, of which tables choose."""

    rows: list[Row]
    cells: DataFrame  # with columns of ``Column``, row, value, spread, doubts, text and best
    left_out: list[str]  # notes on published rows
    quoted: int  # how many of the rows are published ones that stand before all others; 0 if they are sorted

    @classmethod
    def of(cls, shown: Shown, papers: str | None, sort: str | None, by_class: bool = False) -> Methods:
        """Return the rows of results, and those of some papers, ``by_class`` only if they have classes.

        Errors as of ``table``.
        """
        import pandas

        quoted, numbers, left_out = published(shown.quoted_from, shown.shots, shown.first["fold_rule"], papers)
        if by_class:
            with_classes = [i for i, values in enumerate(numbers) if any(column.name for column in values)]
            quoted = [quoted[i] for i in with_classes]
            numbers = [numbers[i] for i in with_classes]
        rows, cells = measured(shown.results, shown.output, shown.places, "dataset" if shown.across else "fold")
        cells["row"] += len(quoted)
        lines = [(i, *column, value, ()) for i, values in enumerate(numbers) for column, value in values.items()]
        if lines:
            names = ["row", *Column._fields, "value", "doubts"]
            cells = pandas.concat([pandas.DataFrame(lines, columns=names), cells])
        rows = quoted + rows
        cells = cells.reset_index(drop=True)
        cells = cells.assign(text=texts_of(cells), best=best_of(cells, rows))
        if sort is None:
            return cls(rows, cells, left_out, len(quoted))
        order = _order(cells, rows, sort)
        cells["row"] = cells["row"].map(order.index)
        return cls([rows[i] for i in order], cells.sort_values("row", kind="stable"), left_out, 0)

    @cached_property
    def found(self) -> dict[tuple[int, Column], Any]:
        """The cells, with the fields of the frame's columns, by the numbers of their rows and their columns."""
        return {(c.row, Column(c.shot, c.place, c.score, c.name)): c for c in self.cells.itertuples(index=False)}

    def cell(self, i: int, column: Column) -> Marked:
        """Return the number of a row in a column with the mark of a doubt; a dash if there is none."""
        cell = self.found.get((i, column))
        if cell is None:
            return Marked("-")
        return Marked(cell.text, DOUBTFUL if cell.doubts else "", cell.best)

    def cell_with_spread(self, i: int, column: Column) -> Marked:
        """Return the number of a row in a column; if it is measured, with its spread and the mark of that too."""
        cell = self.cell(i, column)
        if self.rows[i].source or (i, column) not in self.found:
            return cell
        spread = self.found[i, column].spread
        words = "" if isnan(spread) else f" +- {spread:.1f}"
        return replace(cell, mark=words + MEASURED + cell.mark)

    def doubts_of(self, i: int, column: Column) -> tuple[str, ...]:
        """Return the reasons why the number of a row in a column is doubtful."""
        return self.found[i, column].doubts if (i, column) in self.found else ()

    def doubts(self, i: int) -> list[str]:
        """Return the reasons why numbers of a row are doubtful, each once."""
        of_row = self.cells.loc[self.cells["row"] == i, "doubts"]
        return list(of_row.explode().dropna().unique())

    def explained(self) -> tuple[dict[str, str], list[str]]:
        """Return the mark of each track, '' if there is one, and the notes that explain doubtful cells and tracks."""
        notes = []
        if doubts := dict.fromkeys(reason for i in range(len(self.rows)) for reason in self.doubts(i)):
            notes.append(f"{DOUBTFUL} ({', '.join(doubts)}) not to be quoted as the protocol's number of this method.")
        tracks = list(dict.fromkeys(row.track for row in self.rows))
        if len(tracks) == 1:
            return {tracks[0]: ""}, [*notes, f"all: {tracks[0]}."]
        letters = (first + last for first in ("", *ascii_lowercase) for last in ascii_lowercase)
        marks = {track: f" ({letter})" for track, letter in zip(tracks, letters)}
        return marks, [*notes, *(f"{mark.strip()}: {track}." for track, mark in marks.items())]


def _order(cells: DataFrame, rows: list[Row], name: str) -> list[int]:
    """Return the numbers of rows by their values in what is called ``name``, best first; those without one last.

    Args:
        cells: of all rows.
        rows: in the order of their numbers.
        name: a class, whose IoU decides, ``miou`` or another score, or a column such as ``fold 1``; of the fewest
            shots, unless it says others (``5-shot fold 1``).

    Raises:
        UserError: nothing is called so.
    """
    *shot, wanted = name.lower().split("-shot ", maxsplit=1)
    if shot:
        cells = cells[cells["shot"].astype(str) == shot[0]]
    names = [_name(cell).lower() for cell in cells.itertuples()]
    measured_names = {name for name, i in zip(names, cells["row"]) if rows[i].source is None}
    if wanted == MIOU and MIOU not in measured_names:  # published means are not of the folds that were measured
        wanted = min((name for name in measured_names if re.fullmatch(r"fold \d+", name)), default=MIOU)
    called = cells[[name == wanted for name in names]]
    if called.empty:
        raise UserError(f"--sort {name}: no class, score or column of this table{nearest(wanted, {*names} - {''})}")
    fewest = called[called["shot"] == called["shot"].min()]
    values = fewest.drop_duplicates("row").sort_values("row").set_index("row")["value"]
    ordered = values.sort_values(ascending=smaller_is_better(fewest["score"].iloc[0]), kind="stable")
    return [*ordered.index, *(i for i in range(len(rows)) if i not in values.index)]


def _name(cell: Any) -> str:
    """Return what a cell's column is called: its class, its score, or its fold and, unless that is mIoU, its score."""
    if cell.name:
        return cell.name if cell.score == MIOU else ""
    if cell.place == MEAN:
        return cell.score
    place = _heading(Column(cell.shot, cell.place, MIOU))
    return place if cell.score == MIOU else f"{place} {cell.score}"


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


def _as_table(methods: Methods, columns: list[Column]) -> Table:
    """Return the rows as text, with marks, the notes that explain them, and the same in columns of CSV."""
    letters, notes = methods.explained()
    sources = dict.fromkeys(row.source for row in methods.rows if row.source)
    numbers = {source: f"[{number}]" for number, source in enumerate(sources, start=1)}
    rows: list[list[Any]] = []
    for i, row in enumerate(methods.rows):
        number = f" {numbers[row.source]}" if row.source else ""
        leading = [Marked(row.method, number + letters[row.track]), row.protocol, row.parameters]
        rows.append([*leading, *(methods.cell_with_spread(i, column) for column in columns)])
    header = ["method", "protocol", "parameters M (learnt)", *map(_heading, columns)]
    groups = ["", "", "", *(f"{column.shot}-shot" for column in columns)]
    out = Table(header, rows, groups, ruled={methods.quoted} - {0})
    out.facts = _facts(methods, dict(zip(out.headings()[3:], columns)))
    seeds = dict.fromkeys(filter(None, out.facts.get("over", ())))
    out.notes = [*notes, *(f"+-: {DEVIATION} over {words}." for words in seeds)]
    out.notes += [f"{number} {source}." for source, number in numbers.items()]
    return out


def _facts(methods: Methods, columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the columns that CSV has in place of marks and notes; ``columns`` are those of numbers by their names."""
    facts = defaultdict[str, list[str]](list)
    for i, row in enumerate(methods.rows):
        doubts = methods.doubts(i)
        facts["track"].append(row.track)
        facts["origin"].append(("quoted" if row.source else "measured") + (f" ({', '.join(doubts)})" if doubts else ""))
        facts["source"].append(row.source or "")
        cells = {name: methods.found.get((i, column)) for name, column in columns.items()}
        spreads = [f"{name} {cell.spread:.2f}" for name, cell in cells.items() if cell and not isnan(cell.spread)]
        facts["standard deviation"].append("; ".join(spreads))
        facts["over"].append("; ".join(f"{shot}-shot: {seeds}" for shot, seeds in row.seeds.items()))
    if not any(facts["over"]):
        del facts["standard deviation"], facts["over"]
    return dict(facts)


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
    methods = Methods.of(shown, papers, sort, by_class=True)
    letters, explanations = methods.explained()
    columns, headings = _class_columns(methods, shown.shots, letters)
    out = Table(
        ["fold", "class", *headings], [], ["", "", *(f"{shot}-shot" for shot, *_ in columns)], facts={"mark": []}
    )
    for fold in sorted(shown.distinct("fold")):
        out.ruled.add(len(out.rows))
        of_fold = [result["novel"] for result in shown.results.values() if result["fold"] == fold]
        for name in (*dict.fromkeys(name for novel in of_fold for name in novel.values()), ""):
            places = [(i, Column(shot, fold, score, name)) for shot, i, score in columns]
            _add_class(out, methods, places)
    out.ruled -= {0}
    out.notes = [
        f"IoU % by {protocol_title(shown.first)}, {output} output, mean over seeds; mean: mIoU.",
        *explanations,
    ]
    out.notes += [f"{row.method}: {row.protocol}, quoted from {row.source}." for row in methods.rows if row.source]
    out.notes += [*shown.side_warning(), *data_warnings(shown.results), *shown.notes(), *shown.left_out]
    return out


def _class_columns(
    methods: Methods, shots: list[int], letters: dict[str, str]
) -> tuple[list[tuple[int, int, str]], list[str]]:
    """Return the columns of the table of classes, (shots, row, score) that classes have, and their headings."""
    titles = class_score_titles()
    of_classes = {(column.shot, i, column.score) for i, column in methods.found if column.name}
    columns = [each for each in product(shots, range(len(methods.rows)), titles) if each in of_classes]
    headings = []
    for _, i, score in columns:
        row = methods.rows[i]
        method = row.method + letters[row.track]
        headings.append(method if score == MIOU else f"{method}, {titles[score]}")
    return columns, headings


def _add_class(out: Table, methods: Methods, places: list[tuple[int, Column]]) -> None:
    """Add the row of a class, or of a fold's means, to the table of classes; ``places`` are its cells'."""
    _, first = places[0]
    out.rows.append([str(first.place), first.name or "mean", *(methods.cell(*place) for place in places)])
    doubts = zip(out.headings()[2:], (methods.doubts_of(*place) for place in places))
    out.facts["mark"].append("; ".join(f"{heading}: {', '.join(why)}" for heading, why in doubts if why))


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
