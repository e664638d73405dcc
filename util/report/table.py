"""Tables as Markdown, LaTeX and CSV: a further format is a further function and an entry of ``FORMATS``."""

import argparse
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from util.files.errors import one_line

LATEX_SPECIAL = {c: f"\\{c}" for c in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # which would be an argument of the line end before it
}


@dataclass
class Table:
    """Rows of text under a header; ``f"{table:csv}"`` is CSV, ``str(table)`` Markdown."""

    header: list[str]
    rows: list[list[str]]
    groups: list[str] = field(default_factory=list)  # above each column, such as 1-shot; '' above the leading ones
    notes: list[str] = field(default_factory=list)  # lines below the table
    marks: dict[tuple[int, int], str] = field(default_factory=dict)  # (row, column) -> what follows a cell, such as *
    facts: dict[str, list[str]] = field(default_factory=dict)  # columns of CSV in place of marks and notes
    best: set[tuple[int, int]] = field(default_factory=set)  # (row, column) of the cells in bold
    ruled: set[int] = field(default_factory=set)  # the rows below a rule of their own

    def headings(self) -> list[str]:
        """Return the names of the columns, each with its group."""
        groups = self.groups or [""] * len(self.header)
        return [f"{group} {name}".strip() for group, name in zip(groups, self.header)]

    def marked(self) -> list[list[str]]:
        """Return the rows with their marks."""
        rows = []
        for i, row in enumerate(self.rows):
            rows.append([text + self.marks.get((i, j), "") for j, text in enumerate(row)])
        return rows

    def __format__(self, form: str) -> str:
        return FORMATS[form or "markdown"][1](self)

    def __str__(self) -> str:
        return format(self)


def markdown(table: Table) -> str:
    """Return a table in Markdown with aligned columns, the first to the left, and its notes below."""
    header, *rows = [list(map(_markdown_cell, row)) for row in (table.headings(), *table.marked())]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    first, *others = widths
    rules = ["-" * (first + 2), *("-" * (width + 1) + ":" for width in others)]
    lines = [_markdown_line(header, widths), f"|{'|'.join(rules)}|"]
    lines += [_markdown_line(row, widths) for row in rows]
    if table.notes:
        lines += ["", *(f"{one_line(note)}  " for note in table.notes)]
    return "\n".join(lines)


def _markdown_cell(text: str) -> str:
    return one_line(text).replace("|", r"\|")


def _markdown_line(cells: list[str], widths: list[int]) -> str:
    first, *others = zip(cells, widths)
    aligned = [str.ljust(*first), *(str.rjust(*cell) for cell in others)]
    return f"| {' | '.join(aligned)} |"


def latex(table: Table) -> str:
    """Return a table in LaTeX with booktabs, groups above their columns, the best cells bold, the notes as comments."""
    leading = table.groups.count("") or 1
    columns = "l" * leading + "r" * (len(table.header) - leading)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    if any(table.groups):
        lines += _latex_groups(table.groups)
    lines += [_latex_line(map(_latex_cell, table.header)), r"\midrule"]
    for i, row in enumerate(table.marked()):
        if i in table.ruled:
            lines.append(r"\midrule")
        cells = (_latex_cell(text, bold=(i, j) in table.best) for j, text in enumerate(row))
        lines.append(_latex_line(cells))
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {one_line(note)}" for note in table.notes)]
    return "\n".join(lines)


def _latex_groups(groups: list[str]) -> list[str]:
    """Return the line of a table's groups, and that of the rules below them."""
    names = [""] * groups.count("")
    rules = []
    for name in filter(None, dict.fromkeys(groups)):
        first = groups.index(name) + 1
        count = groups.count(name)
        names.append(rf"\multicolumn{{{count}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
    return [_latex_line(names), " ".join(rules)]


def _latex_cell(text: str, bold: bool = False) -> str:
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in one_line(text)).replace("+-", r"$\pm$")
    return rf"\textbf{{{escaped}}}" if bold else escaped


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def comma_separated(table: Table) -> str:
    """Return a table as CSV, with its facts in place of marks and notes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*table.headings(), *table.facts])
    writer.writerows([*row, *facts] for row, *facts in zip(table.rows, *table.facts.values()))
    return out.getvalue().rstrip("\n")


# By the name of --format: the ending of files, and the function that prints a table.
FORMATS = {"markdown": ("md", markdown), "latex": ("tex", latex), "csv": ("csv", comma_separated)}


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses how a command prints its tables."""
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="of tables; default markdown")
