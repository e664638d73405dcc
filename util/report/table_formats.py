"""The formats of the paper's table: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from util.report.table import on_one_line, text_table

MEASURED_MARK, QUICK_MARK = "*", "?"
LATEX_SPECIAL = {c: f"\\{c}" for c in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass
class Row:
    """One line: a method's cells by (shot, column), where a column is the number of a fold, ``mean`` or ``fb_iou``."""

    method: str
    protocol: str
    source: str
    cells: dict[tuple[int, Any], float] = field(default_factory=dict)
    measured: bool = False
    quick: dict[tuple[int, Any], str] = field(default_factory=dict)  # reason why a cell is not the protocol's number


def _cells(rows: list[Row], columns: list[tuple[int, Any]], plain: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of all rows as text; ``plain`` omits marks and numbers of sources."""
    sources = list(dict.fromkeys(r.source for r in rows if not r.measured))
    names = {"mean": "mean", "fb_iou": "FB-IoU"}
    header = ["method", "protocol", *(f"{shot}-shot {names.get(c, f'fold {c}')}" for shot, c in columns)]
    out = []
    for row in rows:
        mark = MEASURED_MARK if row.measured else ""
        cells = []
        for column in columns:
            value = row.cells.get(column)
            quick = QUICK_MARK if column in row.quick else ""
            cells.append("-" if value is None else f"{value:.1f}" if plain else f"{value:.1f}{mark}{quick}")
        label = row.method if plain or row.measured else f"{row.method} [{sources.index(row.source) + 1}]"
        out.append([label, row.protocol, *cells])
    return header, out


def markdown(rows: list[Row], columns: list[tuple[int, Any]], notes: list[str]) -> str:
    """Return the table in Markdown, with the notes below it."""
    header, cells = _cells(rows, columns)
    return "\n".join([text_table(header, cells), "", *(f"{note}  " for note in notes)])


def latex(rows: list[Row], columns: list[tuple[int, Any]], notes: list[str]) -> str:
    """Return the table in LaTeX, with the notes as comments."""

    def safe(text: str) -> str:
        return "".join(LATEX_SPECIAL.get(c, c) for c in text)

    header, cells = _cells(rows, columns)
    lines = [rf"\begin{{tabular}}{{ll{'r' * len(columns)}}}", r"\hline"]
    lines += [" & ".join(map(safe, header)) + r" \\", r"\hline"]
    lines += [" & ".join(map(safe, row)) + r" \\" for row in cells]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", *(f"% {on_one_line(note)}" for note in notes)])


def comma_separated(rows: list[Row], columns: list[tuple[int, Any]], _: list[str]) -> str:
    """Return the table as CSV, with a column of origins and one of sources in place of marks and notes."""
    header, cells = _cells(rows, columns, plain=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "origin", "source"])
    for row, line in zip(rows, cells, strict=True):
        why = ", ".join(dict.fromkeys(row.quick.values()))
        origin = f"measured ({why})" if why else "measured" if row.measured else "quoted"
        writer.writerow([*line, origin, "" if row.measured else row.source])
    return out.getvalue().rstrip("\n")


FORMATS = {"markdown": markdown, "latex": latex, "csv": comma_separated}  # by the name of --format
