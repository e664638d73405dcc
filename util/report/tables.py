"""Tables of single results, and with a row for each; and what makes a table fit a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from util.evaluate.schema import Result
from util.evaluate.titles import classes_in_no_mean, title, track_text
from util.files.table import Table
from util.loop.metrics import ALL_FOREGROUND, BASE, FINAL, MIOU
from util.report.frame import COLUMNS, DEVIATION, FB_IOU, check_output, frame_of, rows_of
from util.report.row import Row

RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *(MIOU, FB_IOU, "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]
SHOWN = ("method", MIOU, FB_IOU)  # whether rows differ in it or not
IN_WORDS = {"fold": "fold {}", "shot": "{}-shot", "draw": "draw {}", "output": "output {}"} | {
    "episodes": "{} episodes",
    "seeds": "seeds {}",
    "commit": "commit {}",
    "parameters M (learnt)": "{} M parameters (learnt)",
}
SHORT = {"parameters M (learnt)": "M (learnt)"}  # titles where room is scarce
OUTPUTS = {FINAL: "the prediction", BASE: "of the base classes", ALL_FOREGROUND: "everything is object"}
WIDTH = 100  # characters of a line


def summary(by_file: dict[Path, Result], form: str = "markdown") -> str:
    """Return the tables of some results, in one of ``util.files.table.FORMATS``, with their conditions in words."""
    lines = list[str]()
    for path, result in by_file.items():
        lines.append(f"{title(result)}, list {result['list_source']}, in {result['precision']}")
        lines.append(track_text({result["shot"]: result["track"]}))
        lines += [format(score_table(Row(path, result)), form), *classes_in_no_mean(result), ""]
    return "\n".join(lines)


def score_table(row: Row) -> Table:
    """Return the table of a result: its scores, then those of each class, as mean (and deviation) over seeds.

    Columns are outputs; a row with the name of a class alone has its IoU.
    """
    result, scores = row.result, frame_of([row])
    heading = (scores["title"] + " " + scores["unit"]).str.strip()
    name = heading.where(scores["class"] == "", scores["class"] + ", " + heading).str.removesuffix(", mIoU %")
    ordered = scores.assign(name=name).sort_values("class", key=lambda names: names != "", kind="stable")
    of_seeds = ordered.groupby(["name", "output"], sort=False)["value"]
    spread = of_seeds.std().map(" +- {:.2f}".format, na_action="ignore").astype(object).fillna("")
    cells = (of_seeds.mean().map("{:.2f}".format, na_action="ignore") + spread).unstack()
    outputs = cells.reindex(index=ordered["name"].unique(), columns=[*result["mean"]])
    shown = outputs.rename(columns={BASE: f"{BASE} (base classes)"}).fillna("-")
    out = Table(["score, or class: IoU %", *shown], shown.reset_index().values.tolist())
    out.notes.append(
        "; ".join(f"{name}: {OUTPUTS.get(name, 'a part of the method, as its code says')}" for name in outputs)
    )
    if len(result["seeds"]) > 1:
        out.notes.append(
            f"+-: {DEVIATION} over {len(result['seeds'])} test seeds, of the same {result['list_images']} images, "
            "not over others."
        )
    return out


def result_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return a table with a row for each result below some paths, with the scores of one output in percent.

    Args:
        paths: result files, or folders.
        output: name of the output.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, none of a protocol, or no such output.
    """
    rows = rows_of(paths, protocols)
    check_output(rows, output)
    columns = COLUMNS | {
        "output": lambda _: output,
        MIOU: lambda row: row.result["mean"][output][MIOU],
        FB_IOU: lambda row: row.result["mean"][output].get(FB_IOU, math.nan),
    }
    lines = sorted([columns[column](row) for column in RESULT_COLUMNS] for row in rows)
    return Table(RESULT_COLUMNS, [[*map(_in_words, line)] for line in lines])


def _in_words(value: Any) -> str:
    """Return the cell of a value; '' for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def fitted(table: Table) -> Table:
    """Return a table of the columns in which its rows differ, and scores; above it, what all rows share.

    Digests of weights, which nobody reads, are left out.
    """
    shown, words = [], []
    groups = table.groups or [""] * len(table.header)
    for number, (name, group, first, *others) in enumerate(zip(table.header, groups, *table.rows)):
        if group or name in SHOWN or (name != "weights" and {*others} - {first}):
            shown.append(number)
        elif first and name != "weights":
            words.append(IN_WORDS.get(name, "{}").format(first))
    out = _columns(table, shown)
    out.above = wrapped(", ".join(words))
    return out


def in_parts(table: Table) -> list[Table]:
    """Return a table of methods as parts that fit ``WIDTH``, each of one number of shots, with the names of methods.

    What all rows share stands above the first, the notes below the last.
    """
    whole = fitted(table)
    whole.header = [SHORT.get(name, name) for name in whole.header]
    groups, whole.groups = whole.groups, []
    parts = [[0]]
    for number in range(1, len(groups)):
        line, *_ = format(_columns(whole, [*parts[-1], number])).splitlines()
        is_full = len(line) > WIDTH and len(parts[-1]) > 1
        if is_full or groups[parts[-1][-1]] not in ("", groups[number]):
            parts.append([0])
        parts[-1].append(number)
    tables = [_columns(whole, numbers) for numbers in parts]
    for part, numbers in zip(tables, parts):
        part.above = [groups[numbers[-1]]]
    tables[0].above = wrapped(", ".join(filter(None, [*whole.above, *tables[0].above])))
    tables[-1].notes = [*chain.from_iterable(map(wrapped, table.notes))]
    return tables


def _columns(table: Table, numbers: Sequence[int]) -> Table:
    """Return a table of two or more columns of another, without what stands above and below it."""
    pick = itemgetter(*numbers)
    groups = [*pick(table.groups)] if table.groups else []
    return Table([*pick(table.header)], [[*pick(row)] for row in table.rows], groups)


def wrapped(text: str) -> list[str]:
    """Return the lines of a text that fit ``WIDTH``, with the two spaces that end a line in Markdown."""
    return textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
