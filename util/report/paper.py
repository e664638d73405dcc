"""The paper's tables, pivots of the frame of numbers: methods by folds, or the IoU of classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

from util.evaluate.schema import Result, check_output
from util.evaluate.titles import protocol_title
from util.files.errors import UserError, nearest
from util.files.table import Marked, Table
from util.loop.mask_metrics import ScoreFacts
from util.loop.metrics import BASE, FINAL, MIOU
from util.report.numbers import CROSS_DOMAIN, numbers_of, place_of, places_of, published_set
from util.report.one_table import are_across, results_by_table
from util.report.published import MEAN, fold_place
from util.report.results import DEVIATION, FB_IOU, SECONDS, heading, how_made, scores_of

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
    sort: str | None = None,
) -> list[Table]:
    """Return a table of the results below some paths for each protocol: rows are methods, or the classes of folds.

    A column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocols: in their order; none: all that are there.
        by_class: whether the IoU of classes is shown, a column for each method, also of runs published by class.
        papers: whose published rows are shown, with commas, or ``none``; default all.
        sort: the class, score or column by which methods stand, best first; default quoted rows, then measured ones.

    Raises:
        UserError: there are no results, or they share no table, or nothing is called as ``sort``.
    """
    if by_class and output == BASE:
        raise UserError(f"--output {BASE} --rows classes: this output has no novel class; leave out one of them")
    tables = []
    for results, left_out in results_by_table(paths, protocols):
        for path, result in results.items():
            check_output(path, output, result["mean"])
        numbers, of_other_folds = numbers_of(results, output, papers)
        if sort is not None:
            numbers = _sorted(numbers, results, sort)
        table = (_of_classes if by_class else _of_methods)(numbers, results, output)
        if not by_class:
            table.notes += of_other_folds
            table.ruled = {numbers.loc[numbers["source"] != "", "row"].nunique()} - {0} if sort is None else set()
        table.notes += left_out
        if not published_set(results):
            table.notes.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
        tables.append(table)
    return tables


def _sorted(numbers: DataFrame, results: dict[Path, Result], asked: str) -> DataFrame:
    """Return the numbers by those of their rows that are called ``asked``, best first, rows without one last.

    Of the fewest shots, unless it says others (``5-shot fold 1``). Where no measured row has a mean, ``miou`` is that
    of their first fold. UserError: nothing is called so, or nobody knows whether small values of it are good.
    """
    *shot, name = asked.lower().split("-shot ", maxsplit=1)
    called = numbers[numbers["shot"].astype(str).isin(shot)] if shot else numbers
    measured_names = {*called.loc[called["source"] == "", "name"]}
    if name == MIOU and MIOU not in measured_names:
        name = min(filter(re.compile(r"fold \d+").fullmatch, measured_names), default=MIOU)
    known = {*called["name"]} - {""}
    if name not in known:
        raise UserError(f"--sort {asked}: no class, score or column of this table{nearest(name, known)}")
    called = called[called["name"] == name]
    called = called[called["shot"] == called["shot"].min()].drop_duplicates("row").set_index("row")
    smaller_is_better = scores_of(*results.values())[called["score"].iloc[0]]["smaller_is_better"]
    if smaller_is_better is None:
        raise UserError(f"--sort {asked}: the results do not say whether small values are good; --import its module")
    ranked = numbers.assign(rank=numbers["row"].map(called["value"]))
    return ranked.sort_values("rank", ascending=smaller_is_better, kind="stable")


def _of_methods(numbers: DataFrame, results: dict[Path, Result], output: str) -> Table:
    """Return the table of methods by folds, or by data sets without folds."""
    scores = scores_of(*results.values())
    spreads = numbers["spread"].map(" +- {:.1f}".format, na_action="ignore").fillna("")
    numbers = numbers.assign(
        column=_positions(_columns_of_methods(numbers, results), numbers[["place", "score"]]),
        heading=[_heading(*number, scores) for number in zip(numbers["place"], numbers["score"], strict=True)],
        mark=(spreads + MEASURED).where(numbers["source"] == "", "") + _doubtful(numbers),
        aside=numbers["spread"].map(" {:.2f}".format, na_action="ignore").fillna(""),
    )
    rows = numbers.drop_duplicates("row", ignore_index=True)
    sources = [*filter(None, rows["source"].unique())]
    source_marks = {"": ""} | {source: f" [{number}]" for number, source in enumerate(sources, start=1)}
    letters = _letters(rows)
    marks = rows["source"].map(source_marks) + rows["track"].map(letters)
    names = [Marked(*name) for name in zip(rows["method"], marks, strict=True)]
    lead = {"method": names, "protocol": rows["protocol"], "parameters M (learnt)": rows["parameters"]}
    overall = numbers[numbers["class"] == ""]
    out, spreads_of_rows = _pivot(overall.assign(line=overall.groupby("row", sort=False).ngroup()), lead)
    out.facts = {"track": [*rows["track"]], "origin": _origins(numbers, rows), "source": [*rows["source"]]}
    overs = [*filter(None, rows["over"].unique())]
    if overs:
        out.facts |= {"standard deviation": spreads_of_rows, "over": [*rows["over"]]}
    quoted = "; other numbers are quoted from the numbered source" if sources else ""
    out.notes = [f"{MEASURED} measured here, {output} output{quoted}. {COLUMNS_NOTE}", *_explanations(numbers, letters)]
    out.notes += [f"+-: {DEVIATION} over {over}." for over in overs]
    out.notes += [f"{source_marks[source].strip()} {source}." for source in sources]
    out.notes += [f"{MEASURED} {how_made(path, result, output)}" for path, result in results.items()]
    return out


def _origins(numbers: DataFrame, rows: DataFrame) -> list[str]:
    """Return whether rows are measured or quoted, with the doubts about their numbers."""
    doubts_of_rows = numbers.groupby("row", sort=False)["doubts"].agg(_each_once)
    origins = []
    for source, doubts in zip(rows["source"], doubts_of_rows, strict=True):
        origins.append(("quoted" if source else "measured") + (doubts and f" ({doubts})"))
    return origins


def _columns_of_methods(numbers: DataFrame, results: dict[Path, Result]) -> list[tuple[str, str]]:
    """Return of which places and scores there may be columns: places, scores of one place, means over places, time."""
    measured = numbers[(numbers["source"] == "") & (numbers["place"] != MEAN)]
    further = [] if are_across(results) else [FB_IOU, *sorted({*measured["score"]} - {MIOU, FB_IOU})]
    places = places_of(results)
    columns = [(place, MIOU) for place in places]
    if measured["place"].nunique() == 1 < len(places):
        columns += product(measured["place"].unique(), further)
    return columns + [(MEAN, score) for score in (MIOU, *further, SECONDS)]


def _heading(place: str, score: str, scores: dict[str, ScoreFacts]) -> str:
    """Return the heading of a column of methods below its number of shots."""
    if score == MIOU:
        return place
    title = heading(scores[score]).removesuffix(" %")
    return title if place == MEAN else f"{place} {title}"


def _of_classes(numbers: DataFrame, results: dict[Path, Result], output: str) -> Table:
    """Return the table of the classes of each fold, or data set, and their mean."""
    scores = scores_of(*results.values())
    has_classes = numbers.groupby("row")["class"].transform("any")
    numbers = numbers[has_classes | (numbers["source"] == "")]
    rows = numbers.drop_duplicates("row", ignore_index=True)
    letters = _letters(rows)
    lines = _lines_of_classes(results)
    titles = {score: "" if score == MIOU else f", {heading(facts)}" for score, facts in scores.items()}
    shown = numbers[numbers.groupby(["row", "shot", "score"])["class"].transform("any").astype(bool)]
    shown = shown.assign(
        line=_positions(lines, shown[["place", "class"]]),
        column=_positions(product(rows["row"], scores), shown[["row", "score"]]),
        heading=shown["method"] + shown["track"].map(letters) + shown["score"].map(titles),
        mark=_doubtful(shown),
        aside=shown["doubts"].map(lambda doubts: f": {', '.join(doubts)}" if doubts else ""),
    )
    folds = [place.removeprefix(fold_place("")) for place, _ in lines]
    out, doubts = _pivot(shown, {"fold": folds, "class": [name or "mean" for _, name in lines]})
    out.facts = {"mark": doubts}
    out.ruled = {number for number, (_, name) in enumerate(lines, start=1) if not name} - {len(lines)}
    protocol = protocol_title(next(iter(results.values())))
    out.notes = [f"IoU % by {protocol}, {output} output, mean over seeds; mean: mIoU."]
    out.notes += _explanations(numbers, letters)
    for row in rows[rows["source"] != ""].itertuples():
        out.notes.append(f"{row.method}: {row.protocol}, quoted from {row.source}.")
    out.notes += [how_made(path, result, output) for path, result in results.items()]
    return out


def _lines_of_classes(results: dict[Path, Result]) -> list[tuple[str, str]]:
    """Return place and class of each line of the table of classes; the class '' is the mean."""
    names = {place: dict[str, None]() for place in places_of(results)}
    for result in results.values():
        names[place_of(result, are_across(results))] |= dict.fromkeys(result["novel"].values())
    return [(place, name) for place, classes in names.items() if classes for name in [*classes, ""]]


def _positions(order: Iterable[tuple], keys: DataFrame) -> list[int | None]:
    """Return the positions of keys in an order; None of those that are not in it."""
    positions = {key: number for number, key in enumerate(order)}
    return [positions.get(key) for key in keys.itertuples(index=False, name=None)]


def _pivot(numbers: DataFrame, lead: dict[str, Sequence]) -> tuple[Table, list[str]]:
    """Return the table of some numbers beside leading columns, and in a text for each line what is said aside of them.

    Numbers have the position of their ``line`` and ``column``, ``heading``, ``text`` with a ``mark``, and ``aside``.
    """
    import pandas

    lines = pandas.DataFrame(lead)
    numbers = numbers.dropna(subset=["line", "column"])
    cells = [Marked(*cell) for cell in zip(numbers["text"], numbers["mark"], numbers["best"], strict=True)]
    columns = ["shot", "column", "heading"]
    wide = numbers.assign(cell=cells).set_index(["line", *columns])[["cell", "aside"]]
    shown, said = (wide[name].unstack(columns).reindex(range(len(lines))).sort_index(axis=1) for name in wide)
    out = Table([*lead], [], groups=[""] * len(lead))
    for shot, _, title in shown.columns:
        out.header.append(title)
        out.groups.append(f"{shot}-shot")
    out.rows = pandas.concat([lines, shown.fillna("-")], axis=1).values.tolist()
    headings = out.headings()[len(lead) :]
    asides = []
    for texts in said.fillna("").values.tolist():
        words = [title + text for title, text in zip(headings, texts, strict=True) if text]
        asides.append("; ".join(words))
    return out, asides


def _doubtful(numbers: DataFrame) -> Series:
    """Return the marks of doubtful numbers."""
    return numbers["doubts"].map(lambda doubts: DOUBTFUL if doubts else "")


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
