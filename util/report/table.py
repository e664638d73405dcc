"""Tables as Markdown, LaTeX and CSV: a further format is a further function and an entry of ``FORMATS``."""

import argparse
import csv
import io
from dataclasses import dataclass, field

from util.errors import one_line

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
        return [f"{group} {name}".strip() for group, name in zip(self.groups or [""] * len(self.header), self.header)]

    def marked(self) -> list[list[str]]:
        """Return the rows with their marks."""
        return [[text + self.marks.get((i, j), "") for j, text in enumerate(row)] for i, row in enumerate(self.rows)]

    def __format__(self, form: str) -> str:
        return FORMATS[form or "markdown"][1](self)

    def __str__(self) -> str:
        return format(self)


def markdown(table: Table) -> str:
    """Return a table in Markdown with aligned columns, the first to the left, and its notes below."""
    lines = [[one_line(text).replace("|", r"\|") for text in row] for row in (table.headings(), *table.marked())]
    widths = [max(map(len, column)) for column in zip(*lines)]
    texts = []
    for first, *others in lines:
        right = (text.rjust(width) for text, width in zip(others, widths[1:]))
        texts.append(f"| {' | '.join([first.ljust(widths[0]), *right])} |")
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    below = ["", *(f"{note}  " for note in table.notes)] if table.notes else []
    return "\n".join([texts[0], f"|{rule}|", *texts[1:], *below])


def latex(table: Table) -> str:
    """Return a table in LaTeX with booktabs, groups above their columns, the best cells bold, the notes as comments."""

    def line(cells: list[str], row: int | None = None) -> str:
        texts = ["".join(LATEX_SPECIAL.get(c, c) for c in cell).replace("+-", r"$\pm$") for cell in cells]
        return " & ".join(rf"\textbf{{{t}}}" if (row, j) in table.best else t for j, t in enumerate(texts)) + r" \\"

    leading = table.groups.count("") or 1
    columns = "l" * leading + "r" * (len(table.header) - leading)
    out = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    if groups := list(dict.fromkeys(filter(None, table.groups))):
        spans = [(name, table.groups.index(name) + 1, table.groups.count(name)) for name in groups]
        above = [rf"\multicolumn{{{count}}}{{c}}{{{name}}}" for name, _, count in spans]
        out.append(" & ".join([""] * leading + above) + r" \\")
        out.append(" ".join(rf"\cmidrule(lr){{{first}-{first + count - 1}}}" for _, first, count in spans))
    out += [line(table.header), r"\midrule"]
    for i, row in enumerate(table.marked()):
        out += [*([r"\midrule"] if i in table.ruled else []), line(row, i)]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", *(f"% {one_line(note)}" for note in table.notes)])


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
