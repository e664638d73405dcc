"""Tables as Markdown, LaTeX and CSV: a further format is a further function and an entry of ``FORMATS``."""

import argparse
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from util.files.errors import one_line

IN_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%_#${}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "[": "{[}",  # which would be an argument of the line end before it
    }
)


@dataclass(frozen=True)
class Marked:
    """A cell with what follows its text, such as *; CSV has the text alone."""

    text: str
    mark: str = ""

    def __str__(self) -> str:
        return self.text + self.mark


@dataclass
class Table:
    """Rows of text under a header; ``f"{table:csv}"`` is CSV, ``str(table)`` Markdown."""

    header: list[str]
    rows: list[list[Any]]  # of str or Marked
    groups: list[str] = field(default_factory=list)  # above each column, such as 1-shot; '' above the leading ones
    leading: int = 1  # how many columns name a row
    above: list[str] = field(default_factory=list)  # lines above the table; CSV has none
    notes: list[str] = field(default_factory=list)  # and below it
    facts: dict[str, list[str]] = field(default_factory=dict)  # columns of CSV in place of marks and notes

    def headings(self) -> list[str]:
        """Return the names of the columns, each with its group."""
        return [f"{group} {name}".strip() for group, name in zip_longest(self.groups, self.header, fillvalue="")]

    def __format__(self, form: str) -> str:
        return FORMATS[form or "markdown"][1](self)

    def __str__(self) -> str:
        return format(self)


def markdown(table: Table) -> str:
    """Return a table in Markdown with aligned columns, the first to the left, and its notes below."""
    header, *rows = [[one_line(cell).replace("|", r"\|") for cell in row] for row in (table.headings(), *table.rows)]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    first, *others = widths
    rules = ["-" * (first + 2), *("-" * (width + 1) + ":" for width in others)]
    lines = [*table.above, ""] if table.above else []
    lines += [
        _markdown_line(header, widths),
        f"|{'|'.join(rules)}|",
        *(_markdown_line(row, widths) for row in rows),
    ]
    if table.notes:
        lines += ["", *(f"{one_line(note)}  " for note in table.notes)]
    return "\n".join(lines)


def _markdown_line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths)
    aligned = [str.ljust(*first), *(str.rjust(*cell) for cell in others)]
    return f"| {' | '.join(aligned)} |"


def latex(table: Table) -> str:
    """Return a table in LaTeX with booktabs, groups above their columns, the notes as comments."""
    import pandas

    header = list(map(_latex_cell, table.header))
    names = pandas.MultiIndex.from_arrays([table.groups, header]) if any(table.groups) else header
    frame = pandas.DataFrame([list(map(_latex_cell, row)) for row in table.rows], columns=names)
    alignment = "l" * table.leading + "r" * (len(header) - table.leading)
    lines = frame.to_latex(index=False, column_format=alignment, multicolumn_format="c").splitlines()
    return "\n".join(
        [r"% \usepackage{booktabs}", *lines, *(f"% {one_line(note)}" for note in (*table.above, *table.notes))]
    )


def _latex_cell(cell: str | Marked) -> str:
    return one_line(cell).translate(IN_LATEX).replace("+-", r"$\pm$")


def as_csv(table: Table) -> str:
    """Return a table as CSV, with its facts in place of marks and notes."""
    import pandas

    rows = [[str(getattr(cell, "text", cell)) for cell in row] for row in table.rows]
    frame = pandas.DataFrame(rows, columns=table.headings()).assign(**table.facts)
    return frame.to_csv(index=False).rstrip("\n")


# By the name of --format: the ending of files, and the function that prints a table.
FORMATS = {"markdown": ("md", markdown), "latex": ("tex", latex), "csv": ("csv", as_csv)}


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses how a command prints its tables."""
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="of tables; default markdown")
