"""The order of a table's rows: methods by a class, a score or a column, best first; plain rows by a column."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from util.evaluate.schema import MIOU, smaller_is_better
from util.files.errors import UserError, nearest
from util.report.result_table import score_titles
from util.report.rows import Column, OfClass, Row
from util.report.table import Table


def sorted_rows(rows: list[Row], name: str | None) -> list[Row]:
    """Return methods by the numbers that are called ``name``, best first; those without one last.

    Args:
        rows: of all methods.
        name: a class, whose IoU decides, ``miou`` or another score, or a column such as ``fold 1``; of the fewest
            shots, unless it says others (``5-shot fold 1``). None: the order stays.

    Raises:
        UserError: nothing is called so.
    """
    if name is None:
        return rows
    columns = _columns_by_name(rows)
    wanted = name.lower()
    if wanted not in columns:
        without_shots = [known for known in columns if "-shot " not in known]
        raise UserError(f"--sort {name}: no class, score or column of this table{nearest(wanted, without_shots)}")
    called = columns[wanted]
    fewest = min(shot for shot, _ in called)
    of_fewest = [column for column in called if column[0] == fewest]
    values: dict[int, float] = {}
    for i, row in enumerate(rows):
        of_row = [row.cells[column].value for column in of_fewest if column in row.cells]
        if of_row:
            values[i] = of_row[0]
    order = sorted(values, key=values.__getitem__, reverse=not smaller_is_better(_score(of_fewest[0])))
    without_value = [i for i in range(len(rows)) if i not in values]
    return [rows[i] for i in [*order, *without_value]]


def _columns_by_name(rows: list[Row]) -> dict[str, list[Column]]:
    """Return the columns of all rows by their names in lower case, alone and behind their number of shots."""
    columns = defaultdict[str, list[Column]](list)
    for shot, place in dict.fromkeys(column for row in rows for column in row.cells):
        for name in _names(place):
            columns[name.lower()].append((shot, place))
            columns[f"{shot}-shot {name}".lower()].append((shot, place))
    measured = {column for row in rows if row.source is None for column in row.cells}
    folds = [column for column in measured if isinstance(column[1], int)]
    if folds and not any(place == MIOU for _, place in measured):
        columns[MIOU] = [min(folds)]  # published means are not of the folds that were measured
    return dict(columns)


def _names(place: Any) -> list[str]:
    """Return what the place of a column is called: its class, its fold or data set, its score."""
    if isinstance(place, OfClass):
        return [place.name] if place.score == MIOU else []
    if isinstance(place, tuple):
        where, score = place
        return [f"fold {where} {name}" for name in _names_of_score(score)]
    if isinstance(place, int):
        return [f"fold {place}"]
    return [MIOU, place] if place == "mean" else _names_of_score(place)


def _names_of_score(score: str) -> list[str]:
    """Return a score's key, and its heading in tables where that is another."""
    heading = score_titles().get(score, score).removesuffix(" %")
    return [score] if heading.lower() == score else [score, heading]


def _score(column: Column) -> str:
    """Return the score whose numbers a column has."""
    _, place = column
    return place[-1] if isinstance(place, tuple) else str(place)


def sort_by_column(table: Table, name: str) -> None:
    """Order plain rows by a column: numbers best first, words by the alphabet, empty cells last.

    UserError: there is no such column.
    """
    if name not in table.header:
        raise UserError(f"--sort {name}: no column of this table{nearest(name, table.header)}")
    place = table.header.index(name)
    sign = 1 if smaller_is_better(name) else -1

    def rank(row: list[str]) -> tuple[bool, bool, float, str]:
        text = row[place]
        try:
            return False, False, sign * float(text), ""
        except ValueError:
            return not text, True, 0.0, text

    table.rows.sort(key=rank)
