"""The paper's tables, pivots of the frame of numbers: methods by folds, or the IoU of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

from util.files.errors import UserError
from util.files.table import Marked, Table
from util.loop.mask_metrics import ScoreFacts
from util.loop.metrics import BASE, FINAL, MIOU
from util.report.numbers import CROSS_DOMAIN, numbers_of, placed, places_of, published_set
from util.report.one_table import are_across, results_by_table
from util.report.published import MEAN, fold_place
from util.report.results import DEVIATION, FB_IOU, SECONDS, heading, how_made, scores_of
from util.report.tables import pivot, positions

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MEASURED, DOUBTFUL = "*", "?"  # marks of cells
COLUMNS_NOTE = (
    "Parameters: of the method and of the encoder up to the deepest stage that it reads. "
    "Seconds: as the machine was, other programs included."
)


def paper_tables(
    paths: list[Path],
    output: str = FINAL,
    protocols: Sequence[str] = (),
    *,
    by_class: bool = False,
    papers: str | None = None,
) -> list[Table]:
    """Return a table of the results below some paths for each protocol: rows are methods, or the classes of folds.

    A column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocols: in their order; none: all that are there.
        by_class: whether the IoU of classes is shown, a column for each method, also of runs published by class.
        papers: whose published rows are shown, with commas, or ``none``; default all.

    Raises:
        UserError: there are no results, or they share no table.
    """
    if by_class and output == BASE:
        raise UserError(f"--output {BASE} --rows classes: this output has no novel class; leave out one of them")
    tables = []
    for by_file in results_by_table(paths, protocols):
        numbers, of_other_folds = numbers_of(by_file, output, papers)
        facts = placed(by_file)
        scores = scores_of(*by_file.values())
        made = [how_made(path, result, output) for path, result in by_file.items()]
        if by_class:
            table = _of_classes(numbers, facts, scores, output)
            table.notes += made
        else:
            table = _of_methods(numbers, facts, scores, output)
            table.notes += [*(f"{MEASURED} {line}" for line in made), *of_other_folds]
            table.ruled = {numbers.loc[numbers["source"] != "", "row"].nunique()} - {0}
        if not published_set(facts):
            table.notes.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
        tables.append(table)
    return tables


def _of_methods(numbers: DataFrame, facts: DataFrame, scores: dict[str, ScoreFacts], output: str) -> Table:
    """Return the table of methods by folds, or by data sets without folds."""
    import pandas

    spreads = numbers["spread"].map(" +- {:.1f}".format, na_action="ignore").fillna("")
    marks = (spreads + MEASURED).where(numbers["source"] == "", "")
    numbers = _with_cells(numbers, marks).assign(
        line=numbers["row"].factorize()[0],
        column=positions(_columns_of_methods(numbers, facts), numbers[["shot", "place", "score"]]),
        heading=[_heading(*number, scores) for number in zip(numbers["place"], numbers["score"], strict=True)],
        said=numbers["spread"].map(" {:.2f}".format, na_action="ignore").fillna(""),
    )
    rows = numbers.drop_duplicates("row", ignore_index=True)
    sources = {source: f" [{number}]" for number, source in enumerate(filter(None, rows["source"].unique()), start=1)}
    letters = _letters(rows)
    marks = rows["source"].map(sources | {"": ""}) + rows["track"].map(letters)
    names = [Marked(*name) for name in zip(rows["method"], marks, strict=True)]
    lead = {"method": names, "protocol": rows["protocol"], "parameters M (learnt)": rows["parameters"]}
    shown = numbers[numbers["class"] == ""].dropna(subset="column")
    out = pivot(shown, pandas.DataFrame(lead))
    out.facts = {"track": [*rows["track"]], "origin": _origins(numbers, rows), "source": [*rows["source"]]}
    quoted = "; other numbers are quoted from the numbered source" if sources else ""
    out.notes = [f"{MEASURED} measured here, {output} output{quoted}. {COLUMNS_NOTE}", *_explanations(numbers, letters)]
    if overs := [*filter(None, rows["over"].unique())]:
        out.facts |= {"standard deviation": _said(shown, len(rows)), "over": [*rows["over"]]}
        out.notes += [f"+-: {DEVIATION} over {over}." for over in overs]
    out.notes += [f"{mark.strip()} {source}." for source, mark in sources.items()]
    return out


def _with_cells(numbers: DataFrame, marks: Series | str) -> DataFrame:
    """Return numbers with their cells, whose marks end with that of a doubt, and the group of their columns."""
    doubtful = numbers["doubts"].map(lambda doubts: DOUBTFUL if doubts else "")
    cells = zip(numbers["text"], marks + doubtful, numbers["best"], strict=True)
    return numbers.assign(cell=[Marked(*cell) for cell in cells], group=numbers["shot"].map("{}-shot".format))


def _said(shown: DataFrame, lines: int) -> list[str]:
    """Return for each line what is said of its cells, with the names of their columns."""
    of_cells = shown[shown["said"] != ""].sort_values("column")
    texts = of_cells["group"] + " " + of_cells["heading"] + of_cells["said"]
    return texts.groupby(of_cells["line"]).agg("; ".join).reindex(range(lines), fill_value="").tolist()


def _origins(numbers: DataFrame, rows: DataFrame) -> list[str]:
    """Return whether rows are measured or quoted, with the doubts about their numbers."""
    kinds = rows["source"].map(lambda source: "quoted" if source else "measured")
    doubts = numbers.groupby("row", sort=False)["doubts"].agg(_each_once)
    return [f"{kind} ({reasons})" if reasons else kind for kind, reasons in zip(kinds, doubts, strict=True)]


def _columns_of_methods(numbers: DataFrame, facts: DataFrame) -> list[tuple[int, str, str]]:
    """Return of which shots, places and scores there may be columns.

    Of each number of shots: places, scores of one place, means over places, time.
    """
    measured = numbers[(numbers["source"] == "") & (numbers["place"] != MEAN)]
    further = [] if are_across(facts) else [FB_IOU, *sorted({*measured["score"]} - {MIOU, FB_IOU})]
    places = places_of(facts)
    columns = [(place, MIOU) for place in places]
    if measured["place"].nunique() == 1 < len(places):
        columns += product(measured["place"].unique(), further)
    columns += [(MEAN, score) for score in (MIOU, *further, SECONDS)]
    return [(shot, *column) for shot in sorted(numbers["shot"].unique()) for column in columns]


def _heading(place: str, score: str, scores: dict[str, ScoreFacts]) -> str:
    """Return the heading of a column of methods below its number of shots."""
    if score == MIOU:
        return place
    title = heading(scores[score]).removesuffix(" %")
    return title if place == MEAN else f"{place} {title}"


def _of_classes(numbers: DataFrame, facts: DataFrame, scores: dict[str, ScoreFacts], output: str) -> Table:
    """Return the table of the classes of each fold, or data set, and their mean."""
    import pandas

    has_classes = numbers.groupby("row")["class"].transform("any")
    numbers = numbers[has_classes | (numbers["source"] == "")]
    rows = numbers.drop_duplicates("row", ignore_index=True)
    letters = _letters(rows)
    lines = _lines_of_classes(facts)
    order = product(sorted(numbers["shot"].unique()), rows["row"], scores)
    titles = {score: "" if score == MIOU else f", {heading(known)}" for score, known in scores.items()}
    shown = numbers[numbers.groupby(["row", "shot", "score"])["class"].transform("any").astype(bool)]
    shown = _with_cells(shown, "").assign(
        line=positions(lines, shown[["place", "class"]]),
        column=positions(order, shown[["shot", "row", "score"]]),
        heading=shown["method"] + shown["track"].map(letters) + shown["score"].map(titles),
        said=shown["doubts"].map(lambda doubts: f": {', '.join(doubts)}" if doubts else ""),
    )
    shown = shown.dropna(subset="line")
    folds = [place.removeprefix(fold_place("")) for place, _ in lines]
    out = pivot(shown, pandas.DataFrame({"fold": folds, "class": [name or "mean" for _, name in lines]}))
    out.facts = {"mark": _said(shown, len(lines))}
    out.ruled = {number for number, (_, name) in enumerate(lines, start=1) if not name} - {len(lines)}
    title = facts["title"].iloc[0]
    out.notes = [f"IoU % by {title}, {output} output, mean over seeds; mean: mIoU.", *_explanations(numbers, letters)]
    for row in rows[rows["source"] != ""].itertuples():
        out.notes.append(f"{row.method}: {row.protocol}, quoted from {row.source}.")
    return out


def _lines_of_classes(facts: DataFrame) -> list[tuple[str, str]]:
    """Return place and class of each line of the table of classes; the class '' is the mean."""
    lines = list[tuple[str, str]]()
    for place in places_of(facts):
        if names := dict.fromkeys(chain.from_iterable(facts.loc[facts["place"] == place, "classes"])):
            lines += [(place, name) for name in (*names, "")]
    return lines


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
