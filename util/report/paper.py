"""The paper's tables: the numbers of methods by folds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain, product
from operator import attrgetter
from pathlib import Path
from string import ascii_lowercase

from util.files.parallel import grouped
from util.files.table import Marked, Table
from util.loop.mask_metrics import ScoreFacts
from util.loop.metrics import FINAL, MIOU
from util.report.frame import DEVIATION, FB_IOU, SECONDS, scores_of
from util.report.numbers import numbers_of, places_of
from util.report.one_table import are_across, rows_by_table
from util.report.provenance import how_made
from util.report.published import DOUBTFUL, MEAN, MEASURED, Number
from util.report.row import Row

Column = tuple[int, str, str]  # number of shots, place and score
COLUMNS_NOTE = (
    "Parameters in millions (M): of the method and of the encoder up to the deepest stage that it reads. "
    "Seconds: as the machine was, other programs included. Published numbers stand beside those of their protocol and "
    "image side, others by --published all, or BAM,SSP."
)


def paper_tables(
    paths: list[Path],
    output: str = FINAL,
    protocols: Sequence[str] = (),
    papers: str | None = None,
) -> list[Table]:
    """Return a table of the results below some paths for each protocol, whose rows are methods.

    A column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocols: in their order; none: all that are there.
        papers: whose published rows are shown, with commas, or ``none`` or ``all``; default those by the table's
            protocol and image side.

    Raises:
        UserError: there are no results, or they share no table.
    """
    return [_of_methods(rows, output, papers) for rows in rows_by_table(paths, protocols)]


def _of_methods(rows: Sequence[Row], output: str, papers: str | None) -> Table:
    """Return the table of methods by folds, or by data sets without folds."""
    import pandas

    numbers = numbers_of(rows, output, papers)
    lines = [*grouped(numbers, attrgetter("method", "protocol", "source")).values()]
    columns = _columns_of_methods(numbers, rows)
    known = scores_of(*(row.result for row in rows))
    headings = [_heading(place, score, known) for _, place, score in columns]
    sources = _each_once(line[0].source for line in lines)
    marks = {source: f" [{number}]" for number, source in enumerate(sources, start=1)}
    letters = _letters(lines)
    cells = [_cells(line, columns, marks, letters) for line in lines]
    out = Table(["method", "protocol", "parameters M (learnt)", *headings], cells, leading=3)
    out.groups = [*[""] * out.leading, *(f"{shot}-shot" for shot, *_ in columns)]
    names = dict(zip(columns, out.headings()[out.leading :]))
    out.facts = pandas.DataFrame([_facts(line, names) for line in lines]).to_dict("list")
    quoted = "; other numbers are quoted from the numbered source" if sources else ""
    out.notes = [
        f"{MEASURED} measured here, {output} output{quoted}. {COLUMNS_NOTE}",
        *_explanations(numbers, letters, marks, out.facts["over"]),
        *(f"{MEASURED} {how_made(row)}" for row in rows),
    ]
    return out


def _cells(
    line: Sequence[Number], columns: Iterable[Column], marks: dict[str, str], letters: dict[str, str]
) -> list[Marked | str]:
    """Return the cells of a row; ``marks`` and ``letters``: of sources and tracks."""
    first = line[0]
    by_column = {number.column: number.cell for number in line}
    name = Marked(first.method, marks.get(first.source, "") + letters[first.track])
    return [name, first.protocol, first.parameters, *(by_column.get(column, "-") for column in columns)]


def _facts(line: Sequence[Number], headings: dict[Column, str]) -> dict[str, str]:
    """Return what CSV says of a row in place of marks and notes, by columns."""
    first = line[0]
    origin = "quoted" if first.source else "measured"
    doubts = _doubts(line)
    spreads = {number.column: number.spread for number in line if not math.isnan(number.spread)}
    return {
        "track": first.track,
        "origin": f"{origin} ({doubts})" if doubts else origin,
        "source": first.source,
        "standard deviation": "; ".join(
            f"{name} {spreads[column]:.2f}" for column, name in headings.items() if column in spreads
        ),
        "over": "; ".join(_each_once(number.over for number in line)),
    }


def _explanations(
    numbers: Sequence[Number], letters: dict[str, str], marks: dict[str, str], overs: Sequence[str]
) -> list[str]:
    """Return the notes that explain doubtful cells, tracks, spreads over seeds and sources."""
    notes = []
    if doubts := _doubts(numbers):
        notes.append(f"{DOUBTFUL} ({doubts}) not to be quoted as the protocol's number of this method.")
    notes += [f"{letter.strip() or 'all'}: {track}." for track, letter in letters.items()]
    notes += [f"+-: {DEVIATION} over {seeds}." for seeds in _each_once(overs)]
    return notes + [f"{mark.strip()} {source}." for source, mark in marks.items()]


def _each_once(texts: Iterable[str]) -> list[str]:
    """Return the texts that are not empty, each once."""
    return [*dict.fromkeys(filter(None, texts))]


def _doubts(numbers: Iterable[Number]) -> str:
    """Return the doubts about some numbers, each once."""
    return ", ".join(_each_once(chain.from_iterable(number.doubts for number in numbers)))


def _columns_of_methods(numbers: Sequence[Number], rows: Sequence[Row]) -> list[Column]:
    """Return the columns of a table that have a number, shot by shot."""
    shown = {number.column for number in numbers}
    shots = sorted({number.shot for number in numbers})
    every = product(shots, _places_and_scores(numbers, rows))
    return [(shot, *column) for shot, column in every if (shot, *column) in shown]


def _places_and_scores(numbers: Sequence[Number], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return of which places and scores there may be columns.

    Places where something is measured, scores of one place, means over places, time.
    """
    measured = [number for number in numbers if not number.source and number.place != MEAN]
    here = {number.place for number in measured}
    others = sorted({number.score for number in measured} - {MIOU, FB_IOU})
    further = [] if are_across(rows) else [FB_IOU, *others]
    places = places_of(rows)
    columns = [(place, MIOU) for place in places if place in here]
    if len(here) == 1 < len(places):
        columns += product(here, further)
    return [*columns, *((MEAN, score) for score in (MIOU, *further, SECONDS))]


def _heading(place: str, score: str, scores: dict[str, ScoreFacts]) -> str:
    """Return the heading of a column of methods below its number of shots."""
    if score == MIOU:
        return place
    title = f"{scores[score]['title']} {scores[score]['unit']}".strip().removesuffix(" %")
    return title if place == MEAN else f"{place} {title}"


def _letters(lines: Iterable[Sequence[Number]]) -> dict[str, str]:
    """Return the mark of each track of some rows, '' if there is one."""
    distinct = [*dict.fromkeys(line[0].track for line in lines)]
    letters = map("".join, product(("", *ascii_lowercase), ascii_lowercase))
    return {track: f" ({letter})" if len(distinct) > 1 else "" for track, letter in zip(distinct, letters)}
