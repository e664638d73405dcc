"""The paper's tables, pivots of the frame of numbers: methods by folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

from util.files.table import Marked, Table
from util.loop.mask_metrics import ScoreFacts
from util.loop.metrics import FINAL, MIOU
from util.report.numbers import numbers_of, places_of
from util.report.one_table import are_across, results_by_table
from util.report.published import MEAN
from util.report.results import DEVIATION, FB_IOU, SECONDS, how_made, scores_of
from util.report.tables import pivot

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURED, DOUBTFUL = "*", "?"  # marks of cells
COLUMNS_NOTE = (
    "Parameters: of the method and of the encoder up to the deepest stage that it reads. "
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
    tables = []
    for by_file, facts in results_by_table(paths, protocols):
        numbers = numbers_of(by_file, facts, output, papers)
        table = _of_methods(numbers, facts, scores_of(*by_file.values()), output)
        table.notes += [f"{MEASURED} {how_made(path, result)}" for path, result in by_file.items()]
        tables.append(table)
    return tables


def _of_methods(numbers: DataFrame, facts: DataFrame, scores: dict[str, ScoreFacts], output: str) -> Table:
    """Return the table of methods by folds, or by data sets without folds."""
    import pandas

    columns = {column: number for number, column in enumerate(_columns_of_methods(numbers, facts))}
    numbers = numbers.assign(
        cell=_cells(numbers),
        group=numbers["shot"].map("{}-shot".format),
        column=numbers[["shot", "place", "score"]].apply(tuple, axis="columns").map(columns),
        heading=[_heading(*number, scores) for number in zip(numbers["place"], numbers["score"], strict=True)],
        said=numbers["spread"].map(" {:.2f}".format, na_action="ignore").fillna(""),
    )
    rows = numbers.drop_duplicates("line", ignore_index=True)
    sources = {source: f" [{number}]" for number, source in enumerate(filter(None, rows["source"].unique()), start=1)}
    letters = _letters(rows)
    marks = rows["source"].map(sources | {"": ""}) + rows["track"].map(letters)
    names = [Marked(*name) for name in zip(rows["method"], marks, strict=True)]
    lead = {"method": names, "protocol": rows["protocol"], "parameters M (learnt)": rows["parameters"]}
    shown = numbers.dropna(subset="column")
    out = pivot(shown, pandas.DataFrame(lead))
    out.facts = {
        "track": [*rows["track"]],
        "origin": _origins(numbers, rows),
        "source": [*rows["source"]],
        "standard deviation": _said(shown, len(rows)),
        "over": [*rows["over"]],
    }
    quoted = "; other numbers are quoted from the numbered source" if sources else ""
    out.notes = [f"{MEASURED} measured here, {output} output{quoted}. {COLUMNS_NOTE}", *_explanations(numbers, letters)]
    out.notes += [f"+-: {DEVIATION} over {over}." for over in filter(None, rows["over"].unique())]
    out.notes += [f"{mark.strip()} {source}." for source, mark in sources.items()]
    return out


def _cells(numbers: DataFrame) -> list[Marked]:
    """Return the cells of numbers, which measured ones end with their spread, and doubtful ones with that mark."""
    spreads = numbers["spread"].map(" +- {:.1f}".format, na_action="ignore").fillna("")
    marks = (spreads + MEASURED).where(numbers["source"] == "", "")
    marks += numbers["doubts"].map(lambda doubts: DOUBTFUL if doubts else "")
    return [Marked(*cell) for cell in zip(numbers["text"], marks, strict=True)]


def _said(shown: DataFrame, lines: int) -> list[str]:
    """Return for each line what is said of its cells, with the names of their columns."""
    of_cells = shown[shown["said"] != ""].sort_values("column")
    texts = of_cells["group"] + " " + of_cells["heading"] + of_cells["said"]
    return texts.groupby(of_cells["line"]).agg("; ".join).reindex(range(lines), fill_value="").tolist()


def _origins(numbers: DataFrame, rows: DataFrame) -> list[str]:
    """Return whether rows are measured or quoted, with the doubts about their numbers."""
    kinds = rows["source"].map(lambda source: "quoted" if source else "measured")
    doubts = numbers.groupby("line", sort=False)["doubts"].agg(_each_once)
    return [f"{kind} ({reasons})" if reasons else kind for kind, reasons in zip(kinds, doubts, strict=True)]


def _columns_of_methods(numbers: DataFrame, facts: DataFrame) -> list[tuple[int, str, str]]:
    """Return of which shots, places and scores there may be columns.

    Of each number of shots: places where something is measured, scores of one place, means over places, time.
    """
    measured = numbers[(numbers["source"] == "") & (numbers["place"] != MEAN)]
    further = [] if are_across(facts) else [FB_IOU, *sorted({*measured["score"]} - {MIOU, FB_IOU})]
    places = places_of(facts)
    columns = [(place, MIOU) for place in places if place in {*measured["place"]}]
    if measured["place"].nunique() == 1 < len(places):
        columns += product(measured["place"].unique(), further)
    columns += [(MEAN, score) for score in (MIOU, *further, SECONDS)]
    return [(shot, *column) for shot in sorted(numbers["shot"].unique()) for column in columns]


def _heading(place: str, score: str, scores: dict[str, ScoreFacts]) -> str:
    """Return the heading of a column of methods below its number of shots."""
    if score == MIOU:
        return place
    title = f"{scores[score]['title']} {scores[score]['unit']}".strip().removesuffix(" %")
    return title if place == MEAN else f"{place} {title}"


def _each_once(doubts: Iterable[Sequence[str]]) -> str:
    """Return the reasons of several numbers, each once."""
    return ", ".join(dict.fromkeys(chain.from_iterable(doubts)))


def _letters(rows: DataFrame) -> dict[str, str]:
    """Return the mark of each track of some rows, '' if there is one."""
    tracks = rows["track"].unique()
    if len(tracks) == 1:
        return {tracks[0]: ""}
    letters = map("".join, product(("", *ascii_lowercase), ascii_lowercase))
    return {track: f" ({letter})" for track, letter in zip(tracks, letters)}


def _explanations(numbers: DataFrame, letters: dict[str, str]) -> list[str]:
    """Return the notes that explain doubtful cells and tracks."""
    notes = []
    if doubts := _each_once(numbers["doubts"]):
        notes.append(f"{DOUBTFUL} ({doubts}) not to be quoted as the protocol's number of this method.")
    return notes + [f"{letter.strip() or 'all'}: {track}." for track, letter in letters.items()]
