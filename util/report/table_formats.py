"""The formats of the paper's table: Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Any

from util.report.table import on_one_line, text_table
from util.report.track import NOT_STATED, Track, in_words

MEASURED_MARK, QUICK_MARK = "*", "?"
LEADING = ["method", "protocol"]  # columns before the numbers
COLUMN_NAMES = {"fb_iou": "FB-IoU"}
LATEX_SPECIAL = {c: f"\\{c}" for c in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclass
class Row:
    """A method's cells by (shot, column); a column is a fold's number, ``mean``, ``fb_iou`` or a data set."""

    method: str
    protocol: str
    source: str
    cells: dict[tuple[int, Any], float] = field(default_factory=dict)
    measured: bool = False
    quick: dict[tuple[int, Any], str] = field(default_factory=dict)  # reason why a cell is not the protocol's number
    tracks: dict[int, Track] = field(default_factory=dict)  # by number of shots

    @property
    def track(self) -> str:
        """The row's tracks in words."""
        return in_words(self.tracks)


def _letters(rows: list[Row]) -> dict[str, str]:
    """Return the mark of each track, none if all rows are of one."""
    tracks = list(dict.fromkeys(row.track for row in rows))
    return {track: f" ({_letter(i)})" if len(tracks) > 1 else "" for i, track in enumerate(tracks)}


def _letter(number: int) -> str:
    """Return a, b, ... z, aa, ab, ..."""
    before, rest = divmod(number, len(ascii_lowercase))
    return (_letter(before - 1) if before else "") + ascii_lowercase[rest]


def track_notes(rows: list[Row]) -> list[str]:
    """Return the lines that say what the rows' methods learnt from."""
    return [f"{mark.strip() or 'all rows'}: {track}." for track, mark in _letters(rows).items()]


def _cells(rows: list[Row], columns: list[tuple[int, Any]], plain: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of all rows as text; ``plain`` omits marks and numbers of sources."""
    sources = list(dict.fromkeys(r.source for r in rows if not r.measured))
    letters = _letters(rows)
    header = [*LEADING, *(f"{shot}-shot {_heading(c)}" for shot, c in columns)]
    out = []
    for row in rows:
        mark = MEASURED_MARK if row.measured else ""
        cells = []
        for column in columns:
            value = row.cells.get(column)
            quick = QUICK_MARK if column in row.quick else ""
            cells.append("-" if value is None else f"{value:.1f}" if plain else f"{value:.1f}{mark}{quick}")
        label = row.method if plain or row.measured else f"{row.method} [{sources.index(row.source) + 1}]"
        out.append([label if plain else label + letters[row.track], row.protocol, *cells])
    return header, out


def _heading(column: Any) -> str:
    """Return the heading of a column without its number of shots."""
    return f"fold {column}" if isinstance(column, int) else COLUMN_NAMES.get(column, column)


def markdown(rows: list[Row], columns: list[tuple[int, Any]], notes: list[str]) -> str:
    """Return the table in Markdown, with the notes below it."""
    header, cells = _cells(rows, columns)
    return "\n".join([text_table(header, cells), "", *(f"{note}  " for note in notes)])


def latex(rows: list[Row], columns: list[tuple[int, Any]], notes: list[str]) -> str:
    """Return the table in LaTeX with booktabs, the best cells of each protocol in bold and the notes as comments."""

    def safe(text: str) -> str:
        return "".join(LATEX_SPECIAL.get(c, c) for c in text)

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    header, cells = _cells(rows, columns)
    shots = [shot for shot, _ in columns]
    above, rules = ["", ""], []
    for shot in dict.fromkeys(shots):
        first, count = len(LEADING) + 1 + shots.index(shot), shots.count(shot)
        above.append(rf"\multicolumn{{{count}}}{{c}}{{{shot}-shot}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
    below = [*header[: len(LEADING)], *(_heading(c) for _, c in columns)]
    out = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{ll{'r' * len(columns)}}}", r"\toprule"]
    out += [line(above), " ".join(rules), line([safe(text) for text in below]), r"\midrule"]
    best = _best(rows, columns)
    for i, (row, texts) in enumerate(zip(rows, cells, strict=True)):
        if i and row.measured and not rows[i - 1].measured:
            out.append(r"\midrule")
        values = zip(columns, texts[len(LEADING) :], strict=True)
        bold = [rf"\textbf{{{safe(text)}}}" if (i, column) in best else safe(text) for column, text in values]
        out.append(line([*map(safe, texts[: len(LEADING)]), *bold]))
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", *(f"% {on_one_line(note)}" for note in notes)])


def _best(rows: list[Row], columns: list[tuple[int, Any]]) -> set[tuple[int, tuple[int, Any]]]:
    """Return (row, column) of the best cells among at least two of one protocol and track, on the same episodes.

    Others are not comparable.
    """
    best = set()
    for column in columns:
        groups: dict[tuple[str, str, str | None], list[tuple[float, int]]] = {}
        for i, row in enumerate(rows):
            protocol = row.protocol.partition(" (")[0]
            if column in row.cells and protocol != NOT_STATED:
                group = groups.setdefault((protocol, row.track, row.quick.get(column)), [])
                group.append((round(row.cells[column], 1), i))
        for values in groups.values():
            if len(values) > 1:
                best |= {(i, column) for value, i in values if value == max(values)[0]}
    return best


def comma_separated(rows: list[Row], columns: list[tuple[int, Any]], _: list[str]) -> str:
    """Return the table as CSV, with columns of tracks, origins and sources in place of marks and notes."""
    header, cells = _cells(rows, columns, plain=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "track", "origin", "source"])
    for row, line in zip(rows, cells, strict=True):
        why = ", ".join(dict.fromkeys(row.quick.values()))
        origin = f"measured ({why})" if why else "measured" if row.measured else "quoted"
        writer.writerow([*line, row.track, origin, "" if row.measured else row.source])
    return out.getvalue().rstrip("\n")


FORMATS = {"markdown": markdown, "latex": latex, "csv": comma_separated}  # by the name of --format
