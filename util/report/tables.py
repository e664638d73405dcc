"""Tables as pivots of the frame of results: of single results, and a row for each result."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from util.evaluate.schema import Result, read_results
from util.evaluate.titles import classes_in_no_mean, title, track_text
from util.files.table import Table
from util.loop.metrics import BASE, FINAL, MIOU
from util.report.results import DEVIATION, FB_IOU, facts_of, frame_of, overall_scores

if TYPE_CHECKING:
    from pandas import DataFrame

RESULT_COLUMNS = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "draw", "mark", "precision", "output"),
    *("miou", "fb_iou", "episodes", "seeds", "weights", "device", "date", "commit", "run"),
]
SHOWN = ("method", MIOU, FB_IOU)  # whether rows differ in it or not
IN_WORDS = {"fold": "fold {}", "shot": "{}-shot", "draw": "draw {}", "output": "output {}"} | {
    "episodes": "{} episodes",
    "seeds": "seeds {}",
    "commit": "commit {}",
}
WIDTH = 100  # characters of a line above a table


def pivot(cells: DataFrame, lead: DataFrame) -> Table:
    """Return the table of cells beside leading columns.

    Cells have the positions of their ``line`` and ``column``, a column's ``group`` and ``heading``, and the ``cell``;
    those without a position are left out.
    """
    import pandas

    wide = cells.pivot(index="line", columns=["column", "group", "heading"], values="cell")
    shown = wide.dropna(axis="columns", how="all").reindex(lead.index).sort_index(axis="columns").fillna("-")
    rows = pandas.concat([lead, shown], axis="columns").values.tolist()
    leading = lead.shape[1]
    _, groups, headings = zip(*shown.columns)
    return Table([*lead, *headings], rows, groups=[*[""] * leading, *groups], leading=leading)


def summary(by_file: dict[Path, Result], form: str = "markdown") -> str:
    """Return the tables of some results, in one of ``util.files.table.FORMATS``, with their conditions in words."""
    texts = list[str]()
    for path, result in by_file.items():
        conditions = f"{title(result)}, list {result['list_source']}, in {result['precision']}"
        table = format(score_table(result, frame_of({path: result})), form)
        track = track_text({result["shot"]: result["track"]})
        texts.append("\n".join([conditions, track, table, *classes_in_no_mean(result), ""]))
    return "\n".join(texts)


def score_table(result: Result, scores: DataFrame) -> Table:
    """Return the table of a result: its scores, then those of each class, as mean (and deviation) over seeds.

    Columns are outputs; a row with the name of a class alone has its IoU.
    """
    heading = (scores["title"] + " " + scores["unit"]).str.strip()
    name = heading.where(scores["class"] == "", scores["class"] + ", " + heading).str.removesuffix(", mIoU %")
    ordered = scores.assign(name=name).sort_values("class", key=lambda names: names != "", kind="stable")
    of_seeds = ordered.groupby(["name", "output"], sort=False)["value"]
    spread = of_seeds.std().map(" +- {:.2f}".format, na_action="ignore").fillna("")
    cells = (of_seeds.mean().map("{:.2f}".format, na_action="ignore") + spread).unstack()
    outputs = cells.reindex(index=ordered["name"].unique(), columns=[*result["mean"]])
    shown = outputs.rename(columns={BASE: f"{BASE} (base classes)"}).fillna("-")
    out = Table(["score, or class: IoU %", *shown], shown.reset_index().values.tolist())
    if len(result["seeds"]) > 1:
        images = f"the same {result['list_images']} images, not over others"
        out.notes.append(f"+-: {DEVIATION} over {len(result['seeds'])} test seeds, of {images}.")
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
    by_file = read_results(paths, protocols)
    means = overall_scores(by_file, output).pivot_table(index="file", columns="score", values="value")
    rows = facts_of(by_file).join(means).assign(output=output).reindex(columns=RESULT_COLUMNS)
    rows = rows.sort_values(RESULT_COLUMNS).replace("", None)
    for name in rows.select_dtypes("float"):
        rows[name] = rows[name].map("{:.2f}".format, na_action="ignore")
    return Table(RESULT_COLUMNS, rows.astype(object).fillna("").astype(str).values.tolist())


def fitted(table: Table) -> Table:
    """Return a ``result_table`` of the columns in which its rows differ, and scores; above it, what all rows share.

    Digests of weights, which nobody reads, are left out.
    """
    import pandas

    cells = pandas.DataFrame(table.rows, columns=table.header).drop(columns="weights")
    is_shown = cells.columns.isin(SHOWN) | (cells.nunique() > 1)
    words = [IN_WORDS.get(name, "{}").format(text) for name, text in cells.loc[0, ~is_shown].items() if text]
    above = textwrap.wrap(", ".join(words), WIDTH)
    return Table([*cells.columns[is_shown]], cells.loc[:, is_shown].values.tolist(), above=above)
